//! The superblock: what the volume is, checked field by field before anything else is believed.

use crate::checksum::crc32c;
use crate::error::{Damage, Error, Result};
use crate::fields::{Fields, join};

/// Where the superblock lies on the device, whatever the block size.
pub const OFFSET: u64 = 1024;
/// Bytes of the superblock.
pub const BYTES: usize = 1024;

const MAGIC: u16 = 0xef53;
const CHECKSUM_AT: usize = 0x3fc;
/// Largest block: 64 KiB, the limit of the format.
const MAX_LOG_BLOCK_SIZE: u32 = 6;

const COMPAT_HAS_JOURNAL: u32 = 0x4;
const COMPAT_SPARSE_SUPER2: u32 = 0x200;
const INCOMPAT_FILETYPE: u32 = 0x2;
const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
const RO_COMPAT_GDT_CSUM: u32 = 0x10;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;
/// Features that change how a volume is read and that this reader knows: filetype, recover,
/// `meta_bg`, extents, 64bit, mmp, `flex_bg`, `ea_inode`, `csum_seed`, largedir, `inline_data`,
/// encrypt (such files are refused one by one), casefold (names are compared byte by byte).
const INCOMPAT_KNOWN: u32 = 0x2
    | INCOMPAT_RECOVER
    | INCOMPAT_META_BG
    | 0x40
    | INCOMPAT_64BIT
    | 0x100
    | 0x200
    | 0x400
    | INCOMPAT_CSUM_SEED
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000;

/// What the superblock says. All fields agree with each other; nothing proves that the rest of
/// the volume does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Bytes per block: a power of two from 1 KiB to 64 KiB.
    pub block_bytes: u32,
    /// Blocks of the volume.
    pub blocks: u64,
    /// Free blocks, as last written.
    pub free_blocks: u64,
    /// Inodes of the volume; numbers start at 1.
    pub inodes: u32,
    /// Free inodes, as last written.
    pub free_inodes: u32,
    /// First block that belongs to a group.
    pub first_data_block: u64,
    /// Blocks per group.
    pub blocks_per_group: u32,
    /// Inodes per group.
    pub inodes_per_group: u32,
    /// Bytes per inode in the table.
    pub inode_bytes: u16,
    /// Bytes per group descriptor.
    pub descriptor_bytes: u16,
    /// Number of groups.
    pub groups: u32,
    /// First group of descriptor blocks laid out by `meta_bg`, if the volume uses that.
    pub first_meta_group: Option<u32>,
    /// Inode of the journal, if there is one inside the volume.
    pub journal_inode: Option<u32>,
    /// Whether the journal must be replayed before the volume is consistent.
    pub needs_recovery: bool,
    /// Whether directory entries carry the kind of the file.
    pub entry_kinds: EntryKinds,
    /// How metadata is protected.
    pub checksums: Checksums,
    /// Identifier of the volume.
    pub uuid: [u8; 16],
    /// Name of the volume, filled up with zeros.
    pub label: [u8; 16],
    /// Which groups hold copies of the superblock.
    copies: Copies,
}

/// Whether directory entries carry the kind of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKinds {
    /// Only the inode has it.
    Absent,
    /// In each entry.
    Present,
}

