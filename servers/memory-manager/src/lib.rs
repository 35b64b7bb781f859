//! The memory manager's policy: who owns which frame, and what a page fault is answered with.
//!
//! - [`zones`]: numbers the frames of all RAM objects.
//! - [`buddy`]: free frames.
//! - [`residents`]: which frame holds which page of which space (an inverted page table).
//! - [`regions`]: what a space may touch.
//! - [`resolve`]: what a fault gets, as a pure function.
//! - [`objects`]: memory objects and when their frames come back.
//! - [`journal`]: what is written down for the next instance, and in which order.
//! - [`inventory`]: whether that can be all of it, and what is done if not.
//! - [`rebuild`]: how the next instance finds out who has which frame.
//! - [`manager`]: all of it together, over a [`machine::Machine`] that does what is decided.
//!
//! Nothing on the path of a fault allocates: the tables of frames are made once, of RAM itself,
//! and their all-zero state is the empty one. Everything that a client can ask for is bounded.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod buddy;
pub mod inventory;
pub mod journal;
mod link;
pub mod machine;
pub mod manager;
pub mod objects;
pub mod rebuild;
pub mod regions;
pub mod reserve;
pub mod residents;
pub mod resolve;
pub mod spaces;
pub mod zones;

/// Number of a frame, see [`zones`].
pub type Frame = u32;

/// Bytes of a page.
pub const PAGE_BYTES: u64 = skink_abi::PAGE_SIZE as u64;
