//! The interface on top: what the vfs gets to see.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use ext4::error::{Error, Result};
use ext4::service::{OpenDevice, Service};
use fixtures::{Ext4, Tree, debugfs};
use libipc::Caller;
use libipc::proto::file_system::{
    Attributes, Cookie, Damage, FileKind, FileSystemServer, FsError, Inode, MAX_SMALL_BYTES,
    Operation, Outcome, Seal,
};

use crate::Folder;
use crate::device::{FakeDevice, block_on, block_on_all};

const CALLER: Caller = Caller {
    badge: 1,
    sequence: 1,
    redelivered: false,
};

/// Opens a device that may be missing at first.
struct Opener {
    device: FakeDevice,
    missing: Cell<u32>,
    opened: Rc<Cell<u32>>,
}

impl OpenDevice for Opener {
    type Reader = FakeDevice;

    async fn open(&self) -> Result<FakeDevice> {
        self.opened.set(self.opened.get() + 1);
        if self.missing.get() > 0 {
            self.missing.set(self.missing.get() - 1);
            return Err(Error::Device);
        }
        Ok(self.device.clone())
    }
}

fn service(device: FakeDevice, missing: u32) -> (Service<Opener>, Rc<Cell<u32>>) {
    let opened = Rc::new(Cell::new(0));
    let opener = Opener {
        device,
        missing: Cell::new(missing),
        opened: Rc::clone(&opened),
    };
    (Service::new(opener), opened)
}

fn list(service: &Service<Opener>, directory: Inode) -> BTreeMap<Vec<u8>, FileKind> {
    let mut names = BTreeMap::new();
    let mut from = Some(Cookie::default());
    while let Some(cookie) = from {
        let page = block_on(service.read_dir(&CALLER, directory, cookie)).unwrap();
        for entry in page.items {
            assert!(names.insert(entry.name, entry.kind).is_none());
        }
        from = page.next;
    }
    names
}

/// Finds a name as the vfs does.
fn lookup(
    service: &Service<Opener>,
    directory: Inode,
    name: &str,
) -> std::result::Result<Attributes, FsError> {
    let name = name.as_bytes();
    let seal = Seal::name(directory, name);
    block_on(service.lookup(&CALLER, directory, name.to_vec(), seal))
}

/// Reads from a file as the vfs does.
fn read(
    service: &Service<Opener>,
    inode: Inode,
    offset: u64,
    bytes: u32,
) -> std::result::Result<Vec<u8>, FsError> {
    let seal = Seal::transfer(inode, offset, bytes);
    block_on(service.read_small(&CALLER, inode, offset, bytes, seal))
}

#[test]
fn what_does_not_fit_its_seal_is_not_answered() {
    let folder = Folder::new("service-seal");
    let image = fixtures::sample_image(folder.path()).unwrap();
    let (service, _) = service(FakeDevice::open(&image.path), 0);
    let root = Inode(2);
    let file = lookup(&service, root, "hello.txt").unwrap().inode;
    let ask = |directory, name: &str, seal| {
        let found = service.lookup(&CALLER, directory, name.as_bytes().to_vec(), seal);
        block_on(found).map(|found| found.inode)
    };
    let seal = Seal::name(root, b"hello.txt");
    assert_eq!(ask(root, "hello.txt", seal), Ok(file));
    // Neither an answer nor an error is what was asked for.
    for (directory, name) in [(root, "hello"), (file, "hello.txt"), (root, "")] {
        assert_eq!(ask(directory, name, seal), Err(FsError::BrokenSeal));
    }
    let read = |inode, offset, bytes, seal| {
        block_on(service.read_small(&CALLER, inode, offset, bytes, seal))
    };
    let seal = Seal::transfer(file, 6, 4);
    assert_eq!(read(file, 6, 4, seal).as_deref(), Ok(b"from".as_slice()));
    for (inode, offset, bytes) in [(root, 6, 4), (file, 5, 4), (file, 6, 5)] {
        let refused = read(inode, offset, bytes, seal);
        assert_eq!(refused, Err(FsError::BrokenSeal));
    }
}

#[test]
fn files_are_found_listed_and_read_through_the_interface() {
    let folder = Folder::new("service");
    let image = fixtures::user_image(folder.path()).unwrap();
    let (service, _) = service(FakeDevice::open(&image.path), 0);
    let description = block_on(service.describe(&CALLER)).unwrap();
    assert_eq!(
        (description.kind.as_str(), description.label.as_str()),
        ("ext4", "skink")
    );
    let find = |directory, name: &str| lookup(&service, directory, name);
    let many = find(description.root, "many").unwrap();
    assert_eq!(many.kind, FileKind::Directory);
    assert_eq!(list(&service, many.inode).len(), 1000);
    let file = find(many.inode, "file-0123").unwrap();
    let bytes = read(&service, file.inode, 0, MAX_SMALL_BYTES as u32).unwrap();
    assert_eq!(bytes, b"number 123\n");
    assert_eq!(file.bytes, bytes.len() as u64);
    let links = find(description.root, "links").unwrap();
    let short = find(links.inode, "short").unwrap();
    assert_eq!(short.kind, FileKind::Symlink);
    assert_eq!(
        block_on(service.read_link(&CALLER, short.inode)).unwrap(),
        b"../sizes/4096"
    );
    assert_eq!(find(many.inode, "none"), Err(FsError::NotFound));
    assert_eq!(
        block_on(service.stat(&CALLER, Inode(u64::MAX))),
        Err(FsError::Stale)
    );
    let space = block_on(service.statfs(&CALLER)).unwrap();
    assert!(space.free_blocks > 0 && space.free_blocks < space.blocks);
}

