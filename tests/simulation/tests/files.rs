//! Programs use files of the vfs over tmpfs, and servers die at every step.
//!
//! Whatever dies when: every reply that a program gets, and what is in the files at the end, is what
//! it would have been without.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use libipc::Interface;
use libipc::loopback::Loopback;
use libipc::proto::file_system::{FileSystemClient, FileSystemDispatcher, FileSystemSchema};
use libipc::proto::vfs::{
    APPEND, Access, Create, FileId, LastLink, OpenOptions, Seal, VfsClient, VfsDispatcher,
    VfsSchema,
};
use libsys::Error;
use skink_simulation::{Endpoint, Kept, ServerMemory, Steps};
use tmpfs::TmpFs;
use vfs::{Mount, Remote, Vfs};

const TMPFS_BYTES: usize = 160 * 1024;
const VFS_BYTES: usize = 16 * 1024;
const TABLE: &str = "docs/reference/kill-points.md";

/// The programs: their badge, and what they do in turn.
struct World {
    steps: Rc<Steps>,
    programs: Rc<Loopback>,
    client: VfsClient,
}

impl World {
    fn new(deaths: Vec<u64>) -> World {
        let steps = Rc::new(Steps::with_deaths(deaths));
        let tmpfs = {
            let (kept, writer) = (Kept::new(TMPFS_BYTES), Rc::clone(&steps));
            Endpoint::new("tmpfs", FileSystemSchema::SCHEMA, &steps, move || {
                start_tmpfs(&kept, &writer)
            })
        };
        let vfs = {
            let (kept, writer) = (Kept::new(VFS_BYTES), Rc::clone(&steps));
            Endpoint::new("vfs", VfsSchema::SCHEMA, &steps, move || {
                let client = FileSystemClient::from_client(tmpfs.for_server().client());
                start_vfs(kept.map(&writer), client)
            })
        };
        let programs = vfs.for_programs();
        let client = VfsClient::from_client(programs.client());
        World {
            steps,
            programs,
            client,
        }
    }

    /// Runs the script and returns what the programs saw, line by line.
    fn run(&self) -> Vec<String> {
        let mut seen = Vec::new();
        let mut see = |what: &str, result: String| seen.push(format!("{what}: {result}"));
        let vfs = &self.client;
        for (badge, name) in [(1, "a"), (2, "b")] {
            self.programs.set_badge(badge);
            let path = |rest: &str| format!("/tmp/{name}{rest}").into_bytes();
            see("make", format!("{:?}", vfs.make_dir(&path(""))));
            see("again", format!("{:?}", vfs.make_dir(&path(""))));
            let opened = vfs.open(&path("/f"), NEW);
            let number = opened.as_ref().map(|opened| opened.file);
            see("open", format!("{number:?}"));
            let opened = opened.expect("a new file can be opened");
            let (file, inode) = (opened.file, opened.attributes.inode);
            let write = |at, content: &[u8]| {
                let seal = Seal::transfer(inode, at, content.len() as u32);
                format!("{:?}", vfs.write_small(file, at, content, seal))
            };
            let read = |at, bytes| {
                let seal = Seal::transfer(inode, at, bytes);
                format!("{:?}", vfs.read_small(file, at, bytes, seal))
            };
            see("write", write(0, b"0123456789"));
            see("over", write(3, &[name.as_bytes()[0]; 600]));
            let seal = Seal::truncate(inode, 12);
            see("truncate", format!("{:?}", vfs.truncate(file, 12, seal)));
            see("read", read(2, 100));
            see("taken", format!("{:?}", vfs.open(&path("/f"), NEW)));
            see("append", format!("{:?}", append(vfs, &path("/f"), b"end")));
            see("close", format!("{:?}", vfs.close(file)));
            see("closed", read(0, 1));
            see(
                "move",
                format!("{:?}", vfs.rename(&path("/f"), &path("/g"))),
            );
            see(
                "moved",
                format!("{:?}", vfs.rename(&path("/f"), &path("/g"))),
            );
            see("link", format!("{:?}", vfs.symlink(&path("/l"), b"g")));
            see("follow", format!("{:?}", vfs.canonical(&path("/l"))));
            see("remove", format!("{:?}", vfs.unlink(&path("/l"))));
            see("removed", format!("{:?}", vfs.unlink(&path("/l"))));
            see("full", format!("{:?}", vfs.remove_dir(&path(""))));
        }
        // Each has its own open file left, and sees what the other one did.
        for (badge, name) in [(1, "b"), (2, "a")] {
            self.programs.set_badge(badge);
            let path = format!("/tmp/{name}/g").into_bytes();
            let size = vfs.stat(&path, LastLink::Follow);
            see("stat", format!("{:?}", size.map(|it| (it.bytes, it.kind))));
            see("content", format!("{:?}", content(vfs, &path)));
        }
        seen
    }
}

const NEW: OpenOptions = OpenOptions {
    access: Access::ReadWrite,
    create: Create::New,
    truncate: false,
    append: false,
};

