//! Does harm to processes.

use alloc::vec;
use alloc::vec::Vec;

use chaos::Random;
use libipc::proto::memory::MemoryManagerClient;
use libsys::abi::layout::USER_END;
use libsys::abi::{MAX_PAGE_RUNS, PAGE_SIZE, PageRun};
use libsys::{Error, Handle, MapFlags, Memory, Process, System};
use siege::faults::Place;
use siege::harm::{self, Area, JUMP_BYTES, JUMP_TO_ITSELF, Target};
use skink_program::Failed;

/// Turns a bit of a process over, in a part of it if that is there, and tells which.
///
/// # Errors
///
/// When the process is gone, or has nothing of its own.
pub(crate) fn flip(
    system: &Handle<System>,
    process: &Handle<Process>,
    random: &mut Random,
    wanted: Option<Area>,
) -> Result<Target, Failed> {
    let target = harm::choose(random, &runs(process)?, wanted)
        .ok_or_else(|| Failed::new("there is no memory to turn a bit of"))?;
    let mut byte = [0];
    system.peek(process, target.address, &mut byte)?;
    system.poke(process, target.address, &[byte[0] ^ target.mask])?;
    Ok(target)
}

/// Returns whether a process has the bytes at a place that the list says it has.
pub(crate) fn is_there(system: &Handle<System>, process: &Handle<Process>, place: &Place) -> bool {
    let mut bytes = vec![0; place.old.len()];
    let read = system.peek(process, place.address, &mut bytes);
    read.is_ok() && bytes == place.old
}

/// Changes the text of one process alone: it gets copies of the pages in which the place lies, which
/// go with it. The next instance has the text of the bundle.
///
/// # Errors
///
/// When the process is gone, or there is no memory for the pages.
pub(crate) fn change(
    system: &Handle<System>,
    memory: &MemoryManagerClient,
    process: &Handle<Process>,
    place: &Place,
) -> Result<(), Failed> {
    let page = PAGE_SIZE as u64;
    let start = place.address / page * page;
    let offset = (place.address - start) as usize;
    let pages = (offset + place.new.len()).div_ceil(PAGE_SIZE);
    let mut text = vec![0; pages * PAGE_SIZE];
    system.peek(process, start, &mut text)?;
    text[offset..offset + place.new.len()].copy_from_slice(&place.new);
    let own: Handle<Memory> = memory.create_object(pages as u64)?;
    own.write(0, &text)?;
    let flags = MapFlags::READ | MapFlags::EXECUTE | MapFlags::REPLACE;
    Ok(process.map_one(start, &own, 0, pages as u64, flags)?)
}

/// What was in a text where a process is led astray.
pub(crate) struct Barred {
    returns: Vec<(u64, [u8; JUMP_BYTES])>,
    /// Where it turns, and what was there.
    room: (u64, [u8; JUMP_TO_ITSELF.len()]),
}

/// Has a process turn for ever as soon as it comes back from a system call. The text is that of
/// the next instance too: it must be put right when the process turns, and before it is replaced.
///
/// # Errors
///
/// When the process is gone, or its text has no room for what turns.
pub(crate) fn bar(system: &Handle<System>, process: &Handle<Process>) -> Result<Barred, Failed> {
    let (mut room, mut returns) = (None, Vec::new());
    for run in harm::text(&runs(process)?) {
        let mut text = vec![0; run.pages as usize * PAGE_SIZE];
        system.peek(process, run.address, &mut text)?;
        let at = |offset: usize| run.address + offset as u64;
        room = room.or(harm::padding(&text).map(|offset| {
            let mut bytes = JUMP_TO_ITSELF;
            bytes.copy_from_slice(&text[offset..offset + JUMP_TO_ITSELF.len()]);
            (at(offset), bytes)
        }));
        for offset in harm::returns(&text) {
            let mut bytes = [0; JUMP_BYTES];
            bytes.copy_from_slice(&text[offset..offset + JUMP_BYTES]);
            returns.push((at(offset), bytes));
        }
    }
    let room = room.ok_or_else(|| Failed::new("its text has no room"))?;
    system.poke(process, room.0, &JUMP_TO_ITSELF)?;
    for (address, _) in &returns {
        let poked = system.poke(process, *address, &harm::jump(*address, room.0));
        // It may turn already, and be found before all is done.
        if poked == Err(Error::Dead) {
            break;
        }
        poked?;
    }
    Ok(Barred { returns, room })
}

/// Puts a text right. Whoever turns goes on turning.
///
/// # Errors
///
/// When the process is gone.
pub(crate) fn unbar(
    system: &Handle<System>,
    process: &Handle<Process>,
    barred: &Barred,
) -> Result<(), Failed> {
    for (address, bytes) in &barred.returns {
        system.poke(process, *address, bytes)?;
    }
    Ok(())
}

/// Takes away where an earlier instance turned, when that one is gone: the text is that of the
/// image too, whose digest a swap checks.
///
/// # Errors
///
/// When the process is gone.
pub(crate) fn clean(
    system: &Handle<System>,
    process: &Handle<Process>,
    barred: &Barred,
) -> Result<(), Failed> {
    let (address, bytes) = &barred.room;
    Ok(system.poke(process, *address, bytes)?)
}

/// Returns all that is mapped in a process.
fn runs(process: &Handle<Process>) -> Result<Vec<PageRun>, Failed> {
    let mut all = Vec::new();
    let mut part = [PageRun::default(); MAX_PAGE_RUNS];
    let mut at = 0;
    while at < USER_END {
        let (count, next) = process.mappings(at, &mut part)?;
        all.extend(part.iter().take(count));
        at = next;
    }
    Ok(all)
}
