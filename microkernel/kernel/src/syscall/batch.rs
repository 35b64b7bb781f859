//! Many plain calls in one crossing.
//!
//! The calls lie in the IPC page of the thread, which is mapped and can be reached as long as the
//! thread lives. The page is the program's, whose other threads may change it at any time: each
//! word is read once, when its call is due, and no result is read back.
//!
//! What is no plain call has no place here, since it blocks, ends the thread, uses the IPC page or
//! is a batch itself: `plain` refuses it. Everything else is the same as if it were called by
//! itself, so a batch can do nothing that its calls could not.

use skink_abi::{BatchEntry, Error, MAX_BATCH, Syscall};

use super::{Call, Result, plain};
use crate::arch::x86_64::{cpu, physical};
use crate::lock::Held;
use crate::process::PROCESSES;
use crate::sched;
use crate::thread::Thread;

const WORDS: usize = size_of::<BatchEntry>() / 8;

const _: () = assert!(MAX_BATCH * size_of::<BatchEntry>() <= skink_abi::PAGE_SIZE);

/// System call `batch`: makes calls until one fails, the time is over, or all are done. Returns
/// how many succeeded, and the error code of the one that failed, if any.
///
/// # Errors
///
/// `InvalidArgument` for too many entries.
pub(super) fn run(held: &mut Held<0>, thread: &'static Thread) -> Result {
    let count = thread.registers.rdi.get();
    if count > MAX_BATCH as u64 {
        return Err(Error::InvalidArgument);
    }
    let process = PROCESSES.get(thread.process.get());
    let page = physical::pointer::<u64>(thread.ipc_page());
    let mut call = Call {
        process,
        held,
        arguments: [0; 6],
    };
    for done in 0..count {
        if done > 0 && must_end(thread) {
            return Ok((done, 0));
        }
        let entry = page.wrapping_add(done as usize * WORDS);
        // SAFETY: `entry` and the `WORDS` words from there on lie in the IPC page, as asserted
        // above: RAM to which the thread holds a reference.
        let word = |at: usize| unsafe { entry.wrapping_add(at).read_volatile() };
        let number = Syscall::from_number(word(0));
        call.arguments = core::array::from_fn(|at| word(1 + at));
        let number = number.ok_or(Error::InvalidSyscall);
        match number.and_then(|number| plain(number, &mut call)) {
            Ok((first, second)) => {
                // SAFETY: as above.
                unsafe { entry.wrapping_add(1).write_volatile(first) };
                // SAFETY: as above.
                unsafe { entry.wrapping_add(2).write_volatile(second) };
            }
            Err(error) => return Ok((done, error.code())),
        }
    }
    Ok((count, 0))
}

/// Returns whether interrupts have been off for long enough, or the thread must end.
///
/// Time is what has to be bounded, and what a call costs cannot be told by its number: closing a
/// handle is a few instructions, or the end of an endpoint with thousands of callers.
fn must_end(thread: &Thread) -> bool {
    sched::is_long(cpu::this()) || thread.is_doomed()
}
