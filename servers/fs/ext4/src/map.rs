//! From blocks of a file to blocks of the volume: extent trees and old block maps.

use core::cell::Cell;

use crate::cache::Purpose;
use crate::checksum::crc32c;
use crate::device::BlockReader;
use crate::error::{Damage, Error, Result};
use crate::fields::Fields;
use crate::inode::{Inode, Layout};
use crate::superblock::Checksums;
use crate::volume::Volume;

mod again;

const EXTENT_MAGIC: u16 = 0xf30a;
const EXTENT_BYTES: usize = 12;
/// Deepest extent tree that the format allows.
const MAX_DEPTH: u16 = 5;
/// Lengths above this mean an extent that was reserved but not written.
const MAX_WRITTEN: u16 = 0x8000;
/// Blocks that a file with an extent tree can have: their numbers have 32 bits.
const MAX_FILE_BLOCKS: u64 = 1 << 32;
const DIRECT_BLOCKS: u64 = 12;

/// A run of blocks of a file that lie together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// Blocks from the one asked for to the end of the run, at least 1.
    pub(crate) blocks: u64,
    /// First block on the volume, or `None` where the file has zeros.
    pub(crate) physical: Option<u64>,
}

impl<R: BlockReader> Volume<R> {
    /// Returns where block `logical` of a file lies, and how many follow it there. Runs on the
    /// volume never leave it.
    pub(crate) async fn map(&self, inode: &Inode, logical: u64) -> Result<Run> {
        match inode.layout {
            Layout::Extents => self.map_extents(inode, logical).await,
            Layout::BlockMap => self.map_blocks(inode, logical).await,
            Layout::Inline => Err(Error::Damaged(
                Damage::BlockMap,
                "inline data has no blocks",
            )),
        }
    }

    async fn map_extents(&self, inode: &Inode, logical: u64) -> Result<Run> {
        let Ok(key) = u32::try_from(logical) else {
            return Ok(Run {
                blocks: 1,
                physical: None,
            });
        };
        let root = Node::new(&inode.block_area);
        root.check(None)?;
        self.check_targets(root)?;
        // Blocks from here on belong to the next subtree; only a run of zeros can reach it.
        let limit = Cell::new(MAX_FILE_BLOCKS);
        let mut depth = root.depth()?;
        let mut step = root.find(key, &limit)?;
        loop {
            let child = match step {
                Step::Run(run) => return Ok(run),
                Step::Child(child) => child,
            };
            // The checks make sure that depth falls with each step, so this ends.
            depth = depth
                .checked_sub(1)
                .ok_or(damaged("the tree is too deep"))?;
            let block = self.block(child).await?;
            block.check_once(Purpose::Extents(inode.number, depth), |bytes| {
                let node = Node::new(bytes);
                node.check(Some(depth))?;
                if matches!(self.superblock().checksums, Checksums::All(_)) {
                    node.check_checksum(inode.checksum_seed)?;
                }
                self.check_targets(node)
            })?;
            step = Node::new(block.bytes()).find(key, &limit)?;
        }
    }

    /// Checks that all blocks that a node names lie within the volume.
    fn check_targets(&self, node: Node<'_>) -> Result<()> {
        let is_leaf = node.depth()? == 0;
        for index in 0..node.entries()? {
            let (first, blocks) = if is_leaf {
                let extent = node.extent(index)?;
                (extent.physical, extent.blocks)
            } else {
                (node.child(index)?, 1)
            };
            self.superblock()
                .check_blocks(Damage::BlockMap, first, blocks.into())?;
        }
        Ok(())
    }

    async fn map_blocks(&self, inode: &Inode, logical: u64) -> Result<Run> {
        let area = Fields::new(Damage::BlockMap, &inode.block_area);
        if logical < DIRECT_BLOCKS {
            return self.run_of_numbers(area, logical, DIRECT_BLOCKS);
        }
        let per_block = u64::from(self.superblock().block_bytes) / 4;
        let mut rest = logical - DIRECT_BLOCKS;
        let mut span = per_block;
        for level in 1..=3u64 {
            if rest < span {
                let top = area.u32((DIRECT_BLOCKS + level - 1) as usize * 4)?;
                return self.walk_numbers(top.into(), rest, span).await;
            }
            rest -= span;
            span *= per_block;
        }
        // Past what a block map can hold there is nothing.
        Ok(Run {
            blocks: 1,
            physical: None,
        })
    }

    /// Goes down from a block of block numbers that covers `span` blocks.
    async fn walk_numbers(&self, top: u64, index: u64, span: u64) -> Result<Run> {
        let per_block = u64::from(self.superblock().block_bytes) / 4;
        let (mut number, mut index, mut span) = (top, index, span);
        loop {
            if number == 0 {
                return Ok(Run {
                    blocks: span - index,
                    physical: None,
                });
            }
            self.superblock()
                .check_blocks(Damage::BlockMap, number, 1)?;
            let block = self.block(number).await?;
            let numbers = Fields::new(Damage::BlockMap, block.bytes());
            if span == per_block {
                return self.run_of_numbers(numbers, index, per_block);
            }
            span /= per_block;
            number = numbers.u32((index / span) as usize * 4)?.into();
            index %= span;
        }
    }

