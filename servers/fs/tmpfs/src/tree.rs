//! The tree of files as it is kept in the state region.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::vec::Vec;

use libipc::proto::file_system::{
    Attributes, Damage, FileKind, FsError, Inode, MAX_NAME_BYTES, Outcome, Seal,
};
use libsys::state::{Look, NoPrevious, State};
use serde::{Deserialize, Serialize, Serializer};

use crate::BLOCK_BYTES;
use crate::outcomes::{Completed, Outcomes};

mod checks;
#[cfg(test)]
mod harm;
mod own;
mod run;
mod sealed;

use checks::{are_within, is_listed};
use own::{Kept, Own};
pub(crate) use run::Run;

/// The root directory.
pub(crate) const ROOT: u64 = 1;
/// Links are full words of permission by custom.
const LINK_MODE: u16 = 0o777;
/// Numbers that may be left out between two new nodes: those of records that were dropped.
const MAX_GAP: u64 = 1 << 20;
/// Blocks of the longest write: its bytes are a 32-bit number.
const MAX_RUN: u32 = (1 << 20) + 1;

/// All files and directories, by inode number.
#[derive(Debug, Serialize, Deserialize)]
#[serde(from = "Kept")]
pub(crate) struct Tree {
    nodes: BTreeMap<u64, Node>,
    next_inode: u64,
    /// What became of recent operations.
    pub(crate) outcomes: Outcomes,
    /// How many records had no effect in this instance.
    #[serde(skip)]
    pub(crate) ineffective: u32,
}

/// A file, directory or symbolic link.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) content: Content,
    mode: u16,
    modified_s: i64,
    #[serde(skip)]
    own: Own,
}

/// What a node holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Content {
    /// Bytes; blocks by their place in the file, holes left out.
    File {
        bytes: u64,
        blocks: BTreeMap<u32, u32>,
    },
    /// Names. Each node has one name only, so that `parent` is one.
    Directory {
        parent: u64,
        entries: BTreeMap<Vec<u8>, u64>,
    },
    /// The target.
    Symlink { target: Vec<u8> },
}

/// What a new node is to be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum NewNode {
    File,
    Directory,
    Symlink(#[serde(serialize_with = "at_once")] Vec<u8>),
}

/// One change, with the outcome that a repeated request gets.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) completes: Option<Completed>,
    pub(crate) now_s: i64,
    pub(crate) change: Change,
}

/// A change of the tree.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Change {
    Create {
        directory: u64,
        #[serde(serialize_with = "at_once")]
        name: Vec<u8>,
        inode: u64,
        mode: u16,
        node: NewNode,
    },
    Unlink {
        directory: u64,
        #[serde(serialize_with = "at_once")]
        name: Vec<u8>,
    },
    Rename {
        from: u64,
        #[serde(serialize_with = "at_once")]
        from_name: Vec<u8>,
        to: u64,
        #[serde(serialize_with = "at_once")]
        to_name: Vec<u8>,
    },
    /// Makes blocks part of a file and sets its size.
    Write {
        inode: u64,
        bytes: u64,
        runs: Vec<Run>,
    },
    /// Sets the size of a file and lets the blocks behind it go.
    Truncate { inode: u64, bytes: u64 },
    /// Lets one block go: it turned out to belong to another file too.
    DropBlock { inode: u64, index: u32 },
}

/// Writes bytes at once: as they would be written one by one, but quicker.
fn at_once<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

impl NewNode {
    /// Returns the kind of what is to be.
    pub(crate) fn kind(&self) -> FileKind {
        match self {
            NewNode::File => FileKind::Regular,
            NewNode::Directory => FileKind::Directory,
            NewNode::Symlink(_) => FileKind::Symlink,
        }
    }
}

impl Default for Tree {
    fn default() -> Self {
        let entries = BTreeMap::new();
        let content = Content::Directory {
            parent: ROOT,
            entries,
        };
        let root = Node {
            content,
            mode: 0o777,
            modified_s: 0,
            own: Own {
                inode: ROOT,
                name: Seal::default(),
            },
        };
        Tree {
            nodes: BTreeMap::from([(ROOT, root)]),
            next_inode: ROOT + 1,
            outcomes: Outcomes::default(),
            ineffective: 0,
        }
    }
}

