//! Files for programs: paths relative to a current directory, positions, buffers, whole files.
//!
//! [`Files`] is a program's view of the tree, a [`File`] an open file with a position. Short
//! transfers travel in messages; longer ones go through one memory object that is made when it
//! is first needed and handed to the vfs with each request. A failure is a
//! `Failure<FsError>`, which prints as one phrase for people:
//!
//! ```ignore
//! let files = Files::connect(vfs, Some(memory), "/home")?;
//! for entry in files.read_dir(".")? {}
//! let text = files.read_to_vec("notes.txt")?;
//! let mut log = files.open("log", OpenOptions::append())?;
//! log.write_all(b"line\n")?;
//! ```

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{OnceCell, RefCell};
use core::fmt;

use libsys::abi::PAGE_SIZE;
use libsys::{Handle, Memory, Sender};

use crate::proto::memory::MemoryManagerClient;
use crate::proto::vfs::{
    APPEND, Attributes, DirectoryEntry, FileId, FileKind, FsError, Inode, LastLink, MAX_PATH_BYTES,
    MAX_SMALL_BYTES, MountInfo, OpenOptions, Seal, Space, Transfer, VfsClient,
};
use crate::{ConnectError, Failure};

/// Bytes of the memory object for long transfers: few calls for a large file, and small enough
/// to come from one run of frames.
const BUFFER_BYTES: usize = 256 * 1024;

/// The result of an operation on files.
pub type FileResult<T> = Result<T, Failure<FsError>>;

/// A program's view of the tree of files. Clones share the current directory.
#[derive(Clone)]
pub struct Files {
    shared: Rc<Shared>,
}

struct Shared {
    vfs: VfsClient,
    memory: Option<MemoryManagerClient>,
    /// `None` inside when it could not be made: then all goes through messages.
    buffer: OnceCell<Option<Handle<Memory>>>,
    directory: RefCell<Vec<u8>>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("vfs", &self.shared.vfs)
            .finish_non_exhaustive()
    }
}

impl Files {
    /// Connects to the vfs. Without a memory manager all transfers go through messages.
    ///
    /// # Errors
    ///
    /// Those of [`VfsClient::connect`].
    pub fn connect(
        vfs: Handle<Sender>,
        memory: Option<MemoryManagerClient>,
        directory: impl AsRef<[u8]>,
    ) -> Result<Files, ConnectError> {
        Ok(Files::new(VfsClient::connect(vfs)?, memory, directory))
    }

    /// Makes a view of a connected vfs.
    pub fn new(
        vfs: VfsClient,
        memory: Option<MemoryManagerClient>,
        directory: impl AsRef<[u8]>,
    ) -> Files {
        let directory = RefCell::new(directory.as_ref().to_vec());
        let buffer = OnceCell::new();
        Files {
            shared: Rc::new(Shared {
                vfs,
                memory,
                buffer,
                directory,
            }),
        }
    }

    /// Returns the client, for what is not covered here.
    pub fn vfs(&self) -> &VfsClient {
        &self.shared.vfs
    }

    /// Returns the current directory.
    pub fn directory(&self) -> Vec<u8> {
        self.shared.directory.borrow().clone()
    }

    /// Changes the current directory.
    ///
    /// # Errors
    ///
    /// `NotADirectory`, and those of the walk.
    pub fn set_directory(&self, path: impl AsRef<[u8]>) -> FileResult<()> {
        let path = self.shared.vfs.canonical(&self.absolute(path)?)?;
        match self.shared.vfs.stat(&path, LastLink::Follow)?.kind {
            FileKind::Directory => {
                *self.shared.directory.borrow_mut() = path;
                Ok(())
            }
            _ => Err(Failure::Server(FsError::NotADirectory)),
        }
    }

    /// Returns a path with the current directory in front of it, if it is relative.
    ///
    /// # Errors
    ///
    /// `NotFound` for an empty path, `NameTooLong`.
    pub fn absolute(&self, path: impl AsRef<[u8]>) -> FileResult<Vec<u8>> {
        let path = path.as_ref();
        let mut absolute = Vec::new();
        match path.first() {
            None => return Err(Failure::Server(FsError::NotFound)),
            Some(b'/') => {}
            Some(_) => {
                absolute.extend_from_slice(&self.shared.directory.borrow());
                absolute.push(b'/');
            }
        }
        absolute.extend_from_slice(path);
        if absolute.len() > MAX_PATH_BYTES {
            return Err(Failure::Server(FsError::NameTooLong));
        }
        Ok(absolute)
    }

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// `NotFound`, `IsADirectory`, `ReadOnly`, `Exists` and the like.
    pub fn open(&self, path: impl AsRef<[u8]>, options: OpenOptions) -> FileResult<File> {
        let opened = self.shared.vfs.open(&self.absolute(path)?, options)?;
        Ok(File {
            files: self.clone(),
            id: opened.file,
            inode: opened.attributes.inode,
            is_append: options.append,
            position: 0,
            is_open: true,
        })
    }

