//! Mounts, path walk and open files.
#![cfg_attr(bare, no_std, no_main)]

#[cfg(bare)]
extern crate alloc;

#[cfg(bare)]
mod guest;

#[cfg(bare)]
libsys::entry!(main);

#[cfg(bare)]
fn main() -> i32 {
    match guest::serve() {
        Ok(never) => match never {},
        Err(reason) => {
            log::error!("cannot serve: {reason}");
            1
        }
    }
}

#[cfg(not(bare))]
fn main() {}
