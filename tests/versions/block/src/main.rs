//! Version 2 of `block`: its own sources, with the library of version 2 in place of the first.
#![cfg_attr(bare, no_std, no_main)]

#[cfg(bare)]
extern crate alloc;
#[cfg(bare)]
extern crate block_2 as block;

#[cfg(bare)]
#[path = "../../../../servers/block/src/device.rs"]
mod device;
#[cfg(bare)]
#[path = "../../../../servers/block/src/guest.rs"]
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
