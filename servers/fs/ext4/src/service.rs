//! The requests of `libipc::proto::file_system`, answered by a [`Volume`].
//!
//! The volume is mounted by the first request. A device that fails is opened anew and asked once
//! more, at each request; a damaged volume stays as it is. Damage may be in memory
//! only, where blocks are cached: what is found for the first time is looked at once more from the
//! disk.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::ops::ControlFlow;

use libipc::Caller;
use libipc::proto::file_system::{
    Attributes, Cookie, Damage, Description, DirectoryBatch, DirectoryEntry, FileKind,
    FileSystemServer, FsAccess, FsError, Inode, MAX_LINK_BYTES, MAX_SMALL_BYTES, Operation,
    Outcome, Seal, Space, Transfer,
};
use libipc::sync::Mutex;
use libsys::{Handle, Memory};

use crate::Volume;
use crate::device::{BlockReader, Sink};
use crate::error::{Error, Result};
use crate::inode::{self, Kind, ROOT};

/// Gets hold of the device.
pub trait OpenDevice {
    /// The device.
    type Reader: BlockReader + 'static;

    /// Opens the device.
    ///
    /// # Errors
    ///
    /// `Device` when it is not there.
    fn open(&self) -> impl Future<Output = Result<Self::Reader>>;
}

/// An ext4 volume that answers requests.
pub struct Service<O: OpenDevice> {
    device: O,
    volume: RefCell<Mount<O::Reader>>,
    /// Held while mounting, so that two requests do not both do it.
    mounting: Mutex,
    /// The last error that was logged: a reader that tries again does not fill the log.
    logged: Cell<Option<Error>>,
}

enum Mount<R: BlockReader> {
    NotYet,
    Failed(Error),
    Mounted(Rc<Volume<R>>),
}

impl<O: OpenDevice> Service<O> {
    /// Makes a service for the volume on a device. Nothing is read yet.
    pub fn new(device: O) -> Self {
        Service {
            device,
            volume: RefCell::new(Mount::NotYet),
            mounting: Mutex::new(),
            logged: Cell::new(None),
        }
    }

    async fn volume(&self) -> Result<Rc<Volume<O::Reader>>> {
        if let Some(known) = self.known() {
            return known;
        }
        let _guard = self.mounting.lock().await;
        // Another request may have mounted it while this one waited.
        if let Some(known) = self.known() {
            return known;
        }
        let result = self.mount().await;
        *self.volume.borrow_mut() = match &result {
            Ok(volume) => Mount::Mounted(Rc::clone(volume)),
            Err(error) => Mount::Failed(*error),
        };
        result
    }

    fn known(&self) -> Option<Result<Rc<Volume<O::Reader>>>> {
        match &*self.volume.borrow() {
            Mount::NotYet | Mount::Failed(Error::Device) => None,
            Mount::Failed(error) => Some(Err(*error)),
            Mount::Mounted(volume) => Some(Ok(Rc::clone(volume))),
        }
    }

    async fn mount(&self) -> Result<Rc<Volume<O::Reader>>> {
        let volume = Volume::mount(self.device.open().await?).await?;
        let superblock = volume.superblock();
        log::info!(
            "mounted {} MiB with blocks of {} bytes",
            superblock.volume_bytes() >> 20,
            superblock.block_bytes
        );
        if !volume.remarks().is_empty() {
            log::warn!("{}", volume.remarks());
        }
        Ok(Rc::new(volume))
    }

    /// Returns whether a volume is mounted.
    fn is_mounted(&self) -> bool {
        matches!(&*self.volume.borrow(), Mount::Mounted(_))
    }

    /// Answers a request. Damage that is news, and a device that fails, are looked at again with a
    /// volume that is mounted anew.
    async fn answer<T>(
        &self,
        mut ask: impl AsyncFnMut() -> Result<T>,
    ) -> core::result::Result<T, FsError> {
        let mut result = ask().await;
        let is_doubtful = match result {
            Err(error @ Error::Damaged(..)) => self.logged.get() != Some(error),
            Err(Error::Device) => self.is_mounted(),
            _ => false,
        };
        if let Err(error) = result
            && is_doubtful
        {
            *self.volume.borrow_mut() = Mount::NotYet;
            result = ask().await;
            if result.is_ok() {
                log::error!("the second look at the disk found nothing wrong: {error}");
            }
        }
        result.map_err(|error| self.refuse(error))
    }

