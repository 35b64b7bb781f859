//! Files of the disk, read in pieces and compared with checksums that were taken before.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use libipc::files::{File, Files};
use libipc::proto::vfs::OpenOptions;
use libsys::state::crc32c;
use sha2::{Digest, Sha256};
use sha256sum::parse_line;
use siege::Verdict;
use skink_program::{Failed, Program};

use crate::worker::{self, Worker};

/// The list of checksums that the host has made.
const SUMS: &str = "/SHA256SUMS";
/// Bytes with a checksum of their own.
const BLOCK_BYTES: usize = 4096;
/// Most blocks that are read at once.
const MAX_BLOCKS: u64 = 32;
/// Most bytes of files that are looked at: their checksums are taken first.
const MAX_BYTES: u64 = 6 << 20;
/// Files that are open at a time.
const OPEN_FILES: usize = 6;

/// A file and what must be in it.
struct Known {
    path: String,
    bytes: u64,
    blocks: Vec<u32>,
}

/// Reads until it is stopped.
pub(crate) fn run(program: &Program, mut worker: Worker<'_>) -> Result<(), Failed> {
    let files = worker::files(program)?;
    let known = learn(&files, &worker)?;
    if known.is_empty() {
        return Err(Failed::new("the disk has no files with checksums").about(SUMS));
    }
    worker.begin();
    let mut open: Vec<(usize, File)> = Vec::new();
    while worker.goes_on() {
        if open.is_empty() || worker.random.below(8) == 0 {
            let place = worker.random.below(known.len() as u64) as usize;
            let opened = files.open(&known[place].path, OpenOptions::read());
            let Some(file) = worker.good(&format!("open {}", known[place].path), opened) else {
                continue;
            };
            open.push((place, file));
        }
        if open.len() > OPEN_FILES {
            let place = worker.random.below(open.len() as u64) as usize;
            let (_, file) = open.swap_remove(place);
            worker.good("close", file.close());
        }
        let place = worker.random.below(open.len() as u64) as usize;
        let can_go_on = match open.get(place) {
            Some((file, open)) => read_some(&mut worker, &known[*file], open),
            None => false,
        };
        if !can_go_on && place < open.len() {
            // A file that cannot be read counts once.
            drop(open.swap_remove(place));
        }
    }
    Ok(())
}

/// Reads the files that the list names and takes the checksums of their blocks; what does not
/// agree with the list counts as wrong.
fn learn(files: &Files, worker: &Worker<'_>) -> Result<Vec<Known>, Failed> {
    let about = |path: &str| {
        let path = path.to_string();
        move |failure| Failed::from(failure).about(path)
    };
    let list = files.read_to_vec(SUMS).map_err(about(SUMS))?;
    let mut known = Vec::new();
    let mut total = 0;
    for listed in list.split(|byte| *byte == b'\n').filter_map(parse_line) {
        let path = format!("/{}", String::from_utf8_lossy(listed.name));
        let bytes = files.stat(&path).map_err(about(&path))?.bytes;
        if bytes == 0 || total + bytes > MAX_BYTES {
            continue;
        }
        total += bytes;
        let content = files.read_to_vec(&path).map_err(about(&path))?;
        let sum: [u8; 32] = Sha256::digest(&content).into();
        if sum != listed.sum {
            worker.count(Verdict::Wrong(bytes), || {
                format!("{path} has another checksum than on the host")
            });
        }
        let blocks = content.chunks(BLOCK_BYTES).map(|block| crc32c(0, block));
        known.push(Known {
            bytes,
            blocks: blocks.collect(),
            path,
        });
    }
    Ok(known)
}

/// Reads some blocks in a row and judges each. Returns whether the file could be read.
fn read_some(worker: &mut Worker<'_>, known: &Known, file: &File) -> bool {
    let count = known.blocks.len() as u64;
    let first = worker.random.below(count);
    let blocks = (1 + worker.random.below(MAX_BLOCKS)).min(count - first);
    let offset = first * BLOCK_BYTES as u64;
    let wanted = (blocks * BLOCK_BYTES as u64).min(known.bytes - offset) as usize;
    let mut bytes = vec![0; wanted];
    let what = || format!("read {} bytes at {offset} of {}", wanted, known.path);
    let Some(read) = worker.good(&what(), file.read_at(offset, &mut bytes)) else {
        return false;
    };
    if read < wanted {
        worker.count(Verdict::Wrong((wanted - read) as u64), || {
            format!("{}: only {read}", what())
        });
        return true;
    }
    let expected = known.blocks.iter().skip(first as usize);
    for (block, expected) in bytes.chunks(BLOCK_BYTES).zip(expected) {
        if crc32c(0, block) != *expected {
            worker.count(Verdict::Wrong(block.len() as u64), || {
                format!("{}: a block has another checksum", what())
            });
        }
    }
    true
}
