//! The reference of interfaces: one page each, its main part generated from the source.

use std::path::Path;

use libipc::describe::Described;
use libipc::proto::{Visitor, visit};
use libipc::schema::{Contract, Method, Schema};
use skink_docs::interface::{Source, insert, markdown, parse};
use skink_docs::pages::names;
use skink_docs::{expect_content, read};

const FOLDER: &str = "docs/reference/ipc";

/// File of the source without its ending, and compiled schema.
#[derive(Default)]
struct All(Vec<(&'static str, &'static Schema)>);

impl Visitor for All {
    fn see<I: Described>(&mut self, file: &'static str) {
        self.0.push((file, I::SCHEMA));
    }
}

fn interfaces() -> Vec<(&'static str, &'static Schema)> {
    let mut all = All::default();
    visit(&mut all);
    all.0
}

fn source(file: &str) -> Source {
    parse(&read(format!("libipc/src/proto/{file}.rs")))
}

fn attribute(method: &Method) -> &'static str {
    match method.contract {
        _ if method.is_stream => "stream",
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
            .map(|m| (m.name.as_str(), m.marker.as_str()))
            .collect();
        let compiled: Vec<(&str, &str)> = schema
            .methods
            .iter()
            .map(|m| (m.name, attribute(m)))
            .collect();
        assert_eq!(read, compiled, "{file}");
        let own_ring = schema.ring.filter(|_| source.ring_of.is_none());
        let compiled = own_ring.map_or(&[][..], |ring| ring.methods);
        let read: Vec<&str> = source.ring.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(read, compiled, "{file}");
        let ring = schema.ring.map(|ring| ring.name);
        let named = source.ring_of.as_deref();
        assert_eq!(named.or(own_ring.map(|ring| ring.name)), ring, "{file}");
        assert!(
            source
                .methods
                .iter()
                .chain(&source.ring)
                .all(|m| !m.docs.is_empty()),
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
