//! The clock that runs while the machine is off (Motorola MC146818A, Intel ICH9 datasheet 13.6), read
//! once at boot.

use skink_abi::calendar::Moment;
use x86_64::instructions::port::Port;

/// Registers.
const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
/// In status A: an update is under way.
const UPDATING: u8 = 0x80;
/// In status B: hours go to 24; numbers are binary.
const HOURS_24: u8 = 0x02;
const BINARY: u8 = 0x04;
/// In the hours, where they go to 12: afternoon.
const AFTERNOON: u8 = 0x80;
/// How often the clock is asked before giving up: an update takes 2 ms once a second.
const ATTEMPTS: u32 = 100_000;

fn read(register: u8) -> u8 {
    let (mut index, mut data) = (Port::<u8>::new(0x70), Port::<u8>::new(0x71));
    // SAFETY: reading the clock's registers changes nothing; one processor runs.
    unsafe {
        index.write(register);
        data.read()
    }
}

fn read_all() -> [u8; 6] {
    [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR].map(read)
}

/// Reads the clock, which must be set to Universal Time. Returns seconds since the beginning of
/// 1970; `None` if it does not answer or shows no time.
pub(crate) fn unix_seconds() -> Option<u64> {
    let mut shown = read_all();
    for _ in 0..ATTEMPTS {
        // Between two updates, or the same before and after one.
        if read(STATUS_A) & UPDATING == 0 {
            let again = read_all();
            if again == shown {
                return moment(again, read(STATUS_B))?.to_unix();
            }
            shown = again;
        }
        core::hint::spin_loop();
    }
    None
}

fn moment([second, minute, hour, day, month, year]: [u8; 6], mode: u8) -> Option<Moment> {
    let number = |shown: u8| {
        if mode & BINARY == 0 {
            shown.checked_sub(6 * (shown >> 4))
        } else {
            Some(shown)
        }
    };
    let hour = if mode & HOURS_24 == 0 {
        number(hour & !AFTERNOON)? % 12 + if hour & AFTERNOON == 0 { 0 } else { 12 }
    } else {
        number(hour)?
    };
    Some(Moment {
        // It has two digits; machines that run this are of this century.
        year: 2000 + u16::from(number(year)?),
        month: number(month)?,
        day: number(day)?,
        hour,
        minute: number(minute)?,
        second: number(second)?,
    })
}
