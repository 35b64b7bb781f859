//! What programs ask of the vfs.
//!
//! Paths are bytes, absolute, with `/` between names; `.`, `..`, repeated slashes and symbolic
//! links are resolved by the vfs. A program keeps its own current directory and file positions
//! (`libipc::files` does both). Open files belong to the badge of the sender: they are closed
//! when its last sender is closed, and no other badge can name them.
//!
//! Requests carry a [`Seal`] over what they ask for. That of a read, a write or a change of size of an
//! open file is the one of the file system, over the inode in [`Opened`].

use alloc::string::String;
use alloc::vec::Vec;

use libsys::{Handle, Memory, Sender};
use serde::{Deserialize, Serialize};

pub use super::file_system::{
    APPEND, Attributes, Cookie, Damage, DirectoryBatch, DirectoryEntry, FileKind, FsAccess,
    FsError, Inode, MAX_LINK_BYTES, MAX_NAME_BYTES, MAX_SMALL_BYTES, Seal, Space, Transfer,
};

/// Most bytes of a path, of both together in a rename: one message must hold them.
pub const MAX_PATH_BYTES: usize = 4000;
/// Most symbolic links in one path.
pub const MAX_LINKS: usize = 40;
/// Most files that one badge can have open.
pub const MAX_OPEN_FILES: usize = 256;

/// The number of an open file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct FileId(pub u32);

/// What an open file may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Access {
    /// Reading.
    #[default]
    Read,
    /// Writing.
    Write,
    /// Both.
    ReadWrite,
}

/// Whether opening may make the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Create {
    /// It must exist.
    #[default]
    Never,
    /// It is made if it does not exist.
    IfMissing,
    /// It must not exist.
    New,
}

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct OpenOptions {
    /// What for.
    pub access: Access,
    /// Whether to make it.
    pub create: Create,
    /// Whether to cut it to nothing first.
    pub truncate: bool,
    /// Whether every write goes to the end, whatever its offset.
    pub append: bool,
}

impl OpenOptions {
    /// Returns options for reading.
    pub const fn read() -> OpenOptions {
        OpenOptions {
            access: Access::Read,
            create: Create::Never,
            truncate: false,
            append: false,
        }
    }

    /// Returns options for writing a file anew, as `>` does.
    pub const fn replace() -> OpenOptions {
        OpenOptions {
            access: Access::Write,
            create: Create::IfMissing,
            truncate: true,
            append: false,
        }
    }

    /// Returns options for writing at the end of a file, as `>>` does.
    pub const fn append() -> OpenOptions {
        OpenOptions {
            access: Access::Write,
            create: Create::IfMissing,
            truncate: false,
            append: true,
        }
    }
}

/// An open file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// Its number.
    pub file: FileId,
    /// What it was when it was opened.
    pub attributes: Attributes,
}

/// What a write did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Written {
    /// Where the first byte went.
    pub offset: u64,
    /// How many bytes were written.
    pub bytes: u32,
}

/// Whether a symbolic link at the end of a path is followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LastLink {
    /// It is followed.
    Follow,
    /// The link itself is meant.
    Keep,
}

/// A mounted file system, or one that should be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MountInfo {
    /// The directory where it appears.
    pub point: Vec<u8>,
    /// The service that serves it.
    pub service: String,
    /// What it is, or why it cannot be used.
    pub state: MountState,
}

/// Whether a mount works.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MountState {
    /// It does.
    Ready {
        /// Kind of the file system.
        kind: String,
        /// Whether it can be changed.
        access: FsAccess,
        /// Remarks of the file system for people.
        remarks: String,
    },
    /// It does not.
    Failed(FsError),
}

/// The tree of files.
#[crate::interface(version = 4)]
#[compared]
#[suspect(
    FsError::Damaged(_)
        | FsError::Stale
        | FsError::NoSpace
        | FsError::Invalid
        | FsError::TooLarge
        | FsError::BadBuffer
        | FsError::BadFile
        | FsError::Denied
        | FsError::Unavailable
        | FsError::BrokenSeal
)]
pub trait Vfs {
    /// Makes a sender with a badge of its own, for a child program. Its files are closed when
    /// the child is gone.
    #[exactly_once]
    fn new_session() -> Result<Handle<Sender>, FsError>;

