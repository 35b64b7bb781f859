//! Death of the vfs at any moment.

use libipc::proto::file_system::{FileKind, FsError};
use libipc::proto::vfs::{Create, OpenOptions};
use libsys::state::fake::FakeMemory;

use super::{NEW, SEAL, TestVfs, World, again, open};
use crate::Mount;

/// Lets the vfs die without a trace and start again.
fn restart(world: &World, vfs: TestVfs) -> TestVfs {
    world.vfs(vfs.into_memory().survivor())
}

#[test]
fn open_files_and_badges_survive() {
    let (mut world, mut vfs) = World::new();
    let first = vfs.new_session(&world.caller(1)).unwrap();
    let file = open(&mut vfs, world.caller(first), "/tmp/f", NEW).unwrap();
    let closed = open(
        &mut vfs,
        world.caller(first),
        "/readme",
        OpenOptions::read(),
    )
    .unwrap();
    vfs.close(&world.caller(first), closed).unwrap();
    let mut vfs = restart(&world, vfs);
    vfs.write_small(&world.caller(first), file, (0, b"after"), SEAL)
        .unwrap();
    assert_eq!(
        vfs.read_small(&world.caller(first), file, (0, 9), SEAL)
            .unwrap(),
        b"after"
    );
    assert_eq!(
        vfs.stat_file(&world.caller(first), closed),
        Err(FsError::BadFile)
    );
    let second = vfs.new_session(&world.caller(1)).unwrap();
    assert_ne!(first, second);
    let other = open(
        &mut vfs,
        world.caller(first),
        "/readme",
        OpenOptions::read(),
    )
    .unwrap();
    assert!(
        ![file, closed].contains(&other),
        "numbers are not used again"
    );
}

#[test]
fn a_request_that_comes_again_is_answered_as_before_and_not_run_twice() {
    let (mut world, mut vfs) = World::new();
    let opens = world.caller(1);
    let file = open(&mut vfs, opens, "/tmp/f", NEW).unwrap();
    let mut vfs = restart(&world, vfs);
    assert_eq!(open(&mut vfs, again(opens), "/tmp/f", NEW), Ok(file));

    let append = OpenOptions::append();
    let log = open(&mut vfs, world.caller(1), "/tmp/log", append).unwrap();
    let writes = world.caller(1);
    let written = vfs.write_small(&writes, log, (0, b"line"), SEAL).unwrap();
    let mut vfs = restart(&world, vfs);
    assert_eq!(
        vfs.write_small(&again(writes), log, (0, b"line"), SEAL)
            .unwrap(),
        written
    );
    assert_eq!(vfs.stat_file(&writes, log).unwrap().bytes, 4);

    let (makes, renames, removes) = (world.caller(1), world.caller(1), world.caller(1));
    vfs.make_dir(&makes, b"/tmp/d").unwrap();
    vfs.rename(&renames, b"/tmp/d", b"/tmp/e").unwrap();
    vfs.remove(&removes, b"/tmp/e", FileKind::Directory)
        .unwrap();
    let changes = world.temporary.changes.get();
    let mut vfs = restart(&world, vfs);
    vfs.make_dir(&again(makes), b"/tmp/d").unwrap();
    vfs.rename(&again(renames), b"/tmp/d", b"/tmp/e").unwrap();
    vfs.remove(&again(removes), b"/tmp/e", FileKind::Directory)
        .unwrap();
    assert_eq!(world.temporary.changes.get(), changes);

    let closes = world.caller(1);
    vfs.close(&closes, log).unwrap();
    let mut vfs = restart(&world, vfs);
    vfs.close(&again(closes), log).unwrap();
    assert_eq!(vfs.close(&world.caller(1), log), Err(FsError::BadFile));
}

#[test]
fn an_open_that_was_cut_short_is_finished() {
    let (mut world, vfs) = World::new();
    let memory = vfs.into_memory();
    for (name, create) in [("a", Create::New), ("b", Create::IfMissing)] {
        let path = format!("/tmp/{name}");
        let options = OpenOptions {
            create,
            truncate: true,
            ..NEW
        };
        let caller = world.caller(1);
        // Dies before it can keep the open file: the file system has made it already.
        let mut victim = world.vfs(memory.survivor().dying_after(0));
        open(&mut victim, caller, &path, options).unwrap();
        let mut vfs = world.vfs(victim.into_memory().survivor());
        let changes = world.temporary.changes.get();
        let file = open(&mut vfs, again(caller), &path, options).unwrap();
        assert_eq!(world.temporary.changes.get(), changes);
        assert!(vfs.stat_file(&caller, file).is_ok());
        // Somebody else's file is not taken for the own one.
        let other = again(world.caller(2));
        let result = open(&mut vfs, other, &path, NEW);
        assert_eq!(result, Err(FsError::Exists));
    }
}

#[test]
fn an_opening_cut_at_any_store_leaves_one_file_or_none() {
    let (mut world, vfs) = World::new();
    let memory = vfs.into_memory();
    let caller = world.caller(1);
    let mut whole = world.vfs(memory.survivor());
    open(&mut whole, caller, "/readme", OpenOptions::read()).unwrap();
    let stores = whole.into_memory().stores();
    for limit in 0..=stores {
        let mut victim = world.vfs(memory.survivor().dying_after(limit));
        let seen = open(&mut victim, caller, "/readme", OpenOptions::read()).unwrap();
        let mut vfs = world.vfs(victim.into_memory().survivor());
        let file = open(&mut vfs, again(caller), "/readme", OpenOptions::read()).unwrap();
        assert_eq!(seen, file);
        vfs.close(&caller, file).unwrap();
        assert_eq!(vfs.stat_file(&caller, file), Err(FsError::BadFile));
    }
}

#[test]
fn files_of_mounts_that_are_gone_are_closed() {
    let (mut world, mut vfs) = World::new();
    let file = open(&mut vfs, world.caller(1), "/tmp/f", NEW).unwrap();
    let mounts = vec![Mount::new(
        b"/tmp".to_vec(),
        "tmpfs",
        world.temporary.clone(),
    )];
    let (vfs, _) = TestVfs::open(mounts, vfs.into_memory().survivor()).unwrap();
    assert_eq!(vfs.stat_file(&world.caller(1), file), Err(FsError::BadFile));
    assert!(TestVfs::open(Vec::new(), FakeMemory::new(100)).is_err());
}

#[test]
fn a_session_that_is_asked_for_again_is_the_same() {
    let (mut world, mut vfs) = World::new();
    let asks = world.caller(1);
    let session = vfs.new_session(&asks).unwrap();
    let mut vfs = restart(&world, vfs);
    // The sender that nobody got is closed by the kernel, which tells that first.
    vfs.end_session(session);
    assert_eq!(vfs.new_session(&again(asks)), Ok(session));
    assert_ne!(vfs.new_session(&world.caller(1)), Ok(session));
}
