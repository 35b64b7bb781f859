//! A file system in another process.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

use libipc::proto::file_system::{
    Attributes, Cookie, Description, DirectoryBatch, FileKind, FileSystemClient, FileSystemSchema,
    FsError, Inode, Operation, Outcome, Space, Transfer,
};
use libipc::{ConnectError, Failure, Interface};
use libsys::{Error, Handle, Memory, Sender};

use crate::backend::{Backend, FsResult};

/// A file-system server. It is asked for the first time when it is first used, so that the vfs
/// starts without waiting for it.
#[derive(Debug)]
pub struct Remote {
    /// The name of the service, for the log.
    service: String,
    /// None when this vfs was given no sender to it.
    client: Option<FileSystemClient>,
    has_shaken_hands: Cell<bool>,
}

impl Remote {
    /// Makes a backend of the sender to a service.
    pub fn new(service: &str, sender: Option<Handle<Sender>>) -> Remote {
        Remote::with_client(service, sender.map(FileSystemClient::new_unchecked))
    }

    /// Makes a backend of a client that may not have shaken hands yet.
    pub fn with_client(service: &str, client: Option<FileSystemClient>) -> Remote {
        Remote {
            service: service.into(),
            client,
            has_shaken_hands: Cell::new(false),
        }
    }

    fn client(&self) -> FsResult<&FileSystemClient> {
        self.client.as_ref().ok_or(FsError::Unavailable)
    }

    fn plain<T>(&self, result: Result<T, Failure<FsError>>) -> FsResult<T> {
        result.map_err(|failure| match failure {
            Failure::Server(error) => error,
            Failure::Ipc(Error::ServerCrashed) => FsError::Crashed,
            other => {
                log::warn!("{}: {other}", self.service);
                FsError::Unavailable
            }
        })
    }

    /// Checks once that both sides speak the same version.
    fn shake_hands(&self) -> FsResult<()> {
        if self.has_shaken_hands.get() {
            return Ok(());
        }
        let client = self.client()?.client();
        match client.handshake(FileSystemSchema::SCHEMA) {
            Ok(()) => {
                self.has_shaken_hands.set(true);
                Ok(())
            }
            Err(ConnectError::Failed(Failure::Ipc(Error::ServerCrashed))) => Err(FsError::Crashed),
            Err(error) => {
                log::error!("{}: {error}", self.service);
                Err(FsError::Unavailable)
            }
        }
    }
}

impl Backend for Remote {
    fn describe(&self) -> FsResult<Description> {
        self.shake_hands()?;
        self.plain(self.client()?.describe())
    }

    fn statfs(&self) -> FsResult<Space> {
        self.plain(self.client()?.statfs())
    }

    fn lookup(&self, directory: Inode, name: &[u8]) -> FsResult<Attributes> {
        self.plain(self.client()?.lookup(directory, name))
    }

    fn stat(&self, inode: Inode) -> FsResult<Attributes> {
        self.plain(self.client()?.stat(inode))
    }

    fn read(&self, inode: Inode, transfer: Transfer, buffer: &Handle<Memory>) -> FsResult<u32> {
        self.plain(self.client()?.read(inode, transfer, buffer))
    }

    fn read_small(&self, inode: Inode, offset: u64, bytes: u32) -> FsResult<Vec<u8>> {
        self.plain(self.client()?.read_small(inode, offset, bytes))
    }

    fn read_dir(&self, directory: Inode, from: Cookie) -> FsResult<DirectoryBatch> {
        self.plain(self.client()?.read_dir_batch(directory, from))
    }

    fn read_link(&self, inode: Inode) -> FsResult<Vec<u8>> {
        self.plain(self.client()?.read_link(inode))
    }

    fn outcome(&self, operation: Operation) -> FsResult<Option<Outcome>> {
        self.plain(self.client()?.outcome(operation))
    }

    fn create(
        &self,
        operation: Operation,
        directory: Inode,
        name: &[u8],
        (kind, mode): (FileKind, u16),
    ) -> FsResult<Outcome> {
        self.plain(
            self.client()?
                .create(operation, directory, name, kind, mode),
        )
    }

    fn symlink(
        &self,
        operation: Operation,
        directory: Inode,
        name: &[u8],
        target: &[u8],
    ) -> FsResult<Outcome> {
        self.plain(self.client()?.symlink(operation, directory, name, target))
    }

    fn unlink(
        &self,
        operation: Operation,
        directory: Inode,
        name: &[u8],
        kind: FileKind,
    ) -> FsResult<Outcome> {
        self.plain(self.client()?.unlink(operation, directory, name, kind))
    }

    fn rename(
        &self,
        operation: Operation,
        (from, from_name): (Inode, &[u8]),
        (to, to_name): (Inode, &[u8]),
    ) -> FsResult<Outcome> {
        self.plain(
            self.client()?
                .rename(operation, from, from_name, to, to_name),
        )
    }

    fn truncate(&self, operation: Operation, inode: Inode, bytes: u64) -> FsResult<Outcome> {
        self.plain(self.client()?.truncate(operation, inode, bytes))
    }

    fn write(
        &self,
        operation: Operation,
        inode: Inode,
        transfer: Transfer,
        buffer: &Handle<Memory>,
    ) -> FsResult<Outcome> {
        self.plain(self.client()?.write(operation, inode, transfer, buffer))
    }

    fn write_small(
        &self,
        operation: Operation,
        inode: Inode,
        offset: u64,
        content: &[u8],
    ) -> FsResult<Outcome> {
        self.plain(
            self.client()?
                .write_small(operation, inode, offset, content),
        )
    }

    fn sync(&self) -> FsResult<()> {
        self.plain(self.client()?.sync())
    }
}
