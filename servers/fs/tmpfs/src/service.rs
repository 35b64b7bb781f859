//! The requests of `libipc::proto::file_system`, answered by a [`TmpFs`].

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use libipc::Caller;
use libipc::proto::file_system::{
    Attributes, Cookie, Description, DirectoryBatch, FileKind, FileSystemServer, FsAccess, FsError,
    Inode, MAX_SMALL_BYTES, Operation, Outcome, Seal, Space, Transfer,
};
use libsys::abi::PAGE_SIZE;
use libsys::state::StateMemory;
use libsys::{Handle, Memory};

use crate::{Stamp, TmpFs};

/// A tmpfs that answers requests.
#[derive(Debug)]
pub struct Service<M: StateMemory> {
    // Never borrowed across an await: no request waits for anything.
    fs: RefCell<TmpFs<M>>,
    now_s: fn() -> i64,
}

impl<M: StateMemory> Service<M> {
    /// Makes a service with a clock in seconds.
    pub fn new(fs: TmpFs<M>, now_s: fn() -> i64) -> Self {
        Service {
            fs: RefCell::new(fs),
            now_s,
        }
    }

    /// Stamps an operation. It is a repeated one also when it was this server that died.
    fn stamp(&self, operation: Operation, caller: &Caller, seal: Seal) -> Stamp {
        let repeated = operation.repeated || caller.redelivered;
        Stamp {
            operation: Operation {
                repeated,
                ..operation
            },
            now_s: (self.now_s)(),
            seal: Some(seal),
        }
    }
}

impl<M: StateMemory> FileSystemServer for Service<M> {
    async fn describe(&self, _caller: &Caller) -> Result<Description, FsError> {
        Ok(Description {
            kind: String::from("tmpfs"),
            label: String::new(),
            root: self.fs.borrow().root(),
            access: FsAccess::ReadWrite,
            remarks: String::new(),
        })
    }

    async fn statfs(&self, _caller: &Caller) -> Result<Space, FsError> {
        Ok(self.fs.borrow().space())
    }

    async fn lookup(
        &self,
        _caller: &Caller,
        directory: Inode,
        name: Vec<u8>,
        seal: Seal,
    ) -> Result<Attributes, FsError> {
        let fs = self.fs.borrow();
        fs.sane(fs.lookup(directory, &name, seal))
    }

    async fn stat(&self, _caller: &Caller, inode: Inode) -> Result<Attributes, FsError> {
        let fs = self.fs.borrow();
        fs.sane(fs.stat(inode))
    }

    async fn read(
        &self,
        _caller: &Caller,
        inode: Inode,
        transfer: Transfer,
        buffer: Handle<Memory>,
        seal: Seal,
    ) -> Result<u32, FsError> {
        let fs = self.fs.borrow();
        let count = fs.read(inode, transfer, seal, |at, bytes| {
            buffer.write(at, bytes).map_err(|_| FsError::BadBuffer)
        });
        fs.sane(count)
    }

    async fn read_small(
        &self,
        _caller: &Caller,
        inode: Inode,
        offset: u64,
        bytes: u32,
        seal: Seal,
    ) -> Result<Vec<u8>, FsError> {
        if bytes as usize > MAX_SMALL_BYTES {
            return Err(FsError::Invalid);
        }
        let transfer = in_message(offset, bytes);
        let mut content = vec![0; bytes as usize];
        let fs = self.fs.borrow();
        let count = fs.read(inode, transfer, seal, |at, piece| {
            let place = &mut content[at as usize..at as usize + piece.len()];
            place.copy_from_slice(piece);
            check_copy(place, piece);
            Ok(())
        });
        content.truncate(fs.sane(count)? as usize);
        Ok(content)
    }

    async fn read_dir(
        &self,
        _caller: &Caller,
        directory: Inode,
        from: Cookie,
    ) -> Result<DirectoryBatch, FsError> {
        let fs = self.fs.borrow();
        fs.sane(fs.read_dir(directory, from))
    }

    async fn read_link(&self, _caller: &Caller, inode: Inode) -> Result<Vec<u8>, FsError> {
        let fs = self.fs.borrow();
        fs.sane(fs.read_link(inode))
    }

    async fn outcome(
        &self,
        _caller: &Caller,
        operation: Operation,
    ) -> Result<Option<Outcome>, FsError> {
        Ok(self.fs.borrow().outcome(operation))
    }