    /// Opens a file. Directories cannot be opened: list them with `read_dir`.
    #[exactly_once]
    #[sealed(Seal::open)]
    fn open(path: &[u8], options: OpenOptions, seal: Seal) -> Result<Opened, FsError>;
    /// Closes a file.
    #[exactly_once]
    #[sealed(Seal::file)]
    fn close(file: FileId, seal: Seal) -> Result<(), FsError>;
    /// Reads into a memory object. Returns how many bytes were read: fewer than asked only at
    /// the end of the file.
    #[idempotent]
    #[ensures(crate::promises::read)]
    fn read(
        file: FileId,
        transfer: Transfer,
        buffer: Handle<Memory>,
        seal: Seal,
    ) -> Result<u32, FsError>;
    /// Reads at most [`MAX_SMALL_BYTES`] bytes into the reply.
    #[idempotent]
    #[ensures(crate::promises::read_small)]
    fn read_small(file: FileId, offset: u64, bytes: u32, seal: Seal) -> Result<Vec<u8>, FsError>;
    /// Writes from a memory object: all of it or nothing. The seal of a file opened for appending is that
    /// of the offset [`APPEND`].
    #[exactly_once]
    #[ensures(crate::promises::write)]
    fn write(
        file: FileId,
        transfer: Transfer,
        buffer: Handle<Memory>,
        seal: Seal,
    ) -> Result<Written, FsError>;
    /// As [`Vfs::write`], at most [`MAX_SMALL_BYTES`] bytes from the message.
    #[exactly_once]
    #[ensures(crate::promises::write_small)]
    fn write_small(
        file: FileId,
        offset: u64,
        content: &[u8],
        seal: Seal,
    ) -> Result<Written, FsError>;
    /// Makes an open file shorter, or longer with zeros.
    #[exactly_once]
    fn truncate(file: FileId, bytes: u64, seal: Seal) -> Result<(), FsError>;
    /// Tells about an open file.
    #[idempotent]
    #[ensures(crate::promises::stat_file)]
    #[sealed(Seal::file)]
    fn stat_file(file: FileId, seal: Seal) -> Result<Attributes, FsError>;

    /// Tells what a path names.
    #[idempotent]
    #[ensures(crate::promises::find)]
    #[sealed(Seal::stat)]
    fn stat(path: &[u8], last: LastLink, seal: Seal) -> Result<Attributes, FsError>;
    /// Lists a directory, without `.` and `..`.
    #[stream]
    fn read_dir(path: &[u8]) -> Result<Stream<DirectoryEntry, Cookie>, FsError>;
    /// Returns the target of a symbolic link.
    #[idempotent]
    #[ensures(crate::promises::read_link)]
    #[sealed(Seal::path)]
    fn read_link(path: &[u8], seal: Seal) -> Result<Vec<u8>, FsError>;
    /// Returns the path without `.`, `..` and symbolic links. It must exist.
    #[idempotent]
    #[ensures(crate::promises::canonical)]
    #[sealed(Seal::path)]
    fn canonical(path: &[u8], seal: Seal) -> Result<Vec<u8>, FsError>;
    /// Makes a directory.
    #[exactly_once]
    #[sealed(Seal::path)]
    fn make_dir(path: &[u8], seal: Seal) -> Result<(), FsError>;
    /// Makes a symbolic link at `path`.
    #[exactly_once]
    #[sealed(Seal::paths)]
    fn symlink(path: &[u8], target: &[u8], seal: Seal) -> Result<(), FsError>;
    /// Removes a file or a symbolic link.
    #[exactly_once]
    #[sealed(Seal::path)]
    fn unlink(path: &[u8], seal: Seal) -> Result<(), FsError>;
    /// Removes an empty directory.
    #[exactly_once]
    #[sealed(Seal::path)]
    fn remove_dir(path: &[u8], seal: Seal) -> Result<(), FsError>;
    /// Moves a file or directory within one file system, replacing a file or an empty directory
    /// there in one step.
    #[exactly_once]
    #[sealed(Seal::paths)]
    fn rename(from: &[u8], to: &[u8], seal: Seal) -> Result<(), FsError>;

    /// Lists what is mounted where.
    #[idempotent]
    fn mounts() -> Result<Vec<MountInfo>, FsError>;
    /// Tells how full the file system of a path is.
    #[idempotent]
    #[ensures(crate::promises::space_at)]
    fn statfs(path: &[u8]) -> Result<Space, FsError>;
    /// Brings everything written so far to where it outlives a loss of power.
    #[idempotent]
    fn sync() -> Result<(), FsError>;
}
