//! Blocks of metadata in memory: those that were not used for long go first.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use core::cell::Cell;

use crate::error::Result;

/// A block of metadata. It never changes.
#[derive(Debug)]
pub struct Block {
    bytes: Box<[u8]>,
    checked_for: Cell<Option<Purpose>>,
}

/// As what a block was checked: a block that two damaged inodes share is checked for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A node of this inode's extent tree, at this depth.
    Extents(u32, u16),
    /// A part of this directory.
    Directory(u32),
}

impl Block {
    /// Wraps the bytes of a block.
    pub fn new(bytes: Box<[u8]>) -> Self {
        Block {
            bytes,
            checked_for: Cell::new(None),
        }
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Checks the bytes, unless they were found right for the same purpose before.
    ///
    /// # Errors
    ///
    /// What `check` returns.
    pub fn check_once(
        &self,
        purpose: Purpose,
        check: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if self.checked_for.get() != Some(purpose) {
            check(&self.bytes)?;
            self.checked_for.set(Some(purpose));
        }
        Ok(())
    }
}

/// A bounded cache of blocks by number. Which block goes is found by second chance, a queue in which
/// a block that was used since it was queued is queued again: a use costs no more than a mark.
#[derive(Debug)]
pub struct Cache {
    capacity: usize,
    blocks: BTreeMap<u64, Entry>,
    /// The numbers of all blocks, those queued first in front.
    queue: VecDeque<u64>,
}

#[derive(Debug)]
struct Entry {
    block: Rc<Block>,
    /// Whether it was used since it was queued.
    is_used: Cell<bool>,
}

impl Cache {
    /// Makes an empty cache of at least one block.
    pub fn new(capacity: usize) -> Self {
        Cache {
            capacity: capacity.max(1),
            blocks: BTreeMap::new(),
            queue: VecDeque::new(),
        }
    }

    /// Returns a block and keeps it for longer.
    pub fn get(&self, number: u64) -> Option<Rc<Block>> {
        let entry = self.blocks.get(&number)?;
        entry.is_used.set(true);
        Some(Rc::clone(&entry.block))
    }

    /// Adds a block, in place of one that was not used for long if it is full.
    pub fn insert(&mut self, number: u64, block: Rc<Block>) {
        if !self.blocks.contains_key(&number) {
            self.make_room();
            self.queue.push_back(number);
        }
        let is_used = Cell::new(false);
        self.blocks.insert(number, Entry { block, is_used });
    }

    fn make_room(&mut self) {
        while self.blocks.len() >= self.capacity
            && let Some(oldest) = self.queue.pop_front()
        {
            match self.blocks.get(&oldest) {
                Some(entry) if entry.is_used.take() => self.queue.push_back(oldest),
                _ => drop(self.blocks.remove(&oldest)),
            }
        }
    }

    /// Forgets all blocks.
    pub fn clear(&mut self) {
        self.blocks.clear();
        self.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::{Block, Cache};

    fn block(byte: u8) -> Rc<Block> {
        Rc::new(Block::new(Box::new([byte])))
    }

    #[test]
    fn a_block_that_was_used_gets_a_second_chance() {
        let mut cache = Cache::new(2);
        cache.insert(1, block(1));
        cache.insert(2, block(2));
        assert_eq!(cache.get(1).unwrap().bytes(), [1]);
        cache.insert(3, block(3));
        assert!(cache.get(2).is_none());
        assert!(cache.get(1).is_some() && cache.get(3).is_some());
        cache.insert(4, block(4));
        assert!(cache.get(1).is_none(), "all were used: the first one goes");
        assert!(cache.get(3).is_some() && cache.get(4).is_some());
    }

    proptest::proptest! {
        #[test]
        fn behaves_like_a_list_with_marks(
            capacity in 1usize..6,
            steps in proptest::collection::vec((0u64..10, proptest::bool::ANY), 0..200),
        ) {
            let mut cache = Cache::new(capacity);
            // The blocks in the order in which they were queued, each with its mark.
            let mut model: Vec<(u64, bool)> = Vec::new();
            for (number, is_insert) in steps {
                let position = model.iter().position(|&(other, _)| other == number);
                if is_insert {
                    cache.insert(number, block(number as u8));
                } else {
                    proptest::prop_assert_eq!(cache.get(number).is_some(), position.is_some());
                }
                if let Some(position) = position {
                    model[position].1 = !is_insert;
                } else if is_insert {
                    while model.len() == capacity {
                        let (oldest, is_used) = model.remove(0);
                        if is_used {
                            model.push((oldest, false));
                        }
                    }
                    model.push((number, false));
                }
            }
            let mut queued: Vec<u64> = model.iter().map(|&(number, _)| number).collect();
            proptest::prop_assert_eq!(&cache.queue, &queued);
            queued.sort_unstable();
            proptest::prop_assert!(cache.blocks.keys().eq(&queued));
        }
    }
}
