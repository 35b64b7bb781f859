//! All interfaces of the system together.

use libipc::proto::{block, console, disk, file_system, init, log, memory, pci, vfs};
use libipc::schema::{Interface, Schema};

fn all() -> Vec<&'static Schema> {
    vec![
        block::BlockSchema::SCHEMA,
        console::ConsoleSchema::SCHEMA,
        disk::DiskSchema::SCHEMA,
        file_system::FileSystemSchema::SCHEMA,
        init::InitSchema::SCHEMA,
        log::LogSchema::SCHEMA,
        memory::MemoryManagerSchema::SCHEMA,
        pci::PciSchema::SCHEMA,
        vfs::VfsSchema::SCHEMA,
    ]
}

#[test]
fn no_two_interfaces_share_a_name_or_an_id() {
    let mut names: Vec<_> = all().iter().map(|schema| schema.name).collect();
    let mut ids: Vec<_> = all().iter().map(|schema| schema.id).collect();
    names.sort_unstable();
    ids.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
}

#[test]
fn method_names_are_unique_within_an_interface() {
    for schema in all() {
        let mut names: Vec<_> = schema.methods.iter().map(|method| method.name).collect();
        names.sort_unstable();
        assert!(!names.is_empty());
        assert!(
            names.windows(2).all(|pair| pair[0] != pair[1]),
            "{}",
            schema.name
        );
    }
}
