//! Bits that flip in the heap: who finds that does not answer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libipc::proto::file_system::{Damage, FileKind, FsError, Inode};

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
