//! Sound images of all shapes.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use ext4::Volume;
use ext4::error::Error;
use ext4::inode::{Kind, ROOT};
use fixtures::{Ext4, Tree};

use crate::Folder;
use crate::device::{FakeDevice, block_on, block_on_all};
use crate::walk::{compare, list};

/// A tree that has one of everything but is quickly made.
fn small_tree(folder: &Path) -> Tree {
    let tree = Tree::new(&folder.join("tree")).unwrap();
    for bytes in [
        0, 1, 59, 60, 61, 100, 140, 1023, 1024, 1025, 4096, 65_537, 700_001,
    ] {
        tree.file(&format!("sizes/{bytes}"), bytes).unwrap();
    }
    for index in 0..1200 {
        tree.text(&format!("many/a-name-of-some-length-{index:05}"), b"x")
            .unwrap();
    }
    tree.text(&format!("{}/leaf", "deep/".repeat(30)), b"leaf")
        .unwrap();
    tree.text("names/\u{1f98e}\u{e9}", b"lizard").unwrap();
    tree.text(&format!("names/{}", "m".repeat(255)), b"long")
        .unwrap();
    tree.text("few/one", b"1")
        .unwrap()
        .text("few/two", b"2")
        .unwrap();
    tree.link("links/fast", "../sizes/1").unwrap();
    tree.link("links/slow", &"../links/".repeat(20)).unwrap();
    tree.link("links/edge59", &"e".repeat(59)).unwrap();
    tree.link("links/edge60", &"e".repeat(60)).unwrap();
    tree.directory("empty").unwrap();
    tree.sparse("sparse", 9 << 20, &[0, 50_000, 1 << 20, (9 << 20) - 4096])
        .unwrap();
    tree
}

fn check(name: &str, recipe: &Ext4) {
    let folder = Folder::new(name);
    let tree = small_tree(folder.path());
    let image = folder.path().join("image");
    recipe.make(tree.root(), &image).unwrap();
    let volume = block_on(Volume::mount(FakeDevice::open(&image))).unwrap();
    assert_eq!(volume.remarks(), "");
    compare(&volume, ROOT, tree.root());
}

#[test]
fn default_volumes_equal_their_tree() {
    check("default", &Ext4::new());
}

#[test]
fn volumes_with_small_blocks_equal_their_tree() {
    check("block-1k", &Ext4::new().block_bytes(1024));
    check("block-2k", &Ext4::new().block_bytes(2048));
}

#[test]
fn volumes_with_blocks_of_64_kib_equal_their_tree() {
    check("block-64k", &Ext4::new().block_bytes(65_536).megabytes(256));
}

#[test]
fn volumes_with_and_without_checksums_equal_their_tree() {
    check("no-csum", &Ext4::new().features("^metadata_csum"));
    check(
        "gdt-csum",
        &Ext4::new().features("^metadata_csum,uninit_bg"),
    );
    check("csum-seed", &Ext4::new().features("metadata_csum_seed"));
}

#[test]
fn volumes_with_old_features_equal_their_tree() {
    check("no-64bit", &Ext4::new().features("^64bit"));
    let ext2 = "^extent,^64bit,^metadata_csum,^has_journal,^flex_bg,^huge_file,^dir_nlink";
    check("ext2-4k", &Ext4::new().features(ext2));
    check(
        "ext2-1k",
        &Ext4::new()
            .features(ext2)
            .block_bytes(1024)
            .inode_bytes(128),
    );
    check("no-types", &Ext4::new().features("^filetype"));
}

#[test]
fn volumes_with_new_features_equal_their_tree() {
    check("inline", &Ext4::new().features("inline_data"));
    check(
        "inline-512",
        &Ext4::new().features("inline_data").inode_bytes(512),
    );
    check(
        "meta-bg",
        &Ext4::new()
            .features("meta_bg,^resize_inode")
            .block_bytes(1024),
    );
    check("sparse-super2", &Ext4::new().features("sparse_super2"));
    check(
        "bigalloc",
        &Ext4::new()
            .features("bigalloc")
            .argument("-C")
            .argument("16384"),
    );
    check("large-dir", &Ext4::new().features("large_dir,casefold"));
    check("no-index", &Ext4::new().features("^dir_index"));
}

#[test]
fn an_image_of_the_users_own_making_equals_its_tree() {
    let folder = Folder::new("user");
    let image = fixtures::user_image(folder.path()).unwrap();
    let volume = block_on(Volume::mount(FakeDevice::open(&image.path))).unwrap();
    compare(&volume, ROOT, &image.tree);
}