    /// Reads a whole file.
    ///
    /// # Errors
    ///
    /// As [`Files::open`] and [`File::read`].
    pub fn read_to_vec(&self, path: impl AsRef<[u8]>) -> FileResult<Vec<u8>> {
        let mut file = self.open(path, OpenOptions::read())?;
        let mut content = Vec::new();
        loop {
            // The size is asked for again: the file may grow meanwhile.
            let left = file.size()?.saturating_sub(content.len() as u64);
            if left == 0 {
                return Ok(content);
            }
            let start = content.len();
            content.resize(start + left.min(BUFFER_BYTES as u64) as usize, 0);
            let count = file.read(&mut content[start..])?;
            content.truncate(start + count);
            if count == 0 {
                return Ok(content);
            }
        }
    }

    /// Writes a whole file anew.
    ///
    /// # Errors
    ///
    /// As [`Files::open`] and [`File::write_all`].
    pub fn write(&self, path: impl AsRef<[u8]>, content: &[u8]) -> FileResult<()> {
        let mut file = self.open(path, OpenOptions::replace())?;
        file.write_all(content)?;
        file.close()
    }

    /// Lists a directory, in the order of its file system, without `.` and `..`.
    ///
    /// # Errors
    ///
    /// `NotADirectory`, and those of walk and file system.
    pub fn read_dir(&self, path: impl AsRef<[u8]>) -> FileResult<Vec<DirectoryEntry>> {
        let path = self.absolute(path)?;
        self.shared.vfs.read_dir(&path).collect()
    }

    /// Tells what a path names, following a symbolic link at its end.
    ///
    /// # Errors
    ///
    /// Those of the walk.
    pub fn stat(&self, path: impl AsRef<[u8]>) -> FileResult<Attributes> {
        self.shared
            .vfs
            .stat(&self.absolute(path)?, LastLink::Follow)
    }

