//! Group descriptors: where each group keeps its inode table.

use crate::checksum::{crc16, crc32c};
use crate::error::{Damage, Result};
use crate::fields::{Fields, join};
use crate::superblock::{Checksums, Superblock};

const CHECKSUM_AT: usize = 0x1e;
const AFTER_CHECKSUM: usize = 0x20;

/// What a reader needs of a group descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// First block of the group's part of the inode table, within the volume.
    pub inode_table: u64,
}

impl Group {
    /// Reads and checks the descriptor of group `number`.
    ///
    /// # Errors
    ///
    /// `Damaged` for a wrong checksum or a table outside the volume.
    pub fn parse(superblock: &Superblock, number: u32, bytes: &[u8]) -> Result<Group> {
        let bytes = bytes
            .get(..superblock.descriptor_bytes.into())
            .unwrap_or_default();
        let bytes = Fields::new(Damage::Group, bytes);
        let is_right = match superblock.checksums {
            Checksums::None => true,
            Checksums::Groups => {
                let expected = checksum16(superblock, number, bytes)?;
                bytes.u16(CHECKSUM_AT)? == expected
            }
            Checksums::All(seed) => {
                let [low, high, ..] = checksum32(seed, number, bytes)?.to_le_bytes();
                bytes.u16(CHECKSUM_AT)? == u16::from_le_bytes([low, high])
            }
        };
        if !is_right {
            return Err(bytes.damaged("checksum"));
        }
        let high = if bytes.all().len() >= 64 {
            bytes.u32(0x28)?
        } else {
            0
        };
        let inode_table = join(bytes.u32(0x8)?, high);
        let table_bytes =
            u64::from(superblock.inodes_per_group) * u64::from(superblock.inode_bytes);
        let table_blocks = table_bytes.div_ceil(superblock.block_bytes.into());
        superblock.check_blocks(Damage::Group, inode_table, table_blocks)?;
        Ok(Group { inode_table })
    }
}

fn checksum16(superblock: &Superblock, number: u32, bytes: Fields<'_>) -> Result<u16> {
    let crc = crc16(!0, &superblock.uuid);
    let crc = crc16(crc, &number.to_le_bytes());
    let crc = crc16(crc, bytes.slice(0, CHECKSUM_AT)?);
    Ok(crc16(crc, bytes.rest(AFTER_CHECKSUM)?))
}

fn checksum32(seed: u32, number: u32, bytes: Fields<'_>) -> Result<u32> {
    let crc = crc32c(seed, &number.to_le_bytes());
    let crc = crc32c(crc, bytes.slice(0, CHECKSUM_AT)?);
    let crc = crc32c(crc, &[0, 0]);
    Ok(crc32c(crc, bytes.rest(AFTER_CHECKSUM)?))
}
