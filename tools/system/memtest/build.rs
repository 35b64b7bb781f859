//! Passes the guest linker script when the crate is built for Skink itself.

fn main() {
    skink_link::user_program();
}
