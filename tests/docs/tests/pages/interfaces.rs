//! The reference of interfaces: one page each, its main part generated from the source.

use std::path::Path;

use libipc::Interface;
use libipc::proto;
use libipc::schema::{Contract, Schema};
use skink_docs::interface::{Source, insert, markdown, parse};
use skink_docs::pages::names;
use skink_docs::{expect_content, read};

const FOLDER: &str = "docs/reference/ipc";

/// File of the source without its ending, and compiled schema.
fn interfaces() -> Vec<(&'static str, &'static Schema)> {
    vec![
        ("block", proto::block::BlockSchema::SCHEMA),
        ("console", proto::console::ConsoleSchema::SCHEMA),
        ("disk", proto::disk::DiskSchema::SCHEMA),
        ("file_system", proto::file_system::FileSystemSchema::SCHEMA),
        ("init", proto::init::InitSchema::SCHEMA),
        ("log", proto::log::LogSchema::SCHEMA),
        ("memory", proto::memory::MemoryManagerSchema::SCHEMA),
        ("pci", proto::pci::PciSchema::SCHEMA),
        ("vfs", proto::vfs::VfsSchema::SCHEMA),
    ]
}

fn source(file: &str) -> Source {
    parse(&read(format!("libipc/src/proto/{file}.rs")))
}

fn attribute(contract: Contract) -> &'static str {
    match contract {
        Contract::Idempotent => "idempotent",
        Contract::ExactlyOnce => "exactly_once",
        Contract::FailsOnRestart => "fails_on_restart",
    }
}

#[test]
fn all_interfaces_are_known_here() {
    let files = names(Path::new("libipc/src/proto"));
    let found: Vec<&str> = files
        .iter()
        .map(|file| file.trim_end_matches(".rs"))
        .collect();
    let known: Vec<&str> = interfaces().iter().map(|(file, _)| *file).collect();
    assert_eq!(found, known);
}

#[test]
fn what_is_read_from_the_source_is_what_is_compiled() {
    for (file, schema) in interfaces() {
        let source = source(file);
        assert_eq!(source.name, schema.name);
        assert_eq!(source.version, schema.version.to_string(), "{file}");
        let read: Vec<(&str, &str)> = source
            .methods
            .iter()
            .map(|m| (m.name.as_str(), m.contract.as_str()))
            .collect();
        let compiled: Vec<(&str, &str)> = schema
            .methods
            .iter()
            .map(|m| (m.name, attribute(m.contract)))
            .collect();
        assert_eq!(read, compiled, "{file}");
        assert!(
            source.methods.iter().all(|m| !m.docs.is_empty()),
            "{file}: methods without docs"
        );
        // The vfs passes on the errors of the file systems.
        assert!(
            !source.errors.is_empty() || file == "vfs",
            "{file}: no error enum"
        );
    }
}

#[test]
fn every_interface_has_a_page_that_is_up_to_date() {
    for (file, _) in interfaces() {
        let path = format!("{FOLDER}/{}.md", file.replace('_', "-"));
        let page = read(&path);
        let wanted = insert(&page, &markdown(&source(file)));
        expect_content(
            &path,
            &wanted.unwrap_or_else(|| panic!("{path} lacks the marks")),
        );
    }
}

#[test]
fn every_page_has_version_and_id() {
    for (file, schema) in interfaces() {
        let path = format!("{FOLDER}/{}.md", file.replace('_', "-"));
        let row = format!("| version | {} (id `{:#06x}`) |", schema.version, schema.id);
        assert!(read(&path).contains(&row), "{path} lacks the row {row}");
    }
}
