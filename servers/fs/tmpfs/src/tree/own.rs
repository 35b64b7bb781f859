//! What a node knows of itself: the names and numbers that lead to it, told a second time.
//!
//! Not kept in the region: made again from the names at start, so that it cannot disagree with them
//! then. From then on each name that is found or listed can be held against its node, and each node
//! against the number under which it was found.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

use libipc::proto::file_system::{Inode, Seal};
use serde::Deserialize;

use super::{Content, Node, Tree};
use crate::outcomes::Outcomes;

/// What a node knows of itself.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Own {
    /// Its number.
    pub(super) inode: u64,
    /// The seal of its name; the default if it has none.
    pub(super) name: Seal,
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
        let mut names = BTreeMap::new();
        for (&directory, node) in &mut nodes {
            if let Content::Directory { entries, .. } = &mut node.content {
                // A second name of a node can only be damage.
                entries.retain(|name, inode| is_first(&mut names, *inode, directory, name));
            }
        }
        for (&inode, node) in &mut nodes {
            let name = names.get(&inode).copied().unwrap_or_default();
            node.own = Own { inode, name };
        }
        Tree {
            nodes,
            next_inode,
            outcomes,
            ineffective: 0,
        }
    }
}

fn is_first(names: &mut BTreeMap<u64, Seal>, inode: u64, directory: u64, name: &[u8]) -> bool {
    match names.entry(inode) {
        Entry::Vacant(place) => {
            place.insert(Seal::name(Inode(directory), name));
            true
        }
        Entry::Occupied(_) => false,
    }
}
