//! The journal (JBD2): after a crash, the newest content of some blocks lies there.
//!
//! Nothing is written back. Replaying means to remember, for each such block, which block of the
//! journal has its content; readers are sent there. Transactions that are not complete, or whose
//! checksums are wrong, are as if they had never been.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::checksum::crc32c;
use crate::device::BlockReader;
use crate::error::{Damage, Error, Result};
use crate::fields::{Fields, join};
use crate::inode::{Inode, Kind};
use crate::volume::Volume;

mod shape;

use shape::{MAGIC, Shape};

const KIND_DESCRIPTOR: u32 = 1;
const KIND_COMMIT: u32 = 2;
const KIND_REVOKE: u32 = 5;
const HEADER_BYTES: usize = 12;

const TAG_ESCAPED: u32 = 1;
const TAG_SAME_UUID: u32 = 2;
const TAG_LAST: u32 = 8;

/// Most blocks that are remembered: the largest journal that `mkfs` makes. Bounds the memory
/// that a bad image can take.
const MAX_COPIES: usize = 1 << 18;

/// Where the newest content of a block lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct JournalCopy {
    /// Block of the volume, within the journal.
    pub(crate) source: u64,
    is_escaped: bool,
}

impl JournalCopy {
    /// Restores the first bytes, which the journal replaces where they look like its own magic.
    pub(crate) fn unescape(self, bytes: &mut [u8]) {
        if let Some(magic) = bytes.get_mut(..4)
            && self.is_escaped
        {
            magic.copy_from_slice(&MAGIC.to_be_bytes());
        }
    }
}

/// All blocks whose newest content lies in the journal.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    copies: BTreeMap<u64, JournalCopy>,
}

impl Overlay {
    /// Returns where to find a block, if not in its place.
    pub(crate) fn get(&self, block: u64) -> Option<JournalCopy> {
        self.copies.get(&block).copied()
    }

    /// Returns the first such block after the first of a range.
    pub(crate) fn next_within(&self, first: u64, blocks: u64) -> Option<u64> {
        let end = first.saturating_add(blocks);
        self.copies
            .range(first.saturating_add(1)..end.max(first + 1))
            .next()
            .map(|(&b, _)| b)
    }
}

/// The journal, and where each of its blocks lies on the volume.
struct Log {
    shape: Shape,
    blocks: Vec<u64>,
}

/// What replaying found.
pub(crate) struct Replay {
    pub(crate) overlay: Overlay,
    pub(crate) remarks: String,
}

/// One transaction, as far as it was read.
#[derive(Default)]
struct Transaction {
    copies: Vec<(u64, JournalCopy)>,
    /// Blocks of the journal with numbers that this transaction revokes.
    revokes: Vec<u64>,
}

/// How the log goes on.
enum Next {
    Block,
    Committed,
    End,
    Torn,
}

impl<R: BlockReader> Volume<R> {
    /// Reads the journal from its first to its last complete transaction.
    pub(crate) async fn replay_journal(&self) -> Result<Replay> {
        let number = self.superblock().journal_inode;
        let number = number.ok_or(Error::Unsupported("a journal on another device"))?;
        let inode = self.inode(number).await?;
        if inode.kind != Kind::File {
            return Err(damaged("its inode is no file"));
        }
        let mut replay = Replay {
            overlay: Overlay::default(),
            remarks: String::new(),
        };
        let Some(log) = self.open_log(&inode).await? else {
            return Ok(replay);
        };
        let (transactions, is_torn) = self.walk(&log, &mut replay.overlay).await?;
        let blocks = replay.overlay.copies.len();
        replay.remarks = format!(
            "not unmounted cleanly; replayed {transactions} transactions ({blocks} blocks)"
        );
        if is_torn {
            replay
                .remarks
                .push_str("; the last one is torn and was left out");
        }
        if log.shape.has_fast_commits() {
            replay
                .remarks
                .push_str("; fast commits after it were left out");
        }
        Ok(replay)
    }

    /// Reads the journal's superblock. `None` when there is nothing to replay.
    async fn open_log(&self, inode: &Inode) -> Result<Option<Log>> {
        let block_bytes = self.superblock().block_bytes;
        let first_block = self
            .map(inode, 0)
            .await?
            .physical
            .ok_or(damaged("it has a hole"))?;
        let mut bytes = vec![0; block_bytes as usize];
        self.read_raw(first_block, &mut bytes).await?;
        let room = (inode.bytes / u64::from(block_bytes)).min(self.superblock().blocks);
        let shape = Shape::parse(Fields::new(Damage::Journal, &bytes), room)?;
        Ok(match shape {
            Some(shape) => {
                let blocks = self.log_blocks(inode, shape.length).await?;
                Some(Log { shape, blocks })
            }
            None => None,
        })
    }

    async fn log_blocks(&self, inode: &Inode, length: u64) -> Result<Vec<u64>> {
        if length > MAX_COPIES as u64 {
            return Err(Error::Unsupported("so large a journal"));
        }
        let mut blocks = Vec::new();
        while (blocks.len() as u64) < length {
            let at = blocks.len() as u64;
            let run = self.map(inode, at).await?;
            let first = run.physical.ok_or(damaged("it has a hole"))?;
            blocks.extend(first..first + run.blocks.min(length - at));
        }
        Ok(blocks)
    }

