//! Looks at a tree in other ways than those by which it is searched and changed.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

use libipc::proto::file_system::{Attributes, Cookie, DirectoryBatch, FileKind, Inode, Seal};
use libipc::seal::part_word;

use super::{Change, Content, Node, Record, Run, Tree, first_index_behind};

/// A directory is small up to so many names.
const FEW_ENTRIES: usize = 32;
/// Names that are looked at from a changed one on in a small directory.
const NEIGHBOURS: usize = 2;

impl Node {
    /// Returns whether these are the attributes of the node, which has this number.
    #[inline(never)]
    pub(crate) fn has(&self, inode: u64, attributes: &Attributes) -> bool {
        let bytes = attributes.bytes;
        let is_right = match (attributes.kind, &self.content) {
            (FileKind::Regular, content) => ends_at(content, bytes),
            (FileKind::Directory, Content::Directory { entries, .. }) => {
                entries.len() as u64 == bytes
                    && entries.is_empty() == entries.first_key_value().is_none()
            }
            (FileKind::Symlink, Content::Symlink { target }) => target.len() as u64 == bytes,
            _ => false,
        };
        is_right
            && (attributes.inode.0, self.own.inode) == (inode, inode)
            && (attributes.mode, attributes.modified_s) == (self.mode, self.modified_s)
            && (attributes.links, attributes.owner, attributes.group) == (1, 0, 0)
    }

    /// Returns whether the node knows that this is its name.
    pub(crate) fn is_named(&self, directory: u64, name: &[u8]) -> bool {
        self.own.name == Seal::name(Inode(directory), name)
    }
}

impl Tree {
    /// As [`Tree::find`], by another search.
    pub(crate) fn find_otherwise(&self, directory: u64, name: &[u8]) -> Option<&Node> {
        let (_, inode) = names_from(self.entries(directory).ok()?, name).next()?;
        let node = self.nodes.get(inode)?;
        node.is_named(directory, name).then_some(node)
    }

    /// Returns whether a name leads to this node, or to none, and in a small directory those behind it to
    /// theirs.
    pub(crate) fn leads_to(&self, directory: u64, name: &[u8], inode: Option<u64>) -> bool {
        match inode {
            Some(inode) => self.leads_to_such(directory, name, inode, |_| true),
            None => self.entries(directory).is_ok_and(|entries| {
                !entries.contains_key(name) && self.are_next_right(directory, name, entries)
            }),
        }
    }

    /// As [`Tree::leads_to`], if the node is as it should be.
    pub(crate) fn leads_to_such(
        &self,
        directory: u64,
        name: &[u8],
        inode: u64,
        is_right: impl FnOnce(&Node) -> bool,
    ) -> bool {
        self.entries(directory).is_ok_and(|entries| {
            let node = self.nodes.get(&inode);
            let is_it = node.is_some_and(|node| {
                node.own.inode == inode && node.is_named(directory, name) && is_right(node)
            });
            entries.get(name) == Some(&inode)
                && is_it
                && self.are_next_right(directory, name, entries)
        })
    }

    /// Returns whether the next names are those of their nodes: the ones next to a name that is put in or
    /// taken out are moved.
    #[inline]
    fn are_next_right(
        &self,
        directory: u64,
        name: &[u8],
        entries: &BTreeMap<Vec<u8>, u64>,
    ) -> bool {
        entries.len() > FEW_ENTRIES || self.are_from(directory, name, entries)
    }

    #[inline(never)]
    fn are_from(&self, directory: u64, name: &[u8], entries: &BTreeMap<Vec<u8>, u64>) -> bool {
        let mut next = names_from(entries, name).take(NEIGHBOURS);
        next.all(|(found, &inode)| {
            // A name without its node is what a dropped record leaves behind.
            let node = self.nodes.get(&inode);
            node.is_none_or(|node| node.own.inode == inode && node.is_named(directory, found))
        })
    }

    /// Returns whether each name of a directory is that of its node.
    #[cold]
    pub(crate) fn is_sound(&self, directory: u64) -> bool {
        self.entries(directory).is_ok_and(|entries| {
            let mut all = entries.range::<[u8], _>(..);
            all.all(|(found, inode)| {
                let node = self.nodes.get(inode);
                node.is_none_or(|node| node.is_named(directory, found))
            })
        })
    }

    /// Returns whether these are the nodes of a directory from a cookie on, up to the next one.
    #[inline(never)]
    pub(crate) fn lists(&self, directory: u64, from: Cookie, batch: &DirectoryBatch) -> bool {
        let Ok(entries) = self.entries(directory) else {
            return false;
        };
        let end = batch.next.map_or(u64::MAX, |next| next.0);
        // Goes from name to name, while an iterator over all goes by their number.
        let all = || entries.range::<[u8], _>(..).map(|(_, inode)| inode);
        let meant = || all().filter(|inode| (from.0..end).contains(*inode));
        let mut before = None;
        let are_right = batch.items.iter().all(|entry| {
            let inode = entry.inode.0;
            let node = self.nodes.get(&inode);
            let is_right = node.is_some_and(|node| {
                node.own.inode == inode
                    && node.is_named(directory, &entry.name)
                    && node.is_directory() == (entry.kind == FileKind::Directory)
            });
            is_right && (from.0..end).contains(&inode) && before.replace(inode) < Some(inode)
        });
        let count = batch.items.len();
        // Names without their nodes are left out.
        let is_all = meant().count() == count
            || meant()
                .filter(|inode| self.nodes.contains_key(inode))
                .count()
                == count;
        are_right && is_all && all().count() == entries.len()
    }

