//! The operations of the vfs.

use alloc::vec::Vec;

use libipc::Caller;
use libipc::proto::file_system::{Attributes, FileKind, FsError, Inode, Operation, Space};
use libipc::proto::vfs::{
    Cookie, DirectoryBatch, DirectoryEntry, LastLink, MAX_LINK_BYTES, MountInfo,
};
use libsys::state::{ExportError, Full, Purpose, Region, Report, StateMemory};

use crate::backend::{Backend, FsResult};
use crate::mounts::Mount;
use crate::open_files::{OpenFiles, Record, SESSION_BIT};
use crate::second::Name;
use crate::walk::{Place, Slot, holds_mount, walk, walk_to_slot};
use crate::{path, second};

mod files;

/// Set in the cookies of names that only the mount table knows.
const EXTRA_NAMES: u64 = 1 << 63;
/// Permission bits of new files: there are no users yet to set them.
const FILE_MODE: u16 = 0o644;
/// Permission bits of new directories.
const DIRECTORY_MODE: u16 = 0o755;

/// The tree of files with its open files.
#[derive(Debug)]
pub struct Vfs<B, M: StateMemory> {
    mounts: Vec<Mount<B>>,
    pub(crate) files: Region<OpenFiles, M>,
}

impl<B: Backend, M: StateMemory> Vfs<B, M> {
    /// Makes the tree out of its mounts, with the files that were open before a restart.
    ///
    /// # Errors
    ///
    /// [`Full`] when the memory is too small.
    pub fn open(mounts: Vec<Mount<B>>, memory: M) -> Result<(Self, Report), Full> {
        let (mut files, report) = Region::<OpenFiles, M>::open_or_fresh(memory)?;
        let names: Vec<_> = mounts
            .iter()
            .map(|mount| (mount.point.clone(), mount.service.clone()))
            .collect();
        if files.state().mounts() != names {
            // Open files name their mount by its index: with other mounts they mean nothing.
            files.append(Record::Mounts(names), Purpose::Shrink)?;
        }
        Ok((Vfs { mounts, files }, report))
    }

    /// Returns the schema of the state.
    pub fn schema() -> u64 {
        Region::<OpenFiles, M>::schema()
    }

    /// Rewrites the state in an older schema, for a version that knows no newer one.
    ///
    /// # Errors
    ///
    /// See [`ExportError`].
    pub fn export(&mut self, schema: u64) -> Result<(), ExportError> {
        self.files.export(schema)
    }

