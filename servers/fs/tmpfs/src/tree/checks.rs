//! Looks at a tree in other ways than those by which it is searched and changed.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

use libipc::proto::file_system::{Attributes, Cookie, DirectoryBatch, FileKind};

use super::{Change, Content, Node, Record, Run, Tree, first_index_behind, label};

/// A directory is small up to so many names.
const FEW_ENTRIES: usize = 32;
/// Names behind a changed one that are looked at in a small directory: as many as a node of a
/// `BTreeMap` has, within which a change moves them.
const NEIGHBOURS: usize = 11;

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
        self.own.label == label(directory, name)
    }
}

impl Tree {
    /// As [`Tree::find`], by another search.
    pub(crate) fn find_otherwise(&self, directory: u64, name: &[u8]) -> Option<&Node> {
        let (_, inode) = names_from(self.entries(directory).ok()?, name).next()?;
        let node = self.nodes.get(inode)?;
        node.is_named(directory, name).then_some(node)
    }

    /// Returns whether a name is free, by another search than [`Tree::find`], which has looked at
    /// each name of a small directory already.
    #[inline(never)]
    pub(crate) fn is_free(&self, directory: u64, name: &[u8]) -> bool {
        self.entries(directory).is_ok_and(|entries| {
            entries.len() <= FEW_ENTRIES
                || names_from(entries, name)
                    .next()
                    .is_none_or(|(found, _)| !is_same(found, name))
        })
    }

    /// Returns whether a name leads to this node, or to none, and those behind it to their nodes.
    pub(crate) fn leads_to(&self, directory: u64, name: &[u8], inode: Option<u64>) -> bool {
        match inode {
            Some(inode) => self.leads_to_such(directory, name, inode, |_| true),
            None => {
                let entries = self.entries(directory);
                entries.is_ok_and(|entries| {
                    self.are_right(directory, name, entries, names_from(entries, name))
                })
            }
        }
    }

    /// Returns whether a name leads to this node, it is as it should be, and the names behind it lead
    /// to their nodes.
    pub(crate) fn leads_to_such(
        &self,
        directory: u64,
        name: &[u8],
        inode: u64,
        is_right: impl FnOnce(&Node) -> bool,
    ) -> bool {
        let Ok(entries) = self.entries(directory) else {
            return false;
        };
        let mut names = names_from(entries, name);
        let Some((found, number)) = names.next() else {
            return false;
        };
        let node = self.nodes.get(number);
        let is_it = is_same(found, name)
            && *number == inode
            && node.is_some_and(|node| {
                node.own.inode == inode && node.is_named(directory, name) && is_right(node)
            });
        is_it && self.are_right(directory, name, entries, names)
    }

    /// Returns whether the next names are those of their nodes, and not the one before them again. Those
    /// next to a name that is put in or taken out are moved.
    #[inline(never)]
    fn are_right<'a>(
        &self,
        directory: u64,
        name: &[u8],
        entries: &BTreeMap<Vec<u8>, u64>,
        names: impl Iterator<Item = (&'a Vec<u8>, &'a u64)>,
    ) -> bool {
        let count = if entries.len() <= FEW_ENTRIES {
            NEIGHBOURS
        } else {
            1
        };
        let mut names = names.take(count);
        names.all(|(found, &inode)| {
            // A name without its node is what a dropped record leaves behind.
            let node = self.nodes.get(&inode);
            let is_its =
                node.is_none_or(|node| node.own.inode == inode && node.is_named(directory, found));
            is_its && !is_same(found, name)
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
            Change::Write { inode, bytes, runs } => self.file(*inode).is_ok_and(|(size, _)| {
                let is_outcome = outcome.is_none_or(|outcome| {
                    let end = outcome.offset.saturating_add(outcome.bytes.into());
                    outcome.inode.0 == *inode && *bytes == size.max(end)
                });
                is_outcome && are_within(runs, *bytes)
            }),
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

/// Compares names byte by byte: not as the searches do.
fn is_same(name: &[u8], other: &[u8]) -> bool {
    name.len() == other.len() && name.iter().zip(other).all(|(byte, other)| byte == other)
}
