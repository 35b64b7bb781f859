//! The vfs: one tree of files out of several file systems.
//!
//! It owns the mount table, walks paths (`.`, `..`, symbolic links, mount points), and keeps the
//! table of open files by badge. File content never passes through it: a program's buffer is
//! handed on to the file-system server, which copies into it.
//!
//! Open files and handed-out badges are in the state region, so that programs go on after a
//! restart. A change of a file system carries an operation name made of the program's badge and
//! sequence number; the file system remembers what became of it, so that a redelivered request
//! is not run twice.
//!
//! Start with [`Vfs`]; [`service`] is the other end of `libipc::proto::vfs`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod backend;
mod mounts;
#[cfg_attr(
    feature = "version-2",
    path = "../../../tests/versions/vfs/src/open_files.rs"
)]
mod open_files;
mod path;
mod remote;
mod second;
pub mod service;
mod tree;
mod walk;

pub use backend::{Backend, FsResult};
pub use mounts::{BadMount, Mount, parse_mount};
pub use remote::Remote;
pub use tree::Vfs;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