/// How metadata is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// Not at all.
    None,
    /// CRC-16 of the group descriptors only.
    Groups,
    /// CRC-32C of all metadata, started with this seed.
    All(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copies {
    Everywhere,
    Sparse,
    Two([u32; 2]),
}

impl Superblock {
    /// Reads and checks the superblock.
    ///
    /// # Errors
    ///
    /// `Damaged` naming the field that is impossible, `Unsupported` for unknown features.
    pub fn parse(bytes: &[u8]) -> Result<Superblock> {
        let bytes = Fields::new(Damage::Superblock, bytes);
        if bytes.u16(0x38)? != MAGIC {
            return Err(Error::Damaged(Damage::Superblock, "this is no ext4 volume"));
        }
        let features = Features::parse(bytes)?;
        let checksums = parse_checksums(bytes, &features)?;
        let log_block_size = bytes.u32(0x18)?;
        if log_block_size > MAX_LOG_BLOCK_SIZE {
            return Err(Error::Damaged(Damage::Superblock, "block size"));
        }
        let has_large_descriptors = features.incompat & INCOMPAT_64BIT != 0;
        let high = |at| {
            if has_large_descriptors {
                bytes.u32(at)
            } else {
                Ok(0)
            }
        };
        let mut superblock = Superblock {
            block_bytes: 1024 << log_block_size,
            blocks: join(bytes.u32(0x4)?, high(0x150)?),
            free_blocks: join(bytes.u32(0xc)?, high(0x158)?),
            inodes: bytes.u32(0x0)?,
            free_inodes: bytes.u32(0x10)?,
            first_data_block: bytes.u32(0x14)?.into(),
            blocks_per_group: bytes.u32(0x20)?,
            inodes_per_group: bytes.u32(0x28)?,
            inode_bytes: parse_inode_bytes(bytes)?,
            descriptor_bytes: if has_large_descriptors {
                bytes.u16(0xfe)?
            } else {
                32
            },
            groups: 0,
            first_meta_group: (features.incompat & INCOMPAT_META_BG != 0)
                .then(|| bytes.u32(0x104))
                .transpose()?,
            journal_inode: Some(bytes.u32(0xe0)?)
                .filter(|&inode| inode != 0 && features.compat & COMPAT_HAS_JOURNAL != 0),
            needs_recovery: features.incompat & INCOMPAT_RECOVER != 0,
            entry_kinds: if features.incompat & INCOMPAT_FILETYPE != 0 {
                EntryKinds::Present
            } else {
                EntryKinds::Absent
            },
            checksums,
            uuid: bytes.array(0x68)?,
            label: bytes.array(0x78)?,
            copies: parse_copies(bytes, &features)?,
        };
        superblock.check_geometry(if has_large_descriptors { 64 } else { 32 })?;
        superblock.groups = superblock.count_groups()?;
        Ok(superblock)
    }

    /// Returns the bytes that the volume covers.
    pub fn volume_bytes(&self) -> u64 {
        // `parse` has checked that this fits.
        self.blocks.saturating_mul(self.block_bytes.into())
    }

    /// Checks that blocks named by some part lie within the volume and past its first block.
    ///
    /// # Errors
    ///
    /// `Damaged` with that part otherwise.
    pub fn check_blocks(&self, part: Damage, first: u64, count: u64) -> Result<()> {
        let end = first.checked_add(count).filter(|&end| end <= self.blocks);
        if first == 0 || first < self.first_data_block || end.is_none() {
            return Err(Error::Damaged(
                part,
                "a block number lies outside the volume",
            ));
        }
        Ok(())
    }

    /// Returns the block and the byte within it where the descriptor of a group lies.
    ///
    /// # Errors
    ///
    /// `Damaged` when that is outside the volume.
    pub fn descriptor_location(&self, group: u32) -> Result<(u64, usize)> {
        let per_block = self.block_bytes / u32::from(self.descriptor_bytes);
        let index = group / per_block;
        let within = (group % per_block) as usize * usize::from(self.descriptor_bytes);
        let superblock_at = OFFSET / u64::from(self.block_bytes);
        let block = match self.first_meta_group {
            Some(first) if index >= first => {
                let home = u64::from(index) * u64::from(per_block);
                let start = home * u64::from(self.blocks_per_group) + self.first_data_block;
                let has_copy = u32::try_from(home).is_ok_and(|home| self.has_copy(home));
                // With 1 KiB blocks and first data block 0 the superblock itself is block 1.
                let shift = u64::from(index == 0 && superblock_at > self.first_data_block);
                start + u64::from(has_copy) + shift
            }
            _ => superblock_at + 1 + u64::from(index),
        };
        self.check_blocks(Damage::Group, block, 1)?;
        Ok((block, within))
    }

    fn has_copy(&self, group: u32) -> bool {
        match self.copies {
            _ if group == 0 => true,
            Copies::Everywhere => true,
            Copies::Two(groups) => groups.contains(&group),
            Copies::Sparse => group == 1 || [3, 5, 7].iter().any(|&base| is_power(group, base)),
        }
    }

    fn check_geometry(&self, smallest_descriptor: u32) -> Result<()> {
        let bits_per_block = self.block_bytes * 8;
        let inode_bytes = u32::from(self.inode_bytes);
        let inodes_per_block = self.block_bytes.checked_div(inode_bytes).unwrap_or(0);
        let descriptor = u32::from(self.descriptor_bytes);
        let checks = [
            (
                self.blocks.checked_mul(self.block_bytes.into()).is_some(),
                "block count",
            ),
            (self.first_data_block < self.blocks, "block count"),
            (self.first_data_block <= 1, "first data block"),
            (
                self.block_bytes == 1024 || self.first_data_block == 0,
                "first data block",
            ),
            // With clusters a bitmap bit stands for several blocks, at most 2^16 of them.
            (self.blocks_per_group >= 8, "blocks per group"),
            (
                self.inodes_per_group >= inodes_per_block.max(1),
                "inodes per group",
            ),
            (self.inodes_per_group <= bits_per_block, "inodes per group"),
            (inode_bytes.is_power_of_two(), "inode size"),
            (
                (128..=self.block_bytes).contains(&inode_bytes),
                "inode size",
            ),
            (descriptor.is_power_of_two(), "descriptor size"),
            (
                (smallest_descriptor..=1024).contains(&descriptor),
                "descriptor size",
            ),
        ];
        match checks.iter().find(|(holds, _)| !holds) {
            Some(&(_, what)) => Err(Error::Damaged(Damage::Superblock, what)),
            None => Ok(()),
        }
    }

    fn count_groups(&self) -> Result<u32> {
        let blocks = self.blocks - self.first_data_block;
        let groups = u32::try_from(blocks.div_ceil(self.blocks_per_group.into()))
            .map_err(|_| Error::Damaged(Damage::Superblock, "too many groups"))?;
        if u64::from(groups) * u64::from(self.inodes_per_group) != u64::from(self.inodes) {
            return Err(Error::Damaged(Damage::Superblock, "inode count"));
        }
        Ok(groups)
    }
}

struct Features {
    compat: u32,
    incompat: u32,
    ro_compat: u32,
}

impl Features {
    fn parse(bytes: Fields<'_>) -> Result<Features> {
        if bytes.u32(0x4c)? == 0 {
            // Revision 0 has no feature words.
            return Ok(Features {
                compat: 0,
                incompat: 0,
                ro_compat: 0,
            });
        }
        let features = Features {
            compat: bytes.u32(0x5c)?,
            incompat: bytes.u32(0x60)?,
            ro_compat: bytes.u32(0x64)?,
        };
        match features.incompat & !INCOMPAT_KNOWN {
            0 => Ok(features),
            unknown if unknown & 0x1 != 0 => Err(Error::Unsupported("compression")),
            unknown if unknown & 0x8 != 0 => Err(Error::Unsupported("this is a journal device")),
            unknown if unknown & 0x1000 != 0 => Err(Error::Unsupported("dirdata")),
            _ => Err(Error::Unsupported("an unknown incompatible feature")),
        }
    }
}

fn parse_checksums(bytes: Fields<'_>, features: &Features) -> Result<Checksums> {
    if features.ro_compat & RO_COMPAT_METADATA_CSUM == 0 {
        let has_groups = features.ro_compat & RO_COMPAT_GDT_CSUM != 0;
        return Ok(if has_groups {
            Checksums::Groups
        } else {
            Checksums::None
        });
    }
    if bytes.u8(0x175)? != 1 {
        return Err(Error::Unsupported(
            "a checksum algorithm other than CRC-32C",
        ));
    }
    if crc32c(!0, bytes.slice(0, CHECKSUM_AT)?) != bytes.u32(CHECKSUM_AT)? {
        return Err(Error::Damaged(Damage::Superblock, "checksum"));
    }
    let seed = if features.incompat & INCOMPAT_CSUM_SEED != 0 {
        bytes.u32(0x270)?
    } else {
        crc32c(!0, bytes.slice(0x68, 16)?)
    };
    Ok(Checksums::All(seed))
}

fn parse_inode_bytes(bytes: Fields<'_>) -> Result<u16> {
    if bytes.u32(0x4c)? == 0 {
        Ok(128)
    } else {
        bytes.u16(0x58)
    }
}

fn parse_copies(bytes: Fields<'_>, features: &Features) -> Result<Copies> {
    if features.compat & COMPAT_SPARSE_SUPER2 != 0 {
        return Ok(Copies::Two([bytes.u32(0x24c)?, bytes.u32(0x250)?]));
    }
    let is_sparse = features.ro_compat & RO_COMPAT_SPARSE_SUPER != 0;
    Ok(if is_sparse {
        Copies::Sparse
    } else {
        Copies::Everywhere
    })
}

/// Returns whether `number` is `base` to some power of at least 1.
fn is_power(mut number: u32, base: u32) -> bool {
    while number > base && number.is_multiple_of(base) {
        number /= base;
    }
    number == base
}

#[cfg(test)]
mod tests {
    use super::{Superblock, is_power};
    use crate::error::{Damage, Error};

    #[test]
    fn copies_live_in_powers_of_three_five_and_seven() {
        let powers: Vec<u32> = (0..130)
            .filter(|&n| [3, 5, 7].iter().any(|&base| is_power(n, base)))
            .collect();
        assert_eq!(powers, [3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    #[test]
    fn zeros_and_short_input_are_no_superblock() {
        let error = Error::Damaged(Damage::Superblock, "this is no ext4 volume");
        assert_eq!(Superblock::parse(&[0; 1024]), Err(error));
        assert!(Superblock::parse(&[]).is_err());
    }
}
