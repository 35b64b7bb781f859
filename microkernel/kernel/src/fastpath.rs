//! The short way of `call` and `reply_receive`: from one program's `syscall` to the other's
//! `sysret` without the run queue, the scheduler, or a full save of registers.
//!
//! It serves the common case: no handles in the message, no deadline (entry.s has seen to that), a
//! receiver that waits (or, for a reply, nothing else that waits for the receiver), nobody with FPU
//! registers or a timer. All conditions are checked before anything changes; if one fails, the
//! functions return [`SLOW`] and the general code in `ipc` does the whole call. What both do to the
//! endpoint and the threads is the same: the state machine of `skink_kcore::endpoint`.
//!
//! The payload in registers is not copied at all: entry.s leaves it where it is. A caller's
//! registers are saved as well, since they are the request until the reply comes.
//!
//! Only one lock is taken, the endpoint's. The caller's handle is read without its table's lock:
//! all that matters of an entry is in one word, and if that word is still the same under the
//! endpoint's lock, the handle was open, and what it names alive, all the time between. The duty
//! to answer is no entry in any table but the state of the call itself (`thread::CallState`).
//!
//! Time is not billed here: along a chain of calls the same process pays (`sched`).

use core::sync::atomic::Ordering;

use skink_abi::{
    Info, MAX_MESSAGE_BYTES, ObjectKind, REGISTER_BYTES, RawHandle, Rights, ThreadControl,
};
use skink_kcore::NONE;
use skink_kcore::endpoint::Arrival;
use skink_kcore::handles::Entry;

use crate::arch::x86_64::cpu;
use crate::arch::x86_64::entry::Word;
use crate::arch::x86_64::physical;
use crate::endpoint::{ENDPOINTS, SENDERS};
use crate::ipc;
use crate::lock::Held;
use crate::process::{PROCESSES, Process};
use crate::sched::{self, Urgency};
use crate::thread::{THREADS, Thread, ThreadNodes, Wait, WaitState, caller_of};

/// What entry.s does next, in `rax` and `rdx`.
#[repr(C)]
pub(crate) struct Outcome {
    /// The thread that runs now; null if the general code must do the call.
    thread: *const Thread,
    /// Its badge.
    badge: u64,
}

/// The general code must do the call.
const SLOW: Outcome = Outcome {
    thread: core::ptr::null(),
    badge: 0,
};

/// Bits that a message of the short way may have: label and length.
const PLAIN: u64 = 0xffff_ffff_0000_1fff;

/// Returns whether a message has neither handles nor marks and a payload that fits into registers:
/// all of those have bits above the length.
#[inline(always)]
const fn is_short(info: u64) -> bool {
    info as u32 <= REGISTER_BYTES as u32
}

/// Returns whether a message that is not short may take the short way all the same.
#[inline(always)]
const fn is_plain(info: u64) -> bool {
    info & !PLAIN == 0 && Info(info).bytes() <= MAX_MESSAGE_BYTES
}

/// Returns the object that a handle names, if it is of the kind and has the right, and the word by
/// which to see whether it still does.
#[inline(always)]
fn look_up(
    process: &Process,
    handle: RawHandle,
    kind: ObjectKind,
    right: Rights,
) -> Option<(&'static Word, u64)> {
    let [first, _] = process.handle_words(handle.index().into())?;
    let word = first.get();
    Entry::matches(word, handle, kind, right).then_some((first, word))
}

/// Copies a long payload; out of line, so that short messages carry no registers around it.
#[inline(never)]
fn copy_long(from: &Thread, to: &Thread, info: u64) {
    let words = (Info(info).bytes() as u64).next_multiple_of(8);
    // SAFETY: both are IPC pages, RAM that their threads' processes hold a reference to; the
    // length is at most a page.
    unsafe { physical::copy(from.ipc_page(), to.ipc_page(), words) };
}

/// Deals with a thread that was doomed when it had just begun to wait: who doomed it looked before.
/// The caller has taken it out of where it waited. It dies when a CPU would run it.
#[cold]
fn end_doomed(doomed: &'static Thread) {
    sched::make_ready(&mut Held::enter(), doomed, Urgency::Normal);
}

