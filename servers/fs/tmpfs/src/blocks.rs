//! Which blocks of the data area are free.

use alloc::vec;
use alloc::vec::Vec;

/// Bytes per block: a page, so that a file could be mapped one day.
pub const BLOCK_BYTES: usize = 4096;

/// The free blocks. Not kept in the region: rebuilt from the tree at start, so that it cannot
/// disagree with it.
#[derive(Debug)]
pub(crate) struct Blocks {
    is_used: Vec<bool>,
    free: usize,
    /// Where the search for a free block begins, so that a file gets neighbouring blocks.
    next: usize,
}

impl Blocks {
    /// Makes a map of `count` free blocks.
    pub(crate) fn new(count: usize) -> Blocks {
        Blocks {
            is_used: vec![false; count],
            free: count,
            next: 0,
        }
    }

    /// Returns the number of blocks.
    pub(crate) fn count(&self) -> usize {
        self.is_used.len()
    }

    /// Returns the number of free blocks.
    pub(crate) fn free(&self) -> usize {
        self.free
    }

    /// Marks a block as used; `false` when it was used already or does not exist.
    pub(crate) fn claim(&mut self, block: u32) -> bool {
        match self.is_used.get_mut(block as usize) {
            Some(is_used) if !*is_used => {
                *is_used = true;
                self.free -= 1;
                true
            }
            _ => false,
        }
    }

    /// Takes `count` free blocks, neighbours if there are such; `None` when there are not enough.
    ///
    /// # Panics
    ///
    /// When the count of free blocks is wrong: the next instance counts them again.
    pub(crate) fn take(&mut self, count: usize) -> Option<Vec<u32>> {
        if count > self.free {
            return None;
        }
        let mut taken = Vec::with_capacity(count);
        let mut looked_at = 0;
        while taken.len() < count {
            if self.next >= self.is_used.len() {
                self.next = 0;
            }
            let block = self.next as u32;
            if self.claim(block) {
                taken.push(block);
            }
            self.next += 1;
            looked_at += 1;
            // The count is in memory too, where bits may flip.
            assert!(
                looked_at <= self.is_used.len(),
                "memory is damaged: fewer blocks are free than were counted"
            );
        }
        Some(taken)
    }

    /// Gives blocks back.
    pub(crate) fn release(&mut self, blocks: &[u32]) {
        for &block in blocks {
            if let Some(is_used @ true) = self.is_used.get_mut(block as usize) {
                *is_used = false;
                self.free += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Blocks;

    #[test]
    fn blocks_are_given_out_once_until_released() {
        let mut blocks = Blocks::new(8);
        assert!(blocks.claim(3));
        assert!(!blocks.claim(3));
        assert!(!blocks.claim(8));
        assert_eq!(blocks.take(8), None);
        let mut taken = blocks.take(7).unwrap();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2, 4, 5, 6, 7]);
        assert_eq!(blocks.free(), 0);
        blocks.release(&[5, 5, 100]);
        assert_eq!(blocks.free(), 1);
        assert_eq!(blocks.take(1).unwrap(), [5]);
    }
}
