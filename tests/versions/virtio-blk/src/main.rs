//! Version 2 of `virtio-blk`: its own sources, with the library of version 2 in place of the first.
#![cfg_attr(bare, no_std, no_main)]

#[cfg(bare)]
extern crate alloc;
#[cfg(bare)]
extern crate virtio_blk_2 as virtio_blk;

#[cfg(bare)]
#[path = "../../../../servers/drivers/virtio-blk/src/guest.rs"]
mod guest;
#[cfg(bare)]
#[path = "../../../../servers/drivers/virtio-blk/src/probe.rs"]
mod probe;
#[cfg(bare)]
#[path = "../../../../servers/drivers/virtio-blk/src/unit.rs"]
mod unit;

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
