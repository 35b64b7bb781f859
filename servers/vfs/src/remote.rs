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
    /// Whether it has ever answered a request as it should.
    has_served: Cell<bool>,
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
            has_served: Cell::new(false),
        }
    }

    fn client(&self) -> FsResult<&FileSystemClient> {
        self.client.as_ref().ok_or(FsError::Unavailable)
    }

    /// Sends a request, whose methods may all be asked again. A file system that has been there and
    /// says now that its device is gone is asked once more when `init` has replaced it.
    fn ask<T>(
        &self,
        ask: impl Fn(&FileSystemClient) -> Result<T, Failure<FsError>>,
    ) -> FsResult<T> {
        let client = self.client()?;
        let mut result = ask(client);
        if self.has_served.get() && matches!(result, Err(Failure::Server(FsError::Device))) {
            log::error!("{}: its device was there and is gone", self.service);
            client.client().report("device");
            result = ask(client);
        }
        self.has_served.set(self.has_served.get() || result.is_ok());
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
        self.ask(|client| client.describe())
    }

    fn statfs(&self) -> FsResult<Space> {
        self.ask(|client| client.statfs())
    }

    fn lookup(&self, directory: Inode, name: &[u8]) -> FsResult<Attributes> {
        self.ask(|client| client.lookup(directory, name))
    }

    fn stat(&self, inode: Inode) -> FsResult<Attributes> {
        self.ask(|client| client.stat(inode))
    }

    fn read(&self, inode: Inode, transfer: Transfer, buffer: &Handle<Memory>) -> FsResult<u32> {
        self.ask(|client| client.read(inode, transfer, buffer))
    }

    fn read_small(&self, inode: Inode, offset: u64, bytes: u32) -> FsResult<Vec<u8>> {
        self.ask(|client| client.read_small(inode, offset, bytes))
    }

    fn read_dir(&self, directory: Inode, from: Cookie) -> FsResult<DirectoryBatch> {
        self.ask(|client| client.read_dir_batch(directory, from))
    }

    fn read_link(&self, inode: Inode) -> FsResult<Vec<u8>> {
        self.ask(|client| client.read_link(inode))
    }

    fn outcome(&self, operation: Operation) -> FsResult<Option<Outcome>> {
        self.ask(|client| client.outcome(operation))
    }

    fn create(
        &self,
        operation: Operation,
        directory: Inode,
        name: &[u8],
        (kind, mode): (FileKind, u16),
    ) -> FsResult<Outcome> {
        self.ask(|client| client.create(operation, directory, name, kind, mode))
    }

    fn symlink(
        &self,
        operation: Operation,
        directory: Inode,
        name: &[u8],
        target: &[u8],
    ) -> FsResult<Outcome> {
        self.ask(|client| client.symlink(operation, directory, name, target))
    }

    fn unlink(
        &self,
        operation: Operation,
        directory: Inode,
        name: &[u8],
        kind: FileKind,
    ) -> FsResult<Outcome> {
        self.ask(|client| client.unlink(operation, directory, name, kind))
    }

    fn rename(
        &self,
        operation: Operation,
        (from, from_name): (Inode, &[u8]),
        (to, to_name): (Inode, &[u8]),
    ) -> FsResult<Outcome> {
        self.ask(|client| client.rename(operation, from, from_name, to, to_name))
    }

    fn truncate(&self, operation: Operation, inode: Inode, bytes: u64) -> FsResult<Outcome> {
        self.ask(|client| client.truncate(operation, inode, bytes))
    }

    fn write(
        &self,
        operation: Operation,
        inode: Inode,
        transfer: Transfer,
        buffer: &Handle<Memory>,
    ) -> FsResult<Outcome> {
        self.ask(|client| client.write(operation, inode, transfer, buffer))
    }

    fn write_small(
        &self,
        operation: Operation,
        inode: Inode,
        offset: u64,
        content: &[u8],
    ) -> FsResult<Outcome> {
        self.ask(|client| client.write_small(operation, inode, offset, content))
    }

    fn sync(&self) -> FsResult<()> {
        self.ask(|client| client.sync())
    }
}
