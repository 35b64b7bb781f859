//! Death between any two stores.

use libipc::proto::file_system::{APPEND, FileKind, Operation};

use super::{TestFs, contents, lookup, new_fs, read_all, reopen, stamp, write};
use libsys::state::fake::FakeMemory;

/// A change of the file system, by path-less names in the root.
enum Step {
    Create(&'static str),
    MakeDir(&'static str),
    Write(&'static str, u64, Vec<u8>),
    Truncate(&'static str, u64),
    Rename(&'static str, &'static str),
    Remove(&'static str),
}

fn run(fs: &mut TestFs, operation: Operation, step: &Step) {
    let root = fs.root();
    let inode = |fs: &TestFs, name: &str| lookup(fs, root, name.as_bytes()).unwrap().inode;
    match step {
        Step::Create(name) => {
            let kind = (FileKind::Regular, 0o644);
            fs.create(stamp(operation), root, name.as_bytes(), kind)
                .unwrap();
        }
        Step::MakeDir(name) => {
            let kind = (FileKind::Directory, 0o755);
            fs.create(stamp(operation), root, name.as_bytes(), kind)
                .unwrap();
        }
        Step::Write(name, offset, content) => {
            let inode = inode(fs, name);
            write(fs, operation, inode, *offset, content).unwrap();
        }
        Step::Truncate(name, bytes) => {
            let inode = inode(fs, name);
            fs.truncate(stamp(operation), inode, *bytes).unwrap();
        }
        Step::Rename(from, to) => {
            fs.rename(
                stamp(operation),
                (root, from.as_bytes()),
                (root, to.as_bytes()),
            )
            .unwrap();
        }
        Step::Remove(name) => {
            fs.unlink(stamp(operation), root, name.as_bytes(), FileKind::Regular)
                .unwrap();
        }
    }
}

fn steps() -> Vec<Step> {
    vec![
        Step::Create("a"),
        Step::Write("a", 0, vec![1; 5000]),
        Step::Create("b"),
        Step::Write("b", APPEND, vec![2; 100]),
        Step::Write("b", APPEND, vec![3; 100]),
        Step::MakeDir("d"),
        Step::Truncate("a", 10),
        Step::Write("b", 9000, vec![4; 20]),
        Step::Rename("b", "a"),
        Step::Create("c"),
        Step::Write("c", 3, vec![5; 4096]),
        Step::Truncate("c", 20_000),
        Step::Remove("a"),
        Step::Create("e"),
        // Takes the blocks that "a" let go.
        Step::Write("e", 0, vec![6; 12_000]),
    ]
}

fn operation(number: usize) -> Operation {
    Operation {
        client: 3,
        sequence: number as u64,
        step: 0,
        repeated: false,
    }
}

#[test]
fn what_was_acknowledged_survives_and_a_repeated_request_ends_the_same() {
    let mut fs = new_fs();
    for (number, step) in steps().iter().enumerate() {
        let before = contents(&fs);
        let (tree, data) = fs.into_memory();
        let mut next = dying(&tree, &data, usize::MAX);
        run(&mut next, operation(number), step);
        let after = contents(&next);
        let (after_tree, after_data) = next.into_memory();
        let stores = after_tree.stores();
        // A spread over the long copies of content, every cut of the records at the end.
        let spread = (0..stores).step_by(stores / 150 + 1);
        for limit in spread.chain(stores.saturating_sub(40)..=stores) {
            cut(&tree, &data, (number, step), limit, (&before, &after));
        }
        fs = reopen(&after_tree, &after_data);
    }
}

/// Opens what was left behind with a writer that dies after `limit` stores.
fn dying(tree: &FakeMemory, data: &FakeMemory, limit: usize) -> TestFs {
    let tree = tree.survivor();
    let data = data.survivor().written_with(&tree);
    TestFs::open(tree.dying_after(limit), data).unwrap().0
}

type Contents = std::collections::BTreeMap<String, Option<Vec<u8>>>;

/// Lets the server die after `limit` stores of a step, and asks for the step again.
fn cut(
    tree: &FakeMemory,
    data: &FakeMemory,
    (number, step): (usize, &Step),
    limit: usize,
    (before, after): (&Contents, &Contents),
) {
    let mut victim = dying(tree, data, limit);
    run(&mut victim, operation(number), step);
    let (tree, data) = victim.into_memory();
    let mut fs = reopen(&tree, &data);
    let found = contents(&fs);
    // A write into blocks that the file has already may be there in part: its request was not
    // answered yet. Everything else is as before or as after.
    for (path, content) in &found {
        let is_target = matches!(step, Step::Write(name, ..) if path == &format!("/{name}"));
        let is_known = before.get(path) == Some(content) || after.get(path) == Some(content);
        assert!(
            is_target || is_known,
            "step {number} cut after {limit}: {path} is neither"
        );
    }
    let paths: Vec<_> = found.keys().collect();
    assert!(
        paths == before.keys().collect::<Vec<_>>() || paths == after.keys().collect::<Vec<_>>()
    );
    if let Step::Write(name, ..) = step {
        let inode = lookup(&fs, fs.root(), name.as_bytes()).unwrap().inode;
        assert!(read_all(&fs, inode).len() >= before[&format!("/{name}")].as_ref().unwrap().len());
    }
    let again = Operation {
        repeated: true,
        ..operation(number)
    };
    run(&mut fs, again, step);
    assert_eq!(
        &contents(&fs),
        after,
        "step {number} cut after {limit} and repeated"
    );
}
