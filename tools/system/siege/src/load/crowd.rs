//! Thousands of files that stay open: each must go on to be the one that was opened, at the place
//! where it was read last.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use libipc::files::{File, Files, SeekFrom};
use libipc::proto::vfs::{Access, Create, MAX_OPEN_FILES, OpenOptions, VfsClient};
use libsys::time;
use siege::{Verdict, pattern};
use skink_program::{Failed, Program};

use crate::worker::{self, Worker};

/// Files of one session: one may have no more open.
const FILES_OF_SESSION: usize = MAX_OPEN_FILES - 6;
/// Bytes in a file in memory.
const CONTENT_BYTES: usize = 96;
/// Bytes of a file of the disk that are looked at.
const DISK_BYTES: usize = 4096;
/// Bytes that are read at once: contents are multiples of it.
const PIECE_BYTES: usize = 32;
/// The list of files of the disk.
const SUMS: &str = "/SHA256SUMS";

/// An open file and what is in it.
struct Open {
    file: File,
    /// Whose content it has.
    content: Content,
    /// Where the next byte is to come from.
    position: usize,
}

/// What is in a file.
#[derive(Clone, Copy)]
enum Content {
    /// The pattern of a number.
    Pattern(u64),
    /// That of a file of the disk.
    Disk(usize),
}

/// A file of the disk: its path, and its first bytes.
struct Known {
    path: String,
    bytes: Vec<u8>,
}

/// Opens so many files, every other one in memory, and reads in them until it is stopped; then
/// looks at each, and leaves nothing behind.
pub(crate) fn run(program: &Program, mut worker: Worker<'_>, count: usize) -> Result<(), Failed> {
    let files = worker::files(program)?;
    let known = learn(&files)?;
    let root = format!("/tmp/siege-crowd-{}", time::now());
    files.make_dir(&root)?;
    let mut open = Vec::new();
    while open.len() < count {
        let session = VfsClient::connect(files.new_session()?)
            .map_err(|_| Failed::new("a session does not answer"))?;
        let session = Files::new(session, None, "/");
        let folder = format!("{root}/{}", open.len());
        session.make_dir(&folder)?;
        for _ in 0..FILES_OF_SESSION.min(count - open.len()) {
            open.push(open_one(&session, &folder, open.len() as u64, &known)?);
        }
    }
    worker.begin();
    while worker.goes_on() {
        let place = worker.random.below(open.len() as u64) as usize;
        if let Some(one) = open.get_mut(place) {
            one.read_on(&worker, &known);
        }
    }
    for (number, mut one) in open.into_iter().enumerate() {
        one.read_on(&worker, &known);
        worker.good("close", one.file.close());
        if let Content::Pattern(number) = one.content {
            worker.good("unlink", files.remove_file(path(&root, number)));
        }
        if number % FILES_OF_SESSION == FILES_OF_SESSION - 1 || number + 1 == count {
            let first = number - number % FILES_OF_SESSION;
            worker.good("remove", files.remove_dir(format!("{root}/{first}")));
        }
    }
    worker.good("remove the root", files.remove_dir(&root));
    Ok(())
}

/// Returns the path of a file in memory.
fn path(root: &str, number: u64) -> String {
    let first = number - number % FILES_OF_SESSION as u64;
    format!("{root}/{first}/{number}")
}

/// Reads the beginnings of the files of the disk.
fn learn(files: &Files) -> Result<Vec<Known>, Failed> {
    let about = |failure| Failed::from(failure).about(SUMS);
    let list = files.read_to_vec(SUMS).map_err(about)?;
    let lines = list.split(|byte| *byte == b'\n');
    let mut known = Vec::new();
    for listed in lines.filter_map(sha256sum::parse_line) {
        let path = format!("/{}", String::from_utf8_lossy(listed.name));
        let file = files.open(&path, OpenOptions::read())?;
        let mut bytes = vec![0; DISK_BYTES];
        let read = file.read_at(0, &mut bytes)?;
        bytes.truncate(read - read % PIECE_BYTES);
        if !bytes.is_empty() {
            known.push(Known { path, bytes });
        }
    }
    Ok(known)
}

/// Opens a file, of the disk if there are any and the number is odd.
fn open_one(files: &Files, folder: &str, number: u64, known: &[Known]) -> Result<Open, Failed> {
    if number % 2 == 1 && !known.is_empty() {
        let place = number as usize / 2 % known.len();
        let file = files.open(&known[place].path, OpenOptions::read())?;
        return Ok(Open::new(file, Content::Disk(place)));
    }
    let options = OpenOptions {
        access: Access::ReadWrite,
        create: Create::New,
        ..OpenOptions::default()
    };
    let mut file = files.open(format!("{folder}/{number}"), options)?;
    let content = Content::Pattern(number);
    file.write_all(&content.bytes(&[]))?;
    file.seek(SeekFrom::Start(0))?;
    Ok(Open::new(file, content))
}

impl Content {
    fn bytes(self, known: &[Known]) -> Vec<u8> {
        match self {
            Content::Pattern(number) => {
                let mut bytes = vec![0; CONTENT_BYTES];
                pattern::fill(number, &mut bytes);
                bytes
            }
            Content::Disk(place) => known
                .get(place)
                .map_or_else(Vec::new, |known| known.bytes.clone()),
        }
    }
}

impl Open {
    fn new(file: File, content: Content) -> Self {
        Open {
            file,
            content,
            position: 0,
        }
    }

    /// Reads the next piece; behind the last one comes the first.
    fn read_on(&mut self, worker: &Worker<'_>, known: &[Known]) {
        let expected = self.content.bytes(known);
        let mut piece = [0; PIECE_BYTES];
        let Some(read) = worker.good("read on", self.file.read(&mut piece)) else {
            return;
        };
        let end = self.position + PIECE_BYTES;
        let is_right = read == PIECE_BYTES && expected.get(self.position..end) == Some(&piece);
        if !is_right {
            worker.count(Verdict::Wrong(PIECE_BYTES as u64), || {
                format!(
                    "{read} bytes at {} of an open file are not its own",
                    self.position
                )
            });
        }
        self.position = end;
        if end >= expected.len() {
            self.position = 0;
            worker.good("go back", self.file.seek(SeekFrom::Start(0)));
        }
    }
}
