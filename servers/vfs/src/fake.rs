//! A file system in a table, for tests of the vfs.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use libipc::proto::file_system::{
    APPEND, Attributes, Cookie, Description, DirectoryBatch, DirectoryEntry, FileKind, FsAccess,
    FsError, Inode, Operation, Outcome, Seal, Space, Transfer,
};
use libsys::{Handle, Memory};

use crate::backend::{Backend, FsResult};

/// A node: its kind, and for files and links its bytes.
#[derive(Clone, Debug)]
struct Node {
    kind: FileKind,
    content: Vec<u8>,
    entries: BTreeMap<Vec<u8>, u64>,
}

/// A file system that remembers every operation, as real ones do for a while.
#[derive(Debug)]
pub(crate) struct FakeFs {
    nodes: RefCell<BTreeMap<u64, Node>>,
    outcomes: RefCell<Vec<(Operation, Outcome)>>,
    access: FsAccess,
    /// What every request fails with, while it is set.
    pub(crate) failure: Cell<Option<FsError>>,
    /// Changes that were really made.
    pub(crate) changes: Cell<u32>,
}

impl FakeFs {
    pub(crate) fn new(access: FsAccess) -> FakeFs {
        let root = Node {
            kind: FileKind::Directory,
            content: vec![],
            entries: BTreeMap::new(),
        };
        FakeFs {
            nodes: RefCell::new(BTreeMap::from([(2, root)])),
            outcomes: RefCell::default(),
            access,
            failure: Cell::new(None),
            changes: Cell::new(0),
        }
    }

    /// Adds a node at a path whose directories exist; no operation.
    pub(crate) fn add(&self, path: &str, kind: FileKind, content: &[u8]) -> u64 {
        let mut nodes = self.nodes.borrow_mut();
        let inode = nodes.keys().max().unwrap() + 1;
        let mut names: Vec<&str> = path.split('/').collect();
        let name = names.pop().unwrap();
        let mut directory = 2;
        for name in names {
            directory = nodes[&directory].entries[name.as_bytes()];
        }
        nodes
            .get_mut(&directory)
            .unwrap()
            .entries
            .insert(name.into(), inode);
        nodes.insert(
            inode,
            Node {
                kind,
                content: content.to_vec(),
                entries: BTreeMap::new(),
            },
        );
        inode
    }

    pub(crate) fn content(&self, inode: u64) -> Vec<u8> {
        self.nodes.borrow()[&inode].content.clone()
    }

    fn check(&self) -> FsResult<()> {
        self.failure.get().map_or(Ok(()), Err)
    }

    fn attributes(&self, inode: u64) -> FsResult<Attributes> {
        let nodes = self.nodes.borrow();
        let node = nodes.get(&inode).ok_or(FsError::Stale)?;
        Ok(Attributes {
            inode: Inode(inode),
            kind: node.kind,
            mode: 0o755,
            links: 1,
            owner: 0,
            group: 0,
            bytes: node.content.len() as u64,
            modified_s: 0,
        })
    }

    fn recall(&self, operation: Operation) -> Option<Outcome> {
        let operation = Operation {
            repeated: true,
            ..operation
        };
        let outcomes = self.outcomes.borrow();
        outcomes
            .iter()
            .find(|(known, _)| *known == operation)
            .map(|(_, outcome)| *outcome)
    }

    /// Runs a change once, as a file system must.
    fn change(
        &self,
        operation: Operation,
        f: impl FnOnce(&mut BTreeMap<u64, Node>) -> FsResult<Outcome>,
    ) -> FsResult<Outcome> {
        self.check()?;
        if self.access == FsAccess::ReadOnly {
            return Err(FsError::ReadOnly);
        }
        if operation.repeated
            && let Some(outcome) = self.recall(operation)
        {
            return Ok(outcome);
        }
        let outcome = f(&mut self.nodes.borrow_mut())?;
        self.changes.set(self.changes.get() + 1);
        let operation = Operation {
            repeated: true,
            ..operation
        };
        self.outcomes.borrow_mut().push((operation, outcome));
        Ok(outcome)
    }

    fn insert(
        &self,
        operation: Operation,
        (directory, name): (Inode, &[u8]),
        kind: FileKind,
        content: &[u8],
    ) -> FsResult<Outcome> {
        self.change(operation, |nodes| {
            let inode = nodes.keys().max().map_or(2, |last| last + 1);
            let parent = nodes.get_mut(&directory.0).ok_or(FsError::Stale)?;
            if parent.entries.contains_key(name) {
                return Err(FsError::Exists);
            }
            parent.entries.insert(name.to_vec(), inode);
            let content = content.to_vec();
            nodes.insert(
                inode,
                Node {
                    kind,
                    content,
                    entries: BTreeMap::new(),
                },
            );
            Ok(done(inode))
        })
    }
}

fn done(inode: u64) -> Outcome {
    Outcome {
        inode: Inode(inode),
        offset: 0,
        bytes: 0,
    }
}

impl Backend for Rc<FakeFs> {
    fn describe(&self) -> FsResult<Description> {
        self.check()?;
        Ok(Description {
            kind: "fake".into(),
            label: String::new(),
            root: Inode(2),
            access: self.access,
            remarks: String::new(),
        })
    }

