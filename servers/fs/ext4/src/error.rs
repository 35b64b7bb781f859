//! Why the file system could not answer.

use core::fmt;

pub use libipc::proto::file_system::Damage;

/// A failure of the file-system core. Whatever the image holds, the answer is one of these: no
/// input makes the core panic or run without bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// This part of the image contradicts itself or the format, in this way. Remedy: `e2fsck` on
    /// the host.
    Damaged(Damage, &'static str),
    /// The image uses a feature that this reader does not know.
    Unsupported(&'static str),
    /// The device failed to read, or is gone.
    Device,
    /// The directory has no such name.
    NotFound,
    /// The inode is no directory.
    NotADirectory,
    /// The inode is a directory, which has no bytes to read.
    IsADirectory,
    /// The inode is no symbolic link.
    NotALink,
    /// The inode number is free or out of range.
    Stale,
    /// The name is empty.
    BadName,
    /// The name is longer than 255 bytes.
    NameTooLong,
    /// The receiver of the bytes refused them.
    Sink,
    /// What was read is not what the request sealed.
    Seal,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Damaged(part, what) => write!(f, "damaged {}: {what}", part.text()),
            Error::Unsupported(what) => write!(f, "unsupported ext4 feature: {what}"),
            Error::Device => f.write_str("block device error"),
            Error::NotFound => f.write_str("no such name"),
            Error::NotADirectory => f.write_str("not a directory"),
            Error::IsADirectory => f.write_str("is a directory"),
            Error::NotALink => f.write_str("not a symbolic link"),
            Error::Stale => f.write_str("no such inode"),
            Error::BadName => f.write_str("empty name"),
            Error::NameTooLong => f.write_str("name too long"),
            Error::Sink => f.write_str("the buffer refused the bytes"),
            Error::Seal => f.write_str("another request was answered"),
        }
    }
}

impl core::error::Error for Error {}

/// The result of an operation of the core.
pub type Result<T> = core::result::Result<T, Error>;
