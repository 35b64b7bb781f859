//! A program of several threads that use the same memory.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use libsys::abi::PAGE_SIZE;
use libsys::thread::{self, ThreadPlace};
use libsys::time;

use super::memory::{REGION, get, pattern, put, region};
use super::{Role, WRONG};

/// Where the threads live.
const THREADS: u64 = 0x61_0000_0000;
const PAGE: u64 = PAGE_SIZE as u64;

/// Several threads touch the same pages at once: each page must come once and stay.
pub(super) fn run(role: &Role<'_>) -> Result<i32, i32> {
    const COUNT: u64 = 3;
    const PAGES: u64 = 512;
    const STACK_PAGES: u64 = 6;
    let memory = region(role, PAGES)?;
    let finished = Arc::new(AtomicU64::new(0));
    let mut handles = Vec::new();
    let places = memory
        .create_object(COUNT * STACK_PAGES)
        .map_err(|_| WRONG)?;
    for number in 0..COUNT {
        let place = ThreadPlace {
            memory: &places,
            first_page: number * STACK_PAGES,
            pages: STACK_PAGES,
            address: THREADS + number * 16 * PAGE,
        };
        let finished = Arc::clone(&finished);
        let work = move || {
            for page in 0..PAGES {
                // Each thread has a word of its own in every page.
                put(REGION + page * PAGE + number * 8, pattern(page) + number);
            }
            finished.fetch_add(1, Ordering::Release);
        };
        handles.push(thread::spawn(&place, work).map_err(|_| WRONG)?);
    }
    let deadline = time::after(5_000 * time::MS);
    while finished.load(Ordering::Acquire) < COUNT {
        if time::now() > deadline {
            return Ok(WRONG);
        }
        time::sleep(time::MS);
    }
    for page in 0..PAGES {
        for number in 0..COUNT {
            if get(REGION + page * PAGE + number * 8) != pattern(page) + number {
                return Ok(WRONG);
            }
        }
    }
    Ok(0)
}
