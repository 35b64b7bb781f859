//! Memory whose writer dies after a chosen number of stores, for host tests.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::RangeBounds;

use super::StateMemory;

/// How a store of many bytes comes apart when its writer dies in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tearing {
    /// Between words, first to last: quick, and enough for most tests.
    #[default]
    Words,
    /// Between bytes, first to last.
    Bytes,
    /// Between bytes, last to first.
    BytesBackwards,
    /// Between bytes, in an order that depends on the seed.
    Scattered(u64),
}

/// Memory that counts stores and stops keeping them after a number of them.
///
/// A committed word is one store; other bytes come apart as [`Tearing`] says. The writer goes on unaware; [`FakeMemory::survivor`] is what its successor finds.
#[derive(Debug)]
pub struct FakeMemory {
    live: Vec<u8>,
    kept: Vec<u8>,
    is_volatile: bool,
    life: Rc<Life>,
    tearing: Tearing,
}

/// How long the writer lives; shared by all memory that it writes.
#[derive(Debug)]
struct Life {
    stores: Cell<usize>,
    limit: Cell<usize>,
}

impl FakeMemory {
    /// Makes zeroed memory that keeps everything.
    pub fn new(bytes: usize) -> FakeMemory {
        FakeMemory::with_content(vec![0; bytes])
    }

    fn with_content(content: Vec<u8>) -> FakeMemory {
        let life = Life {
            stores: Cell::new(0),
            limit: Cell::new(usize::MAX),
        };
        FakeMemory {
            live: content.clone(),
            kept: content,
            is_volatile: false,
            life: Rc::new(life),
            tearing: Tearing::Words,
        }
    }

    /// Makes stores come apart differently.
    #[must_use]
    pub fn tearing(self, tearing: Tearing) -> FakeMemory {
        FakeMemory { tearing, ..self }
    }

    /// Has it say that nothing need be kept in it.
    #[must_use]
    pub fn volatile(self) -> FakeMemory {
        FakeMemory {
            is_volatile: true,
            ..self
        }
    }

    /// Makes memory that the writer of `other` writes too: it dies for both at once.
    #[must_use]
    pub fn written_with(mut self, other: &FakeMemory) -> FakeMemory {
        self.life = Rc::clone(&other.life);
        self
    }

    /// Keeps only the next `limit` stores from now on.
    #[must_use]
    pub fn dying_after(self, limit: usize) -> FakeMemory {
        self.life
            .limit
            .set(self.life.stores.get().saturating_add(limit));
        self
    }

    /// Returns how many stores the writer has made.
    pub fn stores(&self) -> usize {
        self.life.stores.get()
    }

    /// Returns what a successor of the writer finds.
    #[must_use]
    pub fn survivor(&self) -> FakeMemory {
        FakeMemory::with_content(self.kept.clone())
    }

    /// Changes a byte behind everyone's back.
    pub fn damage(&mut self, at: usize, mask: u8) {
        self.live[at] ^= mask;
        self.kept[at] ^= mask;
    }

    /// Keeps what was stored in a range, part by part, as long as the writer lives.
    fn keep(&mut self, at: usize, bytes: usize) {
        match self.tearing {
            Tearing::Words => {
                let mut from = at;
                while from < at + bytes {
                    let to = (from / 8 * 8 + 8).min(at + bytes);
                    self.keep_at_once(from, to - from);
                    from = to;
                }
            }
            Tearing::Bytes => (at..at + bytes).for_each(|place| self.keep_at_once(place, 1)),
            Tearing::BytesBackwards => {
                (at..at + bytes)
                    .rev()
                    .for_each(|place| self.keep_at_once(place, 1));
            }
            Tearing::Scattered(seed) => {
                let mut places: Vec<usize> = (at..at + bytes).collect();
                // Any fixed order that mixes well will do: a hash of seed and place.
                places.sort_by_key(|&place| {
                    (place as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7
                });
                for place in places {
                    self.keep_at_once(place, 1);
                }
            }
        }
    }

    fn keep_at_once(&mut self, at: usize, bytes: usize) {
        let Life { stores, limit } = &*self.life;
        if stores.get() < limit.get() {
            self.kept[at..at + bytes].copy_from_slice(&self.live[at..at + bytes]);
        }
        stores.set(stores.get() + 1);
    }
}

impl StateMemory for FakeMemory {
    fn bytes(&self) -> usize {
        self.live.len()
    }

    fn is_volatile(&self) -> bool {
        self.is_volatile
    }

    fn view(&self, range: impl RangeBounds<usize>) -> &[u8] {
        &self.live[(range.start_bound().cloned(), range.end_bound().cloned())]
    }

    fn fill<R>(&mut self, at: usize, room: usize, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        let (bytes, result) = f(&mut self.live[at..at + room]);
        self.keep(at, bytes);
        result
    }

    fn commit(&mut self, at: usize, value: u64) {
        assert!(at.is_multiple_of(8), "a committed word is aligned");
        self.live[at..at + 8].copy_from_slice(&value.to_le_bytes());
        self.keep_at_once(at, 8);
    }
}
