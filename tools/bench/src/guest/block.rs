//! Reads that reach the disk: each is one request to the block server and one to the driver.
//!
//! Programs have no sender to the block server, so these go the way of files. The places go from
//! the end of a file to its start, so that nothing is read ahead: one request is under way at a
//! time. A sequential read, `files.seq_read.4KiB`, has up to eight.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use bench::{Benchmark, Entry, Plan};
use libipc::files::File;
use libipc::proto::vfs::OpenOptions;
use skink_program::Failed;

use super::files::LARGE;
use super::kit::Kit;

const PLAN: Plan = Plan {
    iterations: 200,
    batches: 9,
};

/// The benchmarks.
pub(crate) static BENCHMARKS: &[Entry<Kit>] = &[
    Entry {
        name: "block.read.4KiB",
        about: "4 KiB of a file from the disk, not read ahead",
        plan: PLAN,
        make: |kit| Read::make(kit, 4 << 10),
    },
    Entry {
        name: "block.read.64KiB",
        about: "64 KiB of a file from the disk, not read ahead",
        plan: PLAN,
        make: |kit| Read::make(kit, 64 << 10),
    },
];

struct Read {
    file: File,
    size: u64,
    bytes: Vec<u8>,
    at: u64,
}

impl Read {
    fn make(kit: &Kit, bytes: usize) -> Result<Box<dyn Benchmark>, Failed> {
        let file = kit.files().open(LARGE, OpenOptions::read())?;
        let size = file.size()?;
        if size < 8 * bytes as u64 {
            return Err(Failed::new("the file is too small"));
        }
        Ok(Box::new(Read {
            file,
            size,
            bytes: vec![0; bytes],
            at: 0,
        }))
    }
}

impl Benchmark for Read {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        let bytes = self.bytes.len() as u64;
        for _ in 0..iterations {
            // Never from the start, and never from where a read ended.
            self.at = match self.at.checked_sub(2 * bytes) {
                Some(at) if at > 0 => at,
                _ => self.size - bytes,
            };
            if self.file.read_at(self.at, &mut self.bytes)? != self.bytes.len() {
                return Err(Failed::new("the file ends too early"));
            }
        }
        Ok(())
    }

    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        // Small reads take another way.
        let mut small = [0; 64];
        self.file.read_at(self.at, &mut small)?;
        if !self.bytes.starts_with(&small) {
            return Err(Failed::new("what was read is not the file's content"));
        }
        Ok(iterations.into())
    }
}
