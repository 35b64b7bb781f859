//! Boots the kernel.

fn main() {}
