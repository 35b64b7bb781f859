//! Inodes: what a file is, without its contents.

use alloc::vec::Vec;

use libipc::proto::file_system::Inode as Number;

use crate::checksum::crc32c;
use crate::error::{Damage, Error, Result};
use crate::fields::{Fields, join};
use crate::superblock::Checksums;

/// Number of the root directory's inode.
pub const ROOT: u32 = 2;

/// Bytes in the inode that hold extents, block numbers, a short link or inline data.
pub const BLOCK_AREA_BYTES: usize = 60;

const BLOCK_AREA_AT: usize = 0x28;
/// Bytes of the shortest inode.
const SHORTEST: usize = 128;
const CHECKSUM_LOW_AT: usize = 0x7c;
const EXTRA_AT: usize = 0x80;
const CHECKSUM_HIGH_AT: usize = 0x82;
const FLAG_ENCRYPTED: u32 = 0x800;
const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAG_HUGE_FILE: u32 = 0x4_0000;
const FLAG_INLINE_DATA: u32 = 0x1000_0000;
const ATTRIBUTES_MAGIC: u32 = 0xea02_0000;
const ATTRIBUTE_HEADER_BYTES: usize = 16;
/// Name index of `system.` attributes; the inline data is `system.data`.
const ATTRIBUTE_INDEX_SYSTEM: u8 = 7;

/// What kind of file an inode is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Bytes.
    File,
    /// Names of inodes.
    Directory,
    /// A path to go on with.
    Link,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A pipe with a name.
    Pipe,
    /// A socket with a name.
    Socket,
}

impl Kind {
    /// Returns the kind that a directory entry's type byte names, if it names one.
    pub fn from_entry(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::File,
            2 => Kind::Directory,
            3 => Kind::CharacterDevice,
            4 => Kind::BlockDevice,
            5 => Kind::Pipe,
            6 => Kind::Socket,
            7 => Kind::Link,
            _ => return None,
        })
    }

    /// Returns the upper four bits of a mode.
    fn bits(self) -> u8 {
        match self {
            Kind::Pipe => 1,
            Kind::CharacterDevice => 2,
            Kind::Directory => 4,
            Kind::BlockDevice => 6,
            Kind::File => 8,
            Kind::Link => 10,
            Kind::Socket => 12,
        }
    }

    fn from_mode(mode: u16) -> Option<Kind> {
        Some(match mode & 0xf000 {
            0x1000 => Kind::Pipe,
            0x2000 => Kind::CharacterDevice,
            0x4000 => Kind::Directory,
            0x6000 => Kind::BlockDevice,
            0x8000 => Kind::File,
            0xa000 => Kind::Link,
            0xc000 => Kind::Socket,
            _ => return None,
        })
    }
}

/// A moment: seconds since 1970 and nanoseconds (below 10^9 on a sound volume).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds on top.
    pub nanoseconds: u32,
}

/// Where the contents are described.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// In the inode itself.
    Inline,
    /// In a tree of extents.
    Extents,
    /// In direct and indirect block numbers, as ext2 did.
    BlockMap,
}

/// An inode in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub number: u32,
    /// Changes when the number is used for a new file.
    pub generation: u32,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, 12 of them.
    pub permissions: u16,
    /// Owner.
    pub user: u32,
    /// Group of the owner.
    pub group: u32,
    /// Bytes of the contents.
    pub bytes: u64,
    /// Names that refer to it.
    pub links: u16,
    /// Units of 512 bytes that it occupies.
    pub sectors: u64,
    /// Last read.
    pub accessed: Time,
    /// Last change of the contents.
    pub modified: Time,
    /// Last change of the inode.
    pub changed: Time,
    /// Where the contents are described.
    pub layout: Layout,
    /// Root of the extent tree or block map, or the first inline bytes.
    pub block_area: [u8; BLOCK_AREA_BYTES],
    /// Inline data past the first 60 bytes.
    pub inline_rest: Vec<u8>,
    /// Seed for checksums of blocks that belong to it.
    pub checksum_seed: u32,
}

