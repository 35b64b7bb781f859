//! The memory manager: wiring of the policy in the library to the kernel and to its clients.
//!
//! It runs at level 3 with pinned memory, so it never faults, and it calls nobody.
#![cfg_attr(bare, no_std, no_main)]

#[cfg(bare)]
extern crate alloc;
#[cfg(bare)]
mod kernel;
#[cfg(bare)]
mod service;
#[cfg(bare)]
mod tables;

#[cfg(bare)]
libsys::entry!(service::main);

#[cfg(not(bare))]
fn main() {}
