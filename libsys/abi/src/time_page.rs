//! The page by which programs tell the time without a system call.

use core::sync::atomic::{AtomicU64, Ordering, fence};

/// Marks a valid [`TimePage`].
pub const TIME_MAGIC: u64 = u64::from_le_bytes(*b"SKINKTIM");

/// How ticks of the time stamp counter become nanoseconds since boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Clock {
    /// The counter at boot.
    pub boot_ticks: u64,
    /// What a tick is multiplied with.
    pub multiplier: u64,
    /// By how many bits the product is shifted right, below 64.
    pub shift: u32,
}

impl Clock {
    /// Returns the nanoseconds since boot when the counter is at `ticks`.
    #[inline]
    pub const fn now(self, ticks: u64) -> u64 {
        let passed = ticks.wrapping_sub(self.boot_ticks);
        ((passed as u128 * self.multiplier as u128) >> (self.shift & 63)) as u64
    }
}

/// What lies at [`crate::layout::TIME_PAGE`] of every process. The kernel writes it, programs can
/// only read.
///
/// The clock may change while it is read: `version` is odd meanwhile, and another one afterwards.
#[derive(Debug, Default)]
#[repr(C)]
pub struct TimePage {
    /// [`TIME_MAGIC`] from the first [`TimePage::publish`] on.
    magic: AtomicU64,
    version: AtomicU64,
    boot_ticks: AtomicU64,
    multiplier: AtomicU64,
    shift: AtomicU64,
    has_cpu_number: AtomicU64,
    /// Unix time at boot, ns; 0 if it is not known.
    wall_at_boot: AtomicU64,
}

impl TimePage {
    /// Makes a page that does not know the time yet.
    pub const fn new() -> TimePage {
        TimePage {
            magic: AtomicU64::new(0),
            version: AtomicU64::new(0),
            boot_ticks: AtomicU64::new(0),
            multiplier: AtomicU64::new(0),
            shift: AtomicU64::new(0),
            has_cpu_number: AtomicU64::new(0),
            wall_at_boot: AtomicU64::new(0),
        }
    }

    /// Sets the clock. One at a time may do so.
    pub fn publish(&self, clock: Clock) {
        let version = self.version.load(Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(1), Ordering::Relaxed);
        // Nothing below may be seen before the odd version.
        fence(Ordering::Release);
        self.boot_ticks.store(clock.boot_ticks, Ordering::Relaxed);
        self.multiplier.store(clock.multiplier, Ordering::Relaxed);
        self.shift.store(clock.shift.into(), Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(2), Ordering::Release);
        self.magic.store(TIME_MAGIC, Ordering::Release);
    }

    /// Says that `rdtscp` returns the number of the CPU beside the counter.
    pub fn set_cpu_number(&self) {
        self.has_cpu_number.store(1, Ordering::Release);
    }

    /// Sets the wall time at boot: nanoseconds since the beginning of 1970, Universal Time.
    pub fn set_wall_at_boot(&self, ns: u64) {
        self.wall_at_boot.store(ns, Ordering::Release);
    }

    /// Returns the wall time at boot, if it is known.
    #[inline]
    pub fn wall_at_boot(&self) -> Option<u64> {
        match self.wall_at_boot.load(Ordering::Acquire) {
            0 => None,
            ns => Some(ns),
        }
    }

    /// Returns whether `rdtscp` returns the number of the CPU.
    #[inline]
    pub fn has_cpu_number(&self) -> bool {
        self.has_cpu_number.load(Ordering::Acquire) == 1
    }

    /// Returns the nanoseconds since boot with a function that reads the time stamp counter;
    /// `None` if the page does not know them.
    #[inline]
    pub fn now(&self, ticks: impl Fn() -> u64) -> Option<u64> {
        if self.magic.load(Ordering::Acquire) != TIME_MAGIC {
            return None;
        }
        loop {
            let before = self.version.load(Ordering::Acquire);
            let clock = Clock {
                boot_ticks: self.boot_ticks.load(Ordering::Relaxed),
                multiplier: self.multiplier.load(Ordering::Relaxed),
                shift: self.shift.load(Ordering::Relaxed) as u32,
            };
            let now = clock.now(ticks());
            // The loads above come before the second look at the version.
            fence(Ordering::Acquire);
            if before & 1 == 0 && self.version.load(Ordering::Relaxed) == before {
                return Some(now);
            }
            core::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::Ordering;

    use super::{Clock, TimePage};

    const GIGAHERTZ: Clock = Clock {
        boot_ticks: 1000,
        multiplier: 1 << 32,
        shift: 32,
    };
    const HALF: Clock = Clock {
        multiplier: 2 << 32,
        ..GIGAHERTZ
    };

    #[test]
    fn a_fresh_page_does_not_know_the_time() {
        let page = TimePage::new();
        assert_eq!(page.now(|| 5000), None);
        assert_eq!(page.wall_at_boot(), None);
        page.publish(GIGAHERTZ);
        assert_eq!(page.now(|| 5000), Some(4000));
        assert!(!page.has_cpu_number());
        page.set_cpu_number();
        assert!(page.has_cpu_number());
    }

    #[test]
    fn centuries_do_not_overflow() {
        let ticks = u64::MAX / 4;
        assert_eq!(HALF.now(ticks + 1000), ticks * 2);
    }

    #[test]
    fn a_clock_that_changes_meanwhile_is_read_again() {
        let page = TimePage::new();
        page.publish(GIGAHERTZ);
        let reads = Cell::new(0);
        let now = page.now(|| {
            reads.set(reads.get() + 1);
            if reads.get() == 1 {
                page.publish(HALF);
            }
            5000
        });
        assert_eq!((now, reads.get()), (Some(8000), 2));
    }

    #[test]
    fn a_half_written_clock_is_waited_for() {
        let page = TimePage::new();
        page.publish(GIGAHERTZ);
        page.version.fetch_add(1, Ordering::Relaxed);
        let reads = Cell::new(0);
        let now = page.now(|| {
            reads.set(reads.get() + 1);
            if reads.get() == 3 {
                page.version.fetch_add(1, Ordering::Relaxed);
            }
            5000
        });
        assert_eq!((now, reads.get()), (Some(4000), 4));
    }
}
