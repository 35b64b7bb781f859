//! The operations of the file system.

use alloc::vec::Vec;
use core::hint::black_box;

use libipc::proto::file_system::{
    Attributes, Cookie, DirectoryBatch, DirectoryEntry, FileKind, FsError, Inode, MAX_LINK_BYTES,
    Operation, Outcome, PERMISSIONS, Seal, Space,
};
use libsys::state::{Full, Purpose, Region, Report, StateMemory};

use crate::blocks::{BLOCK_BYTES, Blocks};
use crate::tree::{Change, Content, NewNode, Node, ROOT, Record, Tree, check_name};

mod content;

/// The part of the memory that the tree gets.
const TREE_DIVISOR: usize = 8;
/// Smallest memory that makes sense.
pub const MIN_BYTES: usize = 16 * BLOCK_BYTES;
/// A file system in memory of two parts: one for the tree, one for the content.
#[derive(Debug)]
pub struct TmpFs<M: StateMemory> {
    pub(crate) tree: Region<Tree, M>,
    data: M,
    blocks: Blocks,
}

/// Which request makes a change, and when.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// What the vfs calls it.
    pub operation: Operation,
    /// Seconds of the clock for file times.
    pub now_s: i64,
    /// The seal of the request, if it has one.
    pub seal: Option<Seal>,
}

impl Stamp {
    /// Holds the seal of the request against what is about to be done.
    ///
    /// # Errors
    ///
    /// `BrokenSeal`.
    fn check(&self, done: Seal) -> Result<(), FsError> {
        self.seal.map_or(Ok(()), |seal| seal.check(done))
    }
}

impl<M: StateMemory> TmpFs<M> {
    /// Returns the schema of the state.
    pub fn schema() -> u64 {
        Region::<Tree, M>::schema()
    }

    /// Returns how many of `bytes` bytes belong to the tree; the rest is for the content.
    pub fn tree_bytes(bytes: usize) -> usize {
        bytes / TREE_DIVISOR / BLOCK_BYTES * BLOCK_BYTES
    }

    /// Opens what the memory holds, or an empty file system. Returns how many blocks had to be
    /// taken from files because damage had made them belong to two.
    ///
    /// # Errors
    ///
    /// [`Full`] when the memory is too small.
    pub fn open(tree: M, data: M) -> Result<(Self, Report, usize), Full> {
        let (tree, report) = Region::<Tree, M>::open_or_fresh(tree)?;
        let blocks = Blocks::new(data.bytes() / BLOCK_BYTES);
        let mut fs = TmpFs { tree, data, blocks };
        let dropped = fs.claim_blocks()?;
        Ok((fs, report, dropped))
    }

    /// Marks the blocks of all files as used.
    fn claim_blocks(&mut self) -> Result<usize, Full> {
        let mut disputed = Vec::new();
        for (inode, node) in self.tree.state().nodes() {
            if let Content::File { blocks, .. } = &node.content {
                for (&index, &block) in blocks {
                    if !self.blocks.claim(block, inode, index) {
                        disputed.push((inode, index));
                    }
                }
            }
        }
        for &(inode, index) in &disputed {
            let change = Change::DropBlock { inode, index };
            let record = Record {
                completes: None,
                now_s: 0,
                change,
            };
            self.tree.append(record, Purpose::Shrink)?;
        }
        Ok(disputed.len())
    }

    /// Returns the root directory.
    pub fn root(&self) -> Inode {
        Inode(ROOT)
    }

    /// Tells how full it is.
    pub fn space(&self) -> Space {
        Space {
            block_bytes: BLOCK_BYTES as u32,
            blocks: self.blocks.count() as u64,
            free_blocks: self.blocks.free() as u64,
            inodes: 0,
            free_inodes: 0,
        }
    }

    /// Tells about an inode.
    ///
    /// # Errors
    ///
    /// `Stale` when it is gone.
    pub fn stat(&self, inode: Inode) -> Result<Attributes, FsError> {
        Ok(attributes(self.tree.state().node(inode.0)?, inode.0))
    }

    /// Finds the name under a seal.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotADirectory`, `Stale`, `BrokenSeal`.
    pub fn lookup(&self, directory: Inode, name: &[u8], seal: Seal) -> Result<Attributes, FsError> {
        let found = self.tree.state().find(directory.0, name);
        if let Ok(Some((inode, node))) = found {
            seal.check(node.name())?;
            return Ok(attributes(node, inode));
        }
        seal.check(Seal::name(directory, name))?;
        Err(found.err().unwrap_or(FsError::NotFound))
    }

