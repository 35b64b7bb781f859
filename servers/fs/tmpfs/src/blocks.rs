//! Which blocks of the data area are free, and what the others hold.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// Bytes per block: a page, so that a file could be mapped one day.
pub const BLOCK_BYTES: usize = 4096;

/// Whose blocks there are. Not kept in the region: rebuilt from the tree at start, so that it cannot
/// disagree with it. From then on it is the tree told the other way round, so that each can be held
/// against the other.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// For each block the place that it holds; [`NOBODY`] when it is free.
    places: Vec<u64>,
    free: usize,
    /// Where the search for a free block begins, so that a file gets neighbouring blocks.
    next: usize,
}

/// The place of a free block: no inode is 0.
const NOBODY: u64 = 0;

/// Names a place in a file. Of a very large inode number only the low half counts.
const fn place(inode: u64, index: u32) -> u64 {
    inode << u32::BITS | index as u64
}

impl Blocks {
    /// Makes a map of `count` free blocks.
    pub(crate) fn new(count: usize) -> Blocks {
        Blocks {
            places: vec![NOBODY; count],
            free: count,
            next: 0,
        }
    }

    /// Returns the number of blocks.
    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// Returns the number of free blocks.
    pub(crate) fn free(&self) -> usize {
        self.free
    }

    /// Returns whether a block holds this place of a file.
    #[inline]
    pub(crate) fn holds(&self, block: usize, inode: u64, index: u32) -> bool {
        self.places
            .get(block)
            .is_some_and(|&found| found == place(inode, index))
    }

    /// Returns whether any block holds one of these places of a file. Looks at each block.
    #[cold]
    pub(crate) fn hold_any(&self, inode: u64, indices: Range<u32>) -> bool {
        let places = place(inode, indices.start)..place(inode, indices.end);
        self.places.iter().any(|found| places.contains(found))
    }

    /// Marks a block as holding a place; `false` when it is used already or does not exist.
    pub(crate) fn claim(&mut self, block: u32, inode: u64, index: u32) -> bool {
        match self.places.get_mut(block as usize) {
            Some(found) if *found == NOBODY => {
                *found = place(inode, index);
                self.free -= 1;
                true
            }
            _ => false,
        }
    }

    /// Takes free blocks for places of a file, neighbours if there are such, and returns the places with
    /// their blocks; `None` when there are not enough.
    ///
    /// # Panics
    ///
    /// When the count of free blocks is wrong: the next instance counts them again.
    pub(crate) fn take(&mut self, inode: u64, indices: &[u32]) -> Option<Vec<(u32, u32)>> {
        if indices.len() > self.free {
            let free = self.places.iter().filter(|&&found| found == NOBODY);
            assert!(
                free.count() < indices.len(),
                "memory is damaged: more blocks are free than were counted"
            );
            return None;
        }
        let mut taken = Vec::with_capacity(indices.len());
        let mut looked_at = 0;
        while let Some(&index) = indices.get(taken.len()) {
            if self.next >= self.places.len() {
                self.next = 0;
            }
            let block = self.next as u32;
            if self.claim(block, inode, index) {
                taken.push((index, block));
            }
            self.next += 1;
            looked_at += 1;
            // The count is in memory too, where bits may flip.
            assert!(
                looked_at <= self.places.len(),
                "memory is damaged: fewer blocks are free than were counted"
            );
        }
        Some(taken)
    }

    /// Gives blocks of a file back.
    ///
    /// # Panics
    ///
    /// When one is not of that file: tree and map disagree, and the next instance makes the map anew.
    pub(crate) fn release(&mut self, inode: u64, blocks: &[u32]) {
        for &block in blocks {
            let found = self.places.get_mut(block as usize);
            let found = found.filter(|found| **found >> u32::BITS == place(inode, 0) >> u32::BITS);
            let Some(found) = found else {
                panic!("memory is damaged: block {block} is not of inode {inode}");
            };
            *found = NOBODY;
            self.free += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::Blocks;

    #[test]
    fn blocks_are_given_out_once_until_released() {
        let mut blocks = Blocks::new(8);
        assert!(blocks.claim(3, 9, 0));
        assert!(!blocks.claim(3, 9, 0));
        assert!(!blocks.claim(8, 9, 1));
        let all: Vec<u32> = (0..8).collect();
        assert_eq!(blocks.take(5, &all), None);
        let taken = blocks.take(5, &all[1..]).unwrap();
        let expected = [0, 1, 2, 4, 5, 6, 7];
        assert!(taken.into_iter().eq(all[1..].iter().copied().zip(expected)));
        assert_eq!(blocks.free(), 0);
        assert!(blocks.holds(4, 5, 4) && blocks.holds(3, 9, 0));
        assert!(blocks.hold_any(5, 3..5) && blocks.hold_any(9, 0..1) && !blocks.hold_any(9, 1..9));
        assert!(!blocks.holds(4, 5, 5) && !blocks.holds(4, 9, 4) && !blocks.holds(8, 5, 4));
        blocks.release(5, &[5]);
        assert_eq!(blocks.free(), 1);
        assert!(!blocks.holds(5, 5, 5));
        assert_eq!(blocks.take(6, &[7]).unwrap(), [(7, 5)]);
    }

    #[test]
    fn who_gives_back_what_it_does_not_have_is_damaged() {
        let mut blocks = Blocks::new(8);
        blocks.take(5, &[0, 1]).unwrap();
        for (inode, block) in [(6, 0), (5, 2), (5, 8)] {
            let release = catch_unwind(AssertUnwindSafe(|| blocks.release(inode, &[block])));
            assert!(release.is_err(), "{inode} {block}");
        }
        blocks.free = 0;
        assert!(catch_unwind(AssertUnwindSafe(|| blocks.take(5, &[2]))).is_err());
    }
}
