//! Service manifests and the boot bundle format.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]

pub mod bundle;
pub mod command_line;
