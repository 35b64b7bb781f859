//! All interfaces of the system together.

use libipc::describe::Described;
use libipc::proto::{Visitor, visit};
use libipc::schema::{Interface, Schema};

/// Collects what it sees.
#[derive(Default)]
struct All {
    schemas: Vec<&'static Schema>,
    files: Vec<String>,
}

impl Visitor for All {
    fn see<I: Described>(&mut self, file: &'static str) {
        self.schemas.push(<I as Interface>::SCHEMA);
        self.files.push(format!("{file}.rs"));
    }
}

fn all() -> Vec<&'static Schema> {
    let mut all = All::default();
    visit(&mut all);
    all.schemas
}

#[test]
fn every_file_of_an_interface_is_visited() {
    let mut all = All::default();
    visit(&mut all);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/proto");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the sources are there")
        .map(|entry| entry.expect("and can be listed").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, all.files);
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
