//! Time since boot, and waiting for it.

use skink_abi::Syscall;

use crate::{Error, raw};

/// Nanoseconds in a millisecond.
pub const MS: u64 = 1_000_000;

/// Returns the nanoseconds since boot.
pub fn now() -> u64 {
    raw::plain(Syscall::Clock, [0; 6]).map_or(0, |(ns, _)| ns)
}

/// Returns the deadline that lies `ns` nanoseconds ahead.
pub fn after(ns: u64) -> u64 {
    now().saturating_add(ns)
}

/// Waits until the deadline (absolute, ns since boot).
pub fn sleep_until(deadline: u64) {
    while let Err(error) = raw::plain(Syscall::Wait, [0, deadline, 0, 0, 0, 0]) {
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
