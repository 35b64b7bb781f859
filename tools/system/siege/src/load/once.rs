//! Operations that show when they are done twice or not at all.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use libipc::Failure;
use libipc::files::{File, Files};
use libipc::proto::vfs::{Access, Create, FsError, MAX_OPEN_FILES, OpenOptions};
use libsys::time;
use siege::Verdict;
use siege::counters::{self, RECORD_BYTES};
use skink_program::{Failed, Program};

use crate::worker::{self, Worker};

/// Records after which the file is read back and emptied.
const RECORDS: u64 = 64;
/// Names that are made anew, each only if it does not exist.
const NAMES: u64 = 24;
/// One round of this many counts the files that can be open.
const COUNT_OPEN_EVERY: u64 = 12;

/// Works until it is stopped, and leaves nothing behind.
pub(crate) fn run(program: &Program, mut worker: Worker<'_>) -> Result<(), Failed> {
    let files = worker::files(program)?;
    let root = format!("/tmp/siege-once-{}", time::now());
    files.make_dir(&root)?;
    let log = format!("{root}/log");
    let append = OpenOptions::append();
    let mut file = files.open(&log, append)?;
    let mut next = 0;
    let mut round = 0;
    // One of the files that may be open is.
    let mut room = MAX_OPEN_FILES as u64 - 1;
    worker.begin();
    while worker.goes_on() {
        append_records(&mut worker, &files, &log, &mut file, &mut next);
        make_names(&mut worker, &files, &root);
        walk_a_name(&mut worker, &files, &root);
        if round % COUNT_OPEN_EVERY == 0 {
            count_open_files(&mut worker, &files, &log, &mut room);
        }
        round += 1;
    }
    worker.good("close", file.close());
    worker.good("unlink", files.remove_file(&log));
    worker.good("remove the root", files.remove_dir(&root));
    Ok(())
}

/// Appends numbered records and reads them back: each must be there once.
fn append_records(
    worker: &mut Worker<'_>,
    files: &Files,
    log: &str,
    file: &mut File,
    next: &mut u64,
) {
    let first = *next;
    while *next < first + RECORDS && worker.goes_on() {
        let record = counters::record(*next);
        if worker
            .good("append a record", file.write_all(&record))
            .is_some()
        {
            *next += 1;
        }
    }
    let Some(bytes) = worker.good("read the records", files.read_to_vec(log)) else {
        return;
    };
    let verdict = counters::judge(&bytes, first, *next);
    worker.count(verdict, || {
        let read = bytes.len() / RECORD_BYTES;
        format!(
            "records {first}..{next}: {read} of them were read",
            next = *next
        )
    });
    worker.good("empty the file", file.set_size(0));
}

/// Makes names that must not exist, lists them, removes them.
fn make_names(worker: &mut Worker<'_>, files: &Files, root: &str) {
    let new = OpenOptions {
        access: Access::Write,
        create: Create::New,
        ..OpenOptions::default()
    };
    let folder = format!("{root}/names");
    expect_once(worker, "make a folder", files.make_dir(&folder));
    let path = |number: u64| format!("{folder}/{number:02}");
    for number in 0..NAMES {
        let opened = files.open(path(number), new);
        if let Some(file) = expect_once(worker, "make a file", opened) {
            worker.good("close", file.close());
        }
        worker.goes_on();
    }
    let entries = files.read_dir(&folder);
    if let Some(entries) = worker.good("list", entries) {
        let count = entries.len() as u64;
        worker.count(by_number(NAMES, count), || {
            format!("{count} of {NAMES} names are listed")
        });
    }
    for number in 0..NAMES {
        expect_once(worker, "unlink", files.remove_file(path(number)));
        worker.goes_on();
    }
    expect_once(worker, "remove a folder", files.remove_dir(&folder));
}

/// Renames a file from number to number: there must be one name, the last one.
fn walk_a_name(worker: &mut Worker<'_>, files: &Files, root: &str) {
    let folder = format!("{root}/walk");
    expect_once(worker, "make a folder", files.make_dir(&folder));
    let path = |number: u64| format!("{folder}/{number:02}");
    worker.good("write a file", files.write(path(0), b"walker"));
    for number in 0..NAMES {
        let renamed = files.rename(path(number), path(number + 1));
        expect_once(worker, "rename", renamed);
        worker.goes_on();
    }
    if let Some(entries) = worker.good("list", files.read_dir(&folder)) {
        let names: Vec<String> = entries
            .iter()
            .map(|entry| String::from_utf8_lossy(&entry.name).into_owned())
            .collect();
        let verdict = match names.as_slice() {
            [name] if *name == NAMES.to_string() => Verdict::Good,
            [] => Verdict::Lost(1),
            [_] => Verdict::Wrong(1),
            more => Verdict::Duplicated(more.len() as u64 - 1),
        };
        worker.count(verdict, || {
            format!("after {NAMES} renames there is {names:?}")
        });
    }
    expect_once(worker, "unlink", files.remove_file(path(NAMES)));
    expect_once(worker, "remove a folder", files.remove_dir(&folder));
}

/// Opens as many files as a program may: an `open` that was carried out twice has taken a place
/// for good.
fn count_open_files(worker: &mut Worker<'_>, files: &Files, path: &str, room: &mut u64) {
    let expected = *room;
    let mut open = Vec::new();
    let end = loop {
        match files.open(path, OpenOptions::read()) {
            Ok(file) => open.push(file),
            Err(failure) => break failure,
        }
        if open.len() > MAX_OPEN_FILES {
            break Failure::Server(FsError::TooManyFiles);
        }
    };
    if end == Failure::Server(FsError::TooManyFiles) {
        let count = open.len() as u64;
        // What is gone is gone: it counts once.
        *room = count;
        // More room than expected is a closed file that nobody closed.
        let verdict = match by_number(expected, count) {
            Verdict::Lost(lost) => Verdict::Duplicated(lost),
            Verdict::Duplicated(more) => Verdict::Lost(more),
            other => other,
        };
        worker.count(verdict, || {
            format!("{count} of {expected} files could be opened")
        });
    } else {
        worker.count(Verdict::ClientError, || format!("open: {end}"));
    }
    for file in open {
        worker.good("close", file.close());
    }
}

/// Counts an operation that can only be done once: that it was done already is a duplicate.
fn expect_once<T>(
    worker: &Worker<'_>,
    what: &str,
    result: Result<T, Failure<FsError>>,
) -> Option<T> {
    match result {
        Err(Failure::Server(error @ (FsError::Exists | FsError::NotFound))) => {
            worker.count(Verdict::Duplicated(1), || format!("{what}: {error}"));
            None
        }
        result => worker.good(what, result),
    }
}

fn by_number(expected: u64, seen: u64) -> Verdict {
    match seen.checked_sub(expected) {
        Some(0) => Verdict::Good,
        Some(more) => Verdict::Duplicated(more),
        None => Verdict::Lost(expected - seen),
    }
}
