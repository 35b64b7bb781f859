//! Blocks of metadata in memory: the least recently used go first.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
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

/// A bounded cache of blocks by number.
#[derive(Debug)]
pub struct Cache {
    capacity: usize,
    clock: u64,
    blocks: BTreeMap<u64, (u64, Rc<Block>)>,
    by_use: BTreeMap<u64, u64>,
}

impl Cache {
    /// Makes an empty cache of at least one block.
    pub fn new(capacity: usize) -> Self {
        Cache {
            capacity: capacity.max(1),
            clock: 0,
            blocks: BTreeMap::new(),
            by_use: BTreeMap::new(),
        }
    }

    /// Returns a block and makes it the most recently used.
    pub fn get(&mut self, number: u64) -> Option<Rc<Block>> {
        let (used, block) = self.blocks.get_mut(&number)?;
        self.clock += 1;
        self.by_use.remove(used);
        *used = self.clock;
        self.by_use.insert(self.clock, number);
        Some(Rc::clone(block))
    }

    /// Adds a block, in place of the least recently used one if it is full.
    pub fn insert(&mut self, number: u64, block: Rc<Block>) {
        self.clock += 1;
        if let Some((used, _)) = self.blocks.insert(number, (self.clock, block)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.clock, number);
        if self.blocks.len() > self.capacity
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.blocks.remove(&oldest);
        }
    }

    /// Forgets all blocks.
    pub fn clear(&mut self) {
        self.blocks.clear();
        self.by_use.clear();
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
    fn the_least_recently_used_block_goes() {
        let mut cache = Cache::new(2);
        cache.insert(1, block(1));
        cache.insert(2, block(2));
        assert_eq!(cache.get(1).unwrap().bytes(), [1]);
        cache.insert(3, block(3));
        assert!(cache.get(2).is_none());
        assert!(cache.get(1).is_some() && cache.get(3).is_some());
    }

    proptest::proptest! {
        #[test]
        fn behaves_like_a_list_ordered_by_use(
            capacity in 1usize..6,
            steps in proptest::collection::vec((0u64..10, proptest::bool::ANY), 0..200),
        ) {
            let mut cache = Cache::new(capacity);
            let mut model: Vec<u64> = Vec::new();
            for (number, is_insert) in steps {
                let position = model.iter().position(|&other| other == number);
                if is_insert {
                    cache.insert(number, block(number as u8));
                } else {
                    proptest::prop_assert_eq!(cache.get(number).is_some(), position.is_some());
                    if position.is_none() {
                        continue;
                    }
                }
                if let Some(position) = position {
                    model.remove(position);
                }
                model.push(number);
                if model.len() > capacity {
                    model.remove(0);
                }
            }
            for number in 0..10 {
                proptest::prop_assert_eq!(cache.blocks.contains_key(&number), model.contains(&number));
            }
            proptest::prop_assert_eq!(cache.by_use.len(), cache.blocks.len());
        }
    }
}
