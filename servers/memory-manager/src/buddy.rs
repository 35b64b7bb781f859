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
    free: u64,
}

impl<'a> Buddy<'a> {
    /// Starts with no free frame. `entries` must be all zero and has one entry for each frame.
    pub fn new(entries: &'a mut [BuddyEntry]) -> Self {
        Buddy {
            entries,
            lists: [Link::NONE; ORDERS],
            free: 0,
        }
    }

    /// Returns the number of free frames.
    pub fn free_frames(&self) -> u64 {
        self.free
    }

    /// Returns the length of the longest run that [`Buddy::allocate`] can give.
    pub fn largest_run(&self) -> u64 {
        let order = self.lists.iter().rposition(|list| *list != Link::NONE);
        order.map_or(0, |order| 1 << order)
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
        let from = (wanted..ORDERS).find(|&order| self.lists[order] != Link::NONE)?;
        let first = self.lists[from].frame()?;
        self.unlink(first, from);
        self.free -= u64::from(size(from));
        // What is behind the run goes back: the upper halves of the split, and the rest of the
        // power of two that was not asked for.
        self.release(first + frames, size(from) - frames);
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
    }

    fn unlink(&mut self, first: Frame, order: usize) {
        let entry = core::mem::take(&mut self.entries[first as usize]);
        match entry.previous.frame() {
            Some(previous) => self.entries[previous as usize].next = entry.next,
            None => self.lists[order] = entry.next,
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
    }
}