#[test]
fn a_directory_is_found_in_one_place_only() {
    let folder = Folder::new("service-cycles");
    let tree = Tree::new(&folder.path().join("tree")).unwrap();
    tree.text("a/b/file", b"").unwrap();
    // Small directories lie in their inodes, where the parent is written in another way.
    for features in ["", "inline_data"] {
        let image = folder.path().join("image");
        let recipe = Ext4::new().megabytes(4).features(features);
        recipe.make(tree.root(), &image).unwrap();
        let links = "ln /a /a/b/up\nln / /a/b/root\nln / /self\nln /a/b/file /a/b/twice\n";
        debugfs(&image, links).unwrap();
        let (service, _) = service(FakeDevice::open(&image), 0);
        let root = block_on(service.describe(&CALLER)).unwrap().root;
        let find =
            |directory, name: &str| lookup(&service, directory, name).map(|found| found.inode);
        let b = find(find(root, "a").unwrap(), "b").unwrap();
        assert_eq!(find(b, "file"), find(b, "twice"));
        let damaged = Err(FsError::Damaged(Damage::Directory));
        assert_eq!(find(b, "up"), damaged);
        assert_eq!(find(b, "root"), damaged);
        assert_eq!(find(root, "self"), damaged);
    }
}

#[test]
fn kinds_are_known_also_where_directories_do_not_have_them() {
    let folder = Folder::new("service-kinds");
    let tree = fixtures::Tree::new(&folder.path().join("tree")).unwrap();
    tree.text("file", b"x")
        .unwrap()
        .link("link", "file")
        .unwrap()
        .directory("folder")
        .unwrap();
    let path = folder.path().join("image");
    Ext4::new()
        .features("^filetype")
        .make(tree.root(), &path)
        .unwrap();
    let (service, _) = service(FakeDevice::open(&path), 0);
    let names = list(&service, Inode(2));
    assert_eq!(names[b"file".as_slice()], FileKind::Regular);
    assert_eq!(names[b"link".as_slice()], FileKind::Symlink);
    assert_eq!(names[b"folder".as_slice()], FileKind::Directory);
}

#[test]
fn nothing_can_be_changed() {
    let folder = Folder::new("service-change");
    let image = fixtures::sample_image(folder.path()).unwrap();
    let (service, _) = service(FakeDevice::open(&image.path), 0);
    let operation = Operation {
        client: 1,
        sequence: 1,
        step: 0,
        repeated: false,
    };
    let root = Inode(2);
    let refused: [std::result::Result<Outcome, FsError>; 3] = [
        block_on(service.create(
            &CALLER,
            operation,
            root,
            vec![b'x'],
            FileKind::Regular,
            0o644,
            Seal::default(),
        )),
        block_on(service.unlink(
            &CALLER,
            operation,
            root,
            b"hello.txt".to_vec(),
            FileKind::Regular,
            Seal::default(),
        )),
        block_on(service.truncate(&CALLER, operation, root, 0, Seal::default())),
    ];
    assert_eq!(refused, [Err(FsError::ReadOnly); 3]);
}

#[test]
fn a_device_that_was_missing_is_tried_again_and_a_bad_one_is_not() {
    let folder = Folder::new("service-missing");
    let image = fixtures::sample_image(folder.path()).unwrap();
    let (late, _) = service(FakeDevice::open(&image.path), 2);
    assert_eq!(block_on(late.describe(&CALLER)), Err(FsError::Device));
    assert_eq!(
        block_on(late.stat(&CALLER, Inode(2))).unwrap_err(),
        FsError::Device
    );
    // Each request looks for it again.
    assert!(block_on(late.describe(&CALLER)).is_ok());

    let (bad, opened) = service(FakeDevice::new(vec![0; 1 << 20]), 0);
    for _ in 0..3 {
        let error = block_on(bad.describe(&CALLER)).unwrap_err();
        assert!(matches!(error, FsError::Damaged(_)));
    }
    // Once more from the disk, and then no more.
    assert_eq!(opened.get(), 2);
}

#[test]
fn what_is_damaged_in_memory_only_is_read_again() {
    let folder = Folder::new("service-memory");
    let image = fixtures::sample_image(folder.path()).unwrap();
    let device = FakeDevice::open(&image.path);
    let find =
        |service: &Service<Opener>| lookup(service, Inode(2), "hello.txt").map(|found| found.inode);
    let (good, _) = service(device.clone(), 0);
    let before = device.reads();
    let expected = find(&good).unwrap();
    let reads = device.reads() - before;
    let mut remounted = 0;
    for read in 0..reads {
        device.damage_after(read);
        let (service, opened) = service(device.clone(), 0);
        match find(&service) {
            Ok(found) => assert_eq!(found, expected),
            // The same metadata says how the volume is laid out: not all damage looks like it.
            Err(error) => assert!(!matches!(error, FsError::Damaged(_)), "{read}: {error}"),
        }
        remounted += u32::from(opened.get() == 2);
    }
    assert!(remounted > 1, "{remounted} of {reads}");
}

#[test]
fn requests_that_come_while_mounting_wait_for_it() {
    let folder = Folder::new("service-mounting");
    let image = fixtures::sample_image(folder.path()).unwrap();
    let (service, opened) = service(FakeDevice::open(&image.path), 0);
    let service = &service;
    block_on_all(
        (0..5)
            .map(|_| -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
                Box::pin(async move {
                    assert!(service.stat(&CALLER, Inode(2)).await.is_ok());
                })
            })
            .collect(),
    );
    assert_eq!(opened.get(), 1);
}
