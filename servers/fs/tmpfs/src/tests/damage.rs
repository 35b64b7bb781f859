//! Bits that flip in the heap: who finds that does not answer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libipc::proto::file_system::{Attributes, Cookie, Damage, FileKind, FsError, Inode, Outcome};
use libsys::state::State as _;

use crate::outcomes::Completed;
use crate::tree::{Change, NewNode, Record, Run, Tree};

use super::{Operations, TestFs, lookup, new_fs, read, reopen, transfer};

/// Something that goes wrong.
type Harm = fn(&mut TestFs);
/// As [`Harm`], to the tree alone.
type TreeHarm = fn(&mut Tree);

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
    let answer = lookup(&fs, fs.root(), b"b");
    assert_eq!(answer, Err(FsError::Damaged(Damage::Directory)));
    let passed_on = catch_unwind(AssertUnwindSafe(|| fs.sane(answer)));
    assert!(passed_on.is_err());
    // The next instance has it.
    let (tree, data) = fs.into_memory();
    let fs = reopen(&tree, &data);
    fs.sane(lookup(&fs, fs.root(), b"b")).unwrap();
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
    assert!(tree.holds(2, (20_000, 2), 3, is(7)) && tree.holds(2, (20_000, 2), 4, is(8)));
    assert!(!tree.holds(2, (20_000, 2), 4, is(7)), "another block");
    assert!(!tree.holds(2, (20_001, 2), 4, is(8)), "another size");
    assert!(!tree.holds(2, (20_000, 3), 4, is(8)), "a block was lost");
    assert!(!tree.holds(2, (20_000, 2), 2, |_| true), "a hole");
    assert!(!tree.holds(1, (0, 0), 0, |_| true), "a directory");
    assert!(tree.ends_at(2, 20_000, 2) && !tree.ends_at(2, 19_999, 2));
    assert!(!tree.ends_at(2, 20_000, 1), "a block too many");
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
            fs.write(
                operations.stamp(),
                Inode(inode),
                transfer(0, 9000),
                |at, place| {
                    place.copy_from_slice(&content[at as usize..at as usize + place.len()]);
                    Ok(())
                },
            )
            .unwrap();
        }
        damage(&mut fs);
        let inode = if what.contains("lost") { 3 } else { 2 };
        let read = |fs: &TestFs| read(fs, Inode(inode), 0, 9000);
        let answer = catch_unwind(AssertUnwindSafe(|| fs.sane(read(&fs))));
        assert!(answer.is_err(), "{what} was read");
        let write = catch_unwind(AssertUnwindSafe(|| {
            let written = fs.write(
                operations.stamp(),
                Inode(inode),
                transfer(10, 10),
                |_, _| Ok(()),
            );
            written.map_err(|_| ())
        }));
        assert!(!matches!(write, Ok(Ok(_))), "{what} was written");
        let (tree, data) = fs.into_memory();
        assert_eq!(read(&reopen(&tree, &data)).unwrap(), content);
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
    let none = lookup(&fs, Inode(2), b"a").map(drop);
    assert_eq!(none, Err(FsError::NotADirectory));
}

#[test]
fn names_that_do_not_lead_to_their_nodes_are_not_given() {
    let damages: [(&str, TreeHarm); 3] = [
        ("two names are exchanged", |tree| {
            tree.exchange_names(1, b"a", b"b")
        }),
        ("a name is another one", |tree| {
            tree.change_name(1, b"b", b"0A")
        }),
        ("two nodes are exchanged", |tree| tree.exchange_nodes(2, 3)),
    ];
    for (what, damage) in damages {
        let is_seen = |look: &dyn Fn(&mut TestFs)| {
            let mut fs = with_files();
            fs.tree.corrupt(damage);
            catch_unwind(AssertUnwindSafe(|| look(&mut fs))).is_err()
        };
        let list = |fs: &mut TestFs| drop(fs.read_dir(fs.root(), Cookie(0)));
        let insert = |fs: &mut TestFs| {
            let kind = (FileKind::Regular, 0o644);
            fs.create(Operations(90).stamp(), fs.root(), b"0", kind)
                .unwrap();
        };
        let find = |fs: &mut TestFs| {
            let found = lookup(fs, fs.root(), b"0A");
            let _: Result<Attributes, FsError> = found.or(lookup(fs, fs.root(), b"b"));
        };
        let remove = |fs: &mut TestFs| {
            let root = fs.root();
            let removed = fs.unlink(Operations(90).stamp(), root, b"d", FileKind::Regular);
            assert!(removed.is_err());
        };
        assert!(is_seen(&remove), "{what}, and another name is not found");
        assert!(is_seen(&list), "{what}, and was listed");
        assert!(
            is_seen(&insert),
            "{what}, and was not seen beside a new name"
        );
        assert!(is_seen(&find), "{what}, and was found");
    }
}

/// Returns a tree with two files and a directory with one, and what its operation was.
fn small_tree() -> Tree {
    let mut tree = Tree::default();
    for (directory, name, inode, node) in [
        (1, b"a", 2, NewNode::File),
        (1, b"b", 3, NewNode::File),
        (1, b"d", 4, NewNode::Directory),
        (4, b"x", 5, NewNode::File),
    ] {
        let change = Change::Create {
            directory,
            name: name.to_vec(),
            inode,
            mode: 0,
            node,
        };
        tree.apply(record(None, change));
    }
    tree
}

