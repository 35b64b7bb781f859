//! Pure policy of the kernel: no unsafe code, no I/O, all of it tested on the host.
//!
//! Objects are named by [`Id`]s (indices into the kernel's arenas). Lists and heaps keep their
//! links in the objects themselves, reached through small traits, so that nothing here allocates
//! and nothing here needs a pointer.
//!
//! Start with [`list`], then [`endpoint`] (the IPC state machine) and [`handles`]. What programs see
//! of endpoints is specified in [`model`], which is for tests.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod clock;
pub mod deadlines;
pub mod endpoint;
pub mod handles;
pub mod list;
pub mod model;
pub mod placement;
pub mod range;

/// Names an object of some kind: its index in the kernel's arena.
pub type Id = u32;

/// No object.
pub const NONE: Id = u32::MAX;