impl Node {
    /// Tells about the node.
    pub(crate) fn attributes(&self, inode: u64) -> Attributes {
        let (kind, bytes) = match &self.content {
            Content::File { bytes, .. } => (FileKind::Regular, *bytes),
            Content::Directory { entries, .. } => (FileKind::Directory, entries.len() as u64),
            Content::Symlink { target } => (FileKind::Symlink, target.len() as u64),
        };
        Attributes {
            inode: Inode(inode),
            kind,
            mode: self.mode,
            links: 1,
            owner: 0,
            group: 0,
            bytes,
            modified_s: self.modified_s,
        }
    }

    /// Returns the seal of its name; the default if it has none.
    pub(crate) fn name(&self) -> Seal {
        self.own.name
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.content, Content::Directory { .. })
    }

    pub(crate) fn is_empty_directory(&self) -> bool {
        matches!(&self.content, Content::Directory { entries, .. } if entries.is_empty())
    }

    /// Returns whether it is of this kind, and empty but for the target of a link.
    pub(crate) fn is_new(&self, kind: FileKind) -> bool {
        match &self.content {
            Content::File { bytes, blocks } => {
                kind == FileKind::Regular && *bytes == 0 && blocks.is_empty()
            }
            Content::Directory { .. } => kind == FileKind::Directory && self.is_empty_directory(),
            Content::Symlink { target } => kind == FileKind::Symlink && !target.is_empty(),
        }
    }

    /// Returns the blocks it holds.
    pub(crate) fn blocks(&self) -> Vec<u32> {
        match &self.content {
            Content::File { blocks, .. } => blocks.values().copied().collect(),
            _ => Vec::new(),
        }
    }
}

impl Tree {
    /// Returns a node.
    ///
    /// # Panics
    ///
    /// When the search is damaged: it does not find the node that is there.
    pub(crate) fn node(&self, inode: u64) -> Result<&Node, FsError> {
        match self.nodes.get_key_value(&inode) {
            Some((&found, node)) if found == inode && node.own.inode == inode => Ok(node),
            _ => Err(self.without_node(inode)),
        }
    }

    /// Returns what is said of a node that is not there. Apart, so that to find a node stays short.
    #[cold]
    #[inline(never)]
    fn without_node(&self, inode: u64) -> FsError {
        assert!(
            self.nodes_from(inode) != Some(inode),
            "a node was not found"
        );
        FsError::Stale
    }

    /// Returns the first node that has this number or a higher one: another search than the one for
    /// a node.
    #[cold]
    pub(crate) fn nodes_from(&self, inode: u64) -> Option<u64> {
        self.nodes.range(inode..).next().map(|(&found, _)| found)
    }

    /// Returns how many nodes there are.
    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Returns all nodes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (u64, &Node)> {
        self.nodes.iter().map(|(&inode, node)| (inode, node))
    }

    /// Returns the number for the next node.
    pub(crate) fn next_inode(&self) -> u64 {
        self.next_inode
    }

    /// Returns the names in a directory.
    pub(crate) fn entries(&self, directory: u64) -> Result<&BTreeMap<Vec<u8>, u64>, FsError> {
        match &self.node(directory)?.content {
            Content::Directory { entries, .. } => Ok(entries),
            _ => Err(FsError::NotADirectory),
        }
    }

    /// Returns size and blocks of a file.
    pub(crate) fn file(&self, inode: u64) -> Result<(u64, &BTreeMap<u32, u32>), FsError> {
        match &self.node(inode)?.content {
            Content::File { bytes, blocks } => Ok((*bytes, blocks)),
            Content::Directory { .. } => Err(FsError::IsADirectory),
            Content::Symlink { .. } => Err(FsError::Invalid),
        }
    }

    /// Finds a name, if there is such.
    ///
    /// # Panics
    ///
    /// When the search is damaged: it finds another name, or none where it is in a small directory.
    pub(crate) fn find(
        &self,
        directory: u64,
        name: &[u8],
    ) -> Result<Option<(u64, &Node)>, FsError> {
        let entries = self.entries(directory)?;
        let Some(&inode) = entries.get(name) else {
            assert!(!is_listed(entries, name), "a name was not found");
            return Ok(None);
        };
        // A name without its node is what a dropped record leaves behind.
        let node = self
            .nodes
            .get(&inode)
            .ok_or(FsError::Damaged(Damage::Directory))?;
        assert!(
            node.own.inode == inode && node.is_named(directory, name),
            "another name was found"
        );
        Ok(Some((inode, node)))
    }

