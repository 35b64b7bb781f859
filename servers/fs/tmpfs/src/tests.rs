use std::collections::BTreeMap;

use libipc::proto::file_system::{
    APPEND, Attributes, Cookie, FileKind, FsError, Inode, MAX_NAME_BYTES, Operation, Outcome, Seal,
    Transfer,
};
use libsys::state::StateMemory;
use libsys::state::fake::FakeMemory;

use crate::{BLOCK_BYTES, Stamp, TmpFs};

mod crash;
mod damage;
mod model;
mod wire;

const TREE_BYTES: usize = 64 * 1024;
const DATA_BYTES: usize = 24 * BLOCK_BYTES;

type TestFs = TmpFs<FakeMemory>;

/// Counts operations, as the vfs does for a program.
#[derive(Default)]
struct Operations(u64);

impl Operations {
    fn next(&mut self) -> Operation {
        self.0 += 1;
        Operation {
            client: 7,
            sequence: self.0,
            step: 0,
            repeated: false,
        }
    }

    fn stamp(&mut self) -> Stamp {
        stamp(self.next())
    }
}

fn stamp(operation: Operation) -> Stamp {
    Stamp {
        operation,
        now_s: 0,
        seal: None,
    }
}

fn new_fs() -> TestFs {
    let tree = FakeMemory::new(TREE_BYTES);
    let data = FakeMemory::new(DATA_BYTES).written_with(&tree);
    TestFs::open(tree, data).unwrap().0
}

/// Opens what the writer left behind in both parts, to be written by a new writer.
fn reopen(tree: &FakeMemory, data: &FakeMemory) -> TestFs {
    let tree = tree.survivor();
    let data = data.survivor().written_with(&tree);
    let (fs, report, dropped) = TestFs::open(tree, data).unwrap();
    assert!(!report.has_losses(), "{report}");
    assert_eq!(dropped, 0);
    fs
}

fn restart(fs: TestFs) -> TestFs {
    let (tree, data) = fs.into_memory();
    reopen(&tree, &data)
}

/// Finds a name as the service does.
fn lookup(fs: &TestFs, directory: Inode, name: &[u8]) -> Result<Attributes, FsError> {
    fs.lookup(directory, name, Seal::name(directory, name))
}

/// Returns a transfer from or to the start of a buffer.
fn transfer(offset: u64, bytes: u32) -> Transfer {
    Transfer {
        offset,
        bytes,
        buffer_offset: 0,
    }
}

fn write(
    fs: &mut TestFs,
    operation: Operation,
    inode: Inode,
    offset: u64,
    content: &[u8],
) -> Result<Outcome, FsError> {
    let bytes = content.len() as u32;
    fs.write(
        stamp(operation),
        inode,
        transfer(offset, bytes),
        |at, place| {
            place.copy_from_slice(&content[at as usize..at as usize + place.len()]);
            Ok(())
        },
    )
}

fn read(fs: &TestFs, inode: Inode, offset: u64, bytes: u32) -> Result<Vec<u8>, FsError> {
    let mut content = vec![0xee; bytes as usize];
    let transfer = transfer(offset, bytes);
    let seal = Seal::shared(inode, transfer);
    let count = fs.read(inode, transfer, seal, |at, piece| {
        content[at as usize..at as usize + piece.len()].copy_from_slice(piece);
        Ok(())
    })?;
    content.truncate(count as usize);
    Ok(content)
}

fn read_all(fs: &TestFs, inode: Inode) -> Vec<u8> {
    let bytes = fs.stat(inode).unwrap().bytes;
    read(fs, inode, 0, bytes as u32).unwrap()
}

/// Returns all files with their content and all directories, by path.
fn contents(fs: &TestFs) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut rest = vec![(String::new(), fs.root())];
    while let Some((path, directory)) = rest.pop() {
        for (name, kind, inode) in list(fs, directory) {
            let path = format!("{path}/{name}");
            if kind == FileKind::Directory {
                found.insert(path.clone(), None);
                rest.push((path, inode));
            } else {
                found.insert(path, Some(read_all(fs, inode)));
            }
        }
    }
    found
}