fn encoded(tree: &Tree) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let used = libsys::encoding::encode(tree, &mut bytes).unwrap();
    bytes.truncate(used);
    bytes
}

fn record(completes: Option<Completed>, change: Change) -> Record {
    Record {
        completes,
        now_s: 0,
        change,
    }
}

fn create(name: &[u8], inode: u64) -> Change {
    Change::Create {
        directory: 1,
        name: name.to_vec(),
        inode,
        mode: 0,
        node: NewNode::File,
    }
}

fn remove(name: &[u8]) -> Change {
    Change::Unlink {
        directory: 1,
        name: name.to_vec(),
    }
}

fn rename(from: &[u8], to: &[u8]) -> Change {
    Change::Rename {
        from: 1,
        from_name: from.to_vec(),
        to: 1,
        to_name: to.to_vec(),
    }
}

fn write_run(inode: u64, bytes: u64, count: u32) -> Change {
    let run = Run {
        index: 0,
        block: 0,
        count,
    };
    Change::Write {
        inode,
        bytes,
        runs: vec![run],
    }
}

#[test]
fn a_record_that_does_not_fit_changes_nothing_and_is_not_remembered() {
    for (change, inode, is_made) in [
        (create(b"c", 6), 6, true),
        (create(b"a", 6), 6, false),
        (create(b"c", 3), 3, false),
        (create(b"c", u64::MAX), u64::MAX, false),
        (remove(b"a"), 2, true),
        (remove(b"a"), 3, false),
        (remove(b"c"), 2, false),
        (remove(b"d"), 4, false),
        (rename(b"a", b"b"), 2, true),
        (rename(b"a", b"b"), 3, false),
        (rename(b"c", b"b"), 2, false),
        (write_run(2, 9000, 3), 2, true),
        (write_run(2, 9000, 4), 2, false),
        (write_run(2, 9000, u32::MAX), 2, false),
        (write_run(4, 9000, 3), 4, false),
        (write_run(2, u64::MAX, u32::MAX), 2, false),
    ] {
        let mut tree = small_tree();
        let operation = Operations(8).next();
        let outcome = Outcome {
            inode: Inode(inode),
            offset: 0,
            bytes: 0,
        };
        let what = format!("{change:?}");
        let before = encoded(&tree);
        tree.apply(record(Some((operation.into(), outcome)), change));
        let after = encoded(&tree);
        assert_eq!(before != after, is_made, "{what}");
        let is_remembered = tree.outcomes.get(operation.into()).is_some();
        assert_eq!(is_remembered, is_made, "{what}");
    }
}

#[test]
fn a_change_that_is_not_that_of_its_outcome_does_not_count() {
    let tree = small_tree();
    let outcome = |inode, offset, bytes| Outcome {
        inode: Inode(inode),
        offset,
        bytes,
    };
    for (change, outcome, is_right) in [
        (create(b"c", 6), outcome(6, 0, 0), true),
        (create(b"c", 6), outcome(7, 0, 0), false),
        (create(b"c", 7), outcome(7, 0, 0), false),
        (write_run(2, 9000, 3), outcome(2, 10, 8990), true),
        (write_run(2, 9000, 3), outcome(2, 10, 8991), false),
        (write_run(2, 9000, 3), outcome(3, 10, 8990), false),
        (write_run(2, 9000, 4), outcome(2, 10, 8990), false),
    ] {
        let what = format!("{change:?} {outcome:?}");
        let record = record(Some((Operations(8).next().into(), outcome)), change);
        assert_eq!(tree.allows(&record), is_right, "{what}");
    }
}

#[test]
fn attributes_that_are_not_those_of_the_node_are_seen() {
    let tree = small_tree();
    for inode in [2, 4] {
        let node = tree.node(inode).unwrap();
        let right = node.attributes(inode);
        assert!(node.has(inode, &right));
        let changes: [fn(&mut Attributes); 6] = [
            |wrong| wrong.bytes += 1,
            |wrong| wrong.kind = FileKind::Symlink,
            |wrong| wrong.inode.0 ^= 1,
            |wrong| wrong.mode ^= 1,
            |wrong| wrong.modified_s ^= 1,
            |wrong| wrong.links = 0,
        ];
        for change in changes {
            let mut wrong = right;
            change(&mut wrong);
            assert!(!node.has(inode, &wrong), "{wrong:?}");
        }
    }
}

#[test]
fn a_block_that_was_lost_is_no_hole() {
    let (mut fs, mut operations) = (with_files(), Operations(50));
    fs.write(operations.stamp(), Inode(2), transfer(0, 9000), |_, _| {
        Ok(())
    })
    .unwrap();
    fs.tree.corrupt(|tree| tree.lose_block(2, 1));
    let read = catch_unwind(AssertUnwindSafe(|| read(&fs, Inode(2), 4096, 10)));
    assert!(read.is_err());
}
