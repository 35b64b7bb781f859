//! The bytes of every message of every interface: requests, replies, each variant of each error,
//! entries and completions of rings, batches of streams.
//!
//! What is written down comes from the interface itself, so no method can be left out. With
//! `SKINK_BLESS=1` new lines are added; lines that change or go need a new version first.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use libipc::describe::{self, Described};
use libipc::proto::{Visitor, visit};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/messages")
}

/// Returns what is wrong with blessing `new` in place of `old`: with one version, messages are only
/// added.
fn mistake(old: &str, new: &str) -> Option<String> {
    let version = |text: &str| text.split_whitespace().nth(3).map(str::to_owned);
    if version(old) != version(new) {
        return None;
    }
    let kept: BTreeSet<_> = new.lines().collect();
    let lost = old.lines().skip(1).find(|line| !kept.contains(line))?;
    Some(format!(
        "raise the version of the interface; this changed: {lost}"
    ))
}

/// Compares files, and notes their names.
#[derive(Default)]
struct Compare {
    files: Vec<String>,
}

impl Visitor for Compare {
    fn see<I: Described>(&mut self, file: &'static str) {
        let text = describe::golden::<I>();
        let methods = text.lines().filter(|line| line.starts_with("method "));
        assert_eq!(methods.count(), I::SCHEMA.methods.len(), "{file}");
        self.files.push(format!("{file}.txt"));
        let path = folder().join(format!("{file}.txt"));
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        if old == text {
            return;
        }
        let mistake = mistake(&old, &text);
        assert_eq!(mistake, None, "{file}");
        assert!(
            std::env::var_os("SKINK_BLESS").is_some(),
            "{} lacks messages: run SKINK_BLESS=1 cargo test -p libipc and look at the difference",
            path.display()
        );
        std::fs::write(&path, text).unwrap();
    }
}

#[test]
fn every_message_looks_as_before() {
    let mut compare = Compare::default();
    visit(&mut compare);
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, compare.files, "a file without an interface");
}

#[test]
fn what_changes_needs_a_version_and_what_is_added_does_not() {
    let old = "interface X version 1 id 1 hash 1\nmethod 0 a\nrequest a () -\n";
    let more = "interface X version 1 id 1 hash 2\nmethod 0 a\nrequest a () -\nmethod 1 b\n";
    let other = "interface X version 1 id 1 hash 2\nmethod 0 a\nrequest a (u8) 01\n";
    assert_eq!(mistake(old, more), None);
    assert!(mistake(old, other).unwrap().contains("request a () -"));
    assert_eq!(mistake(old, &other.replace("version 1", "version 2")), None);
}
