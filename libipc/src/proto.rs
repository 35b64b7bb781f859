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

/// Looks at interfaces.
#[cfg(not(bare))]
pub trait Visitor {
    /// Looks at the interface whose source is `libipc/src/proto/$file.rs`.
    fn see<I: crate::describe::Described>(&mut self, file: &'static str);
}

/// Shows all interfaces to a visitor: for tests that must not overlook one.
#[cfg(not(bare))]
pub fn visit(visitor: &mut impl Visitor) {
    visitor.see::<block::BlockSchema>("block");
    visitor.see::<console::ConsoleSchema>("console");
    visitor.see::<disk::DiskSchema>("disk");
    visitor.see::<file_system::FileSystemSchema>("file_system");
    visitor.see::<init::InitSchema>("init");
    visitor.see::<log::LogSchema>("log");
    visitor.see::<memory::MemoryManagerSchema>("memory");
    visitor.see::<pci::PciSchema>("pci");
    visitor.see::<vfs::VfsSchema>("vfs");
}