    /// Says an error in the words of the interface, and to the log when it is news there.
    fn refuse(&self, error: Error) -> FsError {
        let is_news = match error {
            Error::Damaged(..) | Error::Unsupported(_) | Error::Device => {
                self.logged.replace(Some(error)) != Some(error)
            }
            _ => false,
        };
        if is_news {
            log::warn!("{error}");
        }
        match error {
            Error::Damaged(part, _) => FsError::Damaged(part),
            Error::Unsupported(_) => FsError::Unsupported,
            Error::Device => FsError::Device,
            Error::NotFound => FsError::NotFound,
            Error::NotADirectory => FsError::NotADirectory,
            Error::IsADirectory => FsError::IsADirectory,
            Error::NotALink | Error::BadName => FsError::Invalid,
            Error::NameTooLong => FsError::NameTooLong,
            Error::Stale => FsError::Stale,
            Error::Sink => FsError::BadBuffer,
            Error::Seal => FsError::BrokenSeal,
        }
    }

    async fn inode(&self, number: Inode) -> Result<(Rc<Volume<O::Reader>>, inode::Inode)> {
        let volume = self.volume().await?;
        let number = u32::try_from(number.0).map_err(|_| Error::Stale)?;
        let inode = volume.inode(number).await?;
        Ok((volume, inode))
    }

    async fn try_lookup(&self, directory: Inode, name: &[u8], seal: Seal) -> Result<Attributes> {
        let (volume, directory) = self.inode(directory).await?;
        let found = volume.find(&directory, name).await;
        let used = match &found {
            Ok((_, found)) => *found,
            Err(_) => Seal::name(directory.id(), name),
        };
        check(seal, used)?;
        let (number, _) = found?;
        match volume.inode(number).await {
            Ok(inode) => {
                volume.check_place(&directory, &inode).await?;
                Ok(attributes(&inode))
            }
            Err(Error::Stale) => Err(Error::Damaged(
                Damage::Directory,
                "an entry names a free inode",
            )),
            Err(error) => Err(error),
        }
    }

    /// Reads the part of a file under a seal into a sink, which puts it to where the transfer says.
    async fn try_read(
        &self,
        inode: Inode,
        transfer: Transfer,
        seal: Seal,
        sink: &mut impl Sink,
    ) -> Result<u32> {
        // A wrong place in the buffer would be somebody else's.
        check(seal, Seal::shared(inode, transfer))?;
        let (volume, inode) = self.inode(inode).await?;
        let Transfer { offset, bytes, .. } = transfer;
        let read = volume.read(&inode, offset, bytes.into(), sink).await;
        let used = Transfer {
            offset: read.as_ref().map_or(offset, |read| read.start),
            ..transfer
        };
        check(seal, Seal::shared(inode.id(), used))?;
        let read = read?;
        let count = read.end - read.start;
        let is_all = count == bytes.into() || read.end == inode.bytes.max(read.start);
        assert!(is_all, "too little is read");
        // Never more than was asked for.
        Ok(u32::try_from(count).unwrap_or(bytes))
    }

    async fn try_read_dir(&self, directory: Inode, from: Cookie) -> Result<DirectoryBatch> {
        let (volume, directory) = self.inode(directory).await?;
        let mut batch = DirectoryBatch::default();
        let mut unknown = Vec::new();
        let visit = &mut |entry: crate::directory::Entry<'_>, cookie| {
            let kind = entry.kind.map(file_kind);
            let index = batch.items.len();
            let item = DirectoryEntry {
                inode: Inode(entry.inode.into()),
                kind: kind.unwrap_or(FileKind::Special),
                name: entry.name.to_vec(),
            };
            if !batch.try_push(item, Cookie(cookie)) {
                return ControlFlow::Break(());
            }
            if kind.is_none() {
                unknown.push((index, entry.inode));
            }
            ControlFlow::Continue(())
        };
        volume.read_dir(&directory, from.0, visit).await?;
        // Old volumes keep the kind in the inode only. One that cannot be read stays special.
        for (index, number) in unknown {
            if let (Ok(inode), Some(entry)) =
                (volume.inode(number).await, batch.items.get_mut(index))
            {
                entry.kind = file_kind(inode.kind);
            }
        }
        Ok(batch)
    }

    async fn try_read_link(&self, inode: Inode) -> Result<Vec<u8>> {
        let (volume, inode) = self.inode(inode).await?;
        let target = volume.read_link(&inode).await?;
        if target.len() > MAX_LINK_BYTES {
            return Err(Error::Unsupported("so long a symbolic link"));
        }
        Ok(target)
    }

    async fn try_describe(&self) -> Result<Description> {
        let volume = self.volume().await?;
        let label = volume.superblock().label;
        let label = label.split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(Description {
            kind: String::from("ext4"),
            label: String::from_utf8_lossy(label).into_owned(),
            root: Inode(ROOT.into()),
            access: FsAccess::ReadOnly,
            remarks: String::from(volume.remarks()),
        })
    }
}

