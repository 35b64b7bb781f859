//! Bits that flip in the heap: who finds that does not answer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libipc::proto::file_system::{Damage, FileKind, FsError, Inode};
use libsys::state::State as _;

use crate::tree::{Change, NewNode, Record, Run, Tree};

use super::{Operations, TestFs, new_fs, reopen};

fn with_files() -> TestFs {
    let (mut fs, mut operations) = (new_fs(), Operations::default());
    for name in [&b"a"[..], b"b", b"c"] {
        let root = fs.root();
        fs.create(operations.stamp(), root, name, (FileKind::Regular, 0o644))
            .unwrap();
    }
    fs
}

#[test]
fn a_name_without_its_node_is_no_answer_when_the_region_has_the_node() {
    let mut fs = with_files();
    fs.tree.corrupt(|tree| tree.lose_node(3));
    let answer = fs.lookup(fs.root(), b"b");
    assert_eq!(answer, Err(FsError::Damaged(Damage::Directory)));
    let passed_on = catch_unwind(AssertUnwindSafe(|| fs.sane(answer)));
    assert!(passed_on.is_err());
    // The next instance has it.
    let (tree, data) = fs.into_memory();
    let fs = reopen(&tree, &data);
    fs.sane(fs.lookup(fs.root(), b"b")).unwrap();
}

#[test]
fn a_file_that_nobody_knows_is_an_answer() {
    let fs = with_files();
    let answer = fs.sane(fs.stat(Inode(99)));
    assert_eq!(answer.unwrap_err(), FsError::Stale);
}

#[test]
fn a_change_that_did_not_come_about_shows() {
    let mut tree = Tree::default();
    let apply = |tree: &mut Tree, change| {
        tree.apply(Record {
            completes: None,
            now_s: 0,
            change,
        });
    };
    let create = Change::Create {
        directory: 1,
        name: b"name".to_vec(),
        inode: 2,
        mode: 0o644,
        node: NewNode::File,
    };
    assert!(tree.leads_to(1, b"name", None));
    apply(&mut tree, create);
    assert!(tree.leads_to(1, b"name", Some(2)));
    for (directory, name, inode) in [
        (1, &b"name"[..], None),
        (1, b"name", Some(3)),
        (1, b"nam", Some(2)),
        (1, b"name ", Some(2)),
        (2, b"name", Some(2)),
        (9, b"name", None),
    ] {
        assert!(!tree.leads_to(directory, name, inode), "{name:?} {inode:?}");
    }
    let runs = vec![Run {
        index: 3,
        block: 7,
        count: 2,
    }];
    let write = Change::Write {
        inode: 2,
        bytes: 20_000,
        runs,
    };
    apply(&mut tree, write);
    assert!(tree.holds(2, 20_000, 3) && tree.holds(2, 20_000, 4));
    assert!(!tree.holds(2, 20_001, 4), "another size");
    assert!(!tree.holds(2, 20_000, 2), "a hole");
    assert!(!tree.holds(1, 0, 0), "a directory");
    tree.lose_node(2);
    assert!(!tree.leads_to(1, b"name", Some(2)), "a name without node");
}
