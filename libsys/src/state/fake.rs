//! Memory whose writer dies after a chosen number of stores, for host tests.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::{Bound, RangeBounds};

use super::StateMemory;

/// Memory that counts stores and stops keeping them after a number of them.
///
/// The writer goes on unaware; [`FakeMemory::survivor`] is what its successor finds.
#[derive(Clone, Debug)]
pub struct FakeMemory {
    live: Vec<u8>,
    kept: Vec<u8>,
    stores: usize,
    limit: usize,
}

impl FakeMemory {
    /// Makes zeroed memory that keeps everything.
    pub fn new(bytes: usize) -> FakeMemory {
        FakeMemory { live: vec![0; bytes], kept: vec![0; bytes], stores: 0, limit: usize::MAX }
    }

    /// Keeps only the next `limit` stores from now on.
    #[must_use]
    pub fn dying_after(mut self, limit: usize) -> FakeMemory {
        self.limit = self.stores.saturating_add(limit);
        self
    }

    /// Returns how many stores were made.
    pub fn stores(&self) -> usize {
        self.stores
    }

    /// Returns whether a store was lost: whether the writer has died.
    pub fn is_dead(&self) -> bool {
        self.stores > self.limit
    }

    /// Returns what a successor of the writer finds.
    #[must_use]
    pub fn survivor(&self) -> FakeMemory {
        FakeMemory {
            live: self.kept.clone(),
            kept: self.kept.clone(),
            stores: 0,
            limit: usize::MAX,
        }
    }

    /// Changes a byte behind everyone's back.
    pub fn damage(&mut self, at: usize, mask: u8) {
        self.live[at] ^= mask;
        self.kept[at] ^= mask;
    }

    /// Keeps what was stored in a range, word by word, as long as the writer lives.
    fn keep(&mut self, at: usize, bytes: usize) {
        let mut from = at;
        while from < at + bytes {
            let to = (from / 8 * 8 + 8).min(at + bytes);
            if self.stores < self.limit {
                self.kept[from..to].copy_from_slice(&self.live[from..to]);
            }
            self.stores += 1;
            from = to;
        }
    }
}

impl StateMemory for FakeMemory {
    fn bytes(&self) -> usize {
        self.live.len()
    }

    fn view(&self, range: impl RangeBounds<usize>) -> &[u8] {
        &self.live[(range.start_bound().cloned(), range.end_bound().cloned())]
    }

    fn edit<R>(&mut self, at: usize, bytes: usize, f: impl FnOnce(&mut [u8]) -> R) -> R {
        let range = (Bound::Included(at), Bound::Excluded(at + bytes));
        let result = f(&mut self.live[range]);
        self.keep(at, bytes);
        result
    }

    fn commit(&mut self, at: usize, value: u64) {
        assert!(at.is_multiple_of(8), "a committed word is aligned");
        self.write(at, &value.to_le_bytes());
    }
}
