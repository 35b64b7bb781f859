//! Fills memory with patterns and checks them.
//!
//! Each pass takes fresh memory, which must be zeros, fills it, changes how it is protected, gives
//! some of it back and takes it again, and checks every word in between. So it needs the memory
//! manager all the time, and tells when that loses a page or shows one of somebody else.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

use alloc::vec::Vec;
use core::fmt::Write as _;

use libipc::proto::memory::{MemoryManagerClient, Protection};
use libsys::abi::PAGE_SIZE;
use libsys::mappings::Reservation;
use libsys::{Handle, Memory, time};
use skink_program::human::seconds;
use skink_program::{FAILURE, Failed, Flag, Outcome, Program};

const HELP: &str = "\
Usage: memtest [-p] [MIB [PASSES]]

Takes so many MiB of memory (8 if not given), fills them with patterns and checks
them, so many times (4 if not given). The exit code is 0 only if every word was
what was written.

  -p, --pause  also prints the longest time between two touches of fresh pages
";

const FLAGS: &[Flag] = &[Flag {
    letter: 'p',
    name: "pause",
}];

/// Pages that are mapped by one request.
const CHUNK_PAGES: u64 = 256;
const CHUNK_BYTES: u64 = CHUNK_PAGES * PAGE_SIZE as u64;
const CHUNKS_PER_MIB: u64 = (1 << 20) / CHUNK_BYTES;
/// Most MiB that can be asked for: a space has few regions, and each chunk is one.
const MAX_MIB: u64 = 240;
/// Memory objects of each pass, and the pages of each.
const OBJECTS: u64 = 8;
const OBJECT_PAGES: u64 = 3;

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let options = program.options(FLAGS)?;
    let (mib, passes) = match options.operands.as_slice() {
        [] => (8, 4),
        [mib] => (number(mib)?, 4),
        [mib, passes] => (number(mib)?, number(passes)?),
        _ => return Err(Failed::usage("too many arguments")),
    };
    if !(1..=MAX_MIB).contains(&mib) {
        return Err(Failed::usage("between 1 and 240 MiB"));
    }
    let mut test = Test::new(program.memory()?, mib * CHUNKS_PER_MIB)?;
    for pass in 1..=passes {
        test.pass(pass)?;
    }
    let Test {
        wrong, longest_ns, ..
    } = test;
    writeln!(
        program.out(),
        "{passes} passes over {mib} MiB: {wrong} words wrong"
    )?;
    if options.has('p') {
        writeln!(program.out(), "longest pause {}", seconds(longest_ns))?;
    }
    let code = program.finish()?;
    Ok(if wrong == 0 { code } else { FAILURE })
}

fn number(text: &str) -> Result<u64, Failed> {
    text.parse()
        .map_err(|_| Failed::usage(alloc::format!("{text}: no number")))
}

struct Test {
    memory: MemoryManagerClient,
    place: Reservation,
    chunks: u64,
    wrong: u64,
    last_touch: u64,
    longest_ns: u64,
}

impl Test {
    fn new(memory: MemoryManagerClient, chunks: u64) -> Result<Self, Failed> {
        Ok(Test {
            memory,
            place: Reservation::new(chunks * CHUNK_PAGES)?,
            chunks,
            wrong: 0,
            last_touch: 0,
            longest_ns: 0,
        })
    }

    fn pass(&mut self, pass: u64) -> Result<(), Failed> {
        for chunk in 0..self.chunks {
            self.take(chunk)?;
            self.fill(chunk, pass);
        }
        let objects = self.make_objects(pass)?;
        for chunk in (0..self.chunks).step_by(2) {
            let address = self.address(chunk);
            self.memory
                .protect(address, CHUNK_PAGES, Protection::Read)?;
            self.check(chunk, pass);
            self.memory
                .protect(address, CHUNK_PAGES, Protection::ReadWrite)?;
        }
        for chunk in (0..self.chunks).step_by(3) {
            self.memory.unmap(self.address(chunk), CHUNK_PAGES)?;
            self.take(chunk)?;
            self.fill(chunk, !pass);
        }
        for chunk in 0..self.chunks {
            let pattern = if chunk % 3 == 0 { !pass } else { pass };
            self.check(chunk, pattern);
        }
        self.check_objects(&objects, pass)?;
        self.memory
            .unmap(self.place.address(), self.chunks * CHUNK_PAGES)?;
        Ok(())
    }

    fn address(&self, chunk: u64) -> u64 {
        self.place.address() + chunk * CHUNK_BYTES
    }

    /// Takes fresh memory.
    fn take(&self, chunk: u64) -> Result<(), Failed> {
        let address = self.address(chunk);
        self.memory
            .map_anonymous(address, CHUNK_PAGES, Protection::ReadWrite)?;
        Ok(())
    }

    /// Checks that a fresh chunk is zeros, and writes to each of its words.
    fn fill(&mut self, chunk: u64, pattern: u64) {
        self.last_touch = time::now();
        for address in words(self.address(chunk)) {
            let word = core::ptr::with_exposed_provenance_mut::<u64>(address as usize);
            // SAFETY: within a chunk that `take` has mapped, aligned, and nobody else's.
            let old = unsafe { word.read_volatile() };
            self.wrong += u64::from(old != 0);
            if address.is_multiple_of(PAGE_SIZE as u64) {
                self.touched();
            }
            // SAFETY: as above.
            unsafe { word.write_volatile(value(address, pattern)) };
        }
    }

    /// A fresh page was touched. Nothing else is waited for between two of a chunk.
    fn touched(&mut self) {
        let now = time::now();
        self.longest_ns = self.longest_ns.max(now - self.last_touch);
        self.last_touch = now;
    }

    fn check(&mut self, chunk: u64, pattern: u64) {
        for address in words(self.address(chunk)) {
            let word = core::ptr::with_exposed_provenance::<u64>(address as usize);
            // SAFETY: within a chunk that is mapped, aligned, and nobody else's.
            let found = unsafe { word.read_volatile() };
            self.wrong += u64::from(found != value(address, pattern));
        }
    }

    fn make_objects(&mut self, pass: u64) -> Result<Vec<Handle<Memory>>, Failed> {
        let mut objects = Vec::new();
        for number in 0..OBJECTS {
            let object = self.memory.create_object(OBJECT_PAGES)?;
            for at in words_of_object() {
                let mut bytes = [0; 8];
                object.read(at, &mut bytes)?;
                self.wrong += u64::from(bytes != [0; 8]);
                object.write(at, &value(at, pass + number).to_le_bytes())?;
            }
            objects.push(object);
        }
        Ok(objects)
    }

    fn check_objects(&mut self, objects: &[Handle<Memory>], pass: u64) -> Result<(), Failed> {
        for (number, object) in (0..).zip(objects) {
            for at in words_of_object() {
                let mut bytes = [0; 8];
                object.read(at, &mut bytes)?;
                self.wrong += u64::from(u64::from_le_bytes(bytes) != value(at, pass + number));
            }
        }
        Ok(())
    }
}

/// The addresses of the words of a chunk.
fn words(start: u64) -> impl Iterator<Item = u64> {
    (start..start + CHUNK_BYTES).step_by(size_of::<u64>())
}

/// Where an object is written: once in each page.
fn words_of_object() -> impl Iterator<Item = u64> {
    (0..OBJECT_PAGES * PAGE_SIZE as u64).step_by(PAGE_SIZE)
}

/// What a word is to hold: another value at each address and with each pattern, and never zero.
fn value(address: u64, pattern: u64) -> u64 {
    (address ^ pattern.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}