    /// Tells what a path names, a symbolic link itself if it is one.
    ///
    /// # Errors
    ///
    /// Those of the walk.
    pub fn stat_link(&self, path: impl AsRef<[u8]>) -> FileResult<Attributes> {
        self.shared.vfs.stat(&self.absolute(path)?, LastLink::Keep)
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    ///
    /// `Invalid` when it is none.
    pub fn read_link(&self, path: impl AsRef<[u8]>) -> FileResult<Vec<u8>> {
        self.shared.vfs.read_link(&self.absolute(path)?)
    }

    /// Returns the absolute path without `.`, `..` and symbolic links.
    ///
    /// # Errors
    ///
    /// Those of the walk.
    pub fn canonical(&self, path: impl AsRef<[u8]>) -> FileResult<Vec<u8>> {
        self.shared.vfs.canonical(&self.absolute(path)?)
    }

    /// Makes a directory.
    ///
    /// # Errors
    ///
    /// `Exists`, `ReadOnly`, `NoSpace`, and those of the walk.
    pub fn make_dir(&self, path: impl AsRef<[u8]>) -> FileResult<()> {
        self.shared.vfs.make_dir(&self.absolute(path)?)
    }

    /// Makes a directory and those above it that are missing.
    ///
    /// # Errors
    ///
    /// As [`Files::make_dir`], but not `Exists` for a directory.
    pub fn make_dirs(&self, path: impl AsRef<[u8]>) -> FileResult<()> {
        let path = self.absolute(path)?;
        let ends = path
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(_, byte)| **byte == b'/');
        let ends: Vec<usize> = ends.map(|(i, _)| i).chain([path.len()]).collect();
        for end in ends {
            let part = &path[..end];
            match self.stat(part) {
                Ok(found) if found.kind == FileKind::Directory => {}
                Ok(_) => return Err(Failure::Server(FsError::NotADirectory)),
                Err(Failure::Server(FsError::NotFound)) => self.make_dir(part)?,
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// `NotEmpty`, `Busy` for a mount point, and those of the walk.
    pub fn remove_dir(&self, path: impl AsRef<[u8]>) -> FileResult<()> {
        self.shared.vfs.remove_dir(&self.absolute(path)?)
    }

    /// Removes a file or symbolic link.
    ///
    /// # Errors
    ///
    /// `IsADirectory`, and those of the walk.
    pub fn remove_file(&self, path: impl AsRef<[u8]>) -> FileResult<()> {
        self.shared.vfs.unlink(&self.absolute(path)?)
    }

    /// Moves a file or directory within one file system.
    ///
    /// # Errors
    ///
    /// `CrossesMounts`: copy and remove instead; and those of the walk.
    pub fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> FileResult<()> {
        let (from, to) = (self.absolute(from)?, self.absolute(to)?);
        if from.len() + to.len() > MAX_PATH_BYTES {
            return Err(Failure::Server(FsError::NameTooLong));
        }
        self.shared.vfs.rename(&from, &to)
    }

    /// Makes a symbolic link at `path`.
    ///
    /// # Errors
    ///
    /// `Exists`, and those of the walk.
    pub fn symlink(&self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> FileResult<()> {
        let (path, target) = (self.absolute(path)?, target.as_ref());
        if path.len() + target.len() > MAX_PATH_BYTES {
            return Err(Failure::Server(FsError::NameTooLong));
        }
        self.shared.vfs.symlink(&path, target)
    }

    /// Lists what is mounted where.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn mounts(&self) -> FileResult<Vec<MountInfo>> {
        self.shared.vfs.mounts()
    }

    /// Tells how full the file system of a path is.
    ///
    /// # Errors
    ///
    /// Those of walk and file system.
    pub fn space(&self, path: impl AsRef<[u8]>) -> FileResult<Space> {
        self.shared.vfs.statfs(&self.absolute(path)?)
    }

    /// Makes a sender for a child program, with files of its own.
    ///
    /// # Errors
    ///
    /// Those of the vfs.
    pub fn new_session(&self) -> FileResult<Handle<Sender>> {
        self.shared.vfs.new_session()
    }

    /// Returns the buffer for long transfers, if there can be one.
    fn buffer(&self) -> Option<&Handle<Memory>> {
        let Shared { buffer, memory, .. } = &*self.shared;
        let made = buffer.get_or_init(|| {
            let memory = memory.as_ref()?;
            let pages = (BUFFER_BYTES / PAGE_SIZE) as u64;
            let object = match memory.create_object(pages) {
                // The memory manager does not know whether it did it; another one does no harm.
                Err(Failure::Restarted) => memory.create_object(pages),
                other => other,
            };
            object
                .inspect_err(|error| log::warn!("no buffer for files: {error}"))
                .ok()
        });
        made.as_ref()
    }
}

/// Where a [`File::seek`] goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeekFrom {
    /// From the start.
    Start(u64),
    /// From the end.
    End(i64),
    /// From the current position.
    Current(i64),
}

/// An open file with a position. Closed when dropped.
#[derive(Debug)]
pub struct File {
    files: Files,
    id: FileId,
    /// What its requests are sealed with.
    inode: Inode,
    is_append: bool,
    position: u64,
    is_open: bool,
}

impl File {
    /// Reads from the position on and moves it. Fewer bytes than asked only at the end of the
    /// file.
    ///
    /// # Errors
    ///
    /// `Denied` when it was opened for writing only, and those of the file system.
    pub fn read(&mut self, bytes: &mut [u8]) -> FileResult<usize> {
        let count = self.read_at(self.position, bytes)?;
        self.position += count as u64;
        Ok(count)
    }

    /// Reads from an offset on; the position stays.
    ///
    /// # Errors
    ///
    /// As [`File::read`].
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> FileResult<usize> {
        let mut done = 0;
        while done < bytes.len() {
            let left = &mut bytes[done..];
            let wanted = left.len().min(self.chunk(left.len()));
            let count = self.read_chunk(offset + done as u64, &mut left[..wanted])?;
            done += count;
            if count < wanted {
                break;
            }
        }
        Ok(done)
    }

    fn read_chunk(&self, offset: u64, bytes: &mut [u8]) -> FileResult<usize> {
        let vfs = &self.files.shared.vfs;
        if bytes.len() <= MAX_SMALL_BYTES {
            let wanted = bytes.len() as u32;
            let seal = Seal::transfer(self.inode, offset, wanted);
            let content = vfs.read_small(self.id, offset, wanted, seal)?;
            let count = content.len().min(bytes.len());
            bytes[..count].copy_from_slice(&content[..count]);
            return Ok(count);
        }
        let buffer = self
            .files
            .buffer()
            .ok_or(Failure::Server(FsError::BadBuffer))?;
        let transfer = Transfer {
            offset,
            bytes: bytes.len() as u32,
            buffer_offset: 0,
        };
        let seal = Seal::shared(self.inode, transfer);
        let count = vfs.read(self.id, transfer, buffer, seal)?;
        let count = (count as usize).min(bytes.len());
        buffer.read(0, &mut bytes[..count])?;
        Ok(count)
    }

    /// Writes all bytes at the position (at the end, if the file was opened for appending) and
    /// moves it.
    ///
    /// # Errors
    ///
    /// `Denied` when it was opened for reading only, `NoSpace`, and those of the file system.
    /// Bytes before the ones that failed may be written.
    pub fn write_all(&mut self, bytes: &[u8]) -> FileResult<()> {
        self.position = self.write_at(self.position, bytes)?;
        Ok(())
    }

    /// Writes all bytes at an offset and returns where they end; the position stays.
    ///
    /// # Errors
    ///
    /// As [`File::write_all`].
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> FileResult<u64> {
        let vfs = &self.files.shared.vfs;
        let mut offset = offset;
        for chunk in bytes.chunks(self.chunk(bytes.len()).max(1)) {
            let bytes = chunk.len() as u32;
            let place = if self.is_append { APPEND } else { offset };
            // In a long transfer it is the same: the buffer is filled from its start.
            let seal = Seal::transfer(self.inode, place, bytes);
            let written = if chunk.len() <= MAX_SMALL_BYTES {
                vfs.write_small(self.id, offset, chunk, seal)?
            } else {
                let buffer = self
                    .files
                    .buffer()
                    .ok_or(Failure::Server(FsError::BadBuffer))?;
                buffer.write(0, chunk)?;
                let transfer = Transfer {
                    offset,
                    bytes,
                    buffer_offset: 0,
                };
                vfs.write(self.id, transfer, buffer, seal)?
            };
            offset = written.offset.saturating_add(written.bytes.into());
        }
        Ok(offset)
    }

    /// Moves the position and returns it.
    ///
    /// # Errors
    ///
    /// `Invalid` for a place before the start; those of [`File::size`] from the end.
    pub fn seek(&mut self, to: SeekFrom) -> FileResult<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(distance) => self.size()?.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = place.ok_or(Failure::Server(FsError::Invalid))?;
        Ok(self.position)
    }

    /// Returns the position.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the size.
    ///
    /// # Errors
    ///
    /// `Stale` when the file was removed.
    pub fn size(&self) -> FileResult<u64> {
        Ok(self.stat()?.bytes)
    }

    /// Tells about the file.
    ///
    /// # Errors
    ///
    /// `Stale` when the file was removed.
    pub fn stat(&self) -> FileResult<Attributes> {
        self.files.shared.vfs.stat_file(self.id)
    }

    /// Makes the file shorter, or longer with zeros.
    ///
    /// # Errors
    ///
    /// As [`File::write_all`].
    pub fn set_size(&self, bytes: u64) -> FileResult<()> {
        let seal = Seal::truncate(self.inode, bytes);
        self.files.shared.vfs.truncate(self.id, bytes, seal)
    }

    /// Closes the file and says whether that went well.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn close(mut self) -> FileResult<()> {
        self.is_open = false;
        self.files.shared.vfs.close(self.id)
    }

    /// Returns the most bytes to move in one request.
    fn chunk(&self, wanted: usize) -> usize {
        if wanted > MAX_SMALL_BYTES && self.files.buffer().is_some() {
            BUFFER_BYTES
        } else {
            MAX_SMALL_BYTES
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.is_open {
            // Whoever wants to know uses `close`; the vfs closes it at the latest when its
            // program ends.
            let _ = self.files.shared.vfs.close(self.id);
        }
    }
}

/// Reads `file` to its end in pieces of at most `bytes` bytes and gives them to `sink`.
///
/// # Errors
///
/// As [`File::read`].
pub fn for_each_piece(
    file: &mut File,
    bytes: usize,
    mut sink: impl FnMut(&[u8]),
) -> FileResult<()> {
    let mut piece = vec![0; bytes];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        sink(&piece[..count]);
    }
}

#[cfg(test)]
mod tests;
