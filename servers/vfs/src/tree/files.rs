//! Open files.

use alloc::vec::Vec;

use libipc::Caller;
use libipc::proto::file_system::{APPEND, Attributes, FileKind, FsError, Inode, Transfer};
use libipc::proto::vfs::{
    Access, Create, FileId, LastLink, MAX_SMALL_BYTES, OpenOptions, Opened, Seal, Written,
};
use libsys::state::{Purpose, StateMemory};
use libsys::{Handle, Memory};

use super::{FILE_MODE, Vfs, operation};
use crate::backend::{Backend, FsResult};
use crate::open_files::{OpenFile, Record};
use crate::second;
use crate::walk::{Place, walk_once};

/// Which change of an `open` makes the file.
const STEP_CREATE: u8 = 0;
/// Which change of an `open` cuts it.
const STEP_TRUNCATE: u8 = 1;

impl<B: Backend, M: StateMemory> Vfs<B, M> {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// `IsADirectory`, `ReadOnly`, `Exists`, `TooManyFiles`, `Invalid` for cutting without
    /// writing, and those of walk and file system.
    pub fn open_file(
        &mut self,
        caller: &Caller,
        path: &[u8],
        options: OpenOptions,
    ) -> FsResult<Opened> {
        if caller.redelivered
            && let Some((file, open)) = self.files.state().opened_by(caller.into())
        {
            let attributes = self.mounts[usize::from(open.mount)]
                .backend
                .stat(open.inode)?;
            return Ok(Opened { file, attributes });
        }
        let writes = options.access != Access::Read;
        if (options.truncate || options.append) && !writes {
            return Err(FsError::Invalid);
        }
        let file = self.sane(self.files.state().next_file(caller.badge))?;
        let (mount, mut attributes) = self.find_or_create(caller, path, options)?;
        match attributes.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(FsError::IsADirectory),
            FileKind::Symlink | FileKind::Special => return Err(FsError::Unsupported),
        }
        if writes {
            self.mounts[mount].check_writable()?;
        }
        if options.truncate {
            self.cut(caller, options, (mount, attributes.inode))?;
            attributes.bytes = 0;
        }
        let open = OpenFile {
            mount: mount as u16,
            inode: attributes.inode,
            access: options.access,
            is_append: options.append,
        };
        // The file that has the number would be gone.
        self.check_table(caller, file, None);
        self.append(Record::Open(caller.into(), file.0, open), Purpose::Grow)?;
        self.check_table(caller, file, Some(open));
        let opened = Opened { file, attributes };
        check_opened(options, (mount, open), &opened);
        Ok(opened)
    }

    /// Cuts a file to nothing, as the options must say: what is cut is gone.
    #[inline(never)]
    fn cut(
        &self,
        caller: &Caller,
        options: OpenOptions,
        (mount, inode): (usize, Inode),
    ) -> FsResult<()> {
        assert!(options.truncate, "nobody asked for a file to be cut");
        let operation = operation(caller, STEP_TRUNCATE);
        let backend = &self.mounts[mount].backend;
        backend.truncate(operation, inode, 0, Seal::truncate(inode, 0))?;
        Ok(())
    }

    /// Finds the file to open, or makes it.
    fn find_or_create(
        &mut self,
        caller: &Caller,
        path: &[u8],
        options: OpenOptions,
    ) -> FsResult<(usize, Attributes)> {
        let found = match walk_once(&self.mounts, path, LastLink::Follow) {
            Err(error) if error != FsError::NotFound || options.create == Create::Never => {
                second::settle(&self.mounts, path, error)
            }
            found => found,
        };
        match (found, options.create) {
            (Ok(walked), Create::Never | Create::IfMissing) => match walked.place {
                Place::Node { mount, attributes } => Ok((mount, attributes)),
                Place::Skeleton => Err(FsError::IsADirectory),
            },
            (Ok(walked), Create::New) => {
                // It may be the one that this very request made before the vfs died.
                let Place::Node { mount, attributes } = walked.place else {
                    return Err(FsError::Exists);
                };
                match self.created_before(caller, mount)? {
                    Some(inode) if inode == attributes.inode => Ok((mount, attributes)),
                    _ => Err(FsError::Exists),
                }
            }
            (Err(FsError::NotFound), Create::IfMissing | Create::New) => {
                self.create_file(caller, path, options.create)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn created_before(&self, caller: &Caller, mount: usize) -> FsResult<Option<Inode>> {
        if !caller.redelivered {
            return Ok(None);
        }
        let outcome = self.mounts[mount]
            .backend
            .outcome(operation(caller, STEP_CREATE))?;
        Ok(outcome.map(|outcome| outcome.inode))
    }

    fn create_file(
        &mut self,
        caller: &Caller,
        path: &[u8],
        create: Create,
    ) -> FsResult<(usize, Attributes)> {
        assert!(create != Create::Never, "nobody asked for a new file");
        let slot = self.changeable_slot(path)?;
        if slot.wants_directory {
            return Err(FsError::IsADirectory);
        }
        let backend = &self.mounts[slot.mount].backend;
        let node = (FileKind::Regular, FILE_MODE);
        let operation = operation(caller, STEP_CREATE);
        let outcome = match backend.create(operation, slot.directory, slot.name, node) {
            // A symbolic link that leads nowhere is in the way.
            Err(FsError::Exists) => {
                second::settle(&self.mounts, path, FsError::NotFound)?;
                return Err(FsError::Exists);
            }
            other => other?,
        };
        Ok((slot.mount, backend.stat(outcome.inode)?))
    }

    /// Closes a file.
    ///
    /// # Errors
    ///
    /// `BadFile`.
    pub fn close(&mut self, caller: &Caller, file: FileId) -> FsResult<()> {
        if caller.redelivered && self.files.state().reply(caller.into()).is_some() {
            return Ok(());
        }
        self.open_file_of(caller, file)?;
        self.append(Record::Close(caller.into(), file.0), Purpose::Shrink)?;
        self.check_table(caller, file, None);
        Ok(())
    }

    /// Ends this instance if the table does not say what was just written down.
    #[inline(never)]
    fn check_table(&self, caller: &Caller, file: FileId, expected: Option<OpenFile>) {
        let found = self.files.state().find(caller.badge, file);
        assert!(found == expected, "a table is not what its record says");
    }

    /// Tells about an open file.
    ///
    /// # Errors
    ///
    /// `BadFile`, `Stale`.
    pub fn stat_file(&self, caller: &Caller, file: FileId) -> FsResult<Attributes> {
        let open = self.open_file_of(caller, file)?;
        self.mounts[usize::from(open.mount)]
            .backend
            .stat(open.inode)
    }

    /// Reads into a buffer.
    ///
    /// # Errors
    ///
    /// `BadFile`, `Denied`, and those of the file system.
    pub fn read(
        &self,
        caller: &Caller,
        file: FileId,
        transfer: (Transfer, Seal),
        buffer: &Handle<Memory>,
    ) -> FsResult<u32> {
        let (backend, inode) = self.readable(caller, file)?;
        backend.read(inode, transfer, buffer)
    }

    /// Reads few bytes.
    ///
    /// # Errors
    ///
    /// As [`Vfs::read`]; `Invalid` for more than [`MAX_SMALL_BYTES`].
    pub fn read_small(
        &self,
        caller: &Caller,
        file: FileId,
        (offset, bytes): (u64, u32),
        seal: Seal,
    ) -> FsResult<Vec<u8>> {
        let (backend, inode) = self.readable(caller, file)?;
        if bytes as usize > MAX_SMALL_BYTES {
            return Err(FsError::Invalid);
        }
        backend.read_small(inode, offset, bytes, seal)
    }

    /// Writes from a buffer.
    ///
    /// # Errors
    ///
    /// `BadFile`, `Denied`, and those of the file system.
    pub fn write(
        &self,
        caller: &Caller,
        file: FileId,
        (transfer, seal): (Transfer, Seal),
        buffer: &Handle<Memory>,
    ) -> FsResult<Written> {
        let (backend, open) = self.writable(caller, file)?;
        let offset = place(open, transfer.offset)?;
        check_place(open, transfer.offset, offset);
        let transfer = (Transfer { offset, ..transfer }, seal);
        let outcome = backend.write(operation(caller, 0), open.inode, transfer, buffer)?;
        Ok(Written {
            offset: outcome.offset,
            bytes: outcome.bytes,
        })
    }

    /// Writes few bytes.
    ///
    /// # Errors
    ///
    /// As [`Vfs::write`].
    pub fn write_small(
        &self,
        caller: &Caller,
        file: FileId,
        (offset, content): (u64, &[u8]),
        seal: Seal,
    ) -> FsResult<Written> {
        let (backend, open) = self.writable(caller, file)?;
        let to = place(open, offset)?;
        check_place(open, offset, to);
        let outcome = backend.write_small(operation(caller, 0), open.inode, (to, content), seal)?;
        Ok(Written {
            offset: outcome.offset,
            bytes: outcome.bytes,
        })
    }

    /// Sets the size of a file.
    ///
    /// # Errors
    ///
    /// As [`Vfs::write`].
    pub fn truncate(&self, caller: &Caller, file: FileId, bytes: u64, seal: Seal) -> FsResult<()> {
        let (backend, open) = self.writable(caller, file)?;
        backend.truncate(operation(caller, 0), open.inode, bytes, seal)?;
        Ok(())
    }

    /// Passes on the answer to a request about an open file, unless it is an error that only a damaged
    /// server gives: then the next instance answers.
    pub(crate) fn of_file<T>(&self, answer: FsResult<T>) -> FsResult<T> {
        match &answer {
            Err(error @ (FsError::Stale | FsError::Denied)) => self.files.suspect(error.text()),
            // Whoever asked named no path.
            Err(
                FsError::NotFound
                | FsError::NotADirectory
                | FsError::IsADirectory
                | FsError::Exists
                | FsError::NotEmpty
                | FsError::ReadOnly
                | FsError::NameTooLong
                | FsError::TooManyLinks
                | FsError::CrossesMounts
                | FsError::TooManyFiles
                | FsError::Busy,
            ) => libipc::doubt_oneself("open file"),
            _ => {}
        }
        answer
    }

    fn open_file_of(&self, caller: &Caller, file: FileId) -> FsResult<OpenFile> {
        let found = self.files.state().get(caller.badge, file);
        if found.is_err() {
            self.check_table(caller, file, None);
        }
        self.sane(found)
    }

    fn readable(&self, caller: &Caller, file: FileId) -> FsResult<(&B, Inode)> {
        let open = self.open_file_of(caller, file)?;
        match open.access {
            Access::Read | Access::ReadWrite => {
                Ok((&self.mounts[usize::from(open.mount)].backend, open.inode))
            }
            Access::Write => Err(FsError::Denied),
        }
    }

    fn writable(&self, caller: &Caller, file: FileId) -> FsResult<(&B, OpenFile)> {
        let open = self.open_file_of(caller, file)?;
        match open.access {
            Access::Write | Access::ReadWrite => {
                Ok((&self.mounts[usize::from(open.mount)].backend, open))
            }
            Access::Read => Err(FsError::Denied),
        }
    }
}

/// Returns where a write goes. Only files opened for appending write at their end: a plain
/// offset must not happen to mean that.
fn place(open: OpenFile, offset: u64) -> FsResult<u64> {
    match (open.is_append, offset) {
        (true, _) => Ok(APPEND),
        (false, APPEND) => Err(FsError::TooLarge),
        (false, offset) => Ok(offset),
    }
}

/// Ends this instance if a write is about to go elsewhere than `asked`, or than to the end of a file
/// that was opened for appending.
#[inline(never)]
fn check_place(open: OpenFile, asked: u64, to: u64) {
    let expected = if open.is_append { APPEND } else { asked };
    assert!(to == expected, "a write would go to another place");
}

/// Ends this instance if a file was opened otherwise than it was asked for. What was written down the
/// next one finds, and answers.
#[inline(never)]
fn check_opened(options: OpenOptions, (mount, open): (usize, OpenFile), opened: &Opened) {
    let Attributes {
        inode, kind, bytes, ..
    } = opened.attributes;
    let expected = OpenFile {
        inode,
        access: options.access,
        is_append: options.append,
        ..open
    };
    let is_cut = bytes == 0 || !options.truncate;
    assert!(
        usize::from(open.mount) == mount && open == expected && kind == FileKind::Regular && is_cut,
        "a file was opened otherwise than asked for"
    );
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use libipc::proto::file_system::{APPEND, Attributes, FileKind, Inode};
    use libipc::proto::vfs::{Access, FileId, OpenOptions, Opened};

    use super::{check_opened, check_place, place};
    use crate::open_files::OpenFile;

    const OPEN: OpenFile = OpenFile {
        mount: 1,
        inode: Inode(5),
        access: Access::Write,
        is_append: false,
    };

    #[test]
    fn writes_that_would_go_elsewhere_are_not_made() {
        let appends = OpenFile {
            is_append: true,
            ..OPEN
        };
        for (open, asked) in [(OPEN, 0), (OPEN, 7), (appends, 0), (appends, APPEND)] {
            check_place(open, asked, place(open, asked).unwrap());
        }
        for (open, asked, to) in [(OPEN, 7, APPEND), (OPEN, 7, 8), (appends, 7, 7)] {
            assert!(catch_unwind(|| check_place(open, asked, to)).is_err());
        }
    }

    #[test]
    fn files_are_opened_as_asked_for() {
        let opened = |kind, bytes| Opened {
            file: FileId(1),
            attributes: Attributes {
                inode: Inode(5),
                kind,
                mode: 0,
                links: 1,
                owner: 0,
                group: 0,
                bytes,
                modified_s: 0,
            },
        };
        let is_sound = |options, open, opened| {
            catch_unwind(move || check_opened(options, (1, open), &opened)).is_ok()
        };
        let (empty, full) = (opened(FileKind::Regular, 0), opened(FileKind::Regular, 9));
        assert!(is_sound(OpenOptions::replace(), OPEN, empty));
        assert!(!is_sound(OpenOptions::replace(), OPEN, full));
        assert!(!is_sound(OpenOptions::append(), OPEN, full));
        assert!(!is_sound(OpenOptions::read(), OPEN, full));
        let directory = opened(FileKind::Directory, 0);
        assert!(!is_sound(OpenOptions::replace(), OPEN, directory));
        let other = OpenFile {
            inode: Inode(6),
            ..OPEN
        };
        assert!(!is_sound(OpenOptions::replace(), other, empty));
        let elsewhere = OpenFile { mount: 2, ..OPEN };
        assert!(!is_sound(OpenOptions::replace(), elsewhere, empty));
    }
}