/// Puts the bytes of a file into a memory object.
struct Buffer<'a> {
    memory: &'a Handle<Memory>,
    start: u64,
}

impl Sink for Buffer<'_> {
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let at = self.start.checked_add(at).ok_or(Error::Sink)?;
        self.memory.write(at, bytes).map_err(|_| Error::Sink)
    }

    fn zero(&mut self, at: u64, bytes: u64) -> Result<()> {
        let at = self.start.checked_add(at).ok_or(Error::Sink)?;
        self.memory.zero(at, bytes).map_err(|_| Error::Sink)
    }
}

/// Holds the seal of a request against what was done.
fn check(seal: Seal, done: Seal) -> Result<()> {
    seal.check(done).map_err(|_| Error::Seal)
}

fn file_kind(kind: Kind) -> FileKind {
    match kind {
        Kind::File => FileKind::Regular,
        Kind::Directory => FileKind::Directory,
        Kind::Link => FileKind::Symlink,
        Kind::CharacterDevice | Kind::BlockDevice | Kind::Pipe | Kind::Socket => FileKind::Special,
    }
}

fn attributes(inode: &inode::Inode) -> Attributes {
    let attributes = attributes_of(inode);
    check_attributes(inode, &attributes);
    attributes
}

/// Looks at attributes once more.
///
/// # Panics
///
/// When they are not those of the inode.
#[inline(never)]
fn check_attributes(inode: &inode::Inode, told: &Attributes) {
    let is_right = (told.inode, told.bytes) == (inode.id(), inode.bytes)
        && (told.mode, told.links) == (inode.permissions, inode.links.into())
        && (told.owner, told.group) == (inode.user, inode.group)
        && told.modified_s == inode.modified.seconds
        && (told.kind == FileKind::Directory) == (inode.kind == Kind::Directory)
        && (told.kind == FileKind::Regular) == (inode.kind == Kind::File);
    assert!(is_right, "an inode is told wrongly");
}

fn attributes_of(inode: &inode::Inode) -> Attributes {
    Attributes {
        inode: inode.id(),
        kind: file_kind(inode.kind),
        mode: inode.permissions,
        links: inode.links.into(),
        owner: inode.user,
        group: inode.group,
        bytes: inode.bytes,
        modified_s: inode.modified.seconds,
    }
}

impl<O: OpenDevice> FileSystemServer for Service<O> {
    async fn describe(&self, _caller: &Caller) -> core::result::Result<Description, FsError> {
        self.answer(async || self.try_describe().await).await
    }

    async fn statfs(&self, _caller: &Caller) -> core::result::Result<Space, FsError> {
        let volume = self.answer(async || self.volume().await).await?;
        let superblock = volume.superblock();
        Ok(Space {
            block_bytes: superblock.block_bytes,
            blocks: superblock.blocks,
            free_blocks: superblock.free_blocks,
            inodes: superblock.inodes.into(),
            free_inodes: superblock.free_inodes.into(),
        })
    }

    async fn lookup(
        &self,
        _caller: &Caller,
        directory: Inode,
        name: Vec<u8>,
        seal: Seal,
    ) -> core::result::Result<Attributes, FsError> {
        self.answer(async || self.try_lookup(directory, &name, seal).await)
            .await
    }