    /// Returns whether `inode` is `ancestor` or lies below it.
    pub(crate) fn is_within(&self, inode: u64, ancestor: u64) -> bool {
        let mut at = inode;
        // Bounded by the number of nodes, should damage ever have made a ring.
        for _ in 0..=self.nodes.len() {
            if at == ancestor {
                return true;
            }
            match self.nodes.get(&at).map(|node| &node.content) {
                Some(Content::Directory { parent, .. }) if *parent != at => at = *parent,
                _ => return false,
            }
        }
        true
    }

    fn entries_mut(&mut self, directory: u64) -> Option<&mut BTreeMap<Vec<u8>, u64>> {
        match &mut self.nodes.get_mut(&directory)?.content {
            Content::Directory { entries, .. } => Some(entries),
            _ => None,
        }
    }

    fn create(&mut self, change: Change, now_s: i64) -> bool {
        let Change::Create {
            directory,
            name,
            inode,
            mode,
            node,
        } = change
        else {
            return false;
        };
        if !(self.next_inode..self.next_inode.saturating_add(MAX_GAP)).contains(&inode) {
            return false;
        }
        let own = Own {
            inode,
            name: Seal::name(Inode(directory), &name),
        };
        let Some(entries) = self.entries_mut(directory) else {
            return false;
        };
        let Entry::Vacant(place) = entries.entry(name) else {
            return false;
        };
        place.insert(inode);
        let (content, mode) = match node {
            NewNode::File => (
                Content::File {
                    bytes: 0,
                    blocks: BTreeMap::new(),
                },
                mode,
            ),
            NewNode::Directory => (
                Content::Directory {
                    parent: directory,
                    entries: BTreeMap::new(),
                },
                mode,
            ),
            NewNode::Symlink(target) => (Content::Symlink { target }, LINK_MODE),
        };
        self.nodes.insert(
            inode,
            Node {
                content,
                mode,
                modified_s: now_s,
                own,
            },
        );
        self.next_inode = inode.saturating_add(1);
        self.touch(directory, now_s);
        true
    }

    fn unlink(
        &mut self,
        directory: u64,
        name: Vec<u8>,
        outcome: Option<Outcome>,
        now_s: i64,
    ) -> bool {
        let Some(entries) = self.entries_mut(directory) else {
            return false;
        };
        let Some(inode) = entries.remove(&*name) else {
            return false;
        };
        let is_meant = outcome.is_none_or(|outcome| outcome.inode.0 == inode);
        if !is_meant {
            self.put_back(directory, name, inode);
            return false;
        }
        match self.nodes.remove(&inode) {
            // Those in it would go nowhere; or it is another one.
            Some(node)
                if node.own.inode != inode
                    || (node.is_directory() && !node.is_empty_directory()) =>
            {
                self.nodes.insert(node.own.inode, node);
                self.put_back(directory, name, inode);
                return false;
            }
            _ => {}
        }
        self.touch(directory, now_s);
        true
    }

    fn rename(&mut self, change: Change, outcome: Option<Outcome>, now_s: i64) -> bool {
        let Change::Rename {
            from,
            from_name,
            to,
            to_name,
        } = change
        else {
            return false;
        };
        if self.entries_mut(to).is_none() {
            return false;
        }
        let moved = self
            .entries_mut(from)
            .and_then(|entries| entries.remove(&from_name));
        let Some(moved) = moved else {
            return false;
        };
        let is_meant = outcome.is_none_or(|outcome| outcome.inode.0 == moved);
        let new_name = Seal::name(Inode(to), &to_name);
        let Some(entries) = self.entries_mut(to).filter(|_| is_meant) else {
            self.put_back(from, from_name, moved);
            return false;
        };
        let replaced = match entries.entry(to_name) {
            Entry::Vacant(place) => {
                place.insert(moved);
                None
            }
            Entry::Occupied(mut place) => Some(place.insert(moved)),
        };
        if let Some(replaced) = replaced.filter(|&replaced| replaced != moved) {
            self.nodes.remove(&replaced);
        }
        if let Some(node) = self.nodes.get_mut(&moved) {
            node.own.name = new_name;
            if let Content::Directory { parent, .. } = &mut node.content {
                *parent = to;
            }
        }
        self.touch(from, now_s);
        self.touch(to, now_s);
        true
    }