    /// Walks the log and fills the overlay. Returns the number of transactions, and whether the
    /// last one was torn.
    async fn walk(&self, log: &Log, overlay: &mut Overlay) -> Result<(u32, bool)> {
        let mut walk = Walk {
            log,
            at: log.shape.start,
            steps: 0,
            sequence: log.shape.sequence,
        };
        let mut bytes = vec![0; self.superblock().block_bytes as usize];
        let mut transaction = Transaction::default();
        let mut transactions = 0;
        loop {
            let Some(block) = walk.next() else {
                return Ok((transactions, true));
            };
            self.read_raw(block, &mut bytes).await?;
            match self
                .take_block(&mut walk, block, &bytes, &mut transaction)
                .await?
            {
                Next::Block => {}
                Next::Committed => {
                    self.apply(log, core::mem::take(&mut transaction), overlay)
                        .await?;
                    transactions += 1;
                    walk.sequence = walk.sequence.wrapping_add(1);
                }
                Next::End => return Ok((transactions, !transaction.copies.is_empty())),
                Next::Torn => return Ok((transactions, true)),
            }
        }
    }

    /// Takes one block of the log into account.
    async fn take_block(
        &self,
        walk: &mut Walk<'_>,
        block: u64,
        bytes: &[u8],
        transaction: &mut Transaction,
    ) -> Result<Next> {
        let log = walk.log;
        let fields = Fields::new(Damage::Journal, bytes);
        if fields.u32_be(0)? != MAGIC || fields.u32_be(8)? != walk.sequence {
            return Ok(Next::End);
        }
        match fields.u32_be(4)? {
            KIND_DESCRIPTOR if log.shape.has_right_tail(fields)? => {
                self.take_tags(walk, fields, transaction).await
            }
            KIND_COMMIT if log.shape.is_right_commit(fields)? => Ok(Next::Committed),
            KIND_REVOKE if log.shape.has_right_tail(fields)? => {
                transaction.revokes.push(block);
                Ok(Next::Block)
            }
            KIND_DESCRIPTOR | KIND_COMMIT | KIND_REVOKE => Ok(Next::Torn),
            _ => Ok(Next::End),
        }
    }

    /// Remembers the blocks that a descriptor lists; their contents follow it in the log.
    async fn take_tags(
        &self,
        walk: &mut Walk<'_>,
        fields: Fields<'_>,
        transaction: &mut Transaction,
    ) -> Result<Next> {
        let log = walk.log;
        let end = fields.all().len() - log.shape.tail_bytes();
        let mut at = HEADER_BYTES;
        let mut data = vec![0; fields.all().len()];
        while at + log.shape.tag_bytes() <= end {
            let tag = log.shape.tag(fields, at)?;
            at += log.shape.tag_bytes()
                + if tag.flags & TAG_SAME_UUID == 0 {
                    16
                } else {
                    0
                };
            self.superblock()
                .check_blocks(Damage::Journal, tag.block.max(1), 1)?;
            let Some(source) = walk.next() else {
                return Ok(Next::Torn);
            };
            if let Some(expected) = tag.checksum {
                self.read_raw(source, &mut data).await?;
                let crc = crc32c(log.shape.seed, &walk.sequence.to_be_bytes());
                if crc32c(crc, &data) & tag.checksum_mask != expected {
                    return Ok(Next::Torn);
                }
            }
            let is_escaped = tag.flags & TAG_ESCAPED != 0;
            transaction
                .copies
                .push((tag.block, JournalCopy { source, is_escaped }));
            if tag.flags & TAG_LAST != 0 {
                break;
            }
        }
        Ok(Next::Block)
    }

    /// Takes a complete transaction into the overlay.
    async fn apply(
        &self,
        log: &Log,
        transaction: Transaction,
        overlay: &mut Overlay,
    ) -> Result<()> {
        overlay.copies.extend(transaction.copies);
        if overlay.copies.len() > MAX_COPIES {
            return Err(Error::Unsupported("so large a journal"));
        }
        let mut bytes = vec![0; self.superblock().block_bytes as usize];
        for block in transaction.revokes {
            self.read_raw(block, &mut bytes).await?;
            let fields = Fields::new(Damage::Journal, &bytes);
            let end = (fields.u32_be(HEADER_BYTES)? as usize).min(bytes.len());
            let width = log.shape.number_bytes();
            let mut at = HEADER_BYTES + 4;
            while at + width <= end {
                let number = if width == 8 {
                    join(fields.u32_be(at + 4)?, fields.u32_be(at)?)
                } else {
                    fields.u32_be(at)?.into()
                };
                overlay.copies.remove(&number);
                at += width;
            }
        }
        Ok(())
    }
}

/// A place in the log, which is a circle.
struct Walk<'a> {
    log: &'a Log,
    at: usize,
    steps: usize,
    sequence: u32,
}

impl Walk<'_> {
    /// Goes one block on. `None` once the whole circle was seen: a sound log ends before.
    fn next(&mut self) -> Option<u64> {
        if self.steps >= self.log.blocks.len() - self.log.shape.first {
            return None;
        }
        let block = self.log.blocks.get(self.at).copied();
        self.steps += 1;
        self.at += 1;
        if self.at >= self.log.blocks.len() {
            self.at = self.log.shape.first;
        }
        block
    }
}

const fn damaged(what: &'static str) -> Error {
    Error::Damaged(Damage::Journal, what)
}
