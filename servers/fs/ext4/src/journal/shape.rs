//! The journal's superblock, and the formats that depend on its features.

use crate::checksum::crc32c;
use crate::error::{Error, Result};
use crate::fields::{Fields, join};

/// Starts each block of the journal's own.
pub(super) const MAGIC: u32 = 0xc03b_3998;

const KIND_SUPERBLOCK_V1: u32 = 3;
const KIND_SUPERBLOCK_V2: u32 = 4;
/// Blocks for fast commits when the superblock does not say.
const DEFAULT_FAST_BLOCKS: u32 = 256;

const INCOMPAT_REVOKE: u32 = 0x1;
const INCOMPAT_64BIT: u32 = 0x2;
const INCOMPAT_ASYNC_COMMIT: u32 = 0x4;
const INCOMPAT_CSUM_V2: u32 = 0x8;
const INCOMPAT_CSUM_V3: u32 = 0x10;
const INCOMPAT_FAST_COMMIT: u32 = 0x20;
const INCOMPAT_KNOWN: u32 = INCOMPAT_REVOKE
    | INCOMPAT_64BIT
    | INCOMPAT_ASYNC_COMMIT
    | INCOMPAT_CSUM_V2
    | INCOMPAT_CSUM_V3
    | INCOMPAT_FAST_COMMIT;

/// What the journal's superblock says.
pub(super) struct Shape {
    /// Blocks of the journal, those for fast commits left out.
    pub(super) length: u64,
    /// First block of the circle.
    pub(super) first: usize,
    /// Where the oldest transaction starts.
    pub(super) start: usize,
    /// Its number.
    pub(super) sequence: u32,
    /// Seed of all checksums.
    pub(super) seed: u32,
    features: u32,
}

impl Shape {
    /// Reads and checks the superblock of a journal with room for `room` blocks. `None` when the
    /// journal is empty.
    pub(super) fn parse(fields: Fields<'_>, room: u64) -> Result<Option<Shape>> {
        let kind = fields.u32_be(4)?;
        if fields.u32_be(0)? != MAGIC || !matches!(kind, KIND_SUPERBLOCK_V1 | KIND_SUPERBLOCK_V2) {
            return Err(fields.damaged("it has no superblock"));
        }
        let features = if kind == KIND_SUPERBLOCK_V2 {
            fields.u32_be(0x28)?
        } else {
            0
        };
        if features & !INCOMPAT_KNOWN != 0 {
            return Err(Error::Unsupported("an unknown feature of the journal"));
        }
        let total = u64::from(fields.u32_be(0x10)?);
        let fast = match fields.u32_be(0x54)? {
            _ if features & INCOMPAT_FAST_COMMIT == 0 => 0,
            0 => DEFAULT_FAST_BLOCKS,
            fast => fast,
        };
        let (first, start) = (fields.u32_be(0x14)?, fields.u32_be(0x1c)?);
        let shape = Shape {
            length: total.saturating_sub(fast.into()),
            first: first as usize,
            start: start as usize,
            sequence: fields.u32_be(0x18)?,
            seed: crc32c(!0, fields.slice(0x30, 16)?),
            features,
        };
        shape.check_checksum(fields)?;
        if start == 0 {
            return Ok(None);
        }
        let is_sound = fields.u32_be(0xc)? as usize == fields.all().len()
            && total <= room
            && (1..shape.length).contains(&first.into())
            && (first.into()..shape.length).contains(&start.into());
        if is_sound {
            Ok(Some(shape))
        } else {
            Err(fields.damaged("its superblock is impossible"))
        }
    }

    /// Returns whether there may be commits in a form that is not read here.
    pub(super) fn has_fast_commits(&self) -> bool {
        self.features & INCOMPAT_FAST_COMMIT != 0
    }

    /// Returns the bytes of a block number in a revoke block.
    pub(super) fn number_bytes(&self) -> usize {
        if self.features & INCOMPAT_64BIT != 0 {
            8
        } else {
            4
        }
    }

    fn check_checksum(&self, fields: Fields<'_>) -> Result<()> {
        if !self.has_checksums() {
            return Ok(());
        }
        let crc = crc32c(!0, fields.slice(0, 0xfc)?);
        let crc = crc32c(crc, &[0; 4]);
        if crc32c(crc, fields.slice(0x100, 0x300)?) != fields.u32_be(0xfc)? {
            return Err(fields.damaged("checksum of its superblock"));
        }
        Ok(())
    }

    fn has_checksums(&self) -> bool {
        self.features & (INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3) != 0
    }

    pub(super) fn tail_bytes(&self) -> usize {
        if self.has_checksums() { 4 } else { 0 }
    }

    pub(super) fn tag_bytes(&self) -> usize {
        let is_wide = self.features & INCOMPAT_64BIT != 0;
        if self.features & INCOMPAT_CSUM_V3 != 0 {
            return 16;
        }
        8 + if is_wide { 4 } else { 0 }
            + if self.features & INCOMPAT_CSUM_V2 != 0 {
                2
            } else {
                0
            }
    }

    pub(super) fn tag(&self, fields: Fields<'_>, at: usize) -> Result<Tag> {
        let is_wide = self.features & INCOMPAT_64BIT != 0;
        let high = if is_wide { fields.u32_be(at + 8)? } else { 0 };
        let block = join(fields.u32_be(at)?, high);
        let word = fields.u32_be(at + 4)?;
        if self.features & INCOMPAT_CSUM_V3 != 0 {
            let checksum = Some(fields.u32_be(at + 12)?);
            return Ok(Tag {
                block,
                flags: word,
                checksum,
                checksum_mask: !0,
            });
        }
        let checksum = (self.features & INCOMPAT_CSUM_V2 != 0).then_some(word >> 16);
        Ok(Tag {
            block,
            flags: word & 0xffff,
            checksum,
            checksum_mask: 0xffff,
        })
    }

    /// Checks the checksum at the end of a descriptor or revoke block.
    pub(super) fn has_right_tail(&self, fields: Fields<'_>) -> Result<bool> {
        if !self.has_checksums() {
            return Ok(true);
        }
        let tail = fields.all().len() - 4;
        let crc = crc32c(self.seed, fields.slice(0, tail)?);
        Ok(crc32c(crc, &[0; 4]) == fields.u32_be(tail)?)
    }

    /// Checks the checksum of a commit block.
    pub(super) fn is_right_commit(&self, fields: Fields<'_>) -> Result<bool> {
        const CHECKSUM_AT: usize = 16;
        if !self.has_checksums() {
            return Ok(true);
        }
        let crc = crc32c(self.seed, fields.slice(0, CHECKSUM_AT)?);
        let crc = crc32c(crc, &[0; 4]);
        let crc = crc32c(crc, fields.rest(CHECKSUM_AT + 4)?);
        Ok(crc == fields.u32_be(CHECKSUM_AT)?)
    }
}

/// One entry of a descriptor block.
pub(super) struct Tag {
    /// The block that follows in the log belongs there.
    pub(super) block: u64,
    pub(super) flags: u32,
    /// What of the checksum is kept.
    pub(super) checksum: Option<u32>,
    pub(super) checksum_mask: u32,
}
