//! The documentation agrees with the code. One file per subject.

mod commands;
mod folders;
mod interfaces;
mod kernel_size;
mod links;
mod manifests;
mod memory_map;
mod syscalls;
