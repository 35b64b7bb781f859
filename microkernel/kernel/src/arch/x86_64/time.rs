//! The time stamp counter, measured against the HPET or the PIT.

use core::sync::atomic::{AtomicU64, Ordering};

use skink_abi::Clock;
use skink_kcore::clock::Scale;
use spin::Once;
use x86_64::instructions::port::Port;

use super::paging;

/// How long the counters are compared at a time, ms: long enough that reading them does not count.
const WINDOW_MS: u64 = 1;
/// How often they are compared at most: until two times agree.
const WINDOWS: u32 = 20;
/// Part of the ticks by which times that agree may differ.
const AGREEMENT: u64 = 2000;

static BOOT: AtomicU64 = AtomicU64::new(0);
static TICKS_PER_MS: AtomicU64 = AtomicU64::new(1_000_000);
static SCALE: Once<Scale> = Once::new();

/// Reads the time stamp counter.
#[inline]
pub(crate) fn ticks() -> u64 {
    // SAFETY: reading the counter has no effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Notes the moment from which time is counted.
pub(crate) fn mark_boot() {
    BOOT.store(ticks(), Ordering::Relaxed);
}

/// Returns nanoseconds since boot.
pub(crate) fn now() -> u64 {
    to_ns(ticks().wrapping_sub(BOOT.load(Ordering::Relaxed)))
}

/// Converts ticks to nanoseconds.
pub(crate) fn to_ns(ticks: u64) -> u64 {
    SCALE.get().map_or(0, |scale| scale.to_ns(ticks))
}

/// Returns how ticks become nanoseconds since boot; once [`calibrate`] was called.
pub(crate) fn clock() -> Option<Clock> {
    let (multiplier, shift) = SCALE.get()?.parts();
    Some(Clock {
        boot_ticks: BOOT.load(Ordering::Relaxed),
        multiplier,
        shift,
    })
}

/// Returns the ticks in a millisecond.
pub(crate) fn ticks_per_ms() -> u64 {
    TICKS_PER_MS.load(Ordering::Relaxed)
}

/// Waits without doing anything else; for device start-up only.
pub(crate) fn spin_us(us: u64) {
    let end = ticks() + us * ticks_per_ms() / 1000;
    while ticks() < end {
        core::hint::spin_loop();
    }
}

/// Measures the time stamp counter and another counter that `read` returns, which must count up:
/// its ticks per millisecond.
///
/// A hypervisor may stop this CPU at any moment, and time goes on: a window can only come out too
/// long. So the shortest counts, once another one confirms it.
pub(crate) fn calibrate(hpet: Option<u64>, read: impl Fn() -> u64) -> u64 {
    let hpet = hpet.and_then(Hpet::new);
    let mut best = (u64::MAX, 0);
    for _ in 0..WINDOWS {
        let (tsc_start, other_start) = (ticks(), read());
        match &hpet {
            Some(hpet) => hpet.wait_ms(WINDOW_MS),
            None => pit_wait_ms(WINDOW_MS),
        }
        let window = (ticks() - tsc_start, read() - other_start);
        let is_confirmed = window.0.abs_diff(best.0) <= window.0 / AGREEMENT;
        best = best.min(window);
        if is_confirmed {
            break;
        }
    }
    let (tsc, other) = best;
    TICKS_PER_MS.store(tsc / WINDOW_MS, Ordering::Relaxed);
    SCALE.call_once(|| Scale::from_ticks_per_ms(tsc / WINDOW_MS));
    other / WINDOW_MS
}

/// The high precision event timer (IA-PC HPET specification 1.0a).
struct Hpet {
    registers: *mut u64,
    femtoseconds_per_tick: u64,
}

impl Hpet {
    fn new(physical: u64) -> Option<Hpet> {
        let registers = paging::map_device::<u64>(physical, 1).ok()?;
        // SAFETY: the first register of the block that ACPI named; reading has no effect.
        let capabilities = unsafe { registers.read_volatile() };
        let femtoseconds_per_tick = capabilities >> 32;
        if femtoseconds_per_tick == 0 || femtoseconds_per_tick > 100_000_000 {
            return None;
        }
        // SAFETY: the general configuration register; bit 0 lets the main counter run.
        unsafe {
            registers
                .add(2)
                .write_volatile(registers.add(2).read_volatile() | 1)
        };
        Some(Hpet {
            registers,
            femtoseconds_per_tick,
        })
    }

    fn counter(&self) -> u64 {
        // SAFETY: the main counter register.
        unsafe { self.registers.add(30).read_volatile() }
    }

    fn wait_ms(&self, ms: u64) {
        let span = ms * 1_000_000_000_000 / self.femtoseconds_per_tick;
        let start = self.counter();
        while self.counter().wrapping_sub(start) < span {
            core::hint::spin_loop();
        }
    }
}

/// Waits by channel 2 of the interval timer, whose output can be read (Intel 8254, mode 0).
fn pit_wait_ms(ms: u64) {
    const PIT_HZ: u64 = 1_193_182;
    let count = (PIT_HZ * ms / 1000) as u16;
    let (mut gate, mut mode, mut data) = (
        Port::<u8>::new(0x61),
        Port::<u8>::new(0x43),
        Port::<u8>::new(0x42),
    );
    // SAFETY: channel 2 drives nothing but the PC speaker, which the second bit keeps silent.
    unsafe {
        let old = gate.read();
        gate.write(old & !2 | 1);
        mode.write(0b1011_0000);
        data.write(count as u8);
        data.write((count >> 8) as u8);
        while gate.read() & 0x20 == 0 {
            core::hint::spin_loop();
        }
    }
}
