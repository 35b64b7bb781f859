//! What the vfs asks of a file-system server.
//!
//! Stateless on purpose: every request names an inode, nothing is "open" at this level, so a
//! restarted server needs no news from the vfs. Names are bytes as they stand on the disk;
//! UTF-8 is a custom of programs, not a rule here. `.` and `..` never appear: the vfs walks.
//!
//! A request that changes something carries an [`Operation`], chosen by the vfs from the badge
//! and sequence number of the program's request. The server keeps the outcome of recent
//! operations together with the change itself, so that a repeated one is answered and not run
//! again.
//!
//! Requests that name something carry a [`Seal`] over what they ask for, last.

use alloc::vec::Vec;

use libsys::{Handle, Memory};
use serde::{Deserialize, Serialize};

use crate::stream::Batch;

pub use crate::seal::Seal;

/// Most bytes of file content in one message ([`FileSystem::read_small`], `write_small`).
pub const MAX_SMALL_BYTES: usize = 3800;
/// Most bytes of one name in a directory.
pub const MAX_NAME_BYTES: usize = 255;
/// Most bytes of the target of a symbolic link.
pub const MAX_LINK_BYTES: usize = 3800;
/// Bits of a mode that are permissions; those above would tell the kind, as in Unix.
pub const PERMISSIONS: u16 = 0o7777;
/// The number of a file or directory within its file system. Never used again for another one
/// while the file system is mounted.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Inode(pub u64);

/// What an inode is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FileKind {
    /// A file with bytes.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, socket or pipe: can be seen, not opened.
    Special,
}

/// What is known about an inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attributes {
    /// Its number.
    pub inode: Inode,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits as in Unix (`0o755`), without the kind.
    pub mode: u16,
    /// Directory entries that name it.
    pub links: u32,
    /// Number of the user it belongs to.
    pub owner: u32,
    /// Number of the group it belongs to.
    pub group: u32,
    /// Bytes of content; of a symbolic link, bytes of its target.
    pub bytes: u64,
    /// When the content last changed, seconds since 1970. A file system without a wall clock
    /// counts from boot instead.
    pub modified_s: i64,
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DirectoryEntry {
    /// What it names.
    pub inode: Inode,
    /// What kind of thing that is.
    pub kind: FileKind,
    /// The name.
    pub name: Vec<u8>,
}

/// Where a directory listing goes on. 0 is the start; other values come from the server, stay
/// valid while the directory changes, and are below 2^63.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Cookie(pub u64);

/// A part of a directory listing.
pub type DirectoryBatch = Batch<DirectoryEntry, Cookie>;

/// Which bytes of a file go to or from which bytes of a memory object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Transfer {
    /// First byte in the file.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u32,
    /// First byte in the memory object.
    pub buffer_offset: u64,
}

/// Names one change, so that it happens once however often it is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Operation {
    /// Who asked: the badge of the program at the vfs.
    pub client: u64,
    /// Which of its requests.
    pub sequence: u64,
    /// Which change of that request, when it makes several.
    pub step: u8,
    /// Whether it may have been asked for before: the server then looks for a kept outcome.
    pub repeated: bool,
}

/// What became of an [`Operation`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The inode that was created or changed.
    pub inode: Inode,
    /// For a write: where its first byte went. Else 0.
    pub offset: u64,
    /// For a write: how many bytes were written. Else 0.
    pub bytes: u32,
}

/// What a file system is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Description {
    /// Its kind, such as `ext4`.
    pub kind: alloc::string::String,
    /// Its label, empty when it has none.
    pub label: alloc::string::String,
    /// The root directory.
    pub root: Inode,
    /// Whether it can be changed.
    pub access: FsAccess,
    /// Remarks for people, such as "journal replayed in memory"; empty when all is well.
    pub remarks: alloc::string::String,
}

/// Whether a file system can be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FsAccess {
    /// Reading only.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

/// How full a file system is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Space {
    /// Bytes per block.
    pub block_bytes: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub free_blocks: u64,
    /// Inodes in all; 0 when there is no fixed number.
    pub inodes: u64,
    /// Free inodes; 0 when there is no fixed number.
    pub free_inodes: u64,
}

/// What part of a file system is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Damage {
    /// The superblock, or there is no file system at all.
    Superblock,
    /// A group descriptor or a bitmap.
    Group,
    /// An inode.
    Inode,
    /// The map from file offsets to blocks.
    BlockMap,
    /// The content of a directory.
    Directory,
    /// The target of a symbolic link.
    Symlink,
    /// The journal.
    Journal,
}

