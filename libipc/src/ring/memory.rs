//! What a ring needs of the memory that it lies in.
//!
//! In the system that is a [`Mapping`]. Tests put other memory in its place: such that tries
//! every order of accesses that the memory model allows, that counts, or that ends a side in the
//! middle.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use libsys::mappings::Mapping;

/// Memory that both sides of a ring see, as words that either may change at any moment.
pub trait RingMemory {
    /// One word.
    type Word: RingWord;

    /// Returns all words. Their number never changes.
    fn words(&self) -> &[Self::Word];
}

/// A word that two sides share.
pub trait RingWord {
    /// Reads without order.
    fn read(&self) -> u64;

    /// Reads; what the other side wrote before it released this value is seen after that.
    fn acquire(&self) -> u64;

    /// Writes without order.
    fn write(&self, value: u64);

    /// Writes, after everything that this side wrote before.
    fn release(&self, value: u64);

    /// Writes and returns what was there, in one step.
    fn swap(&self, value: u64) -> u64;

    /// Orders all accesses of this side, earlier writes before later reads too.
    fn fence();
}

impl RingMemory for Mapping {
    type Word = AtomicU64;

    #[inline]
    fn words(&self) -> &[AtomicU64] {
        self.atomic_words()
    }
}

impl RingWord for AtomicU64 {
    #[inline]
    fn read(&self) -> u64 {
        self.load(Ordering::Relaxed)
    }

    #[inline]
    fn acquire(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn write(&self, value: u64) {
        self.store(value, Ordering::Relaxed);
    }

    #[inline]
    fn release(&self, value: u64) {
        self.store(value, Ordering::Release);
    }

    #[inline]
    fn swap(&self, value: u64) -> u64 {
        AtomicU64::swap(self, value, Ordering::SeqCst)
    }

    #[inline]
    fn fence() {
        fence(Ordering::SeqCst);
    }
}
