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
pub(crate) fn label(directory: u64, name: &[u8]) -> u64 {
    let mix = |sum: u64, word: u64| (sum.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let mut sum = mix(name.len() as u64, directory);
    let (words, rest) = name.as_chunks::<8>();
    for word in words {
        sum = mix(sum, u64::from_le_bytes(*word));
    }
    for &byte in rest {
        sum = mix(sum, byte.into());
    }
    sum | 1
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
    use super::label;

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
