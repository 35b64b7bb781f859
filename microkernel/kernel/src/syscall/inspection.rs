//! Calls that look into another process.

use skink_abi::layout::{TIME_PAGE, USER_END};
use skink_abi::{
    AtAnswer, Error, MAX_PAGE_RUNS, MAX_PEEK_BYTES, ObjectKind, PAGE_SIZE, PageRun, Rights,
    WatchKind,
};
use skink_kcore::handles::Entry;

use super::objects::{MAKER, give};
use super::processes::with_process;
use super::{Call, Result};
use crate::arch::x86_64::paging::Access;
use crate::arch::x86_64::physical;
use crate::lock::{Guard, level};
use crate::process::{PROCESSES, Process, State};
use crate::{answers, object, stepping, user, watch};

const PAGE: u64 = PAGE_SIZE as u64;
/// Most entries of page tables that one call looks at.
const MAX_ENTRIES: usize = 2048;

pub(super) fn mappings(call: &mut Call<'_>) -> Result {
    let [handle, address, out, most, ..] = call.arguments;
    if address % PAGE != 0 || address > USER_END {
        return Err(Error::InvalidArgument);
    }
    let most = most.min(MAX_PAGE_RUNS as u64) as usize;
    with_process(call, handle, Rights::MANAGE, |call, target| {
        let mut runs = [PageRun::default(); MAX_PAGE_RUNS];
        let (count, next) = {
            let mut state = live(call, target)?;
            let tables = target.tables.lock(state.held());
            tables.runs(address, &mut runs[..most], MAX_ENTRIES)
        };
        for (index, run) in runs[..count].iter().enumerate() {
            let place = out.wrapping_add((index * size_of::<PageRun>()) as u64);
            user::write(call.held, call.process, place, run)?;
        }
        Ok((count as u64, next))
    })
}

fn require_debug(call: &mut Call<'_>) -> core::result::Result<(), Error> {
    let system = call.arguments[0];
    let found = call
        .process
        .find(call.held, system, ObjectKind::System, Rights::DEBUG);
    found.map(|_| ())
}

pub(super) fn open(call: &mut Call<'_>) -> Result {
    require_debug(call)?;
    let number = call.arguments[1];
    let is_it = |id| number != 0 && PROCESSES.get(id).number() == number;
    let mut ids = (0..PROCESSES.made()).filter(|&id| is_it(id) && PROCESSES.retain_used(id));
    let id = ids.next().ok_or(Error::Unavailable)?;
    // Before the reference was taken it may have gone, and another have come.
    if !is_it(id) {
        object::release_process(call.held, id);
        return Err(Error::Unavailable);
    }
    give(call, Entry::new(ObjectKind::Process, MAKER, id, 0))
}

pub(super) fn peek(call: &mut Call<'_>) -> Result {
    copy(call, Access::Read)
}

pub(super) fn poke(call: &mut Call<'_>) -> Result {
    let [_, _, address, _, bytes, _] = call.arguments;
    // The time page is the kernel's, and everybody's.
    if address < TIME_PAGE + PAGE && address.saturating_add(bytes) > TIME_PAGE {
        return Err(Error::BadAddress);
    }
    copy(call, Access::Write)
}

pub(super) fn end_after(call: &mut Call<'_>) -> Result {
    require_debug(call)?;
    let [_, handle, instructions, ..] = call.arguments;
    with_process(call, handle, Rights::MANAGE, |call, target| {
        Ok((stepping::arm(call.held, target, instructions)?, 0))
    })
}

pub(super) fn watch_place(call: &mut Call<'_>) -> Result {
    require_debug(call)?;
    let [_, handle, address, kind, ..] = call.arguments;
    let kind = WatchKind::from_number(kind).filter(|_| address < USER_END);
    let kind = kind.ok_or(Error::InvalidArgument)?;
    with_process(call, handle, Rights::MANAGE, |_, target| {
        Ok((watch::set(target, address, kind)?.into(), 0))
    })
}

pub(super) fn at_answer(call: &mut Call<'_>) -> Result {
    require_debug(call)?;
    let [_, handle, what, ..] = call.arguments;
    let what = AtAnswer::from_number(what).ok_or(Error::InvalidArgument)?;
    with_process(call, handle, Rights::MANAGE, |call, target| {
        Ok((answers::set(call.held, target, what)?.into(), 0))
    })
}

/// Reads or writes another process's memory, part by part: two processes' page tables cannot be
/// locked at a time.
fn copy(call: &mut Call<'_>, access: Access) -> Result {
    require_debug(call)?;
    let [_, handle, address, buffer, bytes, _] = call.arguments;
    if bytes > MAX_PEEK_BYTES {
        return Err(Error::InvalidArgument);
    }
    with_process(call, handle, Rights::MANAGE, |call, target| {
        let mut room = [0; 512];
        for done in (0..bytes).step_by(room.len()) {
            let part = &mut room[..(bytes - done).min(512) as usize];
            let (there, here) = (address.wrapping_add(done), buffer.wrapping_add(done));
            if access == Access::Write {
                user::read_bytes(call.held, call.process, here, part)?;
            }
            copy_part(call, target, there, part, access)?;
            if access == Access::Read {
                user::write_bytes(call.held, call.process, here, part)?;
            }
        }
        Ok((bytes, 0))
    })
}

fn copy_part(
    call: &mut Call<'_>,
    target: &Process,
    address: u64,
    part: &mut [u8],
    access: Access,
) -> core::result::Result<(), Error> {
    let mut state = live(call, target)?;
    let bytes = part.len() as u64;
    let put = |physical, done: u64, length: u64| {
        let piece = &mut part[done as usize..(done + length) as usize];
        match access {
            // SAFETY: a page of RAM.
            Access::Read => unsafe { physical::read(physical, piece) },
            // SAFETY: a page of RAM of a program; what the program may do with it does not matter.
            Access::Write => unsafe { physical::write(physical, piece) },
        }
        Ok(())
    };
    user::pieces(state.held(), target, address, bytes, Access::Read, put)
}

/// Locks a live process. While it is locked, no page that it has mapped can be used for anything
/// else.
fn live<'l>(
    call: &'l mut Call<'_>,
    target: &'l Process,
) -> core::result::Result<Guard<'l, 'l, State, { level::PROCESS }>, Error> {
    let state = target.state.lock(call.held);
    if target.is_alive() {
        Ok(state)
    } else {
        Err(Error::Dead)
    }
}
