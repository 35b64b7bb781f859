//! Block devices for many clients: checks, splits, joins and orders their requests.
#![cfg_attr(bare, no_std, no_main)]

#[cfg(bare)]
extern crate alloc;

#[cfg(bare)]
mod device;
#[cfg(bare)]
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