impl Inode {
    /// Reads and checks an inode as it stands in the table.
    ///
    /// # Errors
    ///
    /// `Stale` for a free inode, `Damaged`, `Unsupported` for encrypted contents.
    pub fn parse(number: u32, bytes: &[u8], checksums: Checksums) -> Result<Inode> {
        let bytes = Fields::new(Damage::Inode, bytes);
        let mode = bytes.u16(0x0)?;
        let links = bytes.u16(0x1a)?;
        if mode == 0 && links == 0 {
            return Err(Error::Stale);
        }
        let generation = bytes.u32(0x64)?;
        let checksum_seed = check(number, generation, bytes, checksums)?;
        if links == 0 {
            return Err(Error::Stale);
        }
        let kind = Kind::from_mode(mode).ok_or(Error::Damaged(Damage::Inode, "file type"))?;
        let flags = bytes.u32(0x20)?;
        if flags & FLAG_ENCRYPTED != 0 {
            return Err(Error::Unsupported("encrypted files"));
        }
        let inode = Inode {
            number,
            generation,
            kind,
            permissions: mode & 0o7777,
            user: u32::from(bytes.u16(0x78)?) << 16 | u32::from(bytes.u16(0x2)?),
            group: u32::from(bytes.u16(0x7a)?) << 16 | u32::from(bytes.u16(0x18)?),
            bytes: join(bytes.u32(0x4)?, bytes.u32(0x6c)?),
            links,
            sectors: sectors(bytes, flags)?,
            accessed: time(bytes, 0x8, 0x8c)?,
            modified: time(bytes, 0x10, 0x88)?,
            changed: time(bytes, 0xc, 0x84)?,
            layout: layout(flags),
            block_area: bytes.array(BLOCK_AREA_AT)?,
            inline_rest: if flags & FLAG_INLINE_DATA != 0 {
                inline_rest(bytes)?.to_vec()
            } else {
                Vec::new()
            },
            checksum_seed,
        };
        inode.check_size()?;
        inode.check_fields(bytes.all());
        Ok(inode)
    }

    /// Looks at the fields that say what and where the contents are once more, as bytes.
    ///
    /// # Panics
    ///
    /// When they are not what was read of them.
    #[inline(never)]
    fn check_fields(&self, bytes: &[u8]) {
        let is_right = bytes.first_chunk().is_some_and(|bytes: &[u8; SHORTEST]| {
            let size = [0x4, 0x5, 0x6, 0x7, 0x6c, 0x6d, 0x6e, 0x6f].map(|at| bytes[at]);
            let area = bytes[BLOCK_AREA_AT..].first_chunk();
            (u64::from_le_bytes(size), bytes[1] >> 4) == (self.bytes, self.kind.bits())
                && area == Some(&self.block_area)
                && (bytes[0x23] & 0x10 != 0) == (self.layout == Layout::Inline)
        });
        assert!(is_right, "an inode was misread");
    }

    /// Returns its number as the interface has it.
    pub fn id(&self) -> Number {
        Number(self.number.into())
    }

    /// Returns the two parts of the inline contents, as long as the file's size says.
    pub fn inline_parts(&self) -> [&[u8]; 2] {
        let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let first = bytes.min(BLOCK_AREA_BYTES);
        let rest = bytes
            .saturating_sub(BLOCK_AREA_BYTES)
            .min(self.inline_rest.len());
        [
            self.block_area.get(..first).unwrap_or_default(),
            self.inline_rest.get(..rest).unwrap_or_default(),
        ]
    }

    fn check_size(&self) -> Result<()> {
        let room = (BLOCK_AREA_BYTES + self.inline_rest.len()) as u64;
        let is_possible = match self.layout {
            Layout::Inline => self.bytes <= room,
            // Offsets are signed 64-bit numbers for every program that may read them.
            Layout::Extents | Layout::BlockMap => i64::try_from(self.bytes).is_ok(),
        };
        if is_possible {
            Ok(())
        } else {
            Err(Error::Damaged(Damage::Inode, "size"))
        }
    }
}

