//! Volumes that were not unmounted cleanly.

use std::path::Path;

use ext4::Volume;
use ext4::error::Error;
use ext4::inode::ROOT;
use fixtures::{Ext4, Tree, debugfs};

use crate::Folder;
use crate::device::{FakeDevice, block_on};
use crate::walk::TestVolume;

const MAGIC: [u8; 4] = 0xc03b_3998_u32.to_be_bytes();

/// Makes a volume with one file of four blocks whose second block has a new content that lies in
/// the journal only. Returns the new content.
fn make(folder: &Path, recipe: &Ext4, journal_options: &str, block_bytes: usize) -> Vec<u8> {
    let tree = Tree::new(&folder.join("tree")).unwrap();
    tree.file("file", block_bytes * 4).unwrap();
    let image = folder.join("image");
    recipe.make(tree.root(), &image).unwrap();
    let blocks = debugfs(&image, "blocks /file\n").unwrap();
    let block = blocks
        .lines()
        .rev()
        .find_map(|line| line.split_whitespace().nth(1))
        .unwrap();
    // It starts with the journal's own magic, so the journal must escape it.
    let mut content = b"new content of the block".repeat(block_bytes);
    content.truncate(block_bytes);
    content[..4].copy_from_slice(&MAGIC);
    let file = folder.join("content");
    std::fs::write(&file, &content).unwrap();
    let commands = format!(
        "jo {journal_options}\njw -b {block} {}\njc\n",
        file.display()
    );
    debugfs(&image, &commands).unwrap();
    content
}

fn read_file(volume: &TestVolume) -> Vec<u8> {
    let root = block_on(volume.inode(ROOT)).unwrap();
    let number = block_on(volume.lookup(&root, b"file")).unwrap();
    let inode = block_on(volume.inode(number)).unwrap();
    let mut bytes = Vec::new();
    block_on(volume.read(&inode, 0, u64::MAX, &mut bytes)).unwrap();
    bytes
}

fn check(name: &str, recipe: &Ext4, journal_options: &str, block_bytes: usize) {
    let folder = Folder::new(name);
    let content = make(folder.path(), recipe, journal_options, block_bytes);
    let image = folder.path().join("image");
    let volume = block_on(Volume::mount(FakeDevice::open(&image))).unwrap();
    assert!(
        volume
            .remarks()
            .contains("replayed 1 transactions (1 blocks)"),
        "{}",
        volume.remarks()
    );
    let mut expected = std::fs::read(folder.path().join("tree/file")).unwrap();
    expected[block_bytes..block_bytes * 2].copy_from_slice(&content);
    assert!(read_file(&volume) == expected);
}

#[test]
fn blocks_in_the_journal_are_newer_than_those_in_place() {
    check("journal-default", &Ext4::new(), "", 4096);
    check("journal-v3", &Ext4::new(), "-c -v 3", 4096);
    check("journal-v2", &Ext4::new(), "-c -v 2", 4096);
    let narrow = Ext4::new()
        .features("^64bit,^metadata_csum")
        .block_bytes(1024);
    check("journal-1k", &narrow, "", 1024);
    check("journal-v2-1k", &narrow, "-c -v 2", 1024);
}

#[test]
fn a_revoked_block_is_not_replayed() {
    let folder = Folder::new("journal-revoke");
    make(folder.path(), &Ext4::new(), "-c -v 3", 4096);
    let image = folder.path().join("image");
    let blocks = debugfs(&image, "blocks /file\n").unwrap();
    let block = blocks
        .lines()
        .rev()
        .find_map(|line| line.split_whitespace().nth(1))
        .unwrap();
    debugfs(&image, &format!("jo\njw -r {block}\njc\n")).unwrap();
    let volume = block_on(Volume::mount(FakeDevice::open(&image))).unwrap();
    assert!(
        volume.remarks().contains("2 transactions (0 blocks)"),
        "{}",
        volume.remarks()
    );
    let expected = std::fs::read(folder.path().join("tree/file")).unwrap();
    assert!(read_file(&volume) == expected);
}

#[test]
fn a_torn_transaction_is_left_out() {
    let folder = Folder::new("journal-torn");
    let content = make(folder.path(), &Ext4::new(), "-c -v 3", 4096);
    let image = folder.path().join("image");
    let mut bytes = std::fs::read(&image).unwrap();
    // Damage the copy in the journal: its checksum is then wrong. The escaped copy starts with
    // zeros, so the rest of it is looked for.
    let at = bytes
        .windows(64)
        .position(|window| window == &content[4..68])
        .unwrap();
    bytes[at] ^= 1;
    let volume = block_on(Volume::mount(FakeDevice::new(bytes))).unwrap();
    assert!(volume.remarks().contains("torn"), "{}", volume.remarks());
    let expected = std::fs::read(folder.path().join("tree/file")).unwrap();
    assert!(read_file(&volume) == expected);
}

#[test]
fn damaged_journals_never_do_worse_than_an_error() {
    let folder = Folder::new("journal-damaged");
    make(
        folder.path(),
        &Ext4::new().features("^metadata_csum"),
        "",
        4096,
    );
    let bytes = std::fs::read(folder.path().join("image")).unwrap();
    let blocks: Vec<usize> = (0..bytes.len() / 4096)
        .filter(|&block| bytes[block * 4096..].starts_with(&MAGIC))
        .collect();
    assert!(
        blocks.len() >= 3,
        "superblock, descriptor and commit: {blocks:?}"
    );
    let mut random = fixtures::Content::new(5);
    for _ in 0..400 {
        let mut bytes = bytes.clone();
        for _ in 0..1 + random.number() % 4 {
            let block = blocks[random.number() as usize % blocks.len()];
            bytes[block * 4096 + random.number() as usize % 80] = random.number() as u8;
        }
        match block_on(Volume::mount(FakeDevice::new(bytes))) {
            Ok(volume) => {
                crate::walk::exhaust(&volume);
            }
            Err(Error::Damaged(..) | Error::Unsupported(_) | Error::Device) => {}
            Err(other) => panic!("{other}"),
        }
    }
}
