//! Operations on files: what they answer, and what is there afterwards.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;

use libipc::Failure;
use libipc::files::{FileResult, Files};
use libipc::proto::vfs::{Access, Create, FsError, OpenOptions};

use super::operation::{Fault, Operation};
use super::victim::wait_for_all;
use crate::context::{Context, because};

/// Where the files are.
const DIRECTORY: &str = "/tmp/cut";
const A: &str = "/tmp/cut/a";
const B: &str = "/tmp/cut/b";
const OLD: &[u8] = b"0123456789abcdef";
const MORE: &[u8] = b"<more>";
/// Files of the disks of the tests, of which one is read.
const ON_DISK: [&str; 2] = ["/sizes/7m", "/big.bin"];
/// Bytes of it that are known beforehand: more than any server keeps.
const KNOWN_BYTES: usize = 7 << 20;
/// Bytes from one read to the next: more than is read ahead.
const STEP: usize = 1_234_567;
/// Bytes that are read at once: in a message, and in one transfer.
const READS: [(&str, usize); 2] = [("read a little", 1000), ("read much", 64 << 10)];

/// Makes an error into a fault: one that says that it was done already means that it was done twice.
fn fault(what: &'static str, again: FsError) -> impl Fn(Failure<FsError>) -> Fault {
    move |failure| match failure {
        Failure::Server(error) if error == again => Fault::Duplicated(format!("{what}: {error}")),
        failure => Fault::Wrong(format!("{what}: {failure}")),
    }
}

/// Removes a file if it is there.
fn clear(files: &Files, path: &str) -> Result<(), String> {
    match files.remove_file(path) {
        Ok(()) | Err(Failure::Server(FsError::NotFound)) => Ok(()),
        Err(failure) => Err(format!("remove {path}: {failure}")),
    }
}

/// Leaves the file `a` with its content, and no `b`.
fn begin(files: &Files) -> Result<(), String> {
    clear(files, B)?;
    files.write(A, OLD).map_err(because("write"))
}

/// Fails unless a file holds this.
fn expect(files: &Files, path: &str, content: &[u8]) -> Result<(), Fault> {
    let found = files.read_to_vec(path).map_err(because("read"))?;
    if found == content {
        return Ok(());
    }
    let text = format!("{path} holds {:?}", String::from_utf8_lossy(&found));
    let is_twice = found.len() > content.len();
    Err(if is_twice {
        Fault::Duplicated(text)
    } else {
        Fault::Lost(text)
    })
}

/// Fails unless nothing has this name.
fn expect_none(files: &Files, path: &str) -> Result<(), Fault> {
    match files.stat(path) {
        Err(Failure::Server(FsError::NotFound)) => Ok(()),
        other => Err(Fault::Lost(format!("{path} is still there: {other:?}"))),
    }
}

/// Opens a file, does something with it, and closes it.
fn with_file(
    files: &Files,
    options: OpenOptions,
    f: impl FnOnce(&mut libipc::files::File) -> FileResult<()>,
) -> FileResult<()> {
    let mut file = files.open(A, options)?;
    f(&mut file)?;
    file.close()
}

/// Returns what is done on the file system in memory.
pub(super) fn operations<'a>(files: &Files) -> Result<Vec<Operation<'a>>, String> {
    files.make_dirs(DIRECTORY).map_err(because("directory"))?;
    let new = OpenOptions {
        access: Access::Write,
        create: Create::New,
        ..OpenOptions::default()
    };
    let change = OpenOptions {
        access: Access::ReadWrite,
        ..OpenOptions::default()
    };
    let mut operations = vec![
        operation(
            files,
            "create",
            |files| clear(files, A),
            move |files| {
                let made = with_file(files, new, |_| Ok(()));
                made.map_err(fault("create", FsError::Exists))?;
                expect(files, A, b"")
            },
        ),
        operation(files, "append", begin, |files| {
            let append = OpenOptions::append();
            let done = with_file(files, append, |file| file.write_all(MORE));
            done.map_err(because("append"))?;
            expect(files, A, &[OLD, MORE].concat())
        }),
        operation(files, "write", begin, move |files| {
            let done = with_file(files, change, |file| file.write_at(3, MORE).map(drop));
            done.map_err(because("write"))?;
            expect(files, A, b"012<more>9abcdef")
        }),
        operation(files, "write much", begin, move |files| {
            let much: Vec<u8> = (0..20_000_u32).map(|at| ((at * at) >> 3) as u8).collect();
            let done = with_file(files, change, |file| file.write_at(0, &much).map(drop));
            done.map_err(because("write much"))?;
            expect(files, A, &much)
        }),
    ];
    operations.extend(names(files));
    Ok(operations)
}