    async fn stat(
        &self,
        _caller: &Caller,
        inode: Inode,
    ) -> core::result::Result<Attributes, FsError> {
        let (_, inode) = self.answer(async || self.inode(inode).await).await?;
        Ok(attributes(&inode))
    }

    async fn read(
        &self,
        _caller: &Caller,
        inode: Inode,
        transfer: Transfer,
        buffer: Handle<Memory>,
        seal: Seal,
    ) -> core::result::Result<u32, FsError> {
        self.answer(async || {
            let mut sink = Buffer {
                memory: &buffer,
                start: transfer.buffer_offset,
            };
            self.try_read(inode, transfer, seal, &mut sink).await
        })
        .await
    }

    async fn read_small(
        &self,
        _caller: &Caller,
        inode: Inode,
        offset: u64,
        bytes: u32,
        seal: Seal,
    ) -> core::result::Result<Vec<u8>, FsError> {
        if bytes as usize > MAX_SMALL_BYTES {
            return Err(FsError::Invalid);
        }
        let transfer = Transfer {
            offset,
            bytes,
            buffer_offset: 0,
        };
        self.answer(async || {
            let mut content = Vec::new();
            self.try_read(inode, transfer, seal, &mut content).await?;
            Ok(content)
        })
        .await
    }

    async fn read_dir(
        &self,
        _caller: &Caller,
        directory: Inode,
        from: Cookie,
    ) -> core::result::Result<DirectoryBatch, FsError> {
        self.answer(async || self.try_read_dir(directory, from).await)
            .await
    }

    async fn read_link(
        &self,
        _caller: &Caller,
        inode: Inode,
    ) -> core::result::Result<Vec<u8>, FsError> {
        self.answer(async || self.try_read_link(inode).await).await
    }

    async fn outcome(
        &self,
        _caller: &Caller,
        _operation: Operation,
    ) -> core::result::Result<Option<Outcome>, FsError> {
        // Nothing was ever changed.
        Ok(None)
    }

    async fn create(
        &self,
        _caller: &Caller,
        _operation: Operation,
        _directory: Inode,
        _name: Vec<u8>,
        _kind: FileKind,
        _mode: u16,
        _seal: Seal,
    ) -> core::result::Result<Outcome, FsError> {
        Err(FsError::ReadOnly)
    }

    async fn symlink(
        &self,
        _caller: &Caller,
        _operation: Operation,
        _directory: Inode,
        _name: Vec<u8>,
        _target: Vec<u8>,
        _seal: Seal,
    ) -> core::result::Result<Outcome, FsError> {
        Err(FsError::ReadOnly)
    }

    async fn unlink(
        &self,
        _caller: &Caller,
        _operation: Operation,
        _directory: Inode,
        _name: Vec<u8>,
        _kind: FileKind,
        _seal: Seal,
    ) -> core::result::Result<Outcome, FsError> {
        Err(FsError::ReadOnly)
    }

    async fn rename(
        &self,
        _caller: &Caller,
        _operation: Operation,
        _from: Inode,
        _from_name: Vec<u8>,
        _to: Inode,
        _to_name: Vec<u8>,
        _seal: Seal,
    ) -> core::result::Result<Outcome, FsError> {
        Err(FsError::ReadOnly)
    }

    async fn truncate(
        &self,
        _caller: &Caller,
        _operation: Operation,
        _inode: Inode,
        _bytes: u64,
        _seal: Seal,
    ) -> core::result::Result<Outcome, FsError> {
        Err(FsError::ReadOnly)
    }

    async fn write(
        &self,
        _caller: &Caller,
        _operation: Operation,
        _inode: Inode,
        _transfer: Transfer,
        _buffer: Handle<Memory>,
        _seal: Seal,
    ) -> core::result::Result<Outcome, FsError> {
        Err(FsError::ReadOnly)
    }

    async fn write_small(
        &self,
        _caller: &Caller,
        _operation: Operation,
        _inode: Inode,
        _offset: u64,
        _content: Vec<u8>,
        _seal: Seal,
    ) -> core::result::Result<Outcome, FsError> {
        Err(FsError::ReadOnly)
    }

    async fn sync(&self, _caller: &Caller) -> core::result::Result<(), FsError> {
        Ok(())
    }
}
