//! Programs that make batches until something gives way.

use alloc::vec::Vec;

use libsys::abi::layout::THREAD_CONTROL;
use libsys::abi::{MAX_BATCH, PAGE_SIZE, Syscall};
use libsys::batch::Batch;
use libsys::thread::{self, ThreadPlace};
use libsys::{Endpoint, Error, Handle, Notification, startup};

use super::memory::{REGION, put};
use super::{BAD_ROLE, Role, WRONG};
use crate::raw;

/// IPC page of the main thread.
const IPC_PAGE: u64 = THREAD_CONTROL + PAGE_SIZE as u64;
/// Words of an entry.
const WORDS: u64 = 7;

fn handles() -> Result<u32, i32> {
    let info = startup::process().info().map_err(|_| WRONG)?;
    Ok(info.handles)
}

/// Makes senders until the kernel memory is used up: there are as many as were told.
pub(super) fn use_up(_role: &Role<'_>) -> Result<i32, i32> {
    let endpoint = Handle::<Endpoint>::create().map_err(|_| WRONG)?;
    let before = handles()?;
    let mut senders = Vec::new();
    let (position, error) = loop {
        let mut batch = Batch::with_capacity(MAX_BATCH);
        let tickets = [(); MAX_BATCH].map(|()| batch.mint(&endpoint, 1));
        let mut done = batch.run();
        let known = senders.len();
        senders.extend(tickets.into_iter().flat_map(|ticket| done.take(ticket)));
        if let Some((position, error)) = done.failure() {
            break (known + position, error);
        }
    };
    if error != Error::NoMemory || senders.len() != position {
        return Ok(WRONG);
    }
    if handles()? != before + senders.len() as u32 {
        return Ok(WRONG);
    }
    drop(senders);
    if handles()? != before || endpoint.mint(2).is_err() {
        return Ok(WRONG);
    }
    Ok(0)
}

/// Makes batches of harmless calls while another thread puts others in their place: calls that no
/// batch may hold and would end this program, and handles that are none.
pub(super) fn race(role: &Role<'_>) -> Result<i32, i32> {
    const ROUNDS: u64 = 4_000;
    const PAGES: u64 = 6;
    let bits: Handle<Notification> = role.take("bits")?;
    let handle = u64::from(bits.raw().0);
    let memory = role.program.memory().map_err(|_| BAD_ROLE)?;
    let pages = memory.create_object(PAGES).map_err(|_| WRONG)?;
    let place = ThreadPlace {
        memory: &pages,
        first_page: 0,
        pages: PAGES,
        address: REGION,
    };
    let change = move || {
        let calls = [
            Syscall::Notify,
            Syscall::ProcessExit,
            Syscall::ThreadExit,
            Syscall::HandleInfo,
            Syscall::Batch,
            Syscall::Call,
        ];
        for round in 0_u64.. {
            let entry = IPC_PAGE + round % MAX_BATCH as u64 * WORDS * 8;
            put(entry, calls[round as usize % calls.len()] as u64);
            // No handle is as small as the other number.
            put(
                entry + 8,
                if round & 8 == 0 {
                    handle
                } else {
                    round & 0xffff
                },
            );
        }
    };
    let _thread = thread::spawn(&place, change).map_err(|_| WRONG)?;
    let most = MAX_BATCH as u64;
    for _ in 0..ROUNDS {
        for entry in (0..most).map(|entry| IPC_PAGE + entry * WORDS * 8) {
            put(entry, Syscall::Notify as u64);
            put(entry + 8, handle);
        }
        // SAFETY: of the calls that the two threads write only `handle_info` writes to memory, and
        // its pointer, the second argument, is 0 in all entries.
        let made = unsafe { raw::syscall(Syscall::Batch as u64, [most, 0, 0, 0, 0, 0]) };
        let is_sane = made.status == 0 && made.first <= most && made.second <= u64::from(u16::MAX);
        if !is_sane {
            return Ok(WRONG);
        }
    }
    Ok(0)
}

/// Ends its own process in the middle of a batch.
pub(super) fn die(role: &Role<'_>) -> Result<i32, i32> {
    let bits: Handle<Notification> = role.take("bits")?;
    let own = u64::from(startup::process().raw().0);
    let entries = [
        (Syscall::ProcessKill, own),
        (Syscall::Notify, bits.raw().0.into()),
    ];
    for (position, (call, argument)) in (0..).zip(entries) {
        let entry = IPC_PAGE + position * WORDS * 8;
        put(entry, call as u64);
        put(entry + 8, argument);
    }
    // SAFETY: neither call touches memory.
    unsafe { raw::syscall(Syscall::Batch as u64, [2, 0, 0, 0, 0, 0]) };
    Ok(WRONG)
}
