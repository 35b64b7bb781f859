//! Version 2 of `vfs`: its own sources, with the library of version 2 in place of the first.
#![cfg_attr(bare, no_std, no_main)]

#[cfg(bare)]
extern crate alloc;
#[cfg(bare)]
extern crate vfs_2 as vfs;

#[cfg(bare)]
#[path = "../../../../servers/vfs/src/guest.rs"]
mod guest;

#[cfg(bare)]
libsys::entry!(main);

#[cfg(bare)]
fn main() -> i32 {
    match guest::serve() {
        Ok(never) => match never {},
        Err(why) => {
            log::error!("cannot serve: {why}");
            1
        }
    }
}

#[cfg(not(bare))]
fn main() {}