    fn statfs(&self) -> FsResult<Space> {
        self.check()?;
        Ok(Space {
            block_bytes: 512,
            ..Space::default()
        })
    }

    fn lookup(&self, directory: Inode, name: &[u8]) -> FsResult<Attributes> {
        self.check()?;
        let found = {
            let nodes = self.nodes.borrow();
            let node = nodes.get(&directory.0).ok_or(FsError::Stale)?;
            if node.kind != FileKind::Directory {
                return Err(FsError::NotADirectory);
            }
            *node.entries.get(name).ok_or(FsError::NotFound)?
        };
        self.attributes(found)
    }

    fn stat(&self, inode: Inode) -> FsResult<Attributes> {
        self.check()?;
        self.attributes(inode.0)
    }

    fn read(&self, _: Inode, _: (Transfer, Seal), _: &Handle<Memory>) -> FsResult<u32> {
        Err(FsError::BadBuffer)
    }

    fn read_small(&self, inode: Inode, offset: u64, bytes: u32, _: Seal) -> FsResult<Vec<u8>> {
        self.check()?;
        let nodes = self.nodes.borrow();
        let content = &nodes.get(&inode.0).ok_or(FsError::Stale)?.content;
        let start = content.len().min(offset as usize);
        Ok(content[start..content.len().min(start + bytes as usize)].to_vec())
    }

    fn read_dir(&self, directory: Inode, from: Cookie) -> FsResult<DirectoryBatch> {
        self.check()?;
        let nodes = self.nodes.borrow();
        let entries = &nodes.get(&directory.0).ok_or(FsError::Stale)?.entries;
        // Two names a batch, so that batches matter.
        let some = entries.iter().skip(from.0 as usize).take(2);
        let next = from.0 + 2;
        let mut batch = DirectoryBatch::default();
        batch.items.extend(some.map(|(name, inode)| DirectoryEntry {
            inode: Inode(*inode),
            kind: nodes[inode].kind,
            name: name.clone(),
        }));
        batch.next = (next < entries.len() as u64).then_some(Cookie(next));
        Ok(batch)
    }

    fn read_link(&self, inode: Inode) -> FsResult<Vec<u8>> {
        self.check()?;
        Ok(self.content(inode.0))
    }

    fn outcome(&self, operation: Operation) -> FsResult<Option<Outcome>> {
        Ok(self.recall(operation))
    }

    fn create(
        &self,
        operation: Operation,
        directory: Inode,
        name: &[u8],
        (kind, _): (FileKind, u16),
    ) -> FsResult<Outcome> {
        self.insert(operation, (directory, name), kind, b"")
    }

    fn symlink(
        &self,
        operation: Operation,
        directory: Inode,
        name: &[u8],
        target: &[u8],
    ) -> FsResult<Outcome> {
        self.insert(operation, (directory, name), FileKind::Symlink, target)
    }

    fn unlink(
        &self,
        operation: Operation,
        directory: Inode,
        name: &[u8],
        _: FileKind,
    ) -> FsResult<Outcome> {
        self.change(operation, |nodes| {
            let parent = nodes.get_mut(&directory.0).ok_or(FsError::Stale)?;
            let inode = parent.entries.remove(name).ok_or(FsError::NotFound)?;
            nodes.remove(&inode);
            Ok(done(inode))
        })
    }

    fn rename(
        &self,
        operation: Operation,
        (from, from_name): (Inode, &[u8]),
        (to, to_name): (Inode, &[u8]),
    ) -> FsResult<Outcome> {
        self.change(operation, |nodes| {
            let source = nodes.get_mut(&from.0).ok_or(FsError::Stale)?;
            let inode = source.entries.remove(from_name).ok_or(FsError::NotFound)?;
            let target = nodes.get_mut(&to.0).ok_or(FsError::Stale)?;
            target.entries.insert(to_name.to_vec(), inode);
            Ok(done(inode))
        })
    }

    fn truncate(
        &self,
        operation: Operation,
        inode: Inode,
        bytes: u64,
        _: Seal,
    ) -> FsResult<Outcome> {
        self.change(operation, |nodes| {
            let node = nodes.get_mut(&inode.0).ok_or(FsError::Stale)?;
            node.content.resize(bytes as usize, 0);
            Ok(done(inode.0))
        })
    }

    fn write(
        &self,
        _: Operation,
        _: Inode,
        _: (Transfer, Seal),
        _: &Handle<Memory>,
    ) -> FsResult<Outcome> {
        Err(FsError::BadBuffer)
    }

    fn write_small(
        &self,
        operation: Operation,
        inode: Inode,
        (offset, content): (u64, &[u8]),
        _: Seal,
    ) -> FsResult<Outcome> {
        self.change(operation, |nodes| {
            let known = &mut nodes.get_mut(&inode.0).ok_or(FsError::Stale)?.content;
            let start = if offset == APPEND {
                known.len()
            } else {
                offset as usize
            };
            let end = start + content.len();
            known.resize(known.len().max(end), 0);
            known[start..end].copy_from_slice(content);
            Ok(Outcome {
                inode,
                offset: start as u64,
                bytes: content.len() as u32,
            })
        })
    }

    fn sync(&self) -> FsResult<()> {
        self.check()
    }
}