    /// Undoes an export.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn reclaim(&mut self) -> Result<(), Full> {
        self.files.reclaim()
    }

    /// Gives up the tree and returns its memory.
    pub fn into_memory(self) -> M {
        self.files.into_memory()
    }

    /// Returns a badge that was never given out before, but to this request: before the kernel
    /// brings it again, the senders of the dead server are closed, and that this badge was closed
    /// is old news.
    ///
    /// # Errors
    ///
    /// `NoSpace` when the state region is full.
    pub fn new_session(&mut self, caller: &Caller) -> FsResult<u64> {
        let state = self.files.state();
        let session = match state.session_by(caller.into()) {
            Some(session) => session,
            None => {
                let session = state.next_session();
                self.append(Record::Session(caller.into(), session), Purpose::Grow)?;
                let state = self.files.state();
                assert!(
                    state.session_by(caller.into()) == Some(session)
                        && state.next_session() != session,
                    "a session is not what its record says"
                );
                session
            }
        };
        Ok(session | SESSION_BIT)
    }

    /// Closes all files of a badge.
    pub fn end_session(&mut self, badge: u64) {
        if !self.files.state().knows(badge) {
            return;
        }
        match self.append(Record::CloseAll { badge }, Purpose::Shrink) {
            Ok(()) => assert!(
                !self.files.state().knows(badge),
                "files of a badge are left open"
            ),
            Err(_) => log::error!("files of badge {badge:#x} not closed: state region is full"),
        }
    }

    /// Tells what a path names.
    ///
    /// # Errors
    ///
    /// Those of the walk: see [`FsError`].
    pub fn stat(&self, path: &[u8], last: LastLink) -> FsResult<Attributes> {
        Ok(walk(&self.mounts, path, last)?.place.attributes())
    }

    /// Returns the path without `.`, `..` and symbolic links.
    ///
    /// # Errors
    ///
    /// As [`Vfs::stat`].
    pub fn canonical(&self, path: &[u8]) -> FsResult<Vec<u8>> {
        Ok(walk(&self.mounts, path, LastLink::Follow)?.path)
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    ///
    /// `Invalid` when it is none.
    pub fn read_link(&self, path: &[u8]) -> FsResult<Vec<u8>> {
        match walk(&self.mounts, path, LastLink::Keep)?.place {
            Place::Node { mount, attributes } if attributes.kind == FileKind::Symlink => {
                self.mounts[mount].backend.read_link(attributes.inode)
            }
            _ => Err(FsError::Invalid),
        }
    }

    /// Lists a directory: what its file system knows, then the mount points it does not know.
    ///
    /// # Errors
    ///
    /// `NotADirectory`, and those of the file system.
    pub fn read_dir(&self, path: &[u8], from: Cookie) -> FsResult<DirectoryBatch> {
        let walked = walk(&self.mounts, path, LastLink::Follow)?;
        let Place::Node { mount, attributes } = walked.place else {
            return Ok(mount_batch(self.mount_names(&walked.path), from));
        };
        if attributes.kind != FileKind::Directory {
            return Err(FsError::NotADirectory);
        }
        let backend = &self.mounts[mount].backend;
        if from.0 & EXTRA_NAMES == 0 {
            let mut batch = backend.read_dir(attributes.inode, from)?;
            check_batch(&batch, from, 0);
            // A cookie with the mark would be taken for one of ours.
            batch.next = batch.next.filter(|next| next.0 & EXTRA_NAMES == 0);
            if batch.next.is_none() && !self.mount_names(&walked.path).is_empty() {
                batch.next = Some(Cookie(EXTRA_NAMES));
            }
            return Ok(batch);
        }
        let mut names = self.mount_names(&walked.path);
        names.retain(|name| backend.lookup(attributes.inode, name).is_err());
        let batch = mount_batch(names, from);
        check_batch(&batch, from, EXTRA_NAMES);
        Ok(batch)
    }

    /// Returns the names in a directory that lead to mount points.
    fn mount_names(&self, directory: &[u8]) -> Vec<Vec<u8>> {
        let mut names: Vec<Vec<u8>> = self
            .mounts
            .iter()
            .filter_map(|mount| path::child_of(directory, &mount.point))
            .map(<[u8]>::to_vec)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Makes a directory.
    ///
    /// # Errors
    ///
    /// `Exists`, and those of walk and file system.
    pub fn make_dir(&mut self, caller: &Caller, path: &[u8]) -> FsResult<()> {
        self.once(caller, |vfs, operation| {
            let slot = vfs.free_slot(path)?;
            let node = (FileKind::Directory, DIRECTORY_MODE);
            vfs.mounts[slot.mount]
                .backend
                .create(operation, slot.directory, slot.name, node)?;
            Ok(())
        })
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    ///
    /// `Exists`, and those of walk and file system.
    pub fn symlink(&mut self, caller: &Caller, path: &[u8], target: &[u8]) -> FsResult<()> {
        if target.is_empty() || target.contains(&0) {
            return Err(FsError::Invalid);
        }
        if target.len() > MAX_LINK_BYTES {
            return Err(FsError::NameTooLong);
        }
        self.once(caller, |vfs, operation| {
            let slot = vfs.free_slot(path)?;
            if slot.wants_directory {
                return Err(FsError::NotFound);
            }
            let backend = &vfs.mounts[slot.mount].backend;
            backend.symlink(operation, slot.directory, slot.name, target)?;
            Ok(())
        })
    }

    /// Removes a name: an empty directory or whatever is no directory.
    ///
    /// # Errors
    ///
    /// `Busy` for mount points, `NotEmpty`, and those of walk and file system.
    pub fn remove(&mut self, caller: &Caller, path: &[u8], kind: FileKind) -> FsResult<()> {
        self.once(caller, |vfs, operation| {
            let slot = vfs.changeable_slot(path)?;
            if slot.wants_directory && kind != FileKind::Directory {
                return Err(FsError::NotADirectory);
            }
            let backend = &vfs.mounts[slot.mount].backend;
            backend.unlink(operation, slot.directory, slot.name, kind)?;
            Ok(())
        })
    }

    /// Moves a name within a file system.
    ///
    /// # Errors
    ///
    /// `CrossesMounts`, `Busy` for mount points, and those of walk and file system.
    pub fn rename(&mut self, caller: &Caller, from: &[u8], to: &[u8]) -> FsResult<()> {
        self.once(caller, |vfs, operation| {
            let from = vfs.changeable_slot(from)?;
            let to = vfs.changeable_slot(to)?;
            if from.mount != to.mount {
                return Err(FsError::CrossesMounts);
            }
            let backend = &vfs.mounts[from.mount].backend;
            if from.wants_directory || to.wants_directory {
                let kind = backend.lookup(from.directory, from.name)?.kind;
                if kind != FileKind::Directory {
                    return Err(FsError::NotADirectory);
                }
            }
            backend.rename(
                operation,
                (from.directory, from.name),
                (to.directory, to.name),
            )?;
            Ok(())
        })
    }

    /// Lists the mounts.
    pub fn mounts(&self) -> Vec<MountInfo> {
        self.mounts.iter().map(Mount::info).collect()
    }

    /// Tells how full the file system of a path is.
    ///
    /// # Errors
    ///
    /// `Unavailable` where there is none.
    pub fn statfs(&self, path: &[u8]) -> FsResult<Space> {
        match walk(&self.mounts, path, LastLink::Follow)?.place {
            Place::Node { mount, .. } => self.mounts[mount].backend.statfs(),
            Place::Skeleton => Err(FsError::Unavailable),
        }
    }

    /// Brings everything written so far to where it outlives a loss of power.
    ///
    /// # Errors
    ///
    /// The first one of a file system; the others are asked nevertheless.
    pub fn sync(&self) -> FsResult<()> {
        let mounted = self.mounts.iter().filter(|mount| mount.root().is_ok());
        let results: Vec<FsResult<()>> = mounted.map(|mount| mount.backend.sync()).collect();
        results.into_iter().collect()
    }

    /// Runs a change, unless it is a repeated one that a file system has completed before. Asked
    /// before the walk: the path may lead elsewhere after the change.
    fn once(
        &mut self,
        caller: &Caller,
        change: impl FnOnce(&mut Self, Operation) -> FsResult<()>,
    ) -> FsResult<()> {
        let operation = operation(caller, 0);
        if self.is_completed(operation) {
            assert!(caller.redelivered, "a new change is taken for an old one");
            Ok(())
        } else {
            change(self, operation)
        }
    }

    fn is_completed(&self, operation: Operation) -> bool {
        operation.repeated
            && self.mounts.iter().any(|mount| {
                mount.check_writable().is_ok()
                    && matches!(mount.backend.outcome(operation), Ok(Some(_)))
            })
    }

    /// Walks to a name that may be changed.
    fn changeable_slot<'a>(&self, path: &'a [u8]) -> FsResult<Slot<'a>> {
        let slot = walk_to_slot(&self.mounts, path)?;
        if holds_mount(&self.mounts, &slot.path) {
            return Err(FsError::Busy);
        }
        self.mounts[slot.mount].check_writable()?;
        Ok(slot)
    }

    /// Walks to a name for something new.
    fn free_slot<'a>(&self, path: &'a [u8]) -> FsResult<Slot<'a>> {
        match self.changeable_slot(path) {
            // What is in the way of a mount point exists.
            Err(FsError::Busy) => Err(FsError::Exists),
            Err(FsError::ReadOnly) if self.stat(path, LastLink::Keep).is_ok() => {
                Err(FsError::Exists)
            }
            other => other,
        }
    }

    /// Passes an answer on, unless it is one that the table of open files gives when it was
    /// damaged in memory: then the next instance answers.
    pub(crate) fn sane<T>(&self, answer: FsResult<T>) -> FsResult<T> {
        if let Err(error @ (FsError::BadFile | FsError::TooManyFiles)) = &answer {
            self.files.suspect(error.text());
        }
        answer
    }

    /// Passes on the answer to a request about some paths, unless it is an error for which nothing
    /// speaks: then the next instance answers.
    pub(crate) fn of_names<T>(&self, names: &[Name<'_>], answer: FsResult<T>) -> FsResult<T> {
        if let Err(error) = &answer {
            second::check(&self.mounts, names, *error);
        }
        answer
    }

    fn append(&mut self, record: Record, purpose: Purpose) -> FsResult<()> {
        self.files
            .append(record, purpose)
            .map_err(|Full| FsError::NoSpace)
    }
}

/// Names a change of a request for the file system.
fn operation(caller: &Caller, step: u8) -> Operation {
    Operation {
        client: caller.badge,
        sequence: caller.sequence,
        step,
        repeated: caller.redelivered,
    }
}

/// Ends this instance if the cookie that a batch was made for has another mark than those of its names,
/// or if its names are none.
#[inline(never)]
fn check_batch(batch: &DirectoryBatch, from: Cookie, mark: u64) {
    let are_names = batch.items.iter().all(|entry| !entry.name.is_empty());
    assert!(
        from.0 & EXTRA_NAMES == mark && are_names,
        "a directory is listed otherwise than asked for"
    );
}

/// Lists names that only the mount table knows; the cookie counts them.
fn mount_batch(names: Vec<Vec<u8>>, from: Cookie) -> DirectoryBatch {
    let first = from.0 & !EXTRA_NAMES;
    let rest = (0..).zip(names).skip_while(|(number, _)| *number < first);
    DirectoryBatch::of(rest.map(|(number, name)| {
        let entry = DirectoryEntry {
            inode: Inode(0),
            kind: FileKind::Directory,
            name,
        };
        (entry, Cookie(EXTRA_NAMES | number))
    }))
}
