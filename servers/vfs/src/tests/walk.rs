//! Paths, links and mount points.

use libipc::proto::file_system::{FileKind, FsAccess, FsError};
use libipc::proto::vfs::{LastLink, MAX_LINKS};
use libsys::state::fake::FakeMemory;
use proptest::prelude::{Strategy, prop, proptest};

use super::{STATE_BYTES, TestVfs, World};
use crate::fake::FakeFs;
use crate::{Mount, parse_mount};

fn canonical(vfs: &TestVfs, path: &str) -> Result<String, FsError> {
    vfs.canonical(path.as_bytes())
        .map(|path| String::from_utf8(path).unwrap())
}

#[test]
fn dots_links_and_mounts_are_followed() {
    let (_, vfs) = World::new();
    for (path, expected) in [
        ("/", "/"),
        ("//", "/"),
        ("/..", "/"),
        ("/bin/../bin/./ls", "/bin/ls"),
        ("/to-ls", "/bin/ls"),
        ("/tmp/..", "/"),
        ("/to-tmp", "/tmp"),
        ("/to-tmp/../bin/", "/bin"),
        ("/mnt/a/deep/../..", "/mnt"),
    ] {
        assert_eq!(canonical(&vfs, path).as_deref(), Ok(expected), "{path}");
    }
    for (path, expected) in [
        ("/tmp/hidden", FsError::NotFound),
        ("/readme/", FsError::NotADirectory),
        ("/readme/..", FsError::NotADirectory),
        ("/readme/x", FsError::NotADirectory),
        ("/mnt/b", FsError::NotFound),
        ("relative", FsError::Invalid),
    ] {
        assert_eq!(canonical(&vfs, path), Err(expected), "{path}");
    }
    let link = vfs.stat(b"/to-ls", LastLink::Keep).unwrap();
    assert_eq!(link.kind, FileKind::Symlink);
    let target = vfs.stat(b"/to-ls", LastLink::Follow).unwrap();
    assert_eq!(target.kind, FileKind::Regular);
    // A link before the end is followed in any case.
    assert_eq!(
        vfs.stat(b"/to-tmp/", LastLink::Keep).unwrap().kind,
        FileKind::Directory
    );
}

#[test]
fn link_chains_end() {
    let disk = FakeFs::new(FsAccess::ReadOnly);
    disk.add("l0", FileKind::Regular, b"");
    for i in 1..=MAX_LINKS + 1 {
        disk.add(
            &format!("l{i}"),
            FileKind::Symlink,
            format!("l{}", i - 1).as_bytes(),
        );
    }
    disk.add("loop", FileKind::Symlink, b"./loop");
    disk.add("grow", FileKind::Symlink, b"grow/grow/grow/grow/x");
    disk.add("empty", FileKind::Symlink, b"");
    disk.add("wide", FileKind::Symlink, &b"a/".repeat(3000));
    let mounts = vec![Mount::new(b"/".to_vec(), "fake", std::rc::Rc::new(disk))];
    let (vfs, _) = TestVfs::open(mounts, FakeMemory::new(STATE_BYTES)).unwrap();
    assert_eq!(
        canonical(&vfs, &format!("/l{MAX_LINKS}")).as_deref(),
        Ok("/l0")
    );
    let too_many = canonical(&vfs, &format!("/l{}", MAX_LINKS + 1));
    assert_eq!(too_many, Err(FsError::TooManyLinks));
    assert_eq!(canonical(&vfs, "/loop"), Err(FsError::TooManyLinks));
    assert_eq!(canonical(&vfs, "/grow"), Err(FsError::TooManyLinks));
    assert_eq!(canonical(&vfs, "/empty"), Err(FsError::NotFound));
    assert_eq!(canonical(&vfs, "/wide/wide"), Err(FsError::NotFound));
}

/// Resolves dots by text: right where there are no links.
fn resolve(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

fn any_path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "tmp", ".", "..", "", "mnt"]);
    prop::collection::vec(name, 0..12).prop_map(|names| format!("/{}", names.join("/")))
}

/// A tree in which every directory has all names, down to a depth.
fn full_tree() -> FakeFs {
    let disk = FakeFs::new(FsAccess::ReadOnly);
    let mut level = vec![String::new()];
    for _ in 0..4 {
        let mut next = Vec::new();
        for parent in level {
            for name in ["a", "b", "tmp", "mnt"] {
                let path = format!("{parent}{name}");
                disk.add(&path, FileKind::Directory, b"");
                next.push(format!("{path}/"));
            }
        }
        level = next;
    }
    disk
}

proptest! {
    #[test]
    fn without_links_a_walk_ends_where_the_text_says(
        paths in prop::collection::vec(any_path(), 1..20),
    ) {
        let tree = std::rc::Rc::new(full_tree());
        let mounts = vec![
            Mount::new(b"/".to_vec(), "fake", tree.clone()),
            Mount::new(b"/tmp/a".to_vec(), "other", tree),
        ];
        let (vfs, _) = TestVfs::open(mounts, FakeMemory::new(STATE_BYTES)).unwrap();
        for path in paths {
            match canonical(&vfs, &path) {
                Ok(found) => assert_eq!(found, resolve(&path)),
                // Only below the deepest directories.
                Err(error) => {
                    assert_eq!(error, FsError::NotFound);
                    let names = path.split('/').filter(|name| !matches!(*name, "" | "." | ".."));
                    assert!(names.count() > 4, "{path}");
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_a_path_or_an_error(path in prop::collection::vec(0_u8.., 0..300)) {
        let (_, vfs) = World::new();
        let path = [b"/".as_slice(), &path].concat();
        let _ = vfs.stat(&path, LastLink::Follow);
        let _ = parse_mount(&String::from_utf8_lossy(&path));
    }
}