    /// Returns whether a node is gone and the next ones are where they should be.
    pub(crate) fn is_gone(&self, inode: u64) -> bool {
        let mut next = self.nodes.range(inode..).take(2);
        next.all(|(&found, node)| found != inode && node.own.inode == found)
    }

    /// Returns whether a file has this size and this many blocks, and in this place a block that is
    /// right.
    pub(crate) fn holds(
        &self,
        inode: u64,
        (bytes, count): (u64, usize),
        place: u32,
        is_right: impl FnOnce(u32) -> bool,
    ) -> bool {
        let file = self.file(inode);
        file.is_ok_and(|(size, blocks)| {
            size == bytes
                && blocks.len() == count
                && blocks.get(&place).is_some_and(|&block| is_right(block))
        })
    }

    /// Returns whether a file has this size and this many blocks, and none behind its end.
    pub(crate) fn ends_at(&self, inode: u64, bytes: u64, count: usize) -> bool {
        let node = self.nodes.get(&inode);
        node.is_some_and(|node| {
            let is_complete =
                matches!(&node.content, Content::File { blocks, .. } if blocks.len() == count);
            is_complete && ends_at(&node.content, bytes)
        })
    }

    /// Returns whether a change is one that this tree can have, and the outcome is its outcome.
    #[inline(never)]
    pub(crate) fn allows(&self, record: &Record) -> bool {
        let outcome = record.completes.as_ref().map(|(_, outcome)| outcome);
        match &record.change {
            Change::Create { inode, .. } => {
                *inode == self.next_inode && outcome.is_none_or(|outcome| outcome.inode.0 == *inode)
            }
            Change::Write { inode, bytes, runs } => {
                let is_outcome = outcome.is_none_or(|outcome| {
                    let end = outcome.offset.saturating_add(outcome.bytes.into());
                    outcome.inode.0 == *inode && *bytes >= end
                });
                is_outcome && are_within(runs, *bytes)
            }
            Change::Truncate { inode, .. } => outcome.is_none_or(|outcome| {
                outcome.inode.0 == *inode && (outcome.offset, outcome.bytes) == (0, 0)
            }),
            Change::Unlink { .. } | Change::Rename { .. } | Change::DropBlock { .. } => true,
        }
    }
}

/// Returns whether runs lie within a file of this size.
pub(super) fn are_within(runs: &[Run], bytes: u64) -> bool {
    let places = u64::from(first_index_behind(bytes));
    let mut runs = runs.iter();
    runs.all(|run| u64::from(run.index) + u64::from(run.count) <= places)
}

/// Returns whether it is a file of this size, with no block behind it.
fn ends_at(content: &Content, bytes: u64) -> bool {
    match content {
        Content::File {
            bytes: size,
            blocks,
        } => {
            let last = blocks.last_key_value();
            *size == bytes && last.is_none_or(|(&last, _)| last < first_index_behind(bytes))
        }
        Content::Directory { .. } | Content::Symlink { .. } => false,
    }
}

/// Returns whether a name is among those of a small directory, looking at each: what is not found is
/// asked for too often to search twice in a large one.
#[inline(never)]
pub(super) fn is_listed(entries: &BTreeMap<Vec<u8>, u64>, name: &[u8]) -> bool {
    entries.len() <= FEW_ENTRIES && entries.keys().any(|found| is_same(found, name))
}

/// Returns the names from this one on, with their nodes.
fn names_from<'a>(
    entries: &'a BTreeMap<Vec<u8>, u64>,
    name: &[u8],
) -> impl Iterator<Item = (&'a Vec<u8>, &'a u64)> + use<'a> {
    entries.range::<[u8], _>((Bound::Included(name), Bound::Unbounded))
}

/// Compares names word by word, not as the searches do. Most names differ in their last byte.
#[inline]
fn is_same(name: &[u8], other: &[u8]) -> bool {
    name.len() == other.len() && name.last() == other.last() && are_same_words(name, other)
}

#[inline(never)]
fn are_same_words(name: &[u8], other: &[u8]) -> bool {
    let (words, rest) = name.as_chunks::<8>();
    let (other_words, other_rest) = other.as_chunks::<8>();
    let is_same = |(left, right): (&[u8; 8], &[u8; 8])| {
        u64::from_le_bytes(*left) == u64::from_le_bytes(*right)
    };
    words.iter().zip(other_words).all(is_same) && part_word(rest) == part_word(other_rest)
}
