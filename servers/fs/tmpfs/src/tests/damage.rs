//! Bits that flip in the heap: who finds that does not answer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libipc::proto::file_system::{Damage, FileKind, FsError, Inode};
use libsys::state::State as _;

use crate::tree::{Change, NewNode, Record, Run, Tree};

use super::{Operations, TestFs, new_fs, reopen};

/// Something that goes wrong.
type Harm = fn(&mut TestFs);

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
    let is = |block| move |found| found == block;
    assert!(tree.holds(2, 20_000, 3, is(7)) && tree.holds(2, 20_000, 4, is(8)));
    assert!(!tree.holds(2, 20_000, 4, is(7)), "another block");
    assert!(!tree.holds(2, 20_001, 4, is(8)), "another size");
    assert!(!tree.holds(2, 20_000, 2, |_| true), "a hole");
    assert!(!tree.holds(1, 0, 0, |_| true), "a directory");
    assert!(tree.ends_at(2, 20_000) && !tree.ends_at(2, 19_999));
    tree.lose_node(2);
    assert!(!tree.leads_to(1, b"name", Some(2)), "a name without node");
}

#[test]
fn blocks_that_are_not_those_of_the_file_are_not_read_or_written() {
    let mut operations = Operations::default();
    let content = [7; 9000];
    let damages: [(&str, Harm); 3] = [
        ("the block of another place", |fs| {
            fs.tree.corrupt(|tree| tree.move_block(2, 0, 1))
        }),
        ("the block of another file", |fs| {
            fs.tree.corrupt(|tree| tree.move_block(2, 0, 4))
        }),
        ("a block that was lost", |fs| {
            fs.tree.corrupt(|tree| tree.lose_node(3))
        }),
    ];
    for (what, damage) in damages {
        let mut fs = with_files();
        for inode in [2, 3] {
            fs.write(operations.stamp(), Inode(inode), (0, 9000), |at, place| {
                place.copy_from_slice(&content[at..at + place.len()]);
                Ok(())
            })
            .unwrap();
        }
        damage(&mut fs);
        let inode = if what.contains("lost") { 3 } else { 2 };
        let read = |fs: &TestFs| fs.read(Inode(inode), 0, 9000, |_, _| Ok(()));
        let answer = catch_unwind(AssertUnwindSafe(|| fs.sane(read(&fs))));
        assert!(answer.is_err(), "{what} was read");
        let write = catch_unwind(AssertUnwindSafe(|| {
            let written = fs.write(operations.stamp(), Inode(inode), (10, 10), |_, _| Ok(()));
            written.map_err(|_| ())
        }));
        assert!(!matches!(write, Ok(Ok(_))), "{what} was written");
        let (tree, data) = fs.into_memory();
        assert_eq!(read(&reopen(&tree, &data)), Ok(9000));
    }
}

#[test]
fn an_error_that_is_not_right_is_not_given() {
    let mut fs = with_files();
    let mut operations = Operations::default();
    let root = fs.root();
    fs.create(operations.stamp(), root, b"d", (FileKind::Directory, 0o755))
        .unwrap();
    let file = Some(FileKind::Regular);
    let directory = Some(FileKind::Directory);
    for (name, kind, error, is_right) in [
        (&b"x"[..], None, FsError::NotFound, true),
        (b"a", None, FsError::NotFound, false),
        (b"a", None, FsError::Exists, true),
        (b"x", None, FsError::Exists, false),
        (b"a", directory, FsError::NotADirectory, true),
        (b"a", file, FsError::NotADirectory, false),
        (b"x", directory, FsError::NotADirectory, false),
        (b"d", directory, FsError::NotADirectory, false),
        (b"d", file, FsError::IsADirectory, true),
        (b"d", directory, FsError::IsADirectory, false),
        (b"a", file, FsError::IsADirectory, false),
        (b"d", directory, FsError::NotEmpty, false),
    ] {
        let check = || fs.check_refusal(root, name, kind, error);
        let is_given = catch_unwind(AssertUnwindSafe(check)).is_ok();
        assert_eq!(is_given, is_right, "{name:?} {kind:?} {error:?}");
    }
    let none = fs.lookup(Inode(2), b"a").map(drop);
    assert_eq!(none, Err(FsError::NotADirectory));
}
