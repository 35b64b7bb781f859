//! tmpfs: files in memory that survive the death of their server.
//!
//! Everything lies in the state region. Its first part holds the tree (names, sizes, which block
//! holds what) as a `libsys::state` region; the rest is blocks of 4 KiB with the content. A write
//! first fills blocks that nothing refers to yet, then appends one record that makes them part of
//! the file; a block is used again only after the record that let it go. So whatever was
//! acknowledged is there after a kill at any moment, and content of one file never shows up in
//! another.
//!
//! The outcome of recent operations is part of the same records: a repeated request is answered
//! from there and not run again.
//!
//! Start with [`TmpFs`]; [`service`] is the other end of `libipc::proto::file_system`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod blocks;
mod files;
mod outcomes;
pub mod service;
mod tree;

pub use blocks::BLOCK_BYTES;
pub use files::{MIN_BYTES, Stamp, TmpFs};

#[cfg(test)]
mod tests;
