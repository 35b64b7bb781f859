//! The short way of `call` and `reply_receive`: from one program's `syscall` to the other's
//! `sysret` without the run queue, the scheduler, or a full save of registers. It is in assembly,
//! `arch/x86_64/fastpath.s`; its rare parts are here.
//!
//! It serves the common case: no handles in the message, no deadline, a receiver that waits (or,
//! for a reply, nothing else that waits for the receiver), nobody with FPU registers or a timer.
//! All conditions are checked before anything changes; if one fails, the general code in `ipc` does
//! the whole call. What both do to the endpoint and the threads is the same: the state machine of
//! `skink_kcore::endpoint`.
//!
//! The payload in registers is not copied at all, it stays where it is. A caller's registers are
//! saved as well, since they are the request until the reply comes.
//!
//! Only one lock is taken, the endpoint's. The caller's handle is read without its table's lock:
//! all that matters of an entry is in one word, and if that word is still the same under the
//! endpoint's lock, the handle was open, and what it names alive, all the time between. The duty
//! to answer is no entry in any table but the state of the call itself (`thread::CallState`).
//!
//! The owner of a thread changes in this order: what the new owner needs is written, its processor
//! is noted, its wait ends, the lock is let go of. So who dooms a receiver and finds that it does
//! not wait interrupts the right processor. A thread that begins to wait looks afterwards whether
//! it has been doomed, since who dooms it looks whether it waits.
//!
//! Time is not billed here: along a chain of calls the same process pays (`sched`). A reply to a
//! caller for which another one pays than for its server goes the general way.

use skink_kcore::NONE;

use crate::arch::x86_64::cpu;
use crate::endpoint::Endpoint;
use crate::ipc;
use crate::lock::Held;
use crate::sched::{self, Urgency};
use crate::thread::{ThreadNodes, Wait};

/// Ends the call of a thread that was doomed when it had just begun to wait for the reply. It dies
/// when a CPU would run it; its receiver has the request and will find that the caller has gone.
///
/// # Safety
///
/// From fastpath.s only, which holds the endpoint's lock: this lets go of it.
pub(crate) unsafe extern "C" fn end_doomed_caller(end: u64, endpoint: &'static Endpoint) {
    // SAFETY: by the caller's duty.
    let caller = unsafe { cpu::thread_at(end) };
    // SAFETY: by the caller's duty.
    let guard = unsafe { endpoint.state.adopt() };
    ipc::end_call(caller);
    drop(guard);
    sched::make_ready(&mut Held::enter(), caller, Urgency::Normal);
}

/// Takes a thread out of the receivers that was doomed when it had just become one. It dies when a
/// CPU would run it.
///
/// # Safety
///
/// From fastpath.s only, which holds the endpoint's lock: this lets go of it.
pub(crate) unsafe extern "C" fn end_doomed_server(end: u64, endpoint: &'static Endpoint) {
    // SAFETY: by the caller's duty.
    let server = unsafe { cpu::thread_at(end) };
    // SAFETY: by the caller's duty.
    let mut guard = unsafe { endpoint.state.adopt() };
    guard.waits.forget_receiver(&ThreadNodes, server.id.get());
    server.set_wait(Wait::Nothing, NONE);
    drop(guard);
    sched::make_ready(&mut Held::enter(), server, Urgency::Normal);
}
