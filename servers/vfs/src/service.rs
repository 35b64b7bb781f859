//! The requests of `libipc::proto::vfs`, answered by a [`Vfs`].

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;

use libipc::Caller;
use libipc::proto::vfs::{
    Attributes, Cookie, Create, DirectoryBatch, FileId, FileKind, FsError, LastLink, MountInfo,
    OpenOptions, Opened, Seal, Space, Transfer, VfsServer, Written,
};
use libsys::state::{ExportError, StateMemory};
use libsys::{Handle, Memory, Sender};

use crate::second::Name;
use crate::{Backend, Vfs};

/// Makes a sender with a badge.
type Mint = Box<dyn Fn(u64) -> libsys::Result<Handle<Sender>>>;

/// A tree that answers requests.
pub struct Service<B, M: StateMemory> {
    // Never borrowed across an await: file systems lie on a lower level and are called.
    vfs: RefCell<Vfs<B, M>>,
    mint: Mint,
}

impl<B, M: StateMemory> fmt::Debug for Service<B, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl<B: Backend, M: StateMemory> Service<B, M> {
    /// Makes a service; `mint` makes the senders of its sessions.
    pub fn new(
        vfs: Vfs<B, M>,
        mint: impl Fn(u64) -> libsys::Result<Handle<Sender>> + 'static,
    ) -> Self {
        Service {
            vfs: RefCell::new(vfs),
            mint: Box::new(mint),
        }
    }

    /// Rewrites the state for another version; see [`Vfs::export`].
    ///
    /// # Errors
    ///
    /// Why that is not possible.
    pub fn export(&self, schema: u64) -> Result<(), &'static str> {
        let exported = self.vfs.borrow_mut().export(schema);
        exported.map_err(ExportError::why)
    }

    /// Goes on after an export.
    pub fn resume(&self) {
        if let Err(error) = self.vfs.borrow_mut().reclaim() {
            log::error!("state stays as the other version has it: {error}");
        }
    }

    /// Closes what a badge has open: its last sender is gone.
    pub fn closed(&self, badge: u64) {
        self.vfs.borrow_mut().end_session(badge);
    }
}

impl<B: Backend, M: StateMemory> VfsServer for Service<B, M> {
    async fn new_session(&self, caller: &Caller) -> Result<Handle<Sender>, FsError> {
        let badge = self.vfs.borrow_mut().new_session(caller)?;
        (self.mint)(badge).map_err(|error| {
            log::error!("no sender for a new session: {error}");
            FsError::Unavailable
        })
    }

    async fn open(
        &self,
        caller: &Caller,
        path: Vec<u8>,
        options: OpenOptions,
        seal: Seal,
    ) -> Result<Opened, FsError> {
        seal.check(Seal::open(&path, options))?;
        let name = match options.create {
            Create::Never => Name::of(&path),
            Create::IfMissing | Create::New => Name::of_new(&path),
        };
        let mut vfs = self.vfs.borrow_mut();
        let opened = vfs.open_file(caller, &path, options);
        vfs.of_names(&[name], opened)
    }

    async fn close(&self, caller: &Caller, file: FileId, seal: Seal) -> Result<(), FsError> {
        seal.check(Seal::file(file))?;
        let mut vfs = self.vfs.borrow_mut();
        let closed = vfs.close(caller, file);
        vfs.of_file(closed)
    }

    async fn read(
        &self,
        caller: &Caller,
        file: FileId,
        transfer: Transfer,
        buffer: Handle<Memory>,
        seal: Seal,
    ) -> Result<u32, FsError> {
        let vfs = self.vfs.borrow();
        vfs.of_file(vfs.read(caller, file, (transfer, seal), &buffer))
    }

    async fn read_small(
        &self,
        caller: &Caller,
        file: FileId,
        offset: u64,
        bytes: u32,
        seal: Seal,
    ) -> Result<Vec<u8>, FsError> {
        let vfs = self.vfs.borrow();
        vfs.of_file(vfs.read_small(caller, file, (offset, bytes), seal))
    }

    async fn write(
        &self,
        caller: &Caller,
        file: FileId,
        transfer: Transfer,
        buffer: Handle<Memory>,
        seal: Seal,
    ) -> Result<Written, FsError> {
        let vfs = self.vfs.borrow();
        vfs.of_file(vfs.write(caller, file, (transfer, seal), &buffer))
    }

