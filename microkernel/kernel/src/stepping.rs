//! The end of a process after so many of its own instructions, for fault injection.
//!
//! Its threads are single-stepped (Intel SDM vol. 3B, 17.3.1.4): the trap flag is set in their saved
//! flags, and each trap counts. Entries save the flags and returns load them as they are, so the fast
//! path does not know; `syscall` masks the flag (cpu.rs), and a `sysret` that loads it traps at once,
//! so that the system call counts like any instruction. A thread that runs on another processor while
//! its process is armed counts from its next interrupt on.

use core::sync::atomic::Ordering;

use skink_abi::{Error, ExitReason};
use skink_kcore::NONE;

use crate::arch::x86_64::{apic, cpu};
use crate::lock::Held;
use crate::process::{Exit, PROCESSES, Process};
use crate::teardown;
use crate::thread::{Family, THREADS, Thread};

/// The trap flag.
const TRAP_FLAG: u64 = 1 << 8;
/// In `steps`: the process was never armed in this life. A trap is its own doing.
pub(crate) const NEVER: u64 = 0;
/// In `steps`: it was armed, and its threads may still have the flag.
const NO_LONGER: u64 = u64::MAX;

/// Has a process end after so many instructions, or not any more for 0. Returns how many were left
/// to do.
///
/// # Errors
///
/// `Dead`.
pub(crate) fn arm(held: &mut Held<0>, process: &Process, steps: u64) -> Result<u64, Error> {
    let state = process.state.lock(held);
    if !process.is_alive() {
        return Err(Error::Dead);
    }
    let change = |old| match (old, steps) {
        (NEVER, 0) => NEVER,
        (_, 0) => NO_LONGER,
        _ => steps.min(NO_LONGER - 1),
    };
    let (Ok(old) | Err(old)) =
        process
            .steps
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                Some(change(old))
            });
    for id in state.threads.iter(&Family) {
        let thread = THREADS.get(id);
        join(thread);
        // Where it runs the flags are in the processor, which must look here.
        let runs_on = thread.cpu.get();
        if runs_on != NONE && runs_on != cpu::this().index() {
            let target = cpu::by_index(runs_on).apic_id.load(Ordering::Relaxed);
            apic::send(target, apic::WAKE);
        }
    }
    Ok(if old == NO_LONGER { 0 } else { old })
}

/// Has a thread stepped if its process is armed. Anybody may do that: if the thread is not what it was
/// when they looked, its next interrupt does it.
pub(crate) fn join(thread: &Thread) {
    let steps = &PROCESSES.get(thread.process.get()).steps;
    if !matches!(steps.load(Ordering::Relaxed), NEVER | NO_LONGER) {
        thread.registers.flags.insert(TRAP_FLAG);
    }
}

/// Counts an instruction of the current thread. Returns false if it steps itself.
pub(crate) fn on_step(held: &mut Held<0>, thread: &Thread) -> bool {
    let process = PROCESSES.get(thread.process.get());
    let count = |left| match left {
        NEVER | NO_LONGER => None,
        1 => Some(NO_LONGER),
        _ => Some(left - 1),
    };
    match process
        .steps
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, count)
    {
        Ok(1) => {
            let exit = Exit {
                reason: ExitReason::Killed,
                ..Exit::NONE
            };
            teardown::end_process(held, process, exit);
        }
        Ok(_) => {}
        Err(NEVER) => return false,
        Err(_) => {
            let flags = &thread.registers.flags;
            flags.set(flags.get() & !TRAP_FLAG);
        }
    }
    true
}
