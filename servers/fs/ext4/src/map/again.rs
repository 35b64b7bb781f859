//! Where a block of a file lies, looked up in another way than [`Volume::map`] does.
//!
//! The bytes of another file look as good as those of this one, so nobody would notice that an extent
//! was misread. This reads the nodes from their ends on and takes their fields apart by itself.

use super::Run;
use crate::device::BlockReader;
use crate::error::Result;
use crate::inode::{Inode, Layout};
use crate::volume::Volume;

/// Bytes of a node's header, and of each entry.
const ENTRY_BYTES: usize = 12;
/// Lengths above this mean an extent that was reserved but not written.
const MAX_WRITTEN: u16 = 0x8000;

/// What a node says of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    /// Where it lies on the volume and how many blocks are there from it on.
    At { physical: u64, blocks: u64 },
    /// It has zeros.
    Zeros,
    /// The node in this block knows.
    Below(u64),
}

impl<R: BlockReader> Volume<R> {
    /// Returns whether block `logical` of a file, and those behind it of a run, lie as the run says.
    pub(crate) async fn has_run(&self, inode: &Inode, logical: u64, run: Run) -> Result<bool> {
        let Ok(key) = u32::try_from(logical) else {
            return Ok(run.physical.is_none());
        };
        if inode.layout != Layout::Extents {
            let known = self.map(inode, logical).await?;
            return Ok(known.physical == run.physical && run.blocks <= known.blocks);
        }
        let mut found = look(&inode.block_area, key);
        while let Found::Below(block) = found {
            found = look(self.block(block).await?.bytes(), key);
        }
        Ok(match found {
            Found::At { physical, blocks } => {
                run.physical == Some(physical) && run.blocks <= blocks
            }
            Found::Zeros | Found::Below(_) => run.physical.is_none(),
        })
    }
}

/// Looks for a block in a node, from the last entry on.
#[inline(never)]
fn look(node: &[u8], key: u32) -> Found {
    let (parts, _) = node.as_chunks::<ENTRY_BYTES>();
    let Some((header, entries)) = parts.split_first() else {
        return Found::Zeros;
    };
    let [_, _, low, high, _, _, depth_low, depth_high, ..] = *header;
    let count = usize::from(u16::from_le_bytes([low, high]));
    let is_leaf = (depth_low, depth_high) == (0, 0);
    for entry in entries.iter().take(count).rev() {
        let [k0, k1, k2, k3, a, b, c, d, e, f, g, h] = *entry;
        let first = u32::from_le_bytes([k0, k1, k2, k3]);
        if first > key {
            continue;
        }
        if !is_leaf {
            return Found::Below(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]));
        }
        let length = u16::from_le_bytes([a, b]);
        let behind = u64::from(first) + u64::from(length);
        let is_written = length <= MAX_WRITTEN;
        return match behind.checked_sub(key.into()) {
            Some(blocks @ 1..) if is_written => Found::At {
                physical: u64::from_le_bytes([e, f, g, h, c, d, 0, 0]) + u64::from(key - first),
                blocks,
            },
            _ => Found::Zeros,
        };
    }
    Found::Zeros
}

#[cfg(test)]
mod tests {
    use super::{Found, look};

    /// Returns a node: its depth, then the fields of each entry.
    fn node(depth: u8, entries: &[[u8; 12]]) -> Vec<u8> {
        let count = entries.len() as u8;
        let mut bytes = vec![0x0a, 0xf3, count, 0, 4, 0, depth, 0, 0, 0, 0, 0];
        bytes.extend(entries.as_flattened());
        // More room than entries.
        bytes.extend([0; 30]);
        bytes
    }

    #[test]
    fn each_block_of_a_node_is_found() {
        let leaf = node(
            0,
            &[
                [2, 0, 0, 0, 3, 0, 1, 0, 7, 0, 0, 0],
                [9, 0, 0, 0, 2, 0x80, 0, 0, 50, 0, 0, 0],
                [20, 0, 0, 0, 0, 0x80, 0, 0, 60, 0, 0, 0],
            ],
        );
        let high = 1 << 32;
        let at = |physical, blocks| Found::At { physical, blocks };
        for (key, expected) in [
            (0, Found::Zeros),
            (2, at(high + 7, 3)),
            (4, at(high + 9, 1)),
            (5, Found::Zeros),
            // Reserved and not written.
            (9, Found::Zeros),
            // The longest that is written.
            (20, at(60, 0x8000)),
            (u32::MAX, Found::Zeros),
        ] {
            assert_eq!(look(&leaf, key), expected, "{key}");
        }
        let above = node(
            1,
            &[
                [0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 9, 9],
                [100, 0, 0, 0, 6, 0, 0, 0, 0, 0, 9, 9],
            ],
        );
        assert_eq!(look(&above, 99), Found::Below(high + 5));
        assert_eq!(look(&above, 100), Found::Below(6));
        assert_eq!(look(&[], 1), Found::Zeros);
    }
}
