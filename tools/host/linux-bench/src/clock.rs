//! The time stamp counter, and what its ticks are.

use std::arch::asm;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Instructions in each turn of [`count_down`].
pub(crate) const COUNT_DOWN_INSTRUCTIONS: u64 = 2;
/// How long the counter is compared with the clock.
const WINDOW: Duration = Duration::from_millis(100);

/// Reads the time stamp counter when everything before it is done (Intel SDM vol. 2B, RDTSC).
pub(crate) fn ticks() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: both instructions may be used in Ring 3 and touch no memory.
    unsafe {
        asm!("lfence", "rdtsc", out("rax") low, out("rdx") high, options(nostack, preserves_flags));
    }
    high << 32 | low
}

/// Returns the time since boot, ns; 0 if there is no clock.
pub(crate) fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        u64::try_from(Duration::from(time).as_nanos()).unwrap_or(u64::MAX)
    })
}

/// Compares the counter with the clock.
pub(crate) fn ticks_per_ms() -> u64 {
    let (ticks_before, before) = (ticks(), now_ns());
    let mut now = before;
    while u128::from(now - before) < WINDOW.as_nanos() {
        now = now_ns();
    }
    let passed = u128::from(ticks().wrapping_sub(ticks_before)) * 1_000_000;
    u64::try_from(passed / u128::from(now - before)).unwrap_or(u64::MAX)
}

/// Counts down from `turns`, which is not 0.
pub(crate) fn count_down(turns: u64) {
    // SAFETY: only a register and the flags change.
    unsafe {
        asm!("2:", "dec {0}", "jnz 2b", inout(reg) turns.max(1) => _, options(nomem, nostack));
    }
}