    async fn create(
        &self,
        caller: &Caller,
        operation: Operation,
        directory: Inode,
        name: Vec<u8>,
        kind: FileKind,
        mode: u16,
        seal: Seal,
    ) -> Result<Outcome, FsError> {
        let stamp = self.stamp(operation, caller, seal);
        let mut fs = self.fs.borrow_mut();
        let outcome = fs.create(stamp, directory, &name, (kind, mode));
        fs.sane(outcome)
    }

    async fn symlink(
        &self,
        caller: &Caller,
        operation: Operation,
        directory: Inode,
        name: Vec<u8>,
        target: Vec<u8>,
        seal: Seal,
    ) -> Result<Outcome, FsError> {
        let stamp = self.stamp(operation, caller, seal);
        let mut fs = self.fs.borrow_mut();
        let outcome = fs.symlink(stamp, directory, &name, &target);
        fs.sane(outcome)
    }

    async fn unlink(
        &self,
        caller: &Caller,
        operation: Operation,
        directory: Inode,
        name: Vec<u8>,
        kind: FileKind,
        seal: Seal,
    ) -> Result<Outcome, FsError> {
        let stamp = self.stamp(operation, caller, seal);
        let mut fs = self.fs.borrow_mut();
        let outcome = fs.unlink(stamp, directory, &name, kind);
        fs.sane(outcome)
    }

    async fn rename(
        &self,
        caller: &Caller,
        operation: Operation,
        from: Inode,
        from_name: Vec<u8>,
        to: Inode,
        to_name: Vec<u8>,
        seal: Seal,
    ) -> Result<Outcome, FsError> {
        let stamp = self.stamp(operation, caller, seal);
        let mut fs = self.fs.borrow_mut();
        let outcome = fs.rename(stamp, (from, &from_name), (to, &to_name));
        fs.sane(outcome)
    }

    async fn truncate(
        &self,
        caller: &Caller,
        operation: Operation,
        inode: Inode,
        bytes: u64,
        seal: Seal,
    ) -> Result<Outcome, FsError> {
        let stamp = self.stamp(operation, caller, seal);
        let mut fs = self.fs.borrow_mut();
        let outcome = fs.truncate(stamp, inode, bytes);
        fs.sane(outcome)
    }

    async fn write(
        &self,
        caller: &Caller,
        operation: Operation,
        inode: Inode,
        transfer: Transfer,
        buffer: Handle<Memory>,
        seal: Seal,
    ) -> Result<Outcome, FsError> {
        // Checked before anything is touched, so that a short buffer leaves no half write.
        let room = buffer.info().map_err(|_| FsError::BadBuffer)?.pages * PAGE_SIZE as u64;
        let end = transfer.buffer_offset.checked_add(transfer.bytes.into());
        if end.is_none_or(|end| end > room) {
            return Err(FsError::BadBuffer);
        }
        let stamp = self.stamp(operation, caller, seal);
        let mut fs = self.fs.borrow_mut();
        let outcome = fs.write(stamp, inode, transfer, |at, place| {
            buffer.read(at, place).map_err(|_| FsError::BadBuffer)
        });
        fs.sane(outcome)
    }

    async fn write_small(
        &self,
        caller: &Caller,
        operation: Operation,
        inode: Inode,
        offset: u64,
        content: Vec<u8>,
        seal: Seal,
    ) -> Result<Outcome, FsError> {
        let stamp = self.stamp(operation, caller, seal);
        let transfer = in_message(offset, content.len() as u32);
        let mut fs = self.fs.borrow_mut();
        let outcome = fs.write(stamp, inode, transfer, |at, place| {
            let piece = &content[at as usize..at as usize + place.len()];
            place.copy_from_slice(piece);
            check_copy(place, piece);
            Ok(())
        });
        fs.sane(outcome)
    }

    async fn sync(&self, _caller: &Caller) -> Result<(), FsError> {
        // Memory is all there is.
        Ok(())
    }
}

/// Returns the transfer between a file and the bytes of a message.
const fn in_message(offset: u64, bytes: u32) -> Transfer {
    Transfer {
        offset,
        bytes,
        buffer_offset: 0,
    }
}

/// Looks whether the first and the last bytes were copied.
///
/// # Panics
///
/// When they were not.
#[inline(never)]
fn check_copy(copy: &[u8], bytes: &[u8]) {
    let word = |chunk: Option<&[u8; 8]>| chunk.map(|chunk| u64::from_le_bytes(*chunk));
    let are_same = if bytes.len() < 8 {
        copy.iter().eq(bytes)
    } else {
        (word(copy.first_chunk()), word(copy.last_chunk()))
            == (word(bytes.first_chunk()), word(bytes.last_chunk()))
    };
    assert!(copy.len() == bytes.len() && are_same, "bytes are missing");
}
