//! Service manifests and the boot bundle format.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bundle;
pub mod command_line;
pub mod service;
#[cfg(feature = "std")]
mod source;

pub use service::{Service, decode};
#[cfg(feature = "std")]
pub use source::compile;
