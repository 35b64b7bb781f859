//! The free frames: a buddy allocator.
//!
//! A free block has 2^order frames and starts at a multiple of its size; two free halves of a
//! block (buddies) become one at once. Invariant: no frame lies in two free blocks, and no two
//! free buddies exist side by side below the highest order.
//!
//! It proves nothing about who uses the frames that are not free.

use crate::Frame;
use crate::link::Link;

/// Highest order of a block: 2^16 frames are 256 MiB.
pub const MAX_ORDER: usize = 16;
const ORDERS: usize = MAX_ORDER + 1;

/// What the allocator keeps for each frame. Zero means: not the first frame of a free block.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct BuddyEntry {
    next: Link,
    previous: Link,
    /// Order + 1 of the free block that starts here, or 0.
    head: u32,
}

/// The free blocks of all orders.
#[derive(Debug)]
pub struct Buddy<'a> {
    entries: &'a mut [BuddyEntry],
    lists: [Link; ORDERS],
    /// One bit for each order of which there is a free block.
    orders: u32,
    free: u64,
}

impl<'a> Buddy<'a> {
    /// Starts with no free frame. `entries` must be all zero and has one entry for each frame.
    pub fn new(entries: &'a mut [BuddyEntry]) -> Self {
        Buddy {
            entries,
            lists: [Link::NONE; ORDERS],
            orders: 0,
            free: 0,
        }
    }

    /// Returns the number of free frames.
    pub fn free_frames(&self) -> u64 {
        self.free
    }

    /// Returns the length of the longest run that [`Buddy::allocate`] can give.
    pub fn largest_run(&self) -> u64 {
        self.orders.checked_ilog2().map_or(0, |order| 1 << order)
    }

    /// Returns whether the frame lies in a free block.
    pub fn is_free(&self, frame: Frame) -> bool {
        (0..ORDERS).any(|order| {
            let first = frame & !(size(order) - 1);
            self.entries
                .get(first as usize)
                .is_some_and(|entry| entry.head == order as u32 + 1)
        })
    }

    /// Takes a run of `frames` frames; its first frame is a multiple of the next power of two.
    pub fn allocate(&mut self, frames: u32) -> Option<Frame> {
        if frames == 0 || frames > size(MAX_ORDER) {
            return None;
        }
        let wanted = frames.next_power_of_two().trailing_zeros() as usize;
        let fitting = self.orders & (u32::MAX << wanted);
        if fitting == 0 {
            return None;
        }
        let from = fitting.trailing_zeros() as usize;
        let first = self.split(from, wanted)?;
        // The one frame that is looked at most cheaply.
        assert!(
            self.entries[first as usize].head == 0 && first.trailing_zeros() as usize >= wanted,
            "a run of frames is not free any more"
        );
        // So does what was not asked for of the power of two.
        if frames < size(wanted) {
            self.release(first + frames, size(wanted) - frames);
        }
        Some(first)
    }

    /// Takes one frame: as [`Buddy::allocate`], for the path of a fault.
    #[inline]
    pub fn allocate_one(&mut self) -> Option<Frame> {
        self.split(self.orders.trailing_zeros() as usize, 0)
    }

    /// Takes a block of an order out of one of order `from`, if there is one.
    #[inline]
    fn split(&mut self, from: usize, order: usize) -> Option<Frame> {
        let first = self.pop(from)?;
        // Of each split the upper half stays free. The lower one is used, so they do not join.
        for half in (order..from).rev() {
            self.link(first + size(half), half);
        }
        self.free -= u64::from(size(order));
        Some(first)
    }

    /// Gives a run back. None of its frames may be free already: it would be given out twice.
    pub fn release(&mut self, first: Frame, frames: u32) {
        let (mut at, end) = (first, first + frames);
        while at < end {
            let fits = (end - at).ilog2() as usize;
            let order = (at.trailing_zeros() as usize).min(fits).min(MAX_ORDER);
            self.release_block(at, order);
            at += size(order);
        }
    }

    fn release_block(&mut self, first: Frame, order: usize) {
        debug_assert!(!self.is_free(first), "frame {first} freed twice");
        assert!(self.entries[first as usize].head == 0, "freed twice");
        self.free += u64::from(size(order));
        let (mut first, mut order) = (first, order);
        while order < MAX_ORDER {
            let buddy = first ^ size(order);
            let is_free = self
                .entries
                .get(buddy as usize)
                .is_some_and(|entry| entry.head == order as u32 + 1);
            if !is_free {
                break;
            }
            self.unlink(buddy, order);
            first = first.min(buddy);
            order += 1;
        }
        self.link(first, order);
    }

    /// Takes the first block of an order.
    #[inline]
    fn pop(&mut self, order: usize) -> Option<Frame> {
        let list = self.lists.get_mut(order)?;
        let first = list.frame()?;
        let next = core::mem::take(&mut self.entries[first as usize]).next;
        *list = next;
        match next.frame() {
            Some(next) => self.entries[next as usize].previous = Link::NONE,
            None => self.orders &= !size(order),
        }
        Some(first)
    }

    #[inline]
    fn link(&mut self, first: Frame, order: usize) {
        let next = self.lists[order];
        if let Some(next) = next.frame() {
            self.entries[next as usize].previous = Link::to(first);
        }
        self.entries[first as usize] = BuddyEntry {
            next,
            previous: Link::NONE,
            head: order as u32 + 1,
        };
        self.lists[order] = Link::to(first);
        self.orders |= size(order);
    }

    fn unlink(&mut self, first: Frame, order: usize) {
        let entry = core::mem::take(&mut self.entries[first as usize]);
        match entry.previous.frame() {
            Some(previous) => self.entries[previous as usize].next = entry.next,
            None => self.lists[order] = entry.next,
        }
        if self.lists[order] == Link::NONE {
            self.orders &= !size(order);
        }
        if let Some(next) = entry.next.frame() {
            self.entries[next as usize].previous = entry.previous;
        }
    }
}

/// Returns the frames in a block.
const fn size(order: usize) -> u32 {
    1 << order
}

#[cfg(test)]
mod tests {
    use super::{Buddy, BuddyEntry};

    #[test]
    fn odd_runs_leave_the_rest_free() {
        let mut entries = [BuddyEntry::default(); 64];
        let mut buddy = Buddy::new(&mut entries);
        buddy.release(0, 64);
        let first = buddy.allocate(5).unwrap();
        assert_eq!(buddy.free_frames(), 59);
        assert!((first..first + 5).all(|frame| !buddy.is_free(frame)));
        assert!(buddy.is_free(first + 5));
        buddy.release(first, 5);
        assert_eq!(buddy.largest_run(), 64);
    }

    #[test]
    fn gives_nothing_it_does_not_have() {
        let mut entries = [BuddyEntry::default(); 8];
        let mut buddy = Buddy::new(&mut entries);
        assert_eq!(buddy.allocate(1), None);
        buddy.release(1, 7);
        assert_eq!(buddy.allocate(0), None);
        assert_eq!(buddy.allocate(8), None);
        assert_eq!(buddy.allocate(u32::MAX), None);
        assert_eq!(buddy.allocate(4), Some(4));
        assert_eq!(buddy.allocate_one(), Some(1));
        assert_eq!(buddy.allocate_one(), Some(2));
        assert_eq!(buddy.allocate(1), Some(3));
        assert_eq!(buddy.allocate_one(), None);
        assert_eq!(buddy.free_frames(), 0);
    }
}
