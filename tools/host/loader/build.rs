//! Passes the loader's linker script when the crate is built for the machine itself.

fn main() {
    skink_link::loader();
}
