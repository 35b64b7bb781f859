//! Files: names, small and long transfers, on the disk and in memory.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use bench::{Benchmark, Entry, Plan};
use libipc::files::{File, Files};
use libipc::proto::vfs::{Access, Create, OpenOptions};
use libsys::abi::PAGE_SIZE;
use skink_program::Failed;

use super::kit::Kit;

/// A large file of the sample disk.
pub(crate) const LARGE: &str = "/big.bin";
/// Where files are made, in memory.
const FOLDER: &str = "/tmp/bench";
/// Bytes of a small transfer.
const SMALL: usize = 64;
/// Bytes that a sequential transfer moves at once.
const PIECE: usize = 256 * 1024;
/// Bytes of the file in memory that is written and read.
const WRITTEN: u64 = 8 << 20;

const WRITE: OpenOptions = OpenOptions {
    truncate: false,
    ..OpenOptions::replace()
};

/// For operations of some ten thousand instructions.
const PLAN: Plan = Plan {
    iterations: 200,
    batches: 9,
};
/// For long transfers: each batch moves 8 MiB.
const LONG: Plan = Plan {
    iterations: (WRITTEN / PIECE as u64) as u32,
    batches: 9,
};

/// The benchmarks.
pub(crate) static BENCHMARKS: &[Entry<Kit>] = &[
    Entry {
        name: "files.open_close",
        about: "a file of the disk opened and closed",
        plan: PLAN,
        make: |kit| Ok(Box::new(OpenClose(kit.files().clone()))),
    },
    Entry {
        name: "files.stat",
        about: "what a path names, on the disk",
        plan: PLAN,
        make: |kit| Ok(Box::new(Stat(kit.files().clone()))),
    },
    Entry {
        name: "files.read.64B",
        about: "the first 64 bytes of an open file of the disk",
        plan: PLAN,
        make: |kit| {
            let file = kit.files().open(LARGE, OpenOptions::read())?;
            Ok(Box::new(SmallRead(file)))
        },
    },
    Entry {
        name: "files.seq_read.4KiB",
        about: "4 KiB of a file of the disk that is read from front to back",
        plan: LONG,
        make: |kit| SequentialRead::make(kit.files().open(LARGE, OpenOptions::read())?),
    },
    Entry {
        name: "files.tmpfs.create",
        about: "an empty file made in memory and closed",
        plan: PLAN,
        make: |kit| Ok(Box::new(CreateMany(Names::new(kit)?))),
    },
    Entry {
        name: "files.tmpfs.append.64B",
        about: "64 bytes written at the end of a file in memory",
        plan: PLAN,
        make: |kit| {
            Names::new(kit)?;
            let file = open_empty(
                kit.files(),
                &format!("{FOLDER}/append"),
                OpenOptions::append(),
            )?;
            Ok(Box::new(Append(file)))
        },
    },
    Entry {
        name: "files.tmpfs.rename",
        about: "a file in memory given another name",
        plan: PLAN,
        make: Rename::make,
    },
    Entry {
        name: "files.tmpfs.unlink",
        about: "an empty file in memory removed",
        plan: PLAN,
        make: |kit| Ok(Box::new(RemoveMany(Names::new(kit)?))),
    },
    Entry {
        name: "files.tmpfs.seq_write.4KiB",
        about: "4 KiB added to a file in memory by long writes",
        plan: LONG,
        make: |kit| {
            Names::new(kit)?;
            let file = open_empty(kit.files(), &format!("{FOLDER}/write"), WRITE)?;
            let piece = pattern(PIECE);
            Ok(Box::new(SequentialWrite { file, piece, at: 0 }))
        },
    },
    Entry {
        name: "files.tmpfs.seq_read.4KiB",
        about: "4 KiB of a file in memory that is read from front to back",
        plan: LONG,
        make: |kit| {
            Names::new(kit)?;
            let path = format!("{FOLDER}/read");
            let file = open_empty(kit.files(), &path, WRITE)?;
            let piece = pattern(PIECE);
            for at in (0..WRITTEN).step_by(PIECE) {
                file.write_at(at, &piece)?;
            }
            SequentialRead::make(kit.files().open(&path, OpenOptions::read())?)
        },
    },
];

/// Opens an empty file in place of an earlier one of that name.
fn open_empty(files: &Files, path: &str, options: OpenOptions) -> Result<File, Failed> {
    files.open(path, OpenOptions::replace())?.close()?;
    Ok(files.open(path, options)?)
}

/// Bytes of which no two pages are equal.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|at| (at ^ (at / PAGE_SIZE * 7)) as u8)
        .collect()
}

struct OpenClose(Files);

impl Benchmark for OpenClose {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            self.0.open(LARGE, OpenOptions::read())?.close()?;
        }
        Ok(())
    }
}

struct Stat(Files);

impl Benchmark for Stat {
    fn prepare(&mut self, _iterations: u32) -> Result<(), Failed> {
        let known = self.0.open(LARGE, OpenOptions::read())?.stat()?;
        if self.0.stat(LARGE)? != known {
            return Err(Failed::new("path and open file are not the same file"));
        }
        Ok(())
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            self.0.stat(LARGE)?;
        }
        Ok(())
    }
}

struct SmallRead(File);

impl Benchmark for SmallRead {
    fn prepare(&mut self, _iterations: u32) -> Result<(), Failed> {
        // A long read takes another way.
        let mut long = vec![0; PIECE];
        let mut small = [0; SMALL];
        self.0.read_at(0, &mut long)?;
        self.0.read_at(0, &mut small)?;
        if !long.starts_with(&small) {
            return Err(Failed::new("a small read does not give the file's bytes"));
        }
        Ok(())
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        let mut bytes = [0; SMALL];
        for _ in 0..iterations {
            self.0.read_at(0, &mut bytes)?;
        }
        Ok(())
    }
}

