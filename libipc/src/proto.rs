//! The interfaces of the system's services, one file each.
//!
//! A file holds the trait, the types that travel in its messages and its error enum. Variants and
//! methods are only ever added at the end; anything else needs a new `version` and new golden
//! bytes (`libipc/tests/golden`).

pub mod block;
pub mod console;
pub mod disk;
pub mod file_system;
pub mod init;
pub mod log;
pub mod memory;
pub mod pci;
pub mod vfs;