    #[cold]
    fn put_back(&mut self, directory: u64, name: Vec<u8>, inode: u64) {
        if let Some(entries) = self.entries_mut(directory) {
            entries.insert(name, inode);
        }
    }

    fn write(&mut self, inode: u64, bytes: u64, runs: &[Run], now_s: i64) -> bool {
        let is_file = self.change_file(inode, Some(now_s), |size, blocks| {
            let is_right = are_within(runs, bytes) && runs.iter().all(|run| run.count <= MAX_RUN);
            if is_right {
                *size = bytes;
                for (index, block) in runs.iter().flat_map(Run::pairs) {
                    blocks.insert(index, block);
                }
            }
            is_right
        });
        is_file == Some(true)
    }

    /// Changes a file, if it is one; by whoever uses it if there is a time.
    fn change_file<T>(
        &mut self,
        inode: u64,
        now_s: Option<i64>,
        f: impl FnOnce(&mut u64, &mut BTreeMap<u32, u32>) -> T,
    ) -> Option<T> {
        let node = self.nodes.get_mut(&inode)?;
        let Content::File { bytes, blocks } = &mut node.content else {
            return None;
        };
        let result = f(bytes, blocks);
        node.modified_s = now_s.unwrap_or(node.modified_s);
        Some(result)
    }

    fn touch(&mut self, inode: u64, now_s: i64) {
        if let Some(node) = self.nodes.get_mut(&inode) {
            node.modified_s = now_s;
        }
    }
}

impl State for Tree {
    type Record = Record;
    type Previous = NoPrevious;
    const SCHEMA: &'static str = "tmpfs.1";

    #[inline]
    fn look_at(record: &Record) -> Look {
        match record.change {
            Change::Create { .. } => Look::Value,
            // It would be 2 % of a change; a lost one costs that change.
            _ => Look::None,
        }
    }

    /// A change that does not fit has no effect, and its outcome is not known: it was made by a server
    /// that did not see what is there. The request is run again.
    fn apply(&mut self, record: Record) {
        let now_s = record.now_s;
        let outcome = record.completes.map(|(_, outcome)| outcome);
        let is_made = match record.change {
            change @ Change::Create { .. } => self.create(change, now_s),
            Change::Unlink { directory, name } => self.unlink(directory, name, outcome, now_s),
            change @ Change::Rename { .. } => self.rename(change, outcome, now_s),
            Change::Write { inode, bytes, runs } => self.write(inode, bytes, &runs, now_s),
            Change::Truncate { inode, bytes } => {
                let change = |size: &mut u64, blocks: &mut BTreeMap<u32, u32>| {
                    *size = bytes;
                    blocks.split_off(&first_index_behind(bytes));
                };
                self.change_file(inode, Some(now_s), change).is_some()
            }
            Change::DropBlock { inode, index } => {
                let change = |_: &mut u64, blocks: &mut BTreeMap<u32, u32>| blocks.remove(&index);
                self.change_file(inode, None, change).is_some()
            }
        };
        match record.completes {
            Some(completed) if is_made => self.outcomes.add(completed),
            _ => self.ineffective += u32::from(!is_made),
        }
    }
}

/// Returns the first block place that a file of this size does not use.
pub(crate) fn first_index_behind(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(BLOCK_BYTES as u64)).unwrap_or(u32::MAX)
}

/// Checks a name for a directory entry.
pub(crate) fn check_name(name: &[u8]) -> Result<(), FsError> {
    if name.len() > MAX_NAME_BYTES {
        return Err(FsError::NameTooLong);
    }
    let is_reserved = matches!(name, b"" | b"." | b"..");
    if is_reserved || name.contains(&b'/') || name.contains(&0) {
        return Err(FsError::Invalid);
    }
    Ok(())
}
