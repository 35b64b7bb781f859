//! Calls that look into another process.

use skink_abi::layout::{TIME_PAGE, USER_END};
use skink_abi::{Error, MAX_PAGE_RUNS, MAX_PEEK_BYTES, ObjectKind, PAGE_SIZE, PageRun, Rights};
use skink_kcore::handles::Entry;

use super::objects::{MAKER, give};
use super::processes::with_process;
use super::{Call, Result};
use crate::arch::x86_64::paging::Access;
use crate::arch::x86_64::physical;
use crate::process::{PROCESSES, Process};
use crate::{object, user};

/// Most entries of page tables that one call looks at.
const MAX_ENTRIES: usize = 2048;

pub(super) fn mappings(call: &mut Call<'_>) -> Result {
    let [handle, address, out, most, ..] = call.arguments;
    if address % PAGE_SIZE as u64 != 0 || address > USER_END {
        return Err(Error::InvalidArgument);
    }
    let most = most.min(MAX_PAGE_RUNS as u64) as usize;
    with_process(call, handle, Rights::MANAGE, |call, target| {
        let mut runs = [PageRun::default(); MAX_PAGE_RUNS];
        let (count, next) = {
            // While this is held, no page that is mapped can be used for anything else.
            let mut state = target.state.lock(call.held);
            if !target.is_alive() {
                return Err(Error::Dead);
            }
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
    in_parts(call, |call, target, address, buffer, part| {
        {
            let mut state = target.state.lock(call.held);
            if !target.is_alive() {
                return Err(Error::Dead);
            }
            user::read_bytes(state.held(), target, address, part)?;
        }
        user::write_bytes(call.held, call.process, buffer, part)
    })
}

pub(super) fn poke(call: &mut Call<'_>) -> Result {
    in_parts(call, |call, target, address, buffer, part| {
        user::read_bytes(call.held, call.process, buffer, part)?;
        let bytes = part.len() as u64;
        // That page is the kernel's, and everybody's.
        if address < TIME_PAGE + PAGE_SIZE as u64 && address.saturating_add(bytes) > TIME_PAGE {
            return Err(Error::BadAddress);
        }
        let mut state = target.state.lock(call.held);
        if !target.is_alive() {
            return Err(Error::Dead);
        }
        let put = |physical, done: u64, length: u64| {
            let piece = &part[done as usize..(done + length) as usize];
            // SAFETY: a page of RAM of a program; what the program may do with it does not matter.
            unsafe { physical::write(physical, piece) };
            Ok(())
        };
        user::pieces(state.held(), target, address, bytes, Access::Read, put)
    })
}

/// Moves the bytes of a range of another process's memory part by part: `part` gets the process, the
/// addresses there and here, and room for the bytes. Two processes' page tables cannot be locked
/// at a time.
fn in_parts(
    call: &mut Call<'_>,
    mut part: impl FnMut(
        &mut Call<'_>,
        &'static Process,
        u64,
        u64,
        &mut [u8],
    ) -> core::result::Result<(), Error>,
) -> Result {
    require_debug(call)?;
    let [_, handle, address, buffer, bytes, _] = call.arguments;
    if bytes > MAX_PEEK_BYTES {
        return Err(Error::InvalidArgument);
    }
    with_process(call, handle, Rights::MANAGE, |call, target| {
        let mut room = [0; 512];
        let mut done = 0;
        while done < bytes {
            let length = (bytes - done).min(room.len() as u64);
            let (there, here) = (address.wrapping_add(done), buffer.wrapping_add(done));
            part(call, target, there, here, &mut room[..length as usize])?;
            done += length;
        }
        Ok((bytes, 0))
    })
}
