//! A file system in another process.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

use libipc::proto::file_system::{
    APPEND, Attributes, Cookie, Description, DirectoryBatch, FileKind, FileSystemClient,
    FileSystemSchema, FsError, Inode, Operation, Outcome, Seal, Space, Transfer,
};
use libipc::wire::{ByteVec, Bytes};
use libipc::{ConnectError, Failure, Interface};
use libsys::{Error, Handle, Memory, Sender};

use crate::backend::{Backend, FsResult};

mod otherwise;
#[cfg(test)]
mod tests;

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
    fn ask_once<T>(
        &self,
        ask: impl Fn(&FileSystemClient) -> Result<T, Failure<FsError>>,
    ) -> Result<T, Failure<FsError>> {
        let client = self.client().map_err(Failure::Server)?;
        let mut result = ask(client);
        if self.has_served.get() && matches!(result, Err(Failure::Server(FsError::Device))) {
            log::error!("{}: its device was there and is gone", self.service);
            client.client().report("device");
            result = ask(client);
        }
        self.has_served.set(self.has_served.get() || result.is_ok());
        result
    }

    /// Sends a request. What it fails with is believed if `again`, which asks for the same by other
    /// code, comes to it too.
    fn ask<T>(
        &self,
        ask: impl Fn(&FileSystemClient) -> Result<T, Failure<FsError>>,
        again: impl FnOnce(&FileSystemClient) -> Result<T, Failure<FsError>>,
    ) -> FsResult<T> {
        self.ask_once(ask)
            .or_else(|failure| self.look_again(failure, again))
    }

    /// As [`Remote::ask`] for a change, whose outcome is believed only if it can be that of the change.
    /// `again` names the change as a repeated one: if it was made it is not made once more.
    fn change(
        &self,
        ask: impl Fn(&FileSystemClient) -> Result<Outcome, Failure<FsError>>,
        is_possible: impl FnOnce(&Outcome) -> bool,
        again: impl FnOnce(&FileSystemClient) -> Result<Outcome, Failure<FsError>>,
    ) -> FsResult<Outcome> {
        match self.ask_once(ask) {
            Ok(outcome) if is_possible(&outcome) => Ok(outcome),
            Ok(outcome) => {
                log::error!("{}: a change cannot end with {outcome:?}", self.service);
                self.doubt(again)
            }
            Err(failure) => self.look_again(failure, again),
        }
    }

    /// Asks again after a failure, and has the next instance ask if something else comes of it.
    #[cold]
    #[inline(never)]
    fn look_again<T>(
        &self,
        failure: Failure<FsError>,
        again: impl FnOnce(&FileSystemClient) -> Result<T, Failure<FsError>>,
    ) -> FsResult<T> {
        // Whom a request has crashed is not asked again.
        let Failure::Server(error) = failure else {
            return Err(self.told(failure));
        };
        let seen = again(self.client()?);
        let is_same = matches!(seen, Err(Failure::Server(other)) if other == error);
        // A seal is broken by one of the two, and the other side has doubted itself already.
        if is_same && error != FsError::BrokenSeal {
            return Err(error);
        }
        log::error!("{}: \"{error}\" is not what it says again", self.service);
        self.doubt(|_| seen)
    }

    /// Has the next instance ask. If there is none, what `again` finds is the answer.
    #[cold]
    #[inline(never)]
    fn doubt<T>(
        &self,
        again: impl FnOnce(&FileSystemClient) -> Result<T, Failure<FsError>>,
    ) -> FsResult<T> {
        libipc::doubt_oneself("file system");
        again(self.client()?).map_err(|failure| self.told(failure))
    }

    /// Says what a failure is to programs.
    #[cold]
    #[inline(never)]
    fn told(&self, failure: Failure<FsError>) -> FsError {
        match failure {
            Failure::Server(error) => error,
            Failure::Ipc(Error::ServerCrashed) => FsError::Crashed,
            other => {
                log::warn!("{}: {other}", self.service);
                FsError::Unavailable
            }
        }
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

/// Names a change that may have been made.
fn repeated(operation: Operation) -> Operation {
    Operation {
        repeated: true,
        ..operation
    }
}

/// Returns whether an outcome can be that of a change of names: it names an inode, and no bytes.
fn is_of_name(outcome: &Outcome) -> bool {
    outcome.inode != Inode(0) && outcome.offset == 0 && outcome.bytes == 0
}

/// Returns whether an outcome can be that of a write to an inode: all is written, and where it should.
fn is_of_write(outcome: &Outcome, inode: Inode, (offset, bytes): (u64, u32)) -> bool {
    let is_there = offset == APPEND || outcome.offset == offset;
    outcome.inode == inode && outcome.bytes == bytes && is_there
}

impl Backend for Remote {
    fn describe(&self) -> FsResult<Description> {
        self.shake_hands()?;
        self.ask(
            |client| client.describe(),
            |client| otherwise::ask(client, "describe", &()).map(|(it,)| it),
        )
    }

    fn statfs(&self) -> FsResult<Space> {
        self.ask(
            |client| client.statfs(),
            |client| otherwise::ask(client, "statfs", &()).map(|(it,)| it),
        )
    }

    fn lookup(&self, directory: Inode, name: &[u8]) -> FsResult<Attributes> {
        let seal = Seal::name(directory, name);
        match self.ask_once(|client| client.lookup(directory, name, seal)) {
            // Most that create a file expect that; others look twice themselves.
            Err(Failure::Server(FsError::NotFound)) => Err(FsError::NotFound),
            found => found.or_else(|failure| {
                self.look_again(failure, |client| lookup_otherwise(client, directory, name))
            }),
        }
    }

    fn lookup_again(&self, directory: Inode, name: &[u8]) -> FsResult<Attributes> {
        lookup_otherwise(self.client()?, directory, name).map_err(|failure| self.told(failure))
    }

    fn stat(&self, inode: Inode) -> FsResult<Attributes> {
        self.ask(
            |client| client.stat(inode),
            |client| otherwise::ask(client, "stat", &(inode,)).map(|(it,)| it),
        )
    }

    fn read(
        &self,
        inode: Inode,
        (transfer, seal): (Transfer, Seal),
        buffer: &Handle<Memory>,
    ) -> FsResult<u32> {
        let ask = |client: &FileSystemClient| client.read(inode, transfer, buffer, seal);
        self.ask(ask, ask)
    }

    fn read_small(&self, inode: Inode, offset: u64, bytes: u32, seal: Seal) -> FsResult<Vec<u8>> {
        self.ask(
            |client| client.read_small(inode, offset, bytes, seal),
            |client| {
                let read = (inode, offset, bytes, seal);
                otherwise::ask(client, "read_small", &read).map(bytes_of_reply)
            },
        )
    }

    fn read_dir(&self, directory: Inode, from: Cookie) -> FsResult<DirectoryBatch> {
        self.ask(
            |client| client.read_dir_batch(directory, from),
            |client| otherwise::ask(client, "read_dir", &(directory, from)).map(|(it,)| it),
        )
    }

    fn read_link(&self, inode: Inode) -> FsResult<Vec<u8>> {
        self.ask(
            |client| client.read_link(inode),
            |client| otherwise::ask(client, "read_link", &(inode,)).map(bytes_of_reply),
        )
    }

    fn outcome(&self, operation: Operation) -> FsResult<Option<Outcome>> {
        self.ask(
            |client| client.outcome(operation),
            |client| otherwise::ask(client, "outcome", &(operation,)).map(|(it,)| it),
        )
    }

    fn create(
        &self,
        operation: Operation,
        directory: Inode,
        name: &[u8],
        (kind, mode): (FileKind, u16),
    ) -> FsResult<Outcome> {
        let seal = || Seal::create(directory, name, kind, mode);
        self.change(
            |client| client.create(operation, directory, name, kind, mode, seal()),
            is_of_name,
            |client| {
                let name = Bytes(name);
                let change = (repeated(operation), directory, name, kind, mode, seal());
                otherwise::ask(client, "create", &change).map(|(it,)| it)
            },
        )
    }

    fn symlink(
        &self,
        operation: Operation,
        directory: Inode,
        name: &[u8],
        target: &[u8],
    ) -> FsResult<Outcome> {
        let seal = || Seal::symlink(directory, name, target);
        self.change(
            |client| client.symlink(operation, directory, name, target, seal()),
            is_of_name,
            |client| {
                let names = (Bytes(name), Bytes(target));
                let change = (repeated(operation), directory, names.0, names.1, seal());
                otherwise::ask(client, "symlink", &change).map(|(it,)| it)
            },
        )
    }

    fn unlink(
        &self,
        operation: Operation,
        directory: Inode,
        name: &[u8],
        kind: FileKind,
    ) -> FsResult<Outcome> {
        let seal = || Seal::name(directory, name);
        self.change(
            |client| client.unlink(operation, directory, name, kind, seal()),
            is_of_name,
            |client| {
                let change = (repeated(operation), directory, Bytes(name), kind, seal());
                otherwise::ask(client, "unlink", &change).map(|(it,)| it)
            },
        )
    }

    fn rename(
        &self,
        operation: Operation,
        (from, from_name): (Inode, &[u8]),
        (to, to_name): (Inode, &[u8]),
    ) -> FsResult<Outcome> {
        let seal = || Seal::rename((from, from_name), (to, to_name));
        self.change(
            |client| client.rename(operation, from, from_name, to, to_name, seal()),
            is_of_name,
            |client| {
                let names = (Bytes(from_name), Bytes(to_name));
                let change = (repeated(operation), from, names.0, to, names.1, seal());
                otherwise::ask(client, "rename", &change).map(|(it,)| it)
            },
        )
    }

    fn truncate(
        &self,
        operation: Operation,
        inode: Inode,
        bytes: u64,
        seal: Seal,
    ) -> FsResult<Outcome> {
        self.change(
            |client| client.truncate(operation, inode, bytes, seal),
            |outcome| outcome.inode == inode,
            |client| {
                let change = (repeated(operation), inode, bytes, seal);
                otherwise::ask(client, "truncate", &change).map(|(it,)| it)
            },
        )
    }

    fn write(
        &self,
        operation: Operation,
        inode: Inode,
        (transfer, seal): (Transfer, Seal),
        buffer: &Handle<Memory>,
    ) -> FsResult<Outcome> {
        let place = (transfer.offset, transfer.bytes);
        self.change(
            |client| client.write(operation, inode, transfer, buffer, seal),
            |outcome| is_of_write(outcome, inode, place),
            |client| client.write(repeated(operation), inode, transfer, buffer, seal),
        )
    }

    fn write_small(
        &self,
        operation: Operation,
        inode: Inode,
        (offset, content): (u64, &[u8]),
        seal: Seal,
    ) -> FsResult<Outcome> {
        self.change(
            |client| client.write_small(operation, inode, offset, content, seal),
            |outcome| is_of_write(outcome, inode, (offset, content.len() as u32)),
            |client| {
                let change = (repeated(operation), inode, offset, Bytes(content), seal);
                otherwise::ask(client, "write_small", &change).map(|(it,)| it)
            },
        )
    }

    fn sync(&self) -> FsResult<()> {
        self.ask(
            |client| client.sync(),
            |client| otherwise::ask(client, "sync", &()),
        )
    }
}

/// Finds a name in a directory without the stub.
fn lookup_otherwise(
    client: &FileSystemClient,
    directory: Inode,
    name: &[u8],
) -> Result<Attributes, Failure<FsError>> {
    let seal = Seal::name(directory, name);
    otherwise::ask(client, "lookup", &(directory, Bytes(name), seal)).map(|(it,)| it)
}

/// Takes the content out of a reply of bytes.
fn bytes_of_reply((ByteVec(content),): (ByteVec,)) -> Vec<u8> {
    content
}
