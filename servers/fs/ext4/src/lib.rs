//! The ext4 file system, read only.
//!
//! [`Volume`] reads a volume through a [`device::BlockReader`]: superblock, groups, inodes,
//! extents and old block maps, plain and indexed directories, inline data, links, and the
//! journal, which is replayed in memory. Metadata checksums are verified where the volume has
//! them. Nothing on the disk is trusted: whatever it holds, each operation ends in bounded time
//! with an answer or an [`error::Error`].
//!
//! [`service`] puts the `FileSystem` interface around it; `main.rs` connects that to the block
//! server.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cache;
pub mod checksum;
pub mod device;
pub mod directory;
pub mod error;
mod fields;
mod file;
pub mod group;
pub mod inode;
mod journal;
mod map;
mod readahead;
pub mod reading;
pub mod service;
pub mod superblock;
mod volume;

pub use volume::Volume;
