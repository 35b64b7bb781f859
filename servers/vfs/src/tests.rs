use std::rc::Rc;

use libipc::Caller;
use libipc::proto::file_system::{FileKind, FsAccess, FsError};
use libipc::proto::vfs::{
    Access, Cookie, Create, FileId, LastLink, MAX_OPEN_FILES, MountState, OpenOptions, Seal,
};
use libsys::state::fake::FakeMemory;

use crate::backend::FsResult;
use crate::fake::FakeFs;
use crate::{Mount, Vfs};

mod damage;
mod restart;
mod walk;
mod wire;

type TestVfs = Vfs<Rc<FakeFs>, FakeMemory>;

const STATE_BYTES: usize = 256 * 1024;
/// The fake file systems look at no seals.
const SEAL: Seal = Seal::file(FileId(0));

/// A vfs with a read-only disk at `/`, a temporary file system at `/tmp`, and one deeper down.
struct World {
    disk: Rc<FakeFs>,
    temporary: Rc<FakeFs>,
    deep: Rc<FakeFs>,
    sequence: u64,
}

impl World {
    fn new() -> (World, TestVfs) {
        let disk = FakeFs::new(FsAccess::ReadOnly);
        disk.add("bin", FileKind::Directory, b"");
        disk.add("bin/ls", FileKind::Regular, b"program");
        disk.add("readme", FileKind::Regular, b"text");
        disk.add("tmp", FileKind::Directory, b"");
        disk.add("tmp/hidden", FileKind::Regular, b"");
        disk.add("to-ls", FileKind::Symlink, b"bin/ls");
        disk.add("to-tmp", FileKind::Symlink, b"/tmp/");
        let writable = || Rc::new(FakeFs::new(FsAccess::ReadWrite));
        let (temporary, deep) = (writable(), writable());
        let world = World {
            disk: Rc::new(disk),
            temporary,
            deep,
            sequence: 0,
        };
        let vfs = world.vfs(FakeMemory::new(STATE_BYTES));
        (world, vfs)
    }

    fn vfs(&self, memory: FakeMemory) -> TestVfs {
        let mounts = vec![
            Mount::new(b"/".to_vec(), "ext4", Rc::clone(&self.disk)),
            Mount::new(b"/tmp".to_vec(), "tmpfs", Rc::clone(&self.temporary)),
            Mount::new(b"/mnt/a/deep".to_vec(), "deepfs", Rc::clone(&self.deep)),
        ];
        let (vfs, report) = TestVfs::open(mounts, memory).unwrap();
        assert!(!report.has_losses());
        vfs
    }

    /// The next request of a program.
    fn caller(&mut self, badge: u64) -> Caller {
        self.sequence += 1;
        Caller {
            badge,
            sequence: self.sequence,
            redelivered: false,
        }
    }
}

fn again(caller: Caller) -> Caller {
    Caller {
        redelivered: true,
        ..caller
    }
}

fn open(vfs: &mut TestVfs, caller: Caller, path: &str, options: OpenOptions) -> FsResult<FileId> {
    vfs.open_file(&caller, path.as_bytes(), options)
        .map(|opened| opened.file)
}

fn list(vfs: &TestVfs, path: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut next = Some(Cookie(0));
    while let Some(from) = next {
        let page = vfs.read_dir(path.as_bytes(), from).unwrap();
        names.extend(
            page.items
                .into_iter()
                .map(|entry| String::from_utf8(entry.name).unwrap()),
        );
        next = page.next;
    }
    names
}

const NEW: OpenOptions = OpenOptions {
    access: Access::ReadWrite,
    create: Create::New,
    truncate: false,
    append: false,
};

#[test]
fn files_belong_to_their_badge() {
    let (mut world, mut vfs) = World::new();
    let file = open(&mut vfs, world.caller(1), "/readme", OpenOptions::read()).unwrap();
    let (own, other) = (world.caller(1), world.caller(2));
    assert_eq!(vfs.read_small(&own, file, (1, 100), SEAL).unwrap(), b"ext");
    assert_eq!(
        vfs.read_small(&other, file, (0, 100), SEAL),
        Err(FsError::BadFile)
    );
    assert_eq!(vfs.close(&other, file), Err(FsError::BadFile));
    vfs.end_session(2);
    assert!(vfs.stat_file(&own, file).is_ok());
    vfs.end_session(1);
    assert_eq!(vfs.stat_file(&own, file), Err(FsError::BadFile));
}

