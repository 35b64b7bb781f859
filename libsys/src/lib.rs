//! The runtime of every Skink program: system call stubs, typed handles, start-up, heap, panic.
//!
//! Programs never write assembly: all of it is in `raw.rs`. Owned [`Handle`]s close themselves;
//! their methods are the system calls of their kind. On the host, where no kernel answers, every
//! call fails with [`Error::InvalidSyscall`], so that policy in server libraries can be tested
//! there.
//!
//! Start with [`Handle`], then [`ipc`] for messages, then [`startup`] for what a program is given.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod batch;
pub mod elf;
pub mod encoding;
pub mod gate;
#[cfg(bare)]
pub mod given;
pub mod handle;
pub mod heap;
pub mod ipc;
pub mod log_ring;
pub mod mappings;
pub mod memory;
mod objects;
pub mod place;
mod process;
mod raw;
#[cfg(bare)]
pub mod runtime;
pub mod service;
pub mod spawn;
pub mod startup;
pub mod state;
#[cfg(bare)]
pub mod thread;
pub mod time;

pub use handle::{
    Endpoint, Handle, Interrupt, IoPorts, Kind, Memory, Notification, Process, Reply, Sender,
    System, Thread,
};
pub use skink_abi as abi;
pub use skink_abi::{Error, MapFlags, RawHandle, Rights};

/// The result of a system call.
pub type Result<T> = core::result::Result<T, Error>;

/// Adds a line to the kernel log: for start-up and panics, before the log ring works. Longer
/// lines are cut at 256 bytes.
pub fn debug_log(text: &str) {
    let bytes = text.len().min(256);
    // A log line that cannot be written has no one to be told to.
    let _ = raw::plain(abi::Syscall::DebugLog, [text.as_ptr() as u64, bytes as u64]);
}

/// Does nothing in the kernel; for measuring a ring crossing.
///
/// # Errors
///
/// None on Skink.
pub fn null() -> Result<()> {
    raw::plain(abi::Syscall::Null, []).map(|_| ())
}

/// Has the kernel load other page tables and this process's again: the least that a call to another
/// process and its reply can cost where a switch of address space dominates.
///
/// # Errors
///
/// None that the kernel knows.
pub fn null_switch() -> Result<()> {
    raw::plain(abi::Syscall::NullSwitch, []).map(|_| ())
}
