//! What becomes of a process's next answer, for fault injection.
//!
//! Marks in its threads that the fast path does not pass by, so an answer comes to the general way,
//! which asks here. With an answer to a page fault a mapping would be lost, and with one that has
//! handles these: in this system they never are unless their server dies, so a living one has its
//! next plain answer lost.

use skink_abi::{AtAnswer, Error, ExitReason, RawHandle};
use skink_kcore::endpoint::Abandon;

use crate::ipc;
use crate::lock::Held;
use crate::process::{Exit, PROCESSES, Process};
use crate::teardown;
use crate::thread::{ENDS_AT_ANSWER, Family, IS_FAULT, LOSES_ANSWER, THREADS, Thread, caller_of};

const MARKS: u32 = ENDS_AT_ANSWER | LOSES_ANSWER;

/// Says what happens at a process's next answer. Returns whether what was set before has not
/// happened.
///
/// # Errors
///
/// `Dead`.
pub(crate) fn set(held: &mut Held<0>, process: &Process, what: AtAnswer) -> Result<bool, Error> {
    let state = process.state.lock(held);
    if !process.is_alive() {
        return Err(Error::Dead);
    }
    let mark = match what {
        AtAnswer::Deliver => 0,
        AtAnswer::End => ENDS_AT_ANSWER,
        AtAnswer::Lose => LOSES_ANSWER,
    };
    let mut old = 0;
    for id in state.threads.iter(&Family) {
        let thread = THREADS.get(id);
        old |= thread.clear_special(MARKS);
        thread.set_special(mark);
    }
    Ok(old != 0)
}

/// Does what was set for this answer of the current thread. Returns whether the answer is lost.
#[inline]
pub(crate) fn is_lost(
    held: &mut Held<0>,
    thread: &Thread,
    reply: RawHandle,
    handles: usize,
) -> bool {
    thread.has_special(MARKS) && lose(held, thread, reply, handles)
}

#[cold]
fn lose(held: &mut Held<0>, thread: &Thread, reply: RawHandle, handles: usize) -> bool {
    let process = PROCESSES.get(thread.process.get());
    // Who is not answered loses nothing.
    if ipc::check_reply(held, process.id.get(), reply).is_err() {
        return false;
    }
    let caller = caller_of(reply).map(|id| THREADS.get(id));
    let has_more = handles > 0 || caller.is_some_and(|caller| caller.call.is(IS_FAULT));
    if has_more && !thread.has_special(ENDS_AT_ANSWER) {
        return false;
    }
    let mut marks = 0;
    {
        let state = process.state.lock(held);
        for id in state.threads.iter(&Family) {
            marks |= THREADS.get(id).clear_special(MARKS);
        }
    }
    if marks & ENDS_AT_ANSWER != 0 {
        let exit = Exit {
            reason: ExitReason::Killed,
            ..Exit::NONE
        };
        // The request goes back with all that the process holds.
        teardown::end_process(held, process, exit);
    } else if let Some(caller) = caller.filter(|_| marks != 0) {
        ipc::abandon(held, caller, process.id.get(), Abandon::Killed);
    }
    marks != 0
}