fn append(vfs: &VfsClient, path: &[u8], content: &[u8]) -> Result<FileId, String> {
    let words = |error| format!("{error:?}");
    let opened = vfs.open(path, OpenOptions::append()).map_err(words)?;
    let file = opened.file;
    let seal = Seal::transfer(opened.attributes.inode, APPEND, content.len() as u32);
    let end = vfs
        .write_small(file, 0, content, seal)
        .map_err(|error| format!("{error:?}"))?;
    // Left open: it has to outlive the vfs.
    let size = vfs
        .stat_file(file)
        .map_err(|error| format!("{error:?}"))?
        .bytes;
    assert_eq!(size, 15, "{end:?}");
    Ok(file)
}

fn content(vfs: &VfsClient, path: &[u8]) -> Result<Vec<u8>, String> {
    let words = |error| format!("{error:?}");
    let opened = vfs.open(path, OpenOptions::read()).map_err(words)?;
    let seal = Seal::transfer(opened.attributes.inode, 0, 1000);
    let bytes = vfs
        .read_small(opened.file, 0, 1000, seal)
        .map_err(|error| format!("{error:?}"))?;
    vfs.close(opened.file)
        .map_err(|error| format!("{error:?}"))?;
    Ok(bytes)
}

/// tmpfs keeps its tree and the content in two parts of its region.
fn start_tmpfs(kept: &Kept, steps: &Rc<Steps>) -> Rc<Loopback> {
    let tree_bytes = TmpFs::<ServerMemory>::tree_bytes(TMPFS_BYTES);
    let (tree, data) = kept.map_parts(tree_bytes, steps);
    let (fs, report, dropped) = TmpFs::open(tree, data).expect("the region is large enough");
    assert!(
        !report.has_losses() && dropped == 0,
        "{report}, {dropped} blocks"
    );
    let service = tmpfs::service::Service::new(fs, || 0);
    Loopback::new(FileSystemDispatcher::new(Rc::new(service)))
}

fn start_vfs(memory: ServerMemory, tmpfs: FileSystemClient) -> Rc<Loopback> {
    let remote = Remote::with_client("tmpfs", Some(tmpfs));
    let mounts = vec![Mount::new(b"/tmp".to_vec(), "tmpfs", remote)];
    let (vfs, report) = Vfs::open(mounts, memory).expect("the region is large enough");
    assert!(!report.has_losses(), "{report}");
    let service = vfs::service::Service::new(vfs, |_| Err(Error::Unavailable));
    Loopback::new(VfsDispatcher::new(Rc::new(service)))
}

/// Runs with some deaths, and compares with what is right. Returns whether all came to pass.
fn compare(deaths: &[u64], right: &[String]) -> bool {
    let world = World::new(deaths.to_vec());
    let seen = world.run();
    for (seen, right) in seen.iter().zip(right) {
        assert_eq!(seen, right, "deaths at steps {deaths:?}");
    }
    assert_eq!(seen.len(), right.len());
    world.steps.is_done()
}

#[test]
fn a_death_at_any_step_changes_nothing() {
    let world = World::new(vec![]);
    let right = world.run();
    let steps = world.steps.taken();
    assert!(steps > 1_000, "{steps}");
    for death in 1..=steps {
        assert!(compare(&[death], &right), "nobody died at step {death}");
    }
    let table = format!(
        "# Kill points\n\n\
        Every step at which the simulation ends a server (`tests/simulation`), with the number of times that the scripted\n\
        workload passes it: two programs use files of the vfs over tmpfs. The workload runs once for each of these points,\n\
        and once for each of many pairs; all replies and all content must be those of a run without a death.\n\
        [Rings](kill-points-rings.md) have a page of their own. This page is generated.\n\n{}\n\
        {steps} points in all. A commit is one store of an aligned word, and a message is taken or replied to as a \
        whole:\nthere is no *during*.\n",
        skink_simulation::table(&world.steps.passed())
    );
    skink_docs::expect_content(TABLE, &table);
}

#[test]
fn a_second_death_during_recovery_changes_nothing() {
    let world = World::new(vec![]);
    let right = world.run();
    let steps = world.steps.taken();
    let firsts = (1..=steps).step_by(19);
    let pairs = firsts.flat_map(|first| (1..=24).map(move |later| [first, first + later]));
    for [first, second] in pairs {
        // The last deaths may lie behind the end of the way.
        assert!(
            compare(&[first, second], &right) || second > steps,
            "nobody died at step {second} after a death at step {first}"
        );
    }
}

#[test]
fn the_mark_of_redelivery_is_needed() {
    let world = World::new(vec![]);
    let right = world.run();
    let differs = |death| {
        let world = World::new(vec![death]);
        world.steps.forget_redelivery();
        // A server that sees something twice that happens once may doubt itself; here it panics then.
        let seen = catch_unwind(AssertUnwindSafe(|| world.run()));
        seen.map_or(true, |seen| seen != right)
    };
    assert!((1..=world.steps.taken()).any(differs));
}
