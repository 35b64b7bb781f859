//! A mounted volume: metadata blocks, groups and inodes.
//!
//! All methods take `&self` and may run at the same time in one thread: cells are borrowed only
//! between two awaits, never across one.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use core::cell::RefCell;

use crate::cache::{Block, Cache};
use crate::device::BlockReader;
use crate::error::{Damage, Error, Result};
use crate::group::Group;
use crate::inode::{Inode, Kind, ROOT};
use crate::journal::Overlay;
use crate::readahead::ReadAhead;
use crate::superblock::{self, Superblock};

/// Bytes of metadata kept in memory.
const CACHE_BYTES: usize = 4 << 20;

/// A mounted ext4 volume.
pub struct Volume<R: BlockReader> {
    reader: R,
    superblock: Superblock,
    /// Blocks whose newest content still lies in the journal.
    overlay: Overlay,
    cache: RefCell<Cache>,
    pub(crate) read_ahead: RefCell<ReadAhead<R>>,
    remarks: String,
}

impl<R: BlockReader> Volume<R> {
    /// Reads the superblock, replays the journal in memory if that is needed, and makes sure that
    /// there is a root directory.
    ///
    /// # Errors
    ///
    /// `Damaged`, `Unsupported`, `Device`.
    pub async fn mount(reader: R) -> Result<Self> {
        let superblock = read_superblock(&reader).await?;
        let blocks = CACHE_BYTES / superblock.block_bytes as usize;
        let mut volume = Volume {
            reader,
            superblock,
            overlay: Overlay::default(),
            cache: RefCell::new(Cache::new(blocks)),
            read_ahead: RefCell::new(ReadAhead::new()),
            remarks: String::new(),
        };
        volume.recover().await?;
        if volume.inode(ROOT).await?.kind != Kind::Directory {
            return Err(Error::Damaged(Damage::Inode, "the root is no directory"));
        }
        Ok(volume)
    }

    /// Returns the superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Returns remarks for people about the mount, empty when all was well.
    pub fn remarks(&self) -> &str {
        &self.remarks
    }

    /// Returns the device.
    pub fn reader(&self) -> &R {
        &self.reader
    }

    /// Returns an inode in use.
    ///
    /// # Errors
    ///
    /// `Stale` for a free or impossible number, `Damaged`, `Device`.
    pub async fn inode(&self, number: u32) -> Result<Inode> {
        let superblock = &self.superblock;
        let index = number
            .checked_sub(1)
            .filter(|&index| index < superblock.inodes);
        let index = index.ok_or(Error::Stale)?;
        let group = index / superblock.inodes_per_group;
        let table = self.group(group).await?.inode_table;
        let inode_bytes = u64::from(superblock.inode_bytes);
        let at = u64::from(index % superblock.inodes_per_group) * inode_bytes;
        let block_bytes = u64::from(superblock.block_bytes);
        let block = self.block(table + at / block_bytes).await?;
        let within = (at % block_bytes) as usize;
        let bytes = block
            .bytes()
            .get(within..within + usize::from(superblock.inode_bytes));
        Inode::parse(number, bytes.unwrap_or_default(), superblock.checksums)
    }

    /// Returns a block of metadata, as the journal has it if that is newer.
    pub(crate) async fn block(&self, number: u64) -> Result<Rc<Block>> {
        let cached = self.cache.borrow().get(number);
        if let Some(block) = cached {
            return Ok(block);
        }
        let copy = self.overlay.get(number);
        let source = copy.map_or(number, |copy| copy.source);
        let mut bytes = vec![0; self.superblock.block_bytes as usize].into_boxed_slice();
        self.read_raw(source, &mut bytes).await?;
        if let Some(copy) = copy {
            copy.unescape(&mut bytes);
        }
        let block = Rc::new(Block::new(bytes));
        self.cache.borrow_mut().insert(number, Rc::clone(&block));
        Ok(block)
    }

    /// Reads a block from where it lies on the device, journal or not.
    pub(crate) async fn read_raw(&self, number: u64, bytes: &mut [u8]) -> Result<()> {
        if number >= self.superblock.blocks {
            return Err(Error::Device);
        }
        let offset = number * u64::from(self.superblock.block_bytes);
        self.reader.read_metadata(offset, bytes).await
    }

    pub(crate) fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    async fn group(&self, number: u32) -> Result<Group> {
        let (block, within) = self.superblock.descriptor_location(number)?;
        let block = self.block(block).await?;
        let bytes = block.bytes().get(within..).unwrap_or_default();
        Group::parse(&self.superblock, number, bytes)
    }

    /// Replays the journal and reads the superblock again, which may lie in it.
    async fn recover(&mut self) -> Result<()> {
        if !self.superblock.needs_recovery {
            return Ok(());
        }
        let replay = self.replay_journal().await?;
        self.overlay = replay.overlay;
        self.remarks = replay.remarks;
        self.cache.borrow_mut().clear();
        let block_bytes = u64::from(self.superblock.block_bytes);
        let block = self.block(superblock::OFFSET / block_bytes).await?;
        let within = (superblock::OFFSET % block_bytes) as usize;
        let bytes = block
            .bytes()
            .get(within..within + superblock::BYTES)
            .unwrap_or_default();
        let newer = Superblock::parse(bytes)?;
        let is_same_shape = newer.block_bytes == self.superblock.block_bytes
            && newer.volume_bytes() <= self.reader.bytes();
        if !is_same_shape {
            return Err(Error::Damaged(
                Damage::Journal,
                "it holds another volume's superblock",
            ));
        }
        self.superblock = newer;
        Ok(())
    }
}

async fn read_superblock<R: BlockReader>(reader: &R) -> Result<Superblock> {
    if reader.bytes() < superblock::OFFSET + superblock::BYTES as u64 {
        return Err(Error::Damaged(
            Damage::Superblock,
            "the device is too small for one",
        ));
    }
    let mut bytes = [0; superblock::BYTES];
    reader.read_metadata(superblock::OFFSET, &mut bytes).await?;
    let superblock = Superblock::parse(&bytes)?;
    if superblock.volume_bytes() > reader.bytes() {
        let what = "the volume is larger than its device (a truncated image?)";
        return Err(Error::Damaged(Damage::Superblock, what));
    }
    Ok(superblock)
}
