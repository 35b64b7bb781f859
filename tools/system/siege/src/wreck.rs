//! Does harm to processes.

use alloc::vec;
use alloc::vec::Vec;

use chaos::Random;
use libsys::abi::layout::USER_END;
use libsys::abi::{MAX_PAGE_RUNS, PAGE_SIZE, PageRun};
use libsys::{Handle, Process, System};
use siege::harm::{self, JUMP_TO_ITSELF, Target};
use skink_program::Failed;

/// Turns a bit of a process over, and tells which.
///
/// # Errors
///
/// When the process is gone, or has nothing of its own.
pub(crate) fn flip(
    system: &Handle<System>,
    process: &Handle<Process>,
    random: &mut Random,
) -> Result<Target, Failed> {
    let target = harm::choose(random, &runs(process)?)
        .ok_or_else(|| Failed::new("there is no memory to turn a bit of"))?;
    let mut byte = [0];
    system.peek(process, target.address, &mut byte)?;
    system.poke(process, target.address, &[byte[0] ^ target.mask])?;
    Ok(target)
}

/// Has a process turn for ever, by changing where its functions return to. Returns how many words
/// of its stack were changed.
///
/// # Errors
///
/// When the process is gone, nothing in its text turns for ever, or its stack leads nowhere.
pub(crate) fn hang(system: &Handle<System>, process: &Handle<Process>) -> Result<usize, Failed> {
    let runs = runs(process)?;
    let (mut trap, mut room) = (None, None);
    let (mut first, mut end) = (u64::MAX, 0);
    for run in harm::text(&runs) {
        let mut text = vec![0; run.pages as usize * PAGE_SIZE];
        system.peek(process, run.address, &mut text)?;
        let at = |offset: usize| run.address + offset as u64;
        trap = trap.or(harm::turns_for_ever(&text).map(at));
        room = room.or(harm::padding(&text).map(at));
        first = first.min(run.address);
        end = end.max(run.address + text.len() as u64);
    }
    let trap = match (trap, room) {
        (Some(trap), _) => trap,
        (None, Some(room)) => {
            // It stays there for all later instances: none of them ever comes to it.
            system.poke(process, room, &JUMP_TO_ITSELF)?;
            room
        }
        (None, None) => return Err(Failed::new("nothing in its text turns for ever")),
    };
    let mut words = 0;
    for run in harm::stack(&runs) {
        let mut stack = vec![0; run.pages as usize * PAGE_SIZE];
        system.peek(process, run.address, &mut stack)?;
        words += harm::lead_astray(&mut stack, first..end, trap);
        system.poke(process, run.address, &stack)?;
    }
    if words == 0 {
        return Err(Failed::new("nothing on its stack leads into its text"));
    }
    Ok(words)
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
