//! The first process: starts, watches and restarts the services.
//!
//! The kernel starts it with all rights, all free RAM and the boot bundle. What it decides is in
//! the library of this package; here that is carried out.
#![cfg_attr(bare, no_std, no_main)]

#[cfg(bare)]
extern crate alloc;

#[cfg(bare)]
mod guest;

#[cfg(bare)]
libsys::entry!(main);

#[cfg(bare)]
fn main() -> i32 {
    guest::run()
}

#[cfg(not(bare))]
fn main() {}