impl Damage {
    /// Returns the part as words for people.
    pub const fn text(self) -> &'static str {
        match self {
            Damage::Superblock => "superblock",
            Damage::Group => "group descriptor",
            Damage::Inode => "inode",
            Damage::BlockMap => "block map",
            Damage::Directory => "directory",
            Damage::Symlink => "symbolic link",
            Damage::Journal => "journal",
        }
    }
}

/// Why a request to a file system failed. Also used by the vfs towards programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FsError {
    /// No such file or directory.
    NotFound,
    /// A directory is needed here.
    NotADirectory,
    /// This cannot be done with a directory.
    IsADirectory,
    /// The name is taken.
    Exists,
    /// The directory is not empty.
    NotEmpty,
    /// No room left. Remedy: remove files.
    NoSpace,
    /// The file system cannot be changed.
    ReadOnly,
    /// The file system is damaged. Remedy: check it on another machine.
    Damaged(Damage),
    /// The disk is missing or failed.
    Device,
    /// A name is longer than [`MAX_NAME_BYTES`], or a path too long.
    NameTooLong,
    /// More symbolic links in one path than is allowed, or a loop of them.
    TooManyLinks,
    /// The inode is gone.
    Stale,
    /// The file system uses a feature that this server does not know.
    Unsupported,
    /// An argument makes no sense: an empty name, a name with `/`, a rename into itself.
    Invalid,
    /// An offset is past what the file system can hold.
    TooLarge,
    /// The memory object given as buffer cannot be used: too short, or without the right.
    BadBuffer,
    /// Names on different file systems were given where one is needed.
    CrossesMounts,
    /// No open file has that number.
    BadFile,
    /// The file was not opened for this, or the caller may not do this.
    Denied,
    /// Too many files are open.
    TooManyFiles,
    /// The directory is a mount point and in use.
    Busy,
    /// The file-system server crashed on this request and gave it up.
    Crashed,
    /// The file-system server cannot be reached, or does not speak this interface.
    Unavailable,
    /// What the server did, or was about to do, is not what the [`Seal`] of the request says. One side
    /// is damaged.
    BrokenSeal,
}

impl FsError {
    /// Returns one phrase for people.
    pub const fn text(self) -> &'static str {
        match self {
            FsError::NotFound => "no such file or directory",
            FsError::NotADirectory => "not a directory",
            FsError::IsADirectory => "is a directory",
            FsError::Exists => "already exists",
            FsError::NotEmpty => "directory not empty",
            FsError::NoSpace => "no space left",
            FsError::ReadOnly => "file system is read-only",
            FsError::Damaged(Damage::Superblock) => "file system is damaged (superblock)",
            FsError::Damaged(Damage::Group) => "file system is damaged (group descriptor)",
            FsError::Damaged(Damage::Inode) => "file system is damaged (inode)",
            FsError::Damaged(Damage::BlockMap) => "file system is damaged (block map)",
            FsError::Damaged(Damage::Directory) => "file system is damaged (directory)",
            FsError::Damaged(Damage::Symlink) => "file system is damaged (symbolic link)",
            FsError::Damaged(Damage::Journal) => "file system is damaged (journal)",
            FsError::Device => "disk missing or failed",
            FsError::NameTooLong => "name too long",
            FsError::TooManyLinks => "too many symbolic links",
            FsError::Stale => "file is gone",
            FsError::Unsupported => "feature not supported",
            FsError::Invalid => "invalid argument",
            FsError::TooLarge => "file too large",
            FsError::BadBuffer => "unusable buffer",
            FsError::CrossesMounts => "names are on different file systems",
            FsError::BadFile => "no such open file",
            FsError::Denied => "not allowed",
            FsError::TooManyFiles => "too many open files",
            FsError::Busy => "in use as a mount point",
            FsError::Crashed => "file system crashed on this request",
            FsError::Unavailable => "file system not available",
            FsError::BrokenSeal => "request was damaged on its way",
        }
    }
}

impl core::fmt::Display for FsError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for FsError {}