/// Returns what is done with names, and reading.
fn names<'a>(files: &Files) -> [Operation<'a>; 5] {
    [
        operation(files, "truncate", begin, |files| {
            let change = OpenOptions {
                access: Access::ReadWrite,
                ..OpenOptions::default()
            };
            let done = with_file(files, change, |file| file.set_size(5));
            done.map_err(because("truncate"))?;
            expect(files, A, &OLD[..5])
        }),
        operation(files, "rename", begin, |files| {
            let renamed = files.rename(A, B);
            renamed.map_err(fault("rename", FsError::NotFound))?;
            expect_none(files, A)?;
            expect(files, B, OLD)
        }),
        operation(files, "unlink", begin, |files| {
            let removed = files.remove_file(A);
            removed.map_err(fault("unlink", FsError::NotFound))?;
            expect_none(files, A)
        }),
        operation(files, "directory", begin, |files| {
            let made = files.make_dir(B);
            made.map_err(fault("make directory", FsError::Exists))?;
            let names = files.read_dir(DIRECTORY).map_err(because("list"))?;
            if names.len() != 2 {
                return Err(Fault::Wrong(format!("the directory lists {names:?}")));
            }
            let removed = files.remove_dir(B);
            removed.map_err(fault("remove directory", FsError::NotFound))?;
            expect_none(files, B)
        }),
        operation(files, "read", begin, |files| expect(files, A, OLD)),
    ]
}

/// Makes an operation of functions that need the files only.
fn operation<'a>(
    files: &Files,
    name: &'static str,
    prepare: impl Fn(&Files) -> Result<(), String> + 'a,
    run: impl Fn(&Files) -> Result<(), Fault> + 'a,
) -> Operation<'a> {
    let (before, after) = (files.clone(), files.clone());
    Operation::new(name, move || prepare(&before), move || run(&after))
}

/// A file of the disk, of which a part is known.
pub(super) struct OnDisk {
    files: Files,
    path: &'static str,
    known: Vec<u8>,
    next: Cell<usize>,
}

impl OnDisk {
    /// Finds one, if there is a disk.
    pub(super) fn find(files: &Files) -> Result<Option<Rc<OnDisk>>, String> {
        let Some(path) = ON_DISK.into_iter().find(|path| files.stat(path).is_ok()) else {
            return Ok(None);
        };
        let mut known = vec![0; KNOWN_BYTES];
        let opened = files.open(path, OpenOptions::read());
        let mut file = opened.map_err(because("open"))?;
        let count = file.read(&mut known).map_err(because("read"))?;
        known.truncate(count);
        Ok(Some(Rc::new(OnDisk {
            files: files.clone(),
            path,
            known,
            next: Cell::new(0),
        })))
    }

    /// Reads somewhere else each time.
    fn read(&self, bytes: usize) -> Result<(), Fault> {
        let at = self.next.get() % (self.known.len() - bytes);
        self.next.set(at + STEP);
        let mut content = vec![0; bytes];
        let opened = self.files.open(self.path, OpenOptions::read());
        let file = opened.map_err(because("open"))?;
        let count = file.read_at(at as u64, &mut content);
        let count = count.map_err(because("read"))?;
        file.close().map_err(because("close"))?;
        if content[..count] == self.known[at..at + bytes] {
            Ok(())
        } else {
            Err(Fault::Wrong(format!(
                "other bytes, or {count} only, at {at}"
            )))
        }
    }
}

/// Returns what is done on a disk.
pub(super) fn disk<'a>(disk: &Rc<OnDisk>) -> Vec<Operation<'a>> {
    let operation = |(name, bytes)| {
        let disk = Rc::clone(disk);
        Operation::new(name, || Ok(()), move || disk.read(bytes))
    };
    READS.into_iter().map(operation).collect()
}

/// Returns reading from a disk whose driver has to find its device again.
pub(super) fn disk_with_new_driver(disk: Rc<OnDisk>, context: &Context) -> Operation<'_> {
    let run = move || {
        let killed = context.init().kill("virtio-blk");
        killed.map_err(because("kill virtio-blk"))?;
        disk.read(1000)
    };
    Operation::new("find the device", || wait_for_all(context), run)
}