/// `call`, from entry.s: sender, message, current thread.
#[unsafe(no_mangle)]
extern "C" fn fast_call(sender: u64, info: u64, caller: &'static Thread) -> Outcome {
    let handle = RawHandle(sender as u32);
    if !is_short(info) && !is_plain(info) || !caller.is_simple() {
        return SLOW;
    }
    let process = PROCESSES.get(caller.process.get());
    let Some((entry, word)) = look_up(process, handle, ObjectKind::Sender, Rights::CALL) else {
        return SLOW;
    };
    let sender = SENDERS.get(Entry::object_of(word));
    let endpoint = sender.endpoint.get();
    let mut held = Held::enter();
    let mut guard = ENDPOINTS.get(endpoint).state.lock(&mut held);
    // A closed endpoint has no receivers.
    let Some(receiver) = guard.waits.next_receiver() else {
        return SLOW;
    };
    let receiver = THREADS.get(receiver);
    if entry.get() != word || !sender.is_open() || !receiver.is_simple() {
        return SLOW;
    }
    let badge = sender.badge.get();
    let cpu = cpu::this();
    let call = &caller.call;
    call.count();
    call.serve_plain(receiver);
    call.badge.set(badge);
    let arrival = guard.waits.arrive(&ThreadNodes, caller.id.get());
    debug_assert_eq!(arrival, Arrival::Deliver(receiver.id.get()));
    caller.next_wait();
    if !is_short(info) {
        copy_long(caller, receiver, info);
    }
    let control = physical::pointer::<ThreadControl>(receiver.control.get());
    // SAFETY: a field of the receiver's control page.
    unsafe { (&raw mut (*control).sequence).write_volatile(call.ticket.get()) };
    let out = &receiver.registers;
    out.rdi.set(call.reply().0.into());
    out.rsi.set(info);
    // Threads of a process on several CPUs may lose a count now and then: it is a figure for
    // people, not worth a locked addition.
    let calls = &process.counters.calls;
    calls.store(calls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    // The owner changes now: the caller belongs to the endpoint, the receiver to this CPU. In this
    // order, so that who dooms the receiver and finds that it does not wait interrupts this CPU.
    receiver.cpu.set(cpu.index());
    receiver.end_wait();
    caller.set_wait(Wait::Reply, endpoint);
    let is_doomed = caller.is_doomed();
    if is_doomed {
        ipc::end_call(caller);
    }
    // From here on the caller may be anybody's, even gone: only the receiver is touched.
    drop(guard);
    if is_doomed {
        end_doomed(caller);
    }
    sched::switch_to(cpu, receiver);
    Outcome {
        thread: core::ptr::from_ref(receiver),
        badge,
    }
}

/// `reply_receive`, from entry.s: reply and endpoint, message, current thread.
#[unsafe(no_mangle)]
extern "C" fn fast_reply_receive(handles: u64, info: u64, server: &'static Thread) -> Outcome {
    if !is_short(info) && !is_plain(info) || !server.is_simple() {
        return SLOW;
    }
    let process = PROCESSES.get(server.process.get());
    let receive = RawHandle((handles >> 32) as u32);
    let found = look_up(process, receive, ObjectKind::Endpoint, Rights::RECEIVE);
    let Some((entry, word)) = found else {
        return SLOW;
    };
    let reply = RawHandle(handles as u32);
    let Some(id) = caller_of(reply).filter(|&id| id < THREADS.made()) else {
        return SLOW;
    };
    let caller = THREADS.get(id);
    let call = &caller.call;
    let endpoint = Entry::object_of(word);
    let mut held = Held::enter();
    let mut guard = ENDPOINTS.get(endpoint).state.lock(&mut held);
    let is_duty = caller.wait() == WaitState::new(Wait::Reply, endpoint)
        && call.reply() == reply
        && call.is_plainly_served_by(server);
    let nothing_waits = !guard.has_news && !guard.waits.has_caller();
    if !is_duty || !caller.is_simple() || !nothing_waits || entry.get() != word {
        return SLOW;
    }
    let cpu = cpu::this();
    call.count();
    call.set_marks(0);
    if !is_short(info) {
        copy_long(server, caller, info);
    }
    caller.registers.rsi.set(info);
    server.client.set(NONE);
    server.next_wait();
    guard.waits.wait(&ThreadNodes, server.id.get());
    caller.cpu.set(cpu.index());
    caller.end_wait();
    server.set_wait(Wait::Message, endpoint);
    let is_doomed = server.is_doomed();
    if is_doomed {
        guard.waits.forget_receiver(&ThreadNodes, server.id.get());
        server.set_wait(Wait::Nothing, NONE);
    }
    // From here on the server may be anybody's, even gone: only the caller is touched.
    drop(guard);
    if is_doomed {
        end_doomed(server);
    }
    sched::switch_to(cpu, caller);
    Outcome {
        thread: core::ptr::from_ref(caller),
        badge: 0,
    }
}
