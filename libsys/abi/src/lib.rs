//! The contract between the kernel and Ring 3: system call numbers, errors, rights, limits and
//! shared structures.
//!
//! Used by the kernel and by `libsys`, so nothing here is declared twice. No dependency, no
//! unsafe code, no policy. `docs/reference/syscalls.md` explains each call; a host test checks
//! that the page names every one.
//!
//! # Register convention
//!
//! `syscall` with the number in `rax`. Plain calls take up to six arguments in
//! `rdi rsi rdx r8 r9 r10` and return a status in `rax` (0, or an [`Error`] code) and up to two
//! values in `rdx` and `rsi`. The kernel destroys `rcx` and `r11` only.
//!
//! IPC calls ([`Syscall::Call`], [`Syscall::Reply`], [`Syscall::Receive`],
//! [`Syscall::ReplyReceive`]) use `rdi` for the handle or handles, `rsi` for the message
//! [`Info`], `rdx` for the deadline and `r8 r9 r10 r12 r13 r14 r15 rbx` for the first 64 bytes of
//! payload. They return the status in `rax`, the incoming [`Info`] in `rsi`, the badge in `rdx`,
//! the reply handle in `rdi` and the payload in the same eight registers. After an error those eight
//! hold nothing of other programs, but not what they held before either.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod calendar;
pub mod debug_exit;
mod error;
mod handle;
pub mod layout;
mod message;
mod objects;
mod syscall;
mod time_page;

pub use error::Error;
pub use handle::{ObjectKind, RawHandle, Rights};
pub use message::{
    FaultMessage, Info, MAX_HANDLES, MAX_MESSAGE_BYTES, REGISTER_BYTES, ThreadControl,
};
pub use objects::{
    AtAnswer, BatchEntry, ExitReason, HandleInfo, KernelStats, MapFlags, MapItem, MemoryInfo,
    NAME_BYTES, PORT_STREAM_READ, PageRun, PortStream, ProcessInfo, ProcessState, SystemInfo,
    ThreadParams, WatchKind,
};
pub use syscall::Syscall;
pub use time_page::{Clock, TIME_MAGIC, TimePage};

/// Bytes in a page of the smallest size.
pub const PAGE_SIZE: usize = 4096;

/// A deadline that never comes: "wait for ever".
pub const FOREVER: u64 = u64::MAX;

/// Most handles one process can hold.
///
/// The table grows by whole pages as handles are made, so a process pays only for what it uses.
pub const MAX_PROCESS_HANDLES: usize = 8192;

/// Most pages that one [`MapItem`], `memory_unmap` or `memory_protect` may name: the kernel works
/// on them without a break. `libsys` splits longer ranges.
pub const MAX_MAP_PAGES: u64 = 4096;

/// Most bytes that one `process_peek` or `process_poke` moves.
pub const MAX_PEEK_BYTES: u64 = 4096;

/// Most runs of pages that one `process_mappings` tells.
pub const MAX_PAGE_RUNS: usize = 64;

/// Most pages that one [`MapItem`] with [`MapFlags::ZERO`] may name.
pub const MAX_ZERO_PAGES: u64 = 64;

/// Most entries of one `batch`.
pub const MAX_BATCH: usize = 64;

/// Time after which a `batch` begins no further entry, ns: interrupts are off all the while.
/// `libsys` goes on with the rest.
pub const MAX_BATCH_NS: u64 = 20_000;

/// How often a request may crash its server before its caller gets [`Error::ServerCrashed`].
pub const MAX_REQUEST_CRASHES: u8 = 2;