#[test]
fn access_is_what_was_asked_for() {
    let (mut world, mut vfs) = World::new();
    let caller = world.caller(1);
    let write = OpenOptions {
        access: Access::Write,
        ..OpenOptions::read()
    };
    assert_eq!(
        open(&mut vfs, caller, "/readme", write),
        Err(FsError::ReadOnly)
    );
    assert_eq!(
        open(&mut vfs, caller, "/new", OpenOptions::replace()),
        Err(FsError::ReadOnly)
    );
    assert_eq!(
        open(&mut vfs, caller, "/bin", OpenOptions::read()),
        Err(FsError::IsADirectory)
    );
    assert_eq!(
        open(&mut vfs, caller, "/mnt", OpenOptions::read()),
        Err(FsError::IsADirectory)
    );
    let cut = OpenOptions {
        truncate: true,
        ..OpenOptions::read()
    };
    assert_eq!(
        open(&mut vfs, caller, "/readme", cut),
        Err(FsError::Invalid)
    );
    let read = open(&mut vfs, caller, "/readme", OpenOptions::read()).unwrap();
    assert_eq!(
        vfs.write_small(&caller, read, (0, b"x"), SEAL),
        Err(FsError::Denied)
    );
    let write = open(&mut vfs, world.caller(1), "/tmp/f", OpenOptions::replace()).unwrap();
    assert_eq!(
        vfs.read_small(&caller, write, (0, 1), SEAL),
        Err(FsError::Denied)
    );
    let far = vfs.write_small(&world.caller(1), write, (u64::MAX, b"x"), SEAL);
    assert_eq!(far, Err(FsError::TooLarge));
}

#[test]
fn opening_can_make_cut_and_append() {
    let (mut world, mut vfs) = World::new();
    let file = open(&mut vfs, world.caller(1), "/tmp/f", OpenOptions::replace()).unwrap();
    vfs.write_small(&world.caller(1), file, (0, b"first"), SEAL)
        .unwrap();
    let file = open(&mut vfs, world.caller(1), "/tmp/f", OpenOptions::append()).unwrap();
    let written = vfs
        .write_small(&world.caller(1), file, (0, b" second"), SEAL)
        .unwrap();
    assert_eq!((written.offset, written.bytes), (5, 7));
    assert_eq!(
        open(&mut vfs, world.caller(1), "/tmp/f", NEW),
        Err(FsError::Exists)
    );
    let caller = world.caller(1);
    let opened = vfs
        .open_file(&caller, b"/tmp/f", OpenOptions::replace())
        .unwrap();
    assert_eq!(opened.attributes.bytes, 0);
    assert_eq!(vfs.stat(b"/tmp/f", LastLink::Follow).unwrap().bytes, 0);
    assert_eq!(
        open(&mut vfs, caller, "/tmp/g/", NEW),
        Err(FsError::IsADirectory)
    );
}

#[test]
fn no_badge_can_open_more_than_its_share() {
    let (mut world, mut vfs) = World::new();
    for _ in 0..MAX_OPEN_FILES {
        open(&mut vfs, world.caller(1), "/readme", OpenOptions::read()).unwrap();
    }
    let one_more = open(&mut vfs, world.caller(1), "/readme", OpenOptions::read());
    assert_eq!(one_more, Err(FsError::TooManyFiles));
    open(&mut vfs, world.caller(2), "/readme", OpenOptions::read()).unwrap();
    vfs.end_session(1);
    open(&mut vfs, world.caller(1), "/readme", OpenOptions::read()).unwrap();
}

