//! A place in a process that is watched, for fault injection: whether the process comes there.
//!
//! A breakpoint of the processor (Intel SDM vol. 3B, 17.2). Programs all lie at the same addresses,
//! so others come by as well; they go on. There is one place at a time, watched on the processor that
//! sets it.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use skink_abi::{Error, WatchKind};
use skink_kcore::NONE;
use x86_64::registers::control::Cr3;
use x86_64::registers::debug::{DebugAddressRegister, Dr0, Dr6, Dr7};

use crate::process::{PROCESSES, Process};
use crate::thread::Thread;

/// Breakpoint 0, in DR6 and DR7 alike.
const FIRST: u64 = 1;
/// DR7: breakpoint 0 is of 1 byte and for reading and writing, not for execution.
const DATA: u64 = 0b11 << 16;
/// The instruction at which a thread goes on does not trap (RF).
const RESUME_FLAG: u64 = 1 << 16;

/// The number of the process that is watched; 0 if none is.
static WATCHED: AtomicU64 = AtomicU64::new(0);
/// Its place in the table of processes, where another one may be by now.
static WATCHED_ID: AtomicU32 = AtomicU32::new(NONE);
static WAS_REACHED: AtomicBool = AtomicBool::new(false);

/// Watches a place in a process, or none, which a dead one will do for. Returns whether the one before was reached.
///
/// # Errors
///
/// `Dead`; nothing has changed then.
pub(crate) fn set(process: &Process, address: u64, kind: WatchKind) -> Result<bool, Error> {
    if kind != WatchKind::None && !process.is_alive() {
        return Err(Error::Dead);
    }
    let control = match kind {
        WatchKind::None => 0,
        WatchKind::Execution => FIRST,
        WatchKind::Access => FIRST | DATA,
    };
    WATCHED.store(process.number(), Ordering::Relaxed);
    WATCHED_ID.store(process.id.get(), Ordering::Relaxed);
    Dr0::write(address);
    Dr7::write_raw(control);
    Ok(WAS_REACHED.swap(false, Ordering::Relaxed))
}

/// Takes a debug exception of the current thread. Returns false if it is not of the place.
pub(crate) fn on_trap(thread: &Thread) -> bool {
    if !take_cause() {
        return false;
    }
    if PROCESSES.get(thread.process.get()).number() == WATCHED.load(Ordering::Relaxed) {
        note();
    }
    thread.registers.flags.insert(RESUME_FLAG);
    true
}

/// Takes a debug exception of the kernel, which reaches the place when it reads or writes for a
/// process, or right at its entry, when the instruction that did raises something else besides. Returns
/// false if the exception is not of the place.
pub(crate) fn on_kernel_trap() -> bool {
    if !take_cause() {
        return false;
    }
    let id = WATCHED_ID.load(Ordering::Relaxed);
    let (tables, _) = Cr3::read();
    let is_there = |process: &Process| {
        process.number() == WATCHED.load(Ordering::Relaxed)
            && process.root.get() == tables.start_address().as_u64()
    };
    if id != NONE && is_there(PROCESSES.get(id)) {
        note();
    }
    true
}

/// Returns whether the place is what a debug exception came for, and forgets it.
fn take_cause() -> bool {
    if Dr6::read_raw() & FIRST == 0 {
        return false;
    }
    // SAFETY: the register only tells what has happened; nobody clears it but who reads it.
    unsafe {
        core::arch::asm!("mov dr6, {}", in(reg) 0_u64, options(nomem, nostack, preserves_flags))
    };
    true
}

/// Notes that the process was there, which is seen once.
fn note() {
    WAS_REACHED.store(true, Ordering::Relaxed);
    Dr7::write_raw(0);
}
