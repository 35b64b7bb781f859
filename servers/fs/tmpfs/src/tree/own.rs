//! What a node knows of itself: the names and numbers that lead to it, told a second time.
//!
//! Not kept in the region: made again from the names at start, so that it cannot disagree with them
//! then. From then on each name that is found or listed can be held against its node, and each node
//! against the number under which it was found.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

use serde::Deserialize;

use super::{Content, Node, Tree};
use crate::outcomes::Outcomes;

/// Multiplier of the sum over a name: that of `FxHash`, which mixes well enough to tell names apart.
const FACTOR: u64 = 0x517c_c1b7_2722_0a95;

/// What a node knows of itself.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Own {
    /// Its number.
    pub(super) inode: u64,
    /// The [`label`] of its name; 0 if it has none.
    pub(super) label: u64,
}

/// Returns a sum over a name and its directory; never 0.
#[inline(never)]
pub(super) fn label(directory: u64, name: &[u8]) -> u64 {
    let mix = |sum: u64, word: u64| (sum.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let mut sum = mix(name.len() as u64, directory);
    let (words, rest) = name.as_chunks::<8>();
    for word in words {
        sum = mix(sum, u64::from_le_bytes(*word));
    }
    mix(sum, part_word(rest)) | 1
}

/// Returns up to seven bytes as a number: those of the same number of bytes differ if the bytes do.
#[inline]
pub(super) fn part_word(bytes: &[u8]) -> u64 {
    match bytes {
        [] => 0,
        [only] => (*only).into(),
        [first, second] => u16::from_le_bytes([*first, *second]).into(),
        [first, second, third] => u32::from_le_bytes([*first, *second, *third, 0]).into(),
        [first @ .., _, _, _, _] if first.len() < 4 => {
            // Two halves that overlap.
            let head = bytes
                .first_chunk()
                .map_or(0, |head| u32::from_le_bytes(*head));
            let tail = bytes
                .last_chunk()
                .map_or(0, |tail| u32::from_le_bytes(*tail));
            u64::from(head) << u32::BITS | u64::from(tail)
        }
        _ => 0,
    }
}

/// A tree as it is kept.
#[derive(Deserialize)]
pub(super) struct Kept {
    nodes: BTreeMap<u64, Node>,
    next_inode: u64,
    outcomes: Outcomes,
}

impl From<Kept> for Tree {
    fn from(kept: Kept) -> Self {
        let Kept {
            mut nodes,
            next_inode,
            outcomes,
        } = kept;
        let mut labels = BTreeMap::new();
        for (&directory, node) in &mut nodes {
            if let Content::Directory { entries, .. } = &mut node.content {
                // A second name of a node can only be damage.
                entries.retain(|name, inode| is_first(&mut labels, *inode, directory, name));
            }
        }
        for (&inode, node) in &mut nodes {
            let label = labels.get(&inode).copied().unwrap_or(0);
            node.own = Own { inode, label };
        }
        Tree {
            nodes,
            next_inode,
            outcomes,
        }
    }
}

fn is_first(labels: &mut BTreeMap<u64, u64>, inode: u64, directory: u64, name: &[u8]) -> bool {
    match labels.entry(inode) {
        Entry::Vacant(place) => {
            place.insert(label(directory, name));
            true
        }
        Entry::Occupied(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{label, part_word};

    #[test]
    fn parts_of_words_differ_if_their_bytes_do() {
        for count in 0..8 {
            let bytes: Vec<u8> = (1..=count).collect();
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 0x40;
                assert_ne!(part_word(&bytes), part_word(&other), "{bytes:?} {at}");
            }
        }
    }

    #[test]
    fn labels_tell_names_and_directories_apart() {
        let names: [&[u8]; 8] = [
            b"",
            b"a",
            b"b",
            b"0A",
            b"d1",
            b"d10",
            b"12345678",
            b"12345678a",
        ];
        let mut labels: Vec<u64> = names
            .iter()
            .flat_map(|name| [1, 2, 77].map(|directory| label(directory, name)))
            .collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), 3 * names.len());
        assert!(!labels.contains(&0));
    }
}