    /// Looks whether an error is right about a name that is to be made, or that of a node of a kind to
    /// be removed, by a search of another kind. If it is not, something is damaged, and the next instance
    /// is asked.
    #[cold]
    #[inline(never)]
    pub(crate) fn check_refusal(
        &self,
        directory: Inode,
        name: &[u8],
        kind: Option<FileKind>,
        error: FsError,
    ) {
        let tree = self.tree.state();
        let node = tree.find_otherwise(directory.0, name);
        let is_directory = node.is_some_and(Node::is_directory);
        let is_for_directories = kind == Some(FileKind::Directory);
        let is_right = match error {
            // A name that damage made another one is not found by any search.
            FsError::NotFound => node.is_none() && tree.is_sound(directory.0),
            FsError::Exists => node.is_some(),
            FsError::NotEmpty => {
                is_for_directories && is_directory && !node.is_some_and(Node::is_empty_directory)
            }
            FsError::IsADirectory => is_directory && !is_for_directories,
            FsError::NotADirectory => match node {
                Some(_) => is_for_directories && !is_directory,
                None => !tree.node(directory.0).is_ok_and(Node::is_directory),
            },
            _ => true,
        };
        if !is_right {
            doubt(error);
        }
    }

    /// Lists a directory. The cookie is the inode to go on with: a node has one name only.
    ///
    /// # Errors
    ///
    /// `NotADirectory`, `Stale`.
    pub fn read_dir(&self, directory: Inode, from: Cookie) -> Result<DirectoryBatch, FsError> {
        let tree = self.tree.state();
        let entries = tree.entries(directory.0)?;
        let mut rest: Vec<(u64, &Vec<u8>)> = entries
            .iter()
            .map(|(name, &inode)| (inode, name))
            .filter(|(inode, _)| *inode >= from.0)
            .collect();
        rest.sort_unstable();
        let mut batch = DirectoryBatch::default();
        for (inode, name) in rest {
            // A name without its node is what a dropped record leaves behind.
            let Ok(node) = self.sane(tree.node(inode)) else {
                continue;
            };
            let kind = node.attributes(inode).kind;
            let entry = DirectoryEntry {
                inode: Inode(inode),
                kind,
                name: name.clone(),
            };
            if !batch.try_push(entry, Cookie(inode)) {
                break;
            }
        }
        assert!(
            tree.lists(directory.0, from, &batch),
            "a directory is listed wrongly"
        );
        Ok(batch)
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    ///
    /// `Invalid` when it is none, `Stale`.
    pub fn read_link(&self, inode: Inode) -> Result<Vec<u8>, FsError> {
        match &self.tree.state().node(inode.0)?.content {
            Content::Symlink { target } => Ok(target.clone()),
            _ => Err(FsError::Invalid),
        }
    }

    /// Returns what became of an operation, if it is remembered.
    pub fn outcome(&self, operation: Operation) -> Option<Outcome> {
        self.tree.state().outcomes.get(operation.into())
    }

    /// Returns the outcome of an operation that was completed before.
    fn completed(&self, stamp: Stamp) -> Option<Outcome> {
        let Stamp { operation, .. } = stamp;
        if operation.repeated {
            self.outcome(operation)
        } else {
            None
        }
    }

    /// Makes a file or a directory.
    ///
    /// # Errors
    ///
    /// `Exists`, `Invalid`, `NameTooLong`, `NoSpace`, `NotADirectory`, `Stale`, `BrokenSeal`.
    pub fn create(
        &mut self,
        stamp: Stamp,
        directory: Inode,
        name: &[u8],
        (kind, mode): (FileKind, u16),
    ) -> Result<Outcome, FsError> {
        let node = match kind {
            FileKind::Regular => NewNode::File,
            FileKind::Directory => NewNode::Directory,
            FileKind::Symlink | FileKind::Special => return Err(FsError::Invalid),
        };
        stamp.check(Seal::create(directory, name, kind, mode))?;
        self.insert(stamp, directory, name, (node, mode & PERMISSIONS))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    ///
    /// As [`TmpFs::create`].
    pub fn symlink(
        &mut self,
        stamp: Stamp,
        directory: Inode,
        name: &[u8],
        target: &[u8],
    ) -> Result<Outcome, FsError> {
        stamp.check(Seal::symlink(directory, name, target))?;
        if target.is_empty() {
            return Err(FsError::Invalid);
        }
        if target.len() > MAX_LINK_BYTES {
            return Err(FsError::NameTooLong);
        }
        self.insert(
            stamp,
            directory,
            name,
            (NewNode::Symlink(target.to_vec()), 0),
        )
    }

    fn insert(
        &mut self,
        stamp: Stamp,
        directory: Inode,
        name: &[u8],
        (node, mode): (NewNode, u16),
    ) -> Result<Outcome, FsError> {
        if let Some(outcome) = self.completed(stamp) {
            return Ok(outcome);
        }
        check_name(name)?;
        if self.tree.state().find(directory.0, name)?.is_some() {
            self.check_refusal(directory, name, None, FsError::Exists);
            return Err(FsError::Exists);
        }
        let kind = node.kind();
        let count = self.tree.state().count();
        let inode = self.tree.state().next_inode();
        let change = Change::Create {
            directory: directory.0,
            name: name.to_vec(),
            inode,
            mode,
            node,
        };
        let outcome = outcome_of(inode);
        let outcome = self.commit(stamp, outcome, change)?;
        self.check(|tree| {
            tree.leads_to_such(directory.0, name, inode, |node| node.is_new(kind))
                && tree.count() == count + 1
        });
        Ok(outcome)
    }

    /// Removes a name: an empty directory if `kind` is that, else a file or link.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotEmpty`, `IsADirectory`, `NotADirectory`, `NoSpace`, `Stale`, `BrokenSeal`.
    pub fn unlink(
        &mut self,
        stamp: Stamp,
        directory: Inode,
        name: &[u8],
        kind: FileKind,
    ) -> Result<Outcome, FsError> {
        stamp.check(Seal::name(directory, name))?;
        if let Some(outcome) = self.completed(stamp) {
            return Ok(outcome);
        }
        let found = self.tree.state().find(directory.0, name);
        let found = found.and_then(|found| {
            let (inode, node) = found.ok_or(FsError::NotFound)?;
            check_removal(node, kind)?;
            Ok((inode, node))
        });
        let (inode, node) =
            found.inspect_err(|error| self.check_refusal(directory, name, Some(kind), *error))?;
        let count = self.tree.state().count();
        let freed = node.blocks();
        let change = Change::Unlink {
            directory: directory.0,
            name: name.to_vec(),
        };
        let outcome = outcome_of(inode);
        let outcome = self.commit(stamp, outcome, change)?;
        self.check(|tree| {
            tree.leads_to(directory.0, name, None)
                && tree.count() + 1 == count
                && tree.is_gone(inode)
        });
        self.blocks.release(inode, &freed);
        Ok(outcome)
    }

    /// Moves a name, replacing what is there.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotEmpty`, `IsADirectory`, `NotADirectory`, `Invalid` for a directory into
    /// itself, `NoSpace`, `Stale`, `BrokenSeal`.
    pub fn rename(
        &mut self,
        stamp: Stamp,
        (from, from_name): (Inode, &[u8]),
        (to, to_name): (Inode, &[u8]),
    ) -> Result<Outcome, FsError> {
        stamp.check(Seal::rename((from, from_name), (to, to_name)))?;
        if let Some(outcome) = self.completed(stamp) {
            return Ok(outcome);
        }
        check_name(to_name)?;
        let tree = self.tree.state();
        let count = tree.count();
        let Some((inode, node)) = tree.find(from.0, from_name)? else {
            self.check_refusal(from, from_name, None, FsError::NotFound);
            return Err(FsError::NotFound);
        };
        if node.is_directory() && tree.is_within(to.0, inode) {
            return Err(FsError::Invalid);
        }
        let replaced = tree.find(to.0, to_name)?;
        let replaced = replaced.filter(|(other, _)| *other != inode);
        let freed = match replaced {
            Some((number, other)) => {
                check_replacement(node, other)?;
                Some((number, other.blocks()))
            }
            None => None,
        };
        let change = Change::Rename {
            from: from.0,
            from_name: from_name.to_vec(),
            to: to.0,
            to_name: to_name.to_vec(),
        };
        let outcome = outcome_of(inode);
        let outcome = self.commit(stamp, outcome, change)?;
        self.check(|tree| {
            let is_same = (from, from_name) == (to, to_name);
            tree.leads_to(to.0, to_name, Some(inode))
                && (is_same || tree.leads_to(from.0, from_name, None))
                && tree.count() + usize::from(freed.is_some()) == count
        });
        if let Some((number, freed)) = freed {
            self.blocks.release(number, &freed);
        }
        Ok(outcome)
    }

    /// Looks whether a change has come about.
    ///
    /// # Panics
    ///
    /// When it has not: the tree in memory or what changes it is damaged. The next instance makes the
    /// change from its record.
    fn check(&self, has_come_about: impl FnOnce(&Tree) -> bool) {
        assert!(
            has_come_about(self.tree.state()),
            "a change did not come about"
        );
    }

    /// Passes an answer on, unless it is one that a tree gives when it was damaged in memory: then
    /// the next instance answers.
    ///
    /// # Panics
    ///
    /// When the state region knows better; see [`Region::suspect`].
    pub fn sane<T>(&self, answer: Result<T, FsError>) -> Result<T, FsError> {
        if let Err(error @ (FsError::Damaged(_) | FsError::Stale)) = &answer {
            self.tree.suspect(error.text());
        }
        answer
    }

    /// Makes a change durable together with the outcome of its operation.
    fn commit(
        &mut self,
        stamp: Stamp,
        outcome: Outcome,
        change: Change,
    ) -> Result<Outcome, FsError> {
        let purpose = match change {
            Change::Unlink { .. } | Change::Truncate { .. } | Change::DropBlock { .. } => {
                Purpose::Shrink
            }
            _ => Purpose::Grow,
        };
        let Stamp {
            operation,
            now_s,
            seal,
        } = stamp;
        // Before it counts: a next instance could only make the wrong change again.
        assert!(
            seal.is_none_or(|seal| change.is_sealed_by(seal, outcome)),
            "another change was asked for"
        );
        let is_kept = !self.tree.memory().is_volatile();
        let record = Record {
            completes: is_kept.then(|| (operation.into(), outcome)),
            now_s,
            change,
        };
        // Without its outcome, or under another name, it would be made again by who asks again.
        let is_whole = match &black_box(&record).completes {
            Some((completed, _)) => is_kept && completed.is(&operation),
            None => !is_kept,
        };
        assert!(
            is_whole && self.tree.state().allows(&record),
            "a change is not right"
        );
        let (ineffective, mark) = (self.tree.state().ineffective, self.tree.mark());
        self.tree
            .append(record, purpose)
            .map_err(|Full| FsError::NoSpace)?;
        // It is written down: the next instance makes it.
        let is_made = self.tree.state().ineffective == ineffective;
        let is_written = self.tree.mark() != mark || !is_kept;
        assert!(is_made && is_written, "a change had no effect");
        Ok(outcome)
    }

    /// Gives up the file system and returns its memory.
    pub fn into_memory(self) -> (M, M) {
        (self.tree.into_memory(), self.data)
    }
}

/// Tells about a node.
///
/// # Panics
///
/// When that is not what the node is.
fn attributes(node: &Node, inode: u64) -> Attributes {
    let attributes = node.attributes(inode);
    assert!(node.has(inode, &attributes), "a node is told wrongly");
    attributes
}

/// Returns the outcome of a change of names, which moves no bytes.
fn outcome_of(inode: u64) -> Outcome {
    Outcome {
        inode: Inode(inode),
        offset: 0,
        bytes: 0,
    }
}

/// Checks that a node may be removed as one of a kind.
fn check_removal(node: &Node, kind: FileKind) -> Result<(), FsError> {
    match (&node.content, kind) {
        (Content::Directory { entries, .. }, FileKind::Directory) if entries.is_empty() => Ok(()),
        (Content::Directory { .. }, FileKind::Directory) => Err(FsError::NotEmpty),
        (Content::Directory { .. }, _) => Err(FsError::IsADirectory),
        (_, FileKind::Directory) => Err(FsError::NotADirectory),
        _ => Ok(()),
    }
}

/// Has the next instance answer, rather than with an error that does not seem right.
#[cold]
fn doubt(error: FsError) {
    log::error!("an error is not right: {}", error.text());
    libipc::doubt_oneself("change");
}

/// Checks that a node may take the place of another. An error was looked at twice.
fn check_replacement(node: &Node, there: &Node) -> Result<(), FsError> {
    judge_replacement(node, there).inspect_err(|error| {
        let is_right = is_refused_for(node, there, *error);
        if !is_right {
            doubt(*error);
        }
    })
}

/// Returns whether a node may not take the place of another for this reason.
#[cold]
#[inline(never)]
fn is_refused_for(node: &Node, there: &Node, error: FsError) -> bool {
    match error {
        FsError::NotEmpty => there.is_directory() && !there.is_empty_directory(),
        FsError::NotADirectory => node.is_directory() && !there.is_directory(),
        FsError::IsADirectory => there.is_directory() && !node.is_directory(),
        _ => false,
    }
}

fn judge_replacement(node: &Node, there: &Node) -> Result<(), FsError> {
    match (node.is_directory(), &there.content) {
        (true, Content::Directory { entries, .. }) if entries.is_empty() => Ok(()),
        (true, Content::Directory { .. }) => Err(FsError::NotEmpty),
        (true, _) => Err(FsError::NotADirectory),
        (false, Content::Directory { .. }) => Err(FsError::IsADirectory),
        (false, _) => Ok(()),
    }
}
