//! Memory that is filled, checked and freed, and programs that are started and end.

use alloc::format;
use alloc::string::{String, ToString};
use core::sync::atomic::{AtomicU64, Ordering};

use libipc::proto::memory::{MemoryManagerClient, Protection};
use libsys::abi::PAGE_SIZE;
use libsys::mappings::Reservation;
use siege::{Verdict, load, pattern};
use skink_program::launch::{Command, Launcher};
use skink_program::{Failed, Program};

use crate::worker::Worker;

/// Pages that are mapped at most.
const MAX_PAGES: u64 = 48;
/// Words in a page.
const PAGE_WORDS: usize = PAGE_SIZE / 8;
/// A program is started after one round of this many.
const START_AFTER: u64 = 4;
/// Largest exit code of such a program, and one.
const CODES: u64 = 100;

/// Works until it is stopped.
pub(crate) fn run(program: &Program, mut worker: Worker<'_>) -> Result<(), Failed> {
    let launcher = Launcher::new(program)?;
    let room = Reservation::new(MAX_PAGES)?;
    worker.begin();
    while worker.goes_on() {
        let pages = 1 + worker.random.below(MAX_PAGES);
        let seed = worker.random.number();
        let mapped = launcher
            .memory()
            .map_anonymous(room.address(), pages, Protection::ReadWrite);
        if worker.good("map memory", mapped).is_some() {
            use_pages(&mut worker, launcher.memory(), room.address(), pages, seed);
        }
        if worker.random.below(START_AFTER) == 0 {
            start_one(&mut worker, program, &launcher);
        }
    }
    Ok(())
}

/// Fills pages that were just mapped, checks them, and unmaps them.
fn use_pages(
    worker: &mut Worker<'_>,
    memory: &MemoryManagerClient,
    address: u64,
    pages: u64,
    seed: u64,
) {
    for page in 0..pages {
        // SAFETY: the page lies in a reservation of this process and was mapped just now.
        let words = unsafe { page_at(address + page * PAGE_SIZE as u64) };
        let dirty = words
            .iter()
            .filter(|word| word.load(Ordering::Relaxed) != 0);
        let dirty = dirty.count() as u64;
        if dirty > 0 {
            worker.count(Verdict::Wrong(dirty * 8), || {
                format!("page {page} of {pages} was not zero")
            });
        }
        let first = page * PAGE_WORDS as u64;
        for (place, word) in words.iter().enumerate() {
            word.store(pattern::word(seed, first + place as u64), Ordering::Relaxed);
        }
    }
    worker.goes_on();
    for page in 0..pages {
        // SAFETY: as above; nothing was unmapped since.
        let words = unsafe { page_at(address + page * PAGE_SIZE as u64) };
        let first = page * PAGE_WORDS as u64;
        let wrong = words.iter().enumerate().filter(|(place, word)| {
            word.load(Ordering::Relaxed) != pattern::word(seed, first + *place as u64)
        });
        let wrong = wrong.count() as u64;
        let verdict = if wrong == 0 {
            Verdict::Good
        } else {
            Verdict::Wrong(wrong * 8)
        };
        worker.count(verdict, || {
            format!("page {page} of {pages}: {wrong} words are wrong")
        });
    }
    worker.good("unmap memory", memory.unmap(address, pages));
}

/// Returns the words of a page.
///
/// # Safety
///
/// 1. The page is mapped, readable and writable, for as long as the words are used.
/// 2. Nothing but these words is used to get at it.
unsafe fn page_at(address: u64) -> &'static [AtomicU64] {
    let first = core::ptr::with_exposed_provenance::<AtomicU64>(address as usize);
    // SAFETY: the caller's duties; a page is aligned, and any bytes are a number.
    unsafe { core::slice::from_raw_parts(first, PAGE_WORDS) }
}

/// Starts a program and looks whether it ends as it should.
fn start_one(worker: &mut Worker<'_>, program: &Program, launcher: &Launcher) {
    let code = worker.random.below(CODES);
    let arguments = [load::EXIT.to_string(), code.to_string()];
    let command = Command {
        name: program.name(),
        arguments: &arguments,
        cwd: "/",
        output: None,
    };
    match launcher.run(&command) {
        Ok(finished) if finished.code as u64 == code => worker.count(Verdict::Good, String::new),
        Ok(finished) => worker.count(Verdict::ClientError, || {
            let message = finished.message.unwrap_or_default();
            format!(
                "a program ended with {} in place of {code}: {message}",
                finished.code
            )
        }),
        Err(error) => worker.count(Verdict::ClientError, || error.about("start").message),
    }
}
