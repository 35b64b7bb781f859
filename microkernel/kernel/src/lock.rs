//! Spin locks whose order the compiler checks.
//!
//! Every lock has a level. To take one, a CPU shows what it holds: a [`Held`] token of a lower
//! level, borrowed until the new lock is let go. So locks can only be taken with rising levels,
//! and a deadlock by order cannot be compiled. A CPU makes its one `Held<0>` when it enters the
//! kernel. Interrupts are off in the kernel, so no handler can want a lock that it interrupted.
//!
//! Whoever waits for another CPU (a TLB shootdown) must show `Held<0>`: it holds nothing.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// Levels, in the order in which locks may be taken.
pub(crate) mod level {
    /// A process's threads, mappings and watchers.
    pub(crate) const PROCESS: u8 = 1;
    /// Waiters of a notification.
    pub(crate) const NOTIFICATION: u8 = 2;
    /// Waiters of an endpoint.
    pub(crate) const ENDPOINT: u8 = 3;
    /// Page tables of a process.
    pub(crate) const SPACE: u8 = 4;
    /// Handles of a process.
    pub(crate) const HANDLES: u8 = 5;
    /// Run queue and deadlines of a CPU.
    pub(crate) const SCHED: u8 = 6;
}

/// Proof that the CPU holds no lock above level `L`.
pub(crate) struct Held<const L: u8>(());

impl Held<0> {
    /// Makes the token of an entry into the kernel; call it once per entry.
    pub(crate) const fn enter() -> Held<0> {
        Held(())
    }
}

/// Data behind a lock of level `L`. A spin lock of our own, because code in assembly takes it too:
/// the first byte is 1 while it is taken, and the data has a known place.
#[repr(C)]
pub(crate) struct Lock<T, const L: u8> {
    is_taken: AtomicBool,
    data: UnsafeCell<T>,
}

// SAFETY: the data is only reached through a guard, of which there is one at a time.
unsafe impl<T: Send, const L: u8> Sync for Lock<T, L> {}

/// Access to the data of a lock; lets go of it when dropped.
pub(crate) struct Guard<'l, 'h, T, const L: u8> {
    lock: &'l Lock<T, L>,
    held: Held<L>,
    below: core::marker::PhantomData<&'h mut ()>,
}

impl<T, const L: u8> Lock<T, L> {
    /// Offset of the data, for code in assembly.
    pub(crate) const DATA: usize = core::mem::offset_of!(Self, data);

    /// Makes a lock.
    pub(crate) const fn new(data: T) -> Self {
        Lock {
            is_taken: AtomicBool::new(false),
            data: UnsafeCell::new(data),
        }
    }

    /// Waits for the lock and takes it.
    #[inline]
    pub(crate) fn lock<'l, 'h, const H: u8>(
        &'l self,
        _held: &'h mut Held<H>,
    ) -> Guard<'l, 'h, T, L> {
        const { assert!(H < L, "locks must be taken in the order of their levels") };
        while self.is_taken.swap(true, Ordering::Acquire) {
            core::hint::cold_path();
            // Reading alone leaves the line with the holder.
            while self.is_taken.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        }
        Guard {
            lock: self,
            held: Held(()),
            below: core::marker::PhantomData,
        }
    }

    /// Takes over a lock that code in assembly has taken.
    ///
    /// # Safety
    ///
    /// The processor holds it and no other, and there is no guard of it.
    pub(crate) const unsafe fn adopt(&self) -> Guard<'_, 'static, T, L> {
        Guard {
            lock: self,
            held: Held(()),
            below: core::marker::PhantomData,
        }
    }
}

impl<T, const L: u8> Guard<'_, '_, T, L> {
    /// Returns the token for taking a lock of a higher level meanwhile.
    #[inline]
    pub(crate) fn held(&mut self) -> &mut Held<L> {
        &mut self.held
    }

    /// Returns the data and the token for taking a lock of a higher level.
    #[inline]
    pub(crate) fn parts(&mut self) -> (&mut T, &mut Held<L>) {
        // SAFETY: the lock is held for as long as this guard exists, which is borrowed.
        (unsafe { &mut *self.lock.data.get() }, &mut self.held)
    }
}

impl<T, const L: u8> Drop for Guard<'_, '_, T, L> {
    #[inline]
    fn drop(&mut self) {
        self.lock.is_taken.store(false, Ordering::Release);
    }
}

impl<T, const L: u8> Deref for Guard<'_, '_, T, L> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held for as long as this guard exists, which is borrowed.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T, const L: u8> DerefMut for Guard<'_, '_, T, L> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.parts().0
    }
}
