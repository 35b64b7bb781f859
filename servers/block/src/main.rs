//! Block devices: one queue per device, requests by rings.
#![cfg_attr(bare, no_std, no_main)]

#[cfg(bare)]
libsys::entry!(main);

#[cfg(bare)]
fn main() -> i32 {
    0
}

#[cfg(not(bare))]
fn main() {}