#[test]
fn a_sequential_reader_has_the_device_busy_ahead_and_reads_each_byte_once() {
    let folder = Folder::new("sequential");
    let tree = Tree::new(&folder.path().join("tree")).unwrap();
    tree.file("big", 8 << 20).unwrap();
    let image = folder.path().join("image");
    Ext4::new().make(tree.root(), &image).unwrap();
    let device = FakeDevice::open(&image);
    let volume = block_on(Volume::mount(device.clone())).unwrap();
    let root = block_on(volume.inode(ROOT)).unwrap();
    let number = block_on(volume.lookup(&root, b"big")).unwrap();
    let inode = block_on(volume.inode(number)).unwrap();
    let before = device.reads();
    for step in 0..2048 {
        let mut page = Vec::new();
        block_on(volume.read(&inode, step * 4096, 4096, &mut page)).unwrap();
        assert_eq!(page.len(), 4096);
    }
    assert!(
        device.most_used() >= 6,
        "at most {} reads in flight",
        device.most_used()
    );
    // 64 reads of 128 KiB, and some more where the extents of the file end.
    let reads = device.reads() - before;
    assert!(reads < 100, "{reads} reads for 8 MiB");
}

#[test]
fn many_readers_at_once_all_get_their_bytes() {
    let folder = Folder::new("parallel");
    let tree = Tree::new(&folder.path().join("tree")).unwrap();
    for index in 0..12 {
        tree.file(&format!("file-{index}"), 900_000 + index * 1111)
            .unwrap();
    }
    let image = folder.path().join("image");
    Ext4::new().make(tree.root(), &image).unwrap();
    let volume = block_on(Volume::mount(FakeDevice::open(&image))).unwrap();
    let volume = &volume;
    let mut readers: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
    for index in 0..12 {
        let path = tree.root().join(format!("file-{index}"));
        readers.push(Box::pin(async move {
            let root = volume.inode(ROOT).await.unwrap();
            let name = format!("file-{index}");
            let number = volume.lookup(&root, name.as_bytes()).await.unwrap();
            let inode = volume.inode(number).await.unwrap();
            let mut bytes = Vec::new();
            while (bytes.len() as u64) < inode.bytes {
                let at = bytes.len() as u64;
                let mut part = Vec::new();
                volume.read(&inode, at, 222_222, &mut part).await.unwrap();
                bytes.append(&mut part);
            }
            assert!(bytes == std::fs::read(path).unwrap(), "{name} differs");
        }));
    }
    block_on_all(readers);
}

#[test]
fn wrong_questions_get_clear_answers() {
    let folder = Folder::new("questions");
    let image = fixtures::sample_image(folder.path()).unwrap();
    let volume = block_on(Volume::mount(FakeDevice::open(&image.path))).unwrap();
    let root = block_on(volume.inode(ROOT)).unwrap();
    let find = |name: &[u8]| block_on(volume.lookup(&root, name));
    assert_eq!(find(b"nothing"), Err(Error::NotFound));
    assert_eq!(find(b""), Err(Error::BadName));
    assert_eq!(find(&[b'x'; 256]), Err(Error::NameTooLong));
    let hello = block_on(volume.inode(find(b"hello.txt").unwrap())).unwrap();
    let mut bytes = Vec::new();
    assert_eq!(
        block_on(volume.lookup(&hello, b"x")),
        Err(Error::NotADirectory)
    );
    assert_eq!(block_on(volume.read_link(&hello)), Err(Error::NotALink));
    assert_eq!(
        block_on(volume.read(&root, 0, 1, &mut bytes)),
        Err(Error::IsADirectory)
    );
    assert_eq!(
        block_on(volume.read(&hello, 17, 100, &mut bytes)),
        Ok(17..17)
    );
    assert_eq!(
        block_on(volume.read(&hello, u64::MAX, u64::MAX, &mut bytes)),
        Ok(u64::MAX..u64::MAX)
    );
    assert_eq!(
        block_on(volume.read(&hello, 6, u64::MAX, &mut bytes)),
        Ok(6..17)
    );
    assert_eq!(bytes, b"from ext4.\n");
    for number in [
        0,
        u32::MAX,
        volume.superblock().inodes + 1,
        volume.superblock().inodes,
    ] {
        assert_eq!(block_on(volume.inode(number)), Err(Error::Stale));
    }
    // A cookie that no listing gave is a place like any other.
    for cookie in [1, 13, 4095, 4096, u64::MAX] {
        block_on(volume.read_dir(&root, cookie, &mut |_, _| {
            std::ops::ControlFlow::Continue(())
        }))
        .unwrap();
    }
    assert!(block_on(list(&volume, &root)).unwrap().len() >= 4);
    assert_eq!(root.kind, Kind::Directory);
}
