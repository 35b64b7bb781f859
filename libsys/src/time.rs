//! Time since boot, waiting for it, and wall time.

use skink_abi::Syscall;

use crate::{Error, raw};

/// Nanoseconds in a millisecond.
pub const MS: u64 = 1_000_000;

/// Returns the nanoseconds since boot: read from the time page, or asked of a kernel that does not
/// know them there.
#[inline]
pub fn now() -> u64 {
    page_now().unwrap_or_else(clock)
}

/// Asks the kernel for the nanoseconds since boot.
#[cold]
pub fn clock() -> u64 {
    raw::plain(Syscall::Clock, []).map_or(0, |(ns, _)| ns)
}

/// Returns the wall time, nanoseconds since the beginning of 1970 in Universal Time, without a system
/// call; `None` if the machine has no clock that says so. [`skink_abi::calendar`] makes a date of it.
#[cfg(bare)]
#[inline]
pub fn wall() -> Option<u64> {
    let at_boot = page().wall_at_boot()?;
    Some(at_boot.saturating_add(now()))
}

/// Returns the wall time: on the host there is no page.
#[cfg(not(bare))]
pub fn wall() -> Option<u64> {
    None
}

/// Returns the number of the CPU that runs this, from 0 up, if it can be told without a system
/// call. The thread may be elsewhere at the next moment.
#[cfg(bare)]
pub fn cpu_number() -> Option<u32> {
    page().has_cpu_number().then(raw::processor_number)
}

#[cfg(bare)]
fn page() -> &'static skink_abi::TimePage {
    let address = skink_abi::layout::TIME_PAGE as usize;
    // SAFETY: the kernel maps the page there before a process starts; it holds atomics only.
    unsafe { &*core::ptr::with_exposed_provenance(address) }
}

#[cfg(bare)]
#[inline]
fn page_now() -> Option<u64> {
    page().now(raw::ticks)
}

/// On the host there is no page.
#[cfg(not(bare))]
fn page_now() -> Option<u64> {
    None
}

/// Returns the deadline that lies `ns` nanoseconds ahead.
pub fn after(ns: u64) -> u64 {
    now().saturating_add(ns)
}

/// Waits until the deadline (absolute, ns since boot).
pub fn sleep_until(deadline: u64) {
    while let Err(error) = raw::plain(Syscall::Wait, [0, deadline]) {
        if matches!(
            error,
            Error::Timeout | Error::WouldBlock | Error::InvalidSyscall
        ) {
            return;
        }
    }
}

/// Waits for `ns` nanoseconds.
pub fn sleep(ns: u64) {
    sleep_until(after(ns));
}