/// Checks the inode's checksum and returns the seed for what belongs to it.
fn check(number: u32, generation: u32, bytes: Fields<'_>, checksums: Checksums) -> Result<u32> {
    let Checksums::All(seed) = checksums else {
        return Ok(0);
    };
    let seed = crc32c(seed, &number.to_le_bytes());
    let seed = crc32c(seed, &generation.to_le_bytes());
    let has_high = has_extra(bytes, CHECKSUM_HIGH_AT + 2);
    let crc = crc32c(seed, bytes.slice(0, CHECKSUM_LOW_AT)?);
    let crc = crc32c(crc, &[0, 0]);
    let expected_low = u32::from(bytes.u16(CHECKSUM_LOW_AT)?);
    let after_low = CHECKSUM_LOW_AT + 2;
    let is_right = if has_high {
        let crc = crc32c(crc, bytes.slice(after_low, CHECKSUM_HIGH_AT - after_low)?);
        let crc = crc32c(crc, &[0, 0]);
        let crc = crc32c(crc, bytes.rest(CHECKSUM_HIGH_AT + 2)?);
        crc == u32::from(bytes.u16(CHECKSUM_HIGH_AT)?) << 16 | expected_low
    } else {
        crc32c(crc, bytes.rest(after_low)?) & 0xffff == expected_low
    };
    if is_right {
        Ok(seed)
    } else {
        Err(Error::Damaged(Damage::Inode, "checksum"))
    }
}

/// Returns whether the inode has its extra fields up to `end`.
fn has_extra(bytes: Fields<'_>, end: usize) -> bool {
    bytes.all().len() > EXTRA_AT
        && bytes
            .u16(EXTRA_AT)
            .is_ok_and(|extra| EXTRA_AT + usize::from(extra) >= end)
}

fn layout(flags: u32) -> Layout {
    if flags & FLAG_INLINE_DATA != 0 {
        Layout::Inline
    } else if flags & FLAG_EXTENTS != 0 {
        Layout::Extents
    } else {
        Layout::BlockMap
    }
}

fn sectors(bytes: Fields<'_>, flags: u32) -> Result<u64> {
    let units = join(bytes.u32(0x1c)?, bytes.u16(0x74)?.into());
    // Files past 2 TiB count blocks; the number is only shown, so the smallest block will do.
    Ok(if flags & FLAG_HUGE_FILE != 0 {
        units.saturating_mul(2)
    } else {
        units
    })
}

fn time(bytes: Fields<'_>, at: usize, extra_at: usize) -> Result<Time> {
    let seconds = i64::from(bytes.u32(at)?.cast_signed());
    if !has_extra(bytes, extra_at + 4) {
        return Ok(Time {
            seconds,
            nanoseconds: 0,
        });
    }
    let extra = bytes.u32(extra_at)?;
    Ok(Time {
        seconds: seconds + (i64::from(extra & 3) << 32),
        nanoseconds: extra >> 2,
    })
}

/// Finds the value of the attribute `system.data` behind the extra fields.
fn inline_rest(bytes: Fields<'_>) -> Result<&[u8]> {
    if bytes.all().len() <= EXTRA_AT {
        return Ok(&[]);
    }
    let start = EXTRA_AT + usize::from(bytes.u16(EXTRA_AT)?);
    if bytes.u32(start).ok() != Some(ATTRIBUTES_MAGIC) {
        return Ok(&[]);
    }
    let area = Fields::new(Damage::Inode, bytes.rest(start + 4)?);
    let mut at = 0;
    while area.u32(at).is_ok_and(|word| word != 0) {
        let name_bytes = usize::from(area.u8(at)?);
        let name = area.slice(at + ATTRIBUTE_HEADER_BYTES, name_bytes)?;
        if area.u8(at + 1)? == ATTRIBUTE_INDEX_SYSTEM && name == b"data" {
            let value_at = usize::from(area.u16(at + 2)?);
            let value_bytes = area.u32(at + 8)? as usize;
            return area.slice(value_at, value_bytes);
        }
        at += ATTRIBUTE_HEADER_BYTES + name_bytes.next_multiple_of(4);
    }
    Ok(&[])
}