#[test]
fn changes_stay_within_a_file_system_and_off_its_mount_points() {
    let (mut world, mut vfs) = World::new();
    let caller = world.caller(1);
    vfs.make_dir(&caller, b"/tmp/d/").unwrap();
    assert_eq!(
        vfs.make_dir(&world.caller(1), b"/tmp/d"),
        Err(FsError::Exists)
    );
    assert_eq!(
        vfs.make_dir(&world.caller(1), b"/tmp"),
        Err(FsError::Exists)
    );
    assert_eq!(
        vfs.make_dir(&world.caller(1), b"/bin"),
        Err(FsError::Exists)
    );
    assert_eq!(
        vfs.make_dir(&world.caller(1), b"/new"),
        Err(FsError::ReadOnly)
    );
    assert_eq!(vfs.make_dir(&world.caller(1), b"/"), Err(FsError::Exists));
    assert_eq!(
        vfs.make_dir(&world.caller(1), b"/mnt/x"),
        Err(FsError::ReadOnly)
    );
    let caller = world.caller(1);
    for point in [b"/tmp".as_slice(), b"/mnt/a/deep", b"/mnt", b"/"] {
        assert_eq!(
            vfs.remove(&caller, point, FileKind::Directory),
            Err(FsError::Busy)
        );
        assert_eq!(vfs.rename(&caller, point, b"/tmp/x"), Err(FsError::Busy));
    }
    let across = vfs.rename(&caller, b"/tmp/d", b"/mnt/a/deep/d");
    assert_eq!(across, Err(FsError::CrossesMounts));
    vfs.symlink(&world.caller(1), b"/tmp/link", b"d").unwrap();
    assert_eq!(vfs.read_link(b"/tmp/link").unwrap(), b"d");
    assert_eq!(vfs.read_link(b"/tmp/d"), Err(FsError::Invalid));
    vfs.rename(&world.caller(1), b"/tmp/link", b"/tmp/l2")
        .unwrap();
    let slash = vfs.rename(&world.caller(1), b"/tmp/l2", b"/tmp/l3/");
    assert_eq!(slash, Err(FsError::NotADirectory));
    vfs.remove(&world.caller(1), b"/tmp/l2", FileKind::Regular)
        .unwrap();
    assert_eq!(list(&vfs, "/tmp"), ["d"]);
    for name in [b"/tmp/.".as_slice(), b"/tmp/d/.."] {
        assert_eq!(
            vfs.remove(&caller, name, FileKind::Directory),
            Err(FsError::Invalid)
        );
    }
}

#[test]
fn listings_show_mount_points_once() {
    let (_, vfs) = World::new();
    assert_eq!(
        list(&vfs, "/"),
        ["bin", "readme", "tmp", "to-ls", "to-tmp", "mnt"]
    );
    assert_eq!(list(&vfs, "/mnt"), ["a"]);
    assert_eq!(list(&vfs, "/mnt/a"), ["deep"]);
    assert_eq!(list(&vfs, "/mnt/a/deep"), [""; 0]);
    assert_eq!(
        vfs.read_dir(b"/readme", Cookie(0)),
        Err(FsError::NotADirectory)
    );
}

#[test]
fn a_root_that_fails_leaves_the_mount_points_and_says_why() {
    let (mut world, mut vfs) = World::new();
    world.disk.failure.set(Some(FsError::Device));
    assert_eq!(list(&vfs, "/"), ["mnt", "tmp"]);
    assert_eq!(vfs.stat(b"/readme", LastLink::Follow), Err(FsError::Device));
    open(&mut vfs, world.caller(1), "/tmp/f", NEW).unwrap();
    assert_eq!(
        open(&mut vfs, world.caller(1), "/f", NEW),
        Err(FsError::Device)
    );
    let mounts = vfs.mounts();
    assert_eq!(mounts[0].state, MountState::Failed(FsError::Device));
    assert!(matches!(
        mounts[1].state,
        MountState::Ready {
            access: FsAccess::ReadWrite,
            ..
        }
    ));
    assert_eq!(vfs.statfs(b"/"), Err(FsError::Unavailable));
    // The disk comes back.
    world.disk.failure.set(None);
    assert!(vfs.stat(b"/readme", LastLink::Follow).is_ok());
    assert_eq!(vfs.statfs(b"/readme").unwrap().block_bytes, 512);
}

#[test]
fn a_mount_below_that_fails_says_why_and_hurts_nobody_else() {
    let (world, vfs) = World::new();
    world.temporary.failure.set(Some(FsError::Crashed));
    assert_eq!(vfs.stat(b"/tmp/f", LastLink::Follow), Err(FsError::Crashed));
    assert!(vfs.stat(b"/readme", LastLink::Follow).is_ok());
    assert!(list(&vfs, "/").contains(&"tmp".into()));
}

#[test]
fn schema_changes_only_with_a_migration() {
    libsys::golden_schema!("tests/golden/state.txt", crate::open_files::OpenFiles);
}