    async fn write_small(
        &self,
        caller: &Caller,
        file: FileId,
        offset: u64,
        content: Vec<u8>,
        seal: Seal,
    ) -> Result<Written, FsError> {
        let vfs = self.vfs.borrow();
        vfs.of_file(vfs.write_small(caller, file, (offset, &content), seal))
    }

    async fn truncate(
        &self,
        caller: &Caller,
        file: FileId,
        bytes: u64,
        seal: Seal,
    ) -> Result<(), FsError> {
        let vfs = self.vfs.borrow();
        vfs.of_file(vfs.truncate(caller, file, bytes, seal))
    }

    async fn stat_file(
        &self,
        caller: &Caller,
        file: FileId,
        seal: Seal,
    ) -> Result<Attributes, FsError> {
        seal.check(Seal::file(file))?;
        let vfs = self.vfs.borrow();
        vfs.of_file(vfs.stat_file(caller, file))
    }

    async fn stat(
        &self,
        _caller: &Caller,
        path: Vec<u8>,
        last: LastLink,
        seal: Seal,
    ) -> Result<Attributes, FsError> {
        seal.check(Seal::stat(&path, last))?;
        self.vfs.borrow().stat(&path, last)
    }

    async fn read_dir(
        &self,
        _caller: &Caller,
        path: Vec<u8>,
        from: Cookie,
    ) -> Result<DirectoryBatch, FsError> {
        self.vfs.borrow().read_dir(&path, from)
    }

    async fn read_link(
        &self,
        _caller: &Caller,
        path: Vec<u8>,
        seal: Seal,
    ) -> Result<Vec<u8>, FsError> {
        seal.check(Seal::path(&path))?;
        self.vfs.borrow().read_link(&path)
    }

    async fn canonical(
        &self,
        _caller: &Caller,
        path: Vec<u8>,
        seal: Seal,
    ) -> Result<Vec<u8>, FsError> {
        seal.check(Seal::path(&path))?;
        self.vfs.borrow().canonical(&path)
    }

    async fn make_dir(&self, caller: &Caller, path: Vec<u8>, seal: Seal) -> Result<(), FsError> {
        seal.check(Seal::path(&path))?;
        let mut vfs = self.vfs.borrow_mut();
        let made = vfs.make_dir(caller, &path);
        vfs.of_names(&[Name::of_new(&path)], made)
    }

    async fn symlink(
        &self,
        caller: &Caller,
        path: Vec<u8>,
        target: Vec<u8>,
        seal: Seal,
    ) -> Result<(), FsError> {
        seal.check(Seal::paths(&path, &target))?;
        let mut vfs = self.vfs.borrow_mut();
        let made = vfs.symlink(caller, &path, &target);
        vfs.of_names(&[Name::of_link(&path, &target)], made)
    }

    async fn unlink(&self, caller: &Caller, path: Vec<u8>, seal: Seal) -> Result<(), FsError> {
        seal.check(Seal::path(&path))?;
        let mut vfs = self.vfs.borrow_mut();
        let removed = vfs.remove(caller, &path, FileKind::Regular);
        vfs.of_names(&[Name::of(&path)], removed)
    }

    async fn remove_dir(&self, caller: &Caller, path: Vec<u8>, seal: Seal) -> Result<(), FsError> {
        seal.check(Seal::path(&path))?;
        let mut vfs = self.vfs.borrow_mut();
        let removed = vfs.remove(caller, &path, FileKind::Directory);
        vfs.of_names(&[Name::of(&path)], removed)
    }

    async fn rename(
        &self,
        caller: &Caller,
        from: Vec<u8>,
        to: Vec<u8>,
        seal: Seal,
    ) -> Result<(), FsError> {
        seal.check(Seal::paths(&from, &to))?;
        let mut vfs = self.vfs.borrow_mut();
        let renamed = vfs.rename(caller, &from, &to);
        vfs.of_names(&[Name::of(&from), Name::of_new(&to)], renamed)
    }

    async fn mounts(&self, _caller: &Caller) -> Result<Vec<MountInfo>, FsError> {
        Ok(self.vfs.borrow().mounts())
    }

    async fn statfs(&self, _caller: &Caller, path: Vec<u8>) -> Result<Space, FsError> {
        self.vfs.borrow().statfs(&path)
    }

    async fn sync(&self, _caller: &Caller) -> Result<(), FsError> {
        self.vfs.borrow().sync()
    }
}
