//! The time page: one frame that every process can read.

use skink_abi::{Error, MapFlags, TimePage, layout};
use skink_kcore::range::UserRange;
use spin::Once;

use crate::arch::x86_64::paging::{PageMode, Tables};
use crate::arch::x86_64::{cpu, physical, rtc, time};
use crate::pool;

/// Pages that a process has mapped from the start.
pub(crate) const PAGES: u64 = 1;

static FRAME: Once<u64> = Once::new();

/// Makes the page; after the clock was measured.
///
/// # Errors
///
/// `NoMemory`.
pub(crate) fn init() -> Result<(), Error> {
    let frame = pool::allocate_zeroed()?;
    // SAFETY: a frame of the pool that is never given back, full of zeros, which are valid for
    // this type; programs can only read it.
    let page = unsafe { &*physical::pointer::<TimePage>(frame) };
    if let Some(clock) = time::clock() {
        page.publish(clock);
    }
    match rtc::unix_seconds() {
        Some(seconds) => {
            page.set_wall_at_boot((seconds * 1_000_000_000).saturating_sub(time::now()))
        }
        None => log::warn!("the machine's clock shows no time"),
    }
    if cpu::has_rdtscp() {
        page.set_cpu_number();
    }
    FRAME.call_once(|| frame);
    Ok(())
}

/// Maps the page into the tables of a new process; the caller charges for the tables.
///
/// # Errors
///
/// `NoMemory`.
pub(crate) fn map(tables: &mut Tables) -> Result<(), Error> {
    let frame = *FRAME.get().ok_or(Error::Unavailable)?;
    let mode = PageMode {
        flags: MapFlags::READ,
        limit: MapFlags::READ,
        is_device: false,
    };
    let range = UserRange::new(layout::TIME_PAGE, 1)?;
    tables
        .map(range, frame, mode, &mut pool::allocate_zeroed)
        .map_or_else(|(error, _)| Err(error), |_| Ok(()))
}
