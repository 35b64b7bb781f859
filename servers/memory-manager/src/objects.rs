//! Memory objects that were given out, and when their frames come back.
//!
//! The kernel counts the handles and mappings of an object. When only the manager's own handle is
//! left nobody can ever get another one, so the frames are free. That is found out by asking: two
//! objects for each that is made, so that the unused do not outgrow the used, more of them when a
//! process has ended or somebody wants to know, all when memory is short. Not by the clock: a
//! server that waits for a time as well cannot be called on the kernel's short way.

use alloc::vec::Vec;
use core::ops::Range;

use libipc::proto::memory::{MAX_OBJECTS, MemoryError};

use crate::Frame;

/// Most objects of all clients together: the manager holds a handle to each.
pub const MAX_ALL_OBJECTS: usize = 4096;

/// Objects asked for each one that is made.
pub const ASKED_PER_OBJECT: usize = 2;

/// An object that was given out.
#[derive(Debug)]
pub struct Object<M> {
    /// The manager's own handle.
    pub memory: M,
    /// Its first frame.
    pub first: Frame,
    /// Its frames.
    pub pages: u32,
    /// The space that asked for it, or 0.
    pub owner: u32,
}

/// The objects that were given out.
#[derive(Debug)]
pub struct Objects<M> {
    list: Vec<Object<M>>,
    /// Where the next round starts.
    cursor: usize,
    pages: u64,
}

impl<M> Default for Objects<M> {
    fn default() -> Self {
        Objects {
            list: Vec::new(),
            cursor: 0,
            pages: 0,
        }
    }
}

impl<M> Objects<M> {
    /// Returns how many there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Returns the pages of all.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Returns whether the pages of all are those of each.
    pub fn is_sound(&self) -> bool {
        let pages = self.list.iter().map(|object| u64::from(object.pages));
        pages.sum::<u64>() == self.pages
    }

    /// Returns the one that was added last, if none was taken away since.
    pub fn newest(&self) -> Option<&Object<M>> {
        self.list.last()
    }

    /// Returns how many objects have frames of a range.
    pub fn count_in(&self, frames: Range<Frame>) -> usize {
        let has_some = |object: &&Object<M>| {
            object.first < frames.end && frames.start < object.first + object.pages
        };
        self.list.iter().filter(has_some).count()
    }

    /// Returns number and pages of the objects that a space asked for.
    pub fn of_owner(&self, owner: u32) -> (usize, u64) {
        let own = self.list.iter().filter(|object| object.owner == owner);
        own.fold((0, 0), |(count, pages), object| {
            (count + 1, pages + u64::from(object.pages))
        })
    }

    /// Checks that a space may have one more.
    ///
    /// # Errors
    ///
    /// `LimitReached`, `NoMemory`.
    pub fn check_add(&mut self, owner: u32) -> Result<(), MemoryError> {
        if self.list.len() >= MAX_ALL_OBJECTS || self.of_owner(owner).0 >= MAX_OBJECTS {
            return Err(MemoryError::LimitReached);
        }
        self.reserve()
    }

    /// Makes room for one more.
    ///
    /// # Errors
    ///
    /// `NoMemory`.
    pub fn reserve(&mut self) -> Result<(), MemoryError> {
        self.list.try_reserve(1).map_err(|_| MemoryError::NoMemory)
    }

    /// Adds one; [`Objects::check_add`] or [`Objects::reserve`] must have agreed.
    pub fn add(&mut self, object: Object<M>) {
        self.pages += u64::from(object.pages);
        self.list.push(object);
    }

    /// Asks for at most `limit` objects, going round, whether they are used; passes those that are
    /// not to `free`.
    pub fn sweep(
        &mut self,
        limit: usize,
        is_used: impl Fn(&M) -> bool,
        mut free: impl FnMut(Object<M>),
    ) {
        for _ in 0..limit.min(self.list.len()) {
            if self.cursor >= self.list.len() {
                self.cursor = 0;
            }
            if is_used(&self.list[self.cursor].memory) {
                self.cursor += 1;
                continue;
            }
            let object = self.list.swap_remove(self.cursor);
            self.pages -= u64::from(object.pages);
            free(object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Object, Objects};

    #[test]
    fn rounds_reach_every_object_and_free_the_unused_once() {
        let mut objects = Objects::default();
        for number in 0..10 {
            objects.check_add(1).unwrap();
            objects.add(Object {
                memory: number,
                first: number,
                pages: 2,
                owner: 1 + number % 2,
            });
        }
        assert_eq!(objects.of_owner(2), (5, 10));
        let mut freed = Vec::new();
        for _ in 0..4 {
            objects.sweep(
                3,
                |number| number % 3 != 0,
                |object| freed.push((object.first, object.pages)),
            );
        }
        freed.sort_unstable();
        assert_eq!(freed, [(0, 2), (3, 2), (6, 2), (9, 2)]);
        assert_eq!((objects.count(), objects.pages()), (6, 12));
    }

    #[test]
    fn sweeping_nothing_is_nothing() {
        let mut objects: Objects<u32> = Objects::default();
        objects.sweep(5, |_| false, |_| panic!("freed what was never made"));
    }
}