fn list(fs: &TestFs, directory: Inode) -> Vec<(String, FileKind, Inode)> {
    let mut names = Vec::new();
    let mut next = Some(Cookie(0));
    while let Some(from) = next {
        let page = fs.read_dir(directory, from).unwrap();
        next = page.next;
        names.extend(page.items.into_iter().map(|entry| {
            (
                String::from_utf8(entry.name).unwrap(),
                entry.kind,
                entry.inode,
            )
        }));
    }
    names
}

fn file(fs: &mut TestFs, operations: &mut Operations, name: &str) -> Inode {
    let root = fs.root();
    let kind = (FileKind::Regular, 0o644);
    fs.create(operations.stamp(), root, name.as_bytes(), kind)
        .unwrap()
        .inode
}

fn directory(fs: &mut TestFs, operations: &mut Operations, parent: Inode, name: &str) -> Inode {
    let kind = (FileKind::Directory, 0o755);
    fs.create(operations.stamp(), parent, name.as_bytes(), kind)
        .unwrap()
        .inode
}

#[test]
fn files_survive_a_restart() {
    let (mut fs, mut operations) = (new_fs(), Operations::default());
    let inode = file(&mut fs, &mut operations, "grüße");
    let content: Vec<u8> = (0..10_000_u32).map(|i| i as u8).collect();
    write(&mut fs, operations.next(), inode, 0, &content).unwrap();
    let root = fs.root();
    let below = directory(&mut fs, &mut operations, root, "below");
    fs.symlink(
        Stamp {
            now_s: 5,
            ..operations.stamp()
        },
        below,
        b"link",
        b"../gr",
    )
    .unwrap();
    let fs = restart(fs);
    assert_eq!(
        lookup(&fs, fs.root(), "grüße".as_bytes()).unwrap().bytes,
        10_000
    );
    assert_eq!(read_all(&fs, inode), content);
    let link = lookup(&fs, below, b"link").unwrap();
    assert_eq!((link.kind, link.modified_s), (FileKind::Symlink, 5));
    assert_eq!(fs.read_link(link.inode).unwrap(), b"../gr");
}

#[test]
fn holes_and_grown_ends_read_as_zeros() {
    let (mut fs, mut operations) = (new_fs(), Operations::default());
    let inode = file(&mut fs, &mut operations, "sparse");
    write(&mut fs, operations.next(), inode, 0, &[1; 5000]).unwrap();
    fs.truncate(operations.stamp(), inode, 4100).unwrap();
    // What was cut off must not come back.
    fs.truncate(operations.stamp(), inode, 4200).unwrap();
    assert_eq!(
        read(&fs, inode, 4096, 200).unwrap(),
        [[1; 4].as_slice(), &[0; 100]].concat()
    );
    write(&mut fs, operations.next(), inode, 40_000, b"end").unwrap();
    assert_eq!(
        read(&fs, inode, 4100, 100_000).unwrap()[..35_900],
        [0; 35_900]
    );
    assert_eq!(read(&fs, inode, 40_000, 100).unwrap(), b"end");
    assert_eq!(read(&fs, inode, 40_003, 100).unwrap(), b"");
    assert_eq!(read(&fs, inode, u64::MAX, u32::MAX).unwrap(), b"");
    // Two blocks at the start, one at the end.
    assert_eq!(fs.space().free_blocks, fs.space().blocks - 3);
}

#[test]
fn a_full_file_system_says_so_and_loses_nothing() {
    let (mut fs, mut operations) = (new_fs(), Operations::default());
    let inode = file(&mut fs, &mut operations, "a");
    let room = fs.space().blocks as usize * BLOCK_BYTES;
    write(&mut fs, operations.next(), inode, 0, &vec![7; room - 100]).unwrap();
    let too_much = write(&mut fs, operations.next(), inode, APPEND, &[8; 101]);
    assert_eq!(too_much, Err(FsError::NoSpace));
    assert_eq!(fs.stat(inode).unwrap().bytes as usize, room - 100);
    write(&mut fs, operations.next(), inode, APPEND, &[9; 100]).unwrap();
    assert_eq!(fs.space().free_blocks, 0);
    let root = fs.root();
    fs.unlink(operations.stamp(), root, b"a", FileKind::Regular)
        .unwrap();
    assert_eq!(fs.space().free_blocks, fs.space().blocks);
    assert_eq!(fs.stat(inode), Err(FsError::Stale));
}