/// Reads a file piece by piece, again and again.
struct SequentialRead {
    file: File,
    piece: Vec<u8>,
    bytes: u64,
}

impl SequentialRead {
    fn make(file: File) -> Result<Box<dyn Benchmark>, Failed> {
        if file.size()? < PIECE as u64 {
            return Err(Failed::new("the file is too small"));
        }
        Ok(Box::new(SequentialRead {
            file,
            piece: vec![0; PIECE],
            bytes: 0,
        }))
    }
}

impl Benchmark for SequentialRead {
    fn prepare(&mut self, _iterations: u32) -> Result<(), Failed> {
        self.bytes = 0;
        Ok(())
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            let mut count = self.file.read(&mut self.piece)?;
            if count == 0 {
                self.file.seek(libipc::files::SeekFrom::Start(0))?;
                count = self.file.read(&mut self.piece)?;
            }
            self.bytes += count as u64;
        }
        Ok(())
    }

    fn finish(&mut self, _iterations: u32) -> Result<u64, Failed> {
        // Small reads take another way.
        let mut small = [0; SMALL];
        let start = self.file.position() / PIECE as u64 * PIECE as u64;
        let start = start.saturating_sub(if start == self.file.position() {
            PIECE as u64
        } else {
            0
        });
        self.file.read_at(start, &mut small)?;
        if !self.piece.starts_with(&small) {
            return Err(Failed::new("what was read is not the file's content"));
        }
        Ok(self.bytes / PAGE_SIZE as u64)
    }
}

/// Names of files in a folder of their own.
struct Names {
    files: Files,
    next: u32,
}

impl Names {
    fn new(kit: &Kit) -> Result<Self, Failed> {
        let files = kit.files().clone();
        files.make_dirs(FOLDER)?;
        Ok(Names { files, next: 0 })
    }

    fn next(&mut self) -> String {
        self.next += 1;
        name(self.next)
    }

    fn create_next(&mut self) -> Result<(), Failed> {
        let options = OpenOptions {
            access: Access::Write,
            create: Create::New,
            truncate: false,
            append: false,
        };
        let name = self.next();
        self.files.open(name, options)?.close()?;
        Ok(())
    }

    /// Checks that nothing is left of that kind, or so many.
    fn check(&self, expected: usize) -> Result<(), Failed> {
        let entries = self.files.read_dir(FOLDER)?;
        let count = entries
            .iter()
            .filter(|entry| entry.name.starts_with(b"many-"))
            .count();
        if count != expected {
            return Err(Failed::new(format_args!(
                "{count} files are there, not {expected}"
            )));
        }
        Ok(())
    }
}

fn name(number: u32) -> String {
    format!("{FOLDER}/many-{number}")
}

struct CreateMany(Names);

impl Benchmark for CreateMany {
    fn prepare(&mut self, _iterations: u32) -> Result<(), Failed> {
        self.0.next = 0;
        self.0.check(0)
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            self.0.create_next()?;
        }
        Ok(())
    }

    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        self.0.check(iterations as usize)?;
        for number in 1..=iterations {
            self.0.files.remove_file(name(number))?;
        }
        Ok(iterations.into())
    }
}

struct RemoveMany(Names);

impl Benchmark for RemoveMany {
    fn prepare(&mut self, iterations: u32) -> Result<(), Failed> {
        self.0.next = 0;
        for _ in 0..iterations {
            self.0.create_next()?;
        }
        self.0.next = 0;
        self.0.check(iterations as usize)
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            let name = self.0.next();
            self.0.files.remove_file(name)?;
        }
        Ok(())
    }

    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        self.0.check(0)?;
        Ok(iterations.into())
    }
}

struct Append(File);

impl Benchmark for Append {
    fn prepare(&mut self, _iterations: u32) -> Result<(), Failed> {
        Ok(self.0.set_size(0)?)
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            self.0.write_all(&[7; SMALL])?;
        }
        Ok(())
    }

    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        if self.0.size()? != u64::from(iterations) * SMALL as u64 {
            return Err(Failed::new("the file has not grown by what was written"));
        }
        Ok(iterations.into())
    }
}

/// Gives a file two names in turn.
struct Rename {
    files: Files,
    names: [String; 2],
}

impl Rename {
    fn make(kit: &Kit) -> Result<Box<dyn Benchmark>, Failed> {
        let files = Names::new(kit)?.files;
        let names = ["here", "there"].map(|name| format!("{FOLDER}/{name}"));
        open_empty(&files, &names[0], WRITE)?;
        Ok(Box::new(Rename { files, names }))
    }
}

impl Benchmark for Rename {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            self.files.rename(&self.names[0], &self.names[1])?;
            self.names.swap(0, 1);
        }
        Ok(())
    }

    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        self.files.stat(&self.names[0])?;
        if self.files.stat(&self.names[1]).is_ok() {
            return Err(Failed::new("the file has two names"));
        }
        Ok(iterations.into())
    }
}

struct SequentialWrite {
    file: File,
    piece: Vec<u8>,
    at: u64,
}

impl Benchmark for SequentialWrite {
    fn prepare(&mut self, _iterations: u32) -> Result<(), Failed> {
        self.at = 0;
        Ok(self.file.set_size(0)?)
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            self.at = self.file.write_at(self.at, &self.piece)?;
        }
        Ok(())
    }

    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        let bytes = u64::from(iterations) * PIECE as u64;
        if self.file.size()? != bytes {
            return Err(Failed::new("the file has not grown by what was written"));
        }
        Ok(bytes / PAGE_SIZE as u64)
    }
}