/// A file system, as the vfs sees it.
#[crate::interface(version = 4)]
#[compared]
#[suspect(
    FsError::Damaged(_)
        | FsError::Stale
        | FsError::NoSpace
        | FsError::Invalid
        | FsError::TooLarge
        | FsError::BadBuffer
        | FsError::Unsupported
        | FsError::NameTooLong
        | FsError::TooManyLinks
        | FsError::CrossesMounts
        | FsError::BadFile
        | FsError::Denied
        | FsError::TooManyFiles
        | FsError::Unavailable
        | FsError::BrokenSeal
)]
pub trait FileSystem {
    /// Tells what the file system is. Fails with the reason when it cannot be mounted.
    #[idempotent]
    fn describe() -> Result<Description, FsError>;
    /// Tells how full it is.
    #[idempotent]
    #[ensures(crate::promises::space)]
    fn statfs() -> Result<Space, FsError>;
    /// Finds a name in a directory.
    #[idempotent]
    #[ensures(crate::promises::sealed_find)]
    fn lookup(directory: Inode, name: &[u8], seal: Seal) -> Result<Attributes, FsError>;
    /// Tells about an inode.
    #[idempotent]
    #[ensures(crate::promises::stat)]
    fn stat(inode: Inode) -> Result<Attributes, FsError>;
    /// Reads into a memory object. Returns how many bytes were read: fewer than asked only at
    /// the end of the file.
    #[idempotent]
    #[ensures(crate::promises::read)]
    fn read(
        inode: Inode,
        transfer: Transfer,
        buffer: Handle<Memory>,
        seal: Seal,
    ) -> Result<u32, FsError>;
    /// Reads at most [`MAX_SMALL_BYTES`] bytes into the reply.
    #[idempotent]
    #[ensures(crate::promises::read_small)]
    fn read_small(inode: Inode, offset: u64, bytes: u32, seal: Seal) -> Result<Vec<u8>, FsError>;
    /// Lists a directory, without `.` and `..`.
    #[stream]
    fn read_dir(directory: Inode) -> Result<Stream<DirectoryEntry, Cookie>, FsError>;
    /// Returns the target of a symbolic link.
    #[idempotent]
    #[ensures(crate::promises::read_link)]
    fn read_link(inode: Inode) -> Result<Vec<u8>, FsError>;

    /// Returns what became of an operation, if it was completed and is still remembered.
    #[idempotent]
    fn outcome(operation: Operation) -> Result<Option<Outcome>, FsError>;
    /// Makes an empty file or a directory.
    #[idempotent]
    fn create(
        operation: Operation,
        directory: Inode,
        name: &[u8],
        kind: FileKind,
        mode: u16,
        seal: Seal,
    ) -> Result<Outcome, FsError>;
    /// Makes a symbolic link.
    #[idempotent]
    fn symlink(
        operation: Operation,
        directory: Inode,
        name: &[u8],
        target: &[u8],
        seal: Seal,
    ) -> Result<Outcome, FsError>;
    /// Removes a name. [`FileKind::Directory`] removes an empty directory, any other kind
    /// whatever is no directory.
    #[idempotent]
    fn unlink(
        operation: Operation,
        directory: Inode,
        name: &[u8],
        kind: FileKind,
        seal: Seal,
    ) -> Result<Outcome, FsError>;
    /// Moves a name, replacing a file or an empty directory there in one step.
    #[idempotent]
    fn rename(
        operation: Operation,
        from: Inode,
        from_name: &[u8],
        to: Inode,
        to_name: &[u8],
        seal: Seal,
    ) -> Result<Outcome, FsError>;
    /// Makes a file shorter, or longer with zeros.
    #[idempotent]
    fn truncate(
        operation: Operation,
        inode: Inode,
        bytes: u64,
        seal: Seal,
    ) -> Result<Outcome, FsError>;
    /// Writes from a memory object. [`APPEND`] as offset writes at the end. All or nothing.
    #[idempotent]
    fn write(
        operation: Operation,
        inode: Inode,
        transfer: Transfer,
        buffer: Handle<Memory>,
        seal: Seal,
    ) -> Result<Outcome, FsError>;
    /// Writes at most [`MAX_SMALL_BYTES`] bytes from the message; else as `write`.
    #[idempotent]
    fn write_small(
        operation: Operation,
        inode: Inode,
        offset: u64,
        content: &[u8],
        seal: Seal,
    ) -> Result<Outcome, FsError>;
    /// Brings everything written so far to where it outlives a loss of power.
    #[idempotent]
    fn sync() -> Result<(), FsError>;
}

/// The offset that means "at the end of the file" for a write.
pub const APPEND: u64 = u64::MAX;