    /// Finds how far a run goes in a list of `count` block numbers.
    fn run_of_numbers(&self, numbers: Fields<'_>, index: u64, count: u64) -> Result<Run> {
        let first = u64::from(numbers.u32(index as usize * 4)?);
        let mut blocks = 1;
        while index + blocks < count {
            let next = u64::from(numbers.u32((index + blocks) as usize * 4)?);
            let expected = if first == 0 { 0 } else { first + blocks };
            if next != expected {
                break;
            }
            blocks += 1;
        }
        if first == 0 {
            return Ok(Run {
                blocks,
                physical: None,
            });
        }
        self.superblock()
            .check_blocks(Damage::BlockMap, first, blocks)?;
        Ok(Run {
            blocks,
            physical: Some(first),
        })
    }
}

/// Where a search in a node leads.
enum Step {
    Child(u64),
    Run(Run),
}

struct Extent {
    logical: u32,
    blocks: u16,
    is_written: bool,
    physical: u64,
}

/// A node of an extent tree: a header, then extents (depth 0) or references to nodes below.
#[derive(Clone, Copy)]
struct Node<'a> {
    fields: Fields<'a>,
}

impl<'a> Node<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Node {
            fields: Fields::new(Damage::BlockMap, bytes),
        }
    }

    fn entries(self) -> Result<usize> {
        self.fields.u16(2).map(usize::from)
    }

    fn capacity(self) -> Result<usize> {
        self.fields.u16(4).map(usize::from)
    }

    fn depth(self) -> Result<u16> {
        self.fields.u16(6)
    }

    /// Returns the first block of the file that an entry covers.
    fn key(self, index: usize) -> Result<u32> {
        self.fields.u32((index + 1) * EXTENT_BYTES)
    }

    fn child(self, index: usize) -> Result<u64> {
        let at = (index + 1) * EXTENT_BYTES;
        Ok(u64::from(self.fields.u16(at + 8)?) << 32 | u64::from(self.fields.u32(at + 4)?))
    }

    fn extent(self, index: usize) -> Result<Extent> {
        let at = (index + 1) * EXTENT_BYTES;
        let length = self.fields.u16(at + 4)?;
        let is_written = length <= MAX_WRITTEN;
        Ok(Extent {
            logical: self.fields.u32(at)?,
            blocks: if is_written {
                length
            } else {
                length - MAX_WRITTEN
            },
            is_written,
            physical: u64::from(self.fields.u16(at + 6)?) << 32
                | u64::from(self.fields.u32(at + 8)?),
        })
    }

    /// Checks the header, and that the entries are in order and do not overlap.
    fn check(self, depth: Option<u16>) -> Result<()> {
        if self.fields.u16(0)? != EXTENT_MAGIC {
            return Err(damaged("no extent node where one should be"));
        }
        if self.depth()? > MAX_DEPTH || depth.is_some_and(|depth| self.depth() != Ok(depth)) {
            return Err(damaged("wrong depth of an extent node"));
        }
        let (entries, capacity) = (self.entries()?, self.capacity()?);
        let room = self.fields.all().len() / EXTENT_BYTES - 1;
        if entries > capacity || capacity > room {
            return Err(damaged("too many entries in an extent node"));
        }
        if self.depth()? > 0 && entries == 0 {
            return Err(damaged("empty extent node"));
        }
        let mut next = 0;
        for index in 0..entries {
            let key = u64::from(self.key(index)?);
            if key < next {
                return Err(damaged("extents overlap or are out of order"));
            }
            let blocks = if self.depth()? == 0 {
                self.extent(index)?.blocks.into()
            } else {
                1
            };
            if blocks == 0 {
                return Err(damaged("empty extent"));
            }
            next = key + blocks;
        }
        if next > MAX_FILE_BLOCKS {
            return Err(damaged("an extent goes past the largest file"));
        }
        Ok(())
    }

    fn check_checksum(self, seed: u32) -> Result<()> {
        let tail = (self.capacity()? + 1) * EXTENT_BYTES;
        if crc32c(seed, self.fields.slice(0, tail)?) != self.fields.u32(tail)? {
            return Err(damaged("checksum of an extent node"));
        }
        Ok(())
    }

    /// Finds the last entry at or before `key`. Lowers `limit` to the next one.
    fn find(self, key: u32, limit: &Cell<u64>) -> Result<Step> {
        let (mut low, mut high) = (0, self.entries()?);
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle)? <= key {
                low = middle + 1
            } else {
                high = middle
            }
        }
        if low < self.entries()? {
            limit.set(limit.get().min(self.key(low)?.into()));
        }
        let zeros = Step::Run(Run {
            blocks: limit.get().saturating_sub(key.into()).max(1),
            physical: None,
        });
        // Before the first entry there is a hole.
        let Some(index) = low.checked_sub(1) else {
            return Ok(zeros);
        };
        if self.depth()? > 0 {
            return self.child(index).map(Step::Child);
        }
        let extent = self.extent(index)?;
        let within = u64::from(key - extent.logical);
        let Some(blocks) = u64::from(extent.blocks)
            .checked_sub(within)
            .filter(|&left| left > 0)
        else {
            return Ok(zeros);
        };
        let physical = extent.is_written.then_some(extent.physical + within);
        Ok(Step::Run(Run { blocks, physical }))
    }
}

const fn damaged(what: &'static str) -> Error {
    Error::Damaged(Damage::BlockMap, what)
}
