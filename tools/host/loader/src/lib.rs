//! Boots the kernel: from what PVH or multiboot2 left in memory to a `bootloader_api` hand-over.
//!
//! The library is the safe part and sees physical memory through [`PhysicalMemory`], so that all
//! of it runs on the host against a fake. The binary is the entry code, the real memory and the
//! jump. Order of work: [`pvh`] or [`multiboot2`] reads the boot protocol into a [`Source`];
//! [`prepare`](prepare::prepare) finds the kernel in the boot bundle, loads and maps it, and
//! returns the [`Handoff`](prepare::Handoff) that the binary turns into a `BootInfo`.
//!
//! Nothing that comes from outside (bundle, kernel image, boot protocol) is trusted: what does
//! not fit ends with a [`LoadError`] in words.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod elf;
mod error;
pub mod memory_map;
pub mod multiboot2;
pub mod paging;
mod physical;
pub mod prepare;
pub mod pvh;
mod source;

pub use error::LoadError;
pub use physical::{Frames, PhysicalMemory, Range};
pub use source::{Screen, Source};

#[cfg(test)]
mod fake;

/// Bytes in a page.
pub const PAGE: u64 = 4096;
/// The loader works below this address: entry code maps exactly this much, and both boot
/// protocols put everything that they hand over there.
pub const REACHABLE_END: u64 = 1 << 32;
