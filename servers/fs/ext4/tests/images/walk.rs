//! Compares a volume with the directory tree it was made from, and reads all of a bad one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::Path;

use ext4::Volume;
use ext4::error::Result;
use ext4::inode::{Inode, Kind};

use crate::device::{FakeDevice, block_on};

pub(crate) type TestVolume = Volume<FakeDevice>;

/// Lists a directory in small pages, as the server does.
pub(crate) async fn list(volume: &TestVolume, directory: &Inode) -> Result<BTreeMap<Vec<u8>, u32>> {
    const PAGE: usize = 7;
    let mut names = BTreeMap::new();
    let mut from = Some(0);
    while let Some(cookie) = from.take() {
        let mut count = 0;
        volume
            .read_dir(directory, cookie, &mut |entry, cookie| {
                if count == PAGE {
                    from = Some(cookie);
                    return ControlFlow::Break(());
                }
                count += 1;
                let earlier = names.insert(entry.name.to_vec(), entry.inode);
                assert!(earlier.is_none(), "a name was listed twice");
                ControlFlow::Continue(())
            })
            .await?;
    }
    Ok(names)
}

/// Checks that a directory and all below it equal the tree on the host.
pub(crate) fn compare(volume: &TestVolume, number: u32, tree: &Path) {
    let directory = block_on(volume.inode(number)).unwrap();
    let mut names = block_on(list(volume, &directory)).unwrap();
    for entry in fs::read_dir(tree).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_vec();
        let shown = String::from_utf8_lossy(&name).into_owned();
        let child = names
            .remove(&name)
            .unwrap_or_else(|| panic!("{shown} is missing"));
        assert_eq!(
            block_on(volume.lookup(&directory, &name)),
            Ok(child),
            "{shown}"
        );
        let inode = block_on(volume.inode(child)).unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            assert_eq!(inode.kind, Kind::Directory, "{shown}");
            assert_eq!(block_on(volume.check_place(&directory, &inode)), Ok(()));
            compare(volume, child, &entry.path());
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path()).unwrap();
            let found = block_on(volume.read_link(&inode)).unwrap();
            assert_eq!(OsStr::from_bytes(&found), target.as_os_str(), "{shown}");
        } else {
            compare_file(volume, &inode, &entry.path());
        }
    }
    names.remove(b"lost+found".as_slice());
    assert!(
        names.is_empty(),
        "names that the tree does not have: {names:?}"
    );
}

fn compare_file(volume: &TestVolume, inode: &Inode, path: &Path) {
    let file = fs::File::open(path).unwrap();
    let bytes = file.metadata().unwrap().len();
    assert_eq!(inode.bytes, bytes, "{}", path.display());
    // Of the huge sparse files only the ends are read.
    let end = if bytes > 1 << 30 { 1 << 20 } else { bytes };
    let ranges = [0..end, bytes.saturating_sub(1 << 20).max(end)..bytes];
    for range in ranges {
        let mut expected = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut expected, range.start).unwrap();
        let mut found = Vec::new();
        // A step that is no multiple of anything crosses all boundaries.
        for (index, _) in expected.chunks(300_007).enumerate() {
            let at = range.start + index as u64 * 300_007;
            let count = (range.end - at).min(300_007);
            let mut part = Vec::new();
            let read = block_on(volume.read(inode, at, count, &mut part)).unwrap();
            assert_eq!(read, at..at + part.len() as u64);
            found.append(&mut part);
        }
        assert!(found == expected, "{} differs", path.display());
    }
}

/// Reads everything that can be reached from the root, up to a limit, whatever it answers.
/// Returns how many errors there were.
pub(crate) fn exhaust(volume: &TestVolume) -> usize {
    const MAX_INODES: usize = 300;
    let mut errors = 0;
    let mut todo = vec![2];
    let mut seen = 0;
    while let Some(number) = todo.pop() {
        seen += 1;
        if seen > MAX_INODES {
            break;
        }
        let Ok(inode) = block_on(volume.inode(number)) else {
            errors += 1;
            continue;
        };
        let result = match inode.kind {
            Kind::Directory => block_on(list_leniently(volume, &inode, &mut todo)),
            Kind::Link => block_on(volume.read_link(&inode)).map(|_| ()),
            _ => block_on(read_ends(volume, &inode)),
        };
        errors += usize::from(result.is_err());
        errors += usize::from(block_on(volume.lookup(&inode, b"no such name")).is_ok());
    }
    errors
}

async fn list_leniently(volume: &TestVolume, inode: &Inode, todo: &mut Vec<u32>) -> Result<()> {
    let visit = &mut |entry: ext4::directory::Entry<'_>, _| {
        todo.push(entry.inode);
        ControlFlow::Continue(())
    };
    volume.read_dir(inode, 0, visit).await
}

async fn read_ends(volume: &TestVolume, inode: &Inode) -> Result<()> {
    let mut bytes = Vec::new();
    volume.read(inode, 0, 1 << 20, &mut bytes).await?;
    bytes.clear();
    volume
        .read(inode, inode.bytes.saturating_sub(5000), 1 << 20, &mut bytes)
        .await?;
    Ok(())
}