#[test]
fn absurd_offsets_are_refused() {
    let (mut fs, mut operations) = (new_fs(), Operations::default());
    let inode = file(&mut fs, &mut operations, "a");
    for offset in [u64::MAX - 1, u64::MAX - 100, 1 << 50] {
        let result = write(&mut fs, operations.next(), inode, offset, b"x");
        assert_eq!(result, Err(FsError::TooLarge));
        assert_eq!(
            fs.truncate(operations.stamp(), inode, offset),
            Err(FsError::TooLarge)
        );
    }
}

#[test]
fn a_repeated_operation_is_answered_and_not_run_again() {
    let (mut fs, mut operations) = (new_fs(), Operations::default());
    let inode = file(&mut fs, &mut operations, "log");
    let append = operations.next();
    let first = write(&mut fs, append, inode, APPEND, b"line\n").unwrap();
    let remove = operations.next();
    file(&mut fs, &mut operations, "other");
    let root = fs.root();
    fs.unlink(stamp(remove), root, b"other", FileKind::Regular)
        .unwrap();
    let mut fs = restart(fs);
    let again = Operation {
        repeated: true,
        ..append
    };
    assert_eq!(
        write(&mut fs, again, inode, APPEND, b"line\n").unwrap(),
        first
    );
    assert_eq!(read_all(&fs, inode), b"line\n");
    let again = Operation {
        repeated: true,
        ..remove
    };
    fs.unlink(stamp(again), root, b"other", FileKind::Regular)
        .unwrap();
    assert_eq!(fs.outcome(append), Some(first));
    assert_eq!(fs.outcome(operations.next()), None);
}

#[test]
fn names_are_checked() {
    let (mut fs, mut operations) = (new_fs(), Operations::default());
    let root = fs.root();
    let long = [b'x'; MAX_NAME_BYTES + 1];
    for (name, error) in [
        (b"".as_slice(), FsError::Invalid),
        (b".", FsError::Invalid),
        (b"..", FsError::Invalid),
        (b"a/b", FsError::Invalid),
        (b"a\0b", FsError::Invalid),
        (&long, FsError::NameTooLong),
    ] {
        let result = fs.create(operations.stamp(), root, name, (FileKind::Regular, 0));
        assert_eq!(result, Err(error));
    }
    let kind = (FileKind::Regular, 0);
    fs.create(operations.stamp(), root, &long[1..], kind)
        .unwrap();
    assert_eq!(
        fs.create(operations.stamp(), root, &long[1..], kind),
        Err(FsError::Exists)
    );
    let special = (FileKind::Special, 0);
    assert_eq!(
        fs.create(operations.stamp(), root, b"s", special),
        Err(FsError::Invalid)
    );
}

