//! The requests of `libipc::proto::file_system`, answered by a [`TmpFs`].

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use libipc::Caller;
use libipc::proto::file_system::{
    Attributes, Cookie, Description, DirectoryBatch, FileKind, FileSystemServer, FsAccess, FsError,
    Inode, MAX_SMALL_BYTES, Operation, Outcome, Space, Transfer,
};
use libsys::abi::PAGE_SIZE;
use libsys::state::StateMemory;
use libsys::{Handle, Memory};

use crate::{Asked, Stamp, TmpFs};

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
    fn stamp(&self, operation: Operation, caller: &Caller, asked: Asked) -> Stamp {
        let repeated = operation.repeated || caller.redelivered;
        Stamp {
            operation: Operation {
                repeated,
                ..operation
            },
            now_s: (self.now_s)(),
            asked: Some(asked),
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
    ) -> Result<Attributes, FsError> {
        let fs = self.fs.borrow();
        fs.sane(fs.lookup(directory, &name))
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
    ) -> Result<u32, FsError> {
        let fs = self.fs.borrow();
        let count = fs.read(inode, transfer.offset, transfer.bytes, |position, bytes| {
            let at = transfer.buffer_offset.checked_add(position as u64);
            let at = at.ok_or(FsError::BadBuffer)?;
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
    ) -> Result<Vec<u8>, FsError> {
        let bytes = bytes.min(MAX_SMALL_BYTES as u32);
        let mut content = vec![0; bytes as usize];
        let fs = self.fs.borrow();
        let count = fs.read(inode, offset, bytes, |position, piece| {
            let place = &mut content[position..position + piece.len()];
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
    ) -> Result<Outcome, FsError> {
        let asked = Asked::name(directory, &name);
        let stamp = self.stamp(operation, caller, asked);
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
    ) -> Result<Outcome, FsError> {
        let asked = Asked::name(directory, &name);
        let stamp = self.stamp(operation, caller, asked);
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
    ) -> Result<Outcome, FsError> {
        let asked = Asked::name(directory, &name);
        let stamp = self.stamp(operation, caller, asked);
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
    ) -> Result<Outcome, FsError> {
        let asked = Asked::names((from, &from_name), (to, &to_name));
        let stamp = self.stamp(operation, caller, asked);
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
    ) -> Result<Outcome, FsError> {
        let asked = Asked::bytes(inode, 0, bytes);
        let stamp = self.stamp(operation, caller, asked);
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
    ) -> Result<Outcome, FsError> {
        let Transfer {
            offset,
            bytes,
            buffer_offset,
        } = transfer;
        // Checked before anything is touched, so that a short buffer leaves no half write.
        let room = buffer.info().map_err(|_| FsError::BadBuffer)?.pages * PAGE_SIZE as u64;
        if buffer_offset
            .checked_add(bytes.into())
            .is_none_or(|end| end > room)
        {
            return Err(FsError::BadBuffer);
        }
        let asked = Asked::bytes(inode, offset, bytes.into());
        let stamp = self.stamp(operation, caller, asked);
        let mut fs = self.fs.borrow_mut();
        let outcome = fs.write(stamp, inode, (offset, bytes), |position, place| {
            buffer
                .read(buffer_offset + position as u64, place)
                .map_err(|_| FsError::BadBuffer)
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
    ) -> Result<Outcome, FsError> {
        let asked = Asked::bytes(inode, offset, content.len() as u64);
        let stamp = self.stamp(operation, caller, asked);
        let bytes = content.len() as u32;
        let mut fs = self.fs.borrow_mut();
        let outcome = fs.write(stamp, inode, (offset, bytes), |position, place| {
            let piece = &content[position..position + place.len()];
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