#[test]
fn rename_follows_the_rules_of_unix() {
    let (mut fs, mut operations) = (new_fs(), Operations::default());
    let root = fs.root();
    let a = directory(&mut fs, &mut operations, root, "a");
    let b = directory(&mut fs, &mut operations, a, "b");
    let f = file(&mut fs, &mut operations, "f");
    let g = file(&mut fs, &mut operations, "g");
    write(&mut fs, operations.next(), g, 0, b"old").unwrap();
    let free = fs.space().free_blocks;
    let mut rename = |fs: &mut TestFs, from: (Inode, &[u8]), to: (Inode, &[u8])| {
        fs.rename(operations.stamp(), from, to)
            .map(|outcome| outcome.inode)
    };
    assert_eq!(
        rename(&mut fs, (root, b"a"), (b, b"c")),
        Err(FsError::Invalid)
    );
    assert_eq!(
        rename(&mut fs, (root, b"a"), (a, b"c")),
        Err(FsError::Invalid)
    );
    assert_eq!(
        rename(&mut fs, (root, b"f"), (root, b"a")),
        Err(FsError::IsADirectory)
    );
    assert_eq!(
        rename(&mut fs, (a, b"b"), (root, b"f")),
        Err(FsError::NotADirectory)
    );
    assert_eq!(
        rename(&mut fs, (root, b"x"), (root, b"f")),
        Err(FsError::NotFound)
    );
    assert_eq!(rename(&mut fs, (root, b"f"), (root, b"g")), Ok(f));
    assert_eq!(fs.space().free_blocks, free + 1);
    assert_eq!(rename(&mut fs, (root, b"g"), (root, b"g")), Ok(f));
    assert_eq!(lookup(&fs, root, b"g").unwrap().inode, f);
    assert_eq!(rename(&mut fs, (root, b"g"), (b, b"deep")), Ok(f));
    assert_eq!(rename(&mut fs, (a, b"b"), (root, b"b")), Ok(b));
    assert_eq!(
        rename(&mut fs, (root, b"a"), (root, b"b")),
        Err(FsError::NotEmpty)
    );
    assert_eq!(rename(&mut fs, (root, b"a"), (b, b"a")), Ok(a));
    let paths: Vec<String> = contents(&fs).into_keys().collect();
    assert_eq!(paths, ["/b", "/b/a", "/b/deep"]);
}

#[test]
fn a_long_directory_is_listed_once_even_while_it_changes() {
    let tree = FakeMemory::new(1 << 20);
    let data = FakeMemory::new(DATA_BYTES).written_with(&tree);
    let mut fs = TestFs::open(tree, data).unwrap().0;
    let mut operations = Operations::default();
    for i in 0..1000 {
        file(&mut fs, &mut operations, &format!("file-{i:04}"));
    }
    let first = fs.read_dir(fs.root(), Cookie(0)).unwrap();
    let root = fs.root();
    fs.unlink(operations.stamp(), root, b"file-0000", FileKind::Regular)
        .unwrap();
    let mut names: Vec<_> = first.items.into_iter().map(|entry| entry.name).collect();
    let mut next = first.next;
    while let Some(from) = next {
        let page = fs.read_dir(root, from).unwrap();
        next = page.next;
        names.extend(page.items.into_iter().map(|entry| entry.name));
    }
    assert_eq!(names.len(), 1000);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 1000);
}

#[test]
fn blocks_that_damage_gave_to_two_files_are_taken_from_one() {
    let (mut fs, mut operations) = (new_fs(), Operations::default());
    let a = file(&mut fs, &mut operations, "a");
    write(&mut fs, operations.next(), a, 0, &[0xaa; 4096]).unwrap();
    let root = fs.root();
    fs.unlink(operations.stamp(), root, b"a", FileKind::Regular)
        .unwrap();
    // All other blocks are used once, so that the next file gets the block of the first one.
    let hog = file(&mut fs, &mut operations, "hog");
    let all = fs.space().blocks as usize;
    write(
        &mut fs,
        operations.next(),
        hog,
        0,
        &vec![1; all * BLOCK_BYTES],
    )
    .unwrap();
    let (mut tree, data) = fs.into_memory();
    // Damage the record that removed "a": its journal record holds the name alone.
    let journal = tree.view(..).to_vec();
    let record = [1, 1, 0, 0, 0, 0, 0, 0, 0, 1, b'a'];
    let place = journal
        .windows(record.len())
        .rposition(|window| window == record)
        .unwrap();
    tree.damage(place, 0xc0);
    let (fs, report, dropped) = TestFs::open(tree.survivor(), data.survivor()).unwrap();
    assert_eq!((report.dropped, dropped), (1, 1));
    assert_eq!(read_all(&fs, hog).len(), all * BLOCK_BYTES);
    let (tree, data) = fs.into_memory();
    let (_, report, dropped) = TestFs::open(tree, data).unwrap();
    assert_eq!((report.dropped, dropped), (0, 0));
}

#[test]
fn schema_changes_only_with_a_migration() {
    libsys::golden_schema!("tests/golden/state.txt", crate::tree::Tree);
}
