//! The short way of `call` and `reply_receive`: from one program's `syscall` to the other's
//! `sysret` without the run queue, the scheduler, or a full save of registers.
//!
//! It serves the common case: no handles in the message, no deadline, a receiver that waits (or,
//! for a reply, nothing else that waits for the receiver), nobody with FPU registers or a timer.
//! All conditions are checked before anything changes; if one fails, the functions return
//! [`SLOW`] and the general code in `ipc` does the whole call. What both do to the endpoint and the
//! threads is the same: the state machine of `skink_kcore::endpoint`.
//!
//! The payload in registers is not copied at all: entry.s leaves it where it is. A caller's
//! registers are saved as well, since they are the request until the reply comes.
//!
//! Only one lock is taken, the endpoint's. The caller's handle is read without its table's lock:
//! all that matters of an entry is in one word, and if that word is still the same under the
//! endpoint's lock, the handle was open, and what it names alive, all the time between. The duty
//! to answer is no entry in any table but the state of the call itself (`ipc::reply_handle`).
//!
//! Time is not billed here: along a chain of calls the same process pays (`sched`).

use core::sync::atomic::Ordering;

use skink_abi::{
    FOREVER, Info, MAX_MESSAGE_BYTES, ObjectKind, REGISTER_BYTES, RawHandle, Rights, ThreadControl,
};
use skink_kcore::NONE;
use skink_kcore::endpoint::Arrival;
use skink_kcore::handles::{Entry, MATCH_MASK};

use crate::arch::x86_64::cpu::{self, CpuLocal};
use crate::arch::x86_64::physical;
use crate::endpoint::{ENDPOINTS, EndpointState, SENDERS};
use crate::ipc;
use crate::lock::Held;
use crate::notification::NOTIFICATIONS;
use crate::process::{PROCESSES, Process};
use crate::sched::{self, Urgency};
use crate::thread::{IN_SERVICE, THREADS, Thread, ThreadNodes, Wait};

/// The general code must do the call.
const SLOW: *const Thread = core::ptr::null();
/// The call is done; the current thread is loaded from all of its registers.
const FULL_RETURN: *const Thread = core::ptr::without_provenance(1);

/// Bits that a message of the short way may have: label and length.
const PLAIN: u64 = 0xffff_ffff_0000_1fff;

#[inline]
fn is_plain(info: u64, deadline: u64) -> bool {
    info & !PLAIN == 0 && Info(info).bytes() <= MAX_MESSAGE_BYTES && deadline == FOREVER
}

/// Returns the object that a handle names, if it is of the kind and has the right, and the word by
/// which to see whether it still does.
#[inline]
fn look_up(process: &Process, handle: u64, kind: ObjectKind, right: Rights) -> Option<(u32, u64)> {
    let handle = RawHandle(handle as u32);
    let [first, _] = process.handle_words(handle.index().into())?;
    let word = first.get();
    let right = u64::from(right.0) << 48;
    let expected = Entry::expected(handle, kind) | right;
    (word & (MATCH_MASK | right) == expected).then_some((Entry::object_of(word), word))
}

/// Returns whether a handle's entry is still what `look_up` saw.
#[inline]
fn is_unchanged(process: &Process, handle: u64, word: u64) -> bool {
    let index = RawHandle(handle as u32).index().into();
    process
        .handle_words(index)
        .is_some_and(|[first, _]| first.get() == word)
}

/// Copies what does not fit into registers.
#[inline]
fn copy_page(from: &Thread, to: &Thread, info: u64) {
    if Info(info).bytes() > REGISTER_BYTES {
        copy_long(from, to, info);
    }
}

/// Copies a long payload; out of line, so that short messages carry no registers around it.
#[inline(never)]
fn copy_long(from: &Thread, to: &Thread, info: u64) {
    let words = (Info(info).bytes() as u64).next_multiple_of(8);
    // SAFETY: both are IPC pages, RAM that their threads' processes hold a reference to; the
    // length is at most a page.
    unsafe { physical::copy(from.ipc_page(), to.ipc_page(), words) };
}

/// Ends an entry whose thread was doomed when it had just begun to wait: who doomed it looked
/// before. The caller has taken it out of where it waited. It dies when a CPU would run it; its
/// partner goes on from here, with the payload in its struct.
#[cold]
fn end_doomed(cpu: &CpuLocal, doomed: &'static Thread, partner: &'static Thread) -> *const Thread {
    let words = doomed.registers.payload();
    for (to, from) in partner.registers.payload().iter().zip(words) {
        to.set(from.get());
    }
    let mut held = Held::enter();
    sched::make_ready(&mut held, doomed, Urgency::Normal);
    sched::switch_to(cpu, partner);
    sched::finish(&mut held);
    FULL_RETURN
}

/// `call`, from entry.s: sender, message, deadline, current thread.
#[unsafe(no_mangle)]
extern "C" fn fast_call(
    handle: u64,
    info: u64,
    deadline: u64,
    caller: &'static Thread,
) -> *const Thread {
    if !is_plain(info, deadline) || !caller.is_simple() || handle >> 32 != 0 {
        return SLOW;
    }
    let process = PROCESSES.get(caller.process.get());
    let Some((sender, word)) = look_up(process, handle, ObjectKind::Sender, Rights::CALL) else {
        return SLOW;
    };
    let sender = SENDERS.get(sender);
    let endpoint = sender.endpoint.get();
    let mut held = Held::enter();
    let mut guard = ENDPOINTS.get(endpoint).state.lock(&mut held);
    let badge = sender.badge.get();
    // A closed endpoint has no receivers.
    let Some(receiver) = guard.waits.next_receiver() else {
        return SLOW;
    };
    let receiver = THREADS.get(receiver);
    let is_same = is_unchanged(process, handle, word) && sender.is_open();
    if !is_same || !receiver.is_simple() {
        return SLOW;
    }
    let cpu = cpu::this();
    let call = &caller.call;
    call.number.set(call.number.get().wrapping_add(1));
    call.marks.set(IN_SERVICE);
    call.server.set(receiver.process.get());
    call.badge.set(badge);
    let arrival = guard.waits.arrive(&ThreadNodes, caller.id.get());
    debug_assert_eq!(arrival, Arrival::Deliver(receiver.id.get()));
    caller.next_wait();
    copy_page(caller, receiver, info);
    let control = physical::pointer::<ThreadControl>(receiver.control.get());
    // SAFETY: a field of the receiver's control page.
    unsafe { (&raw mut (*control).sequence).write_volatile(call.ticket.get()) };
    let out = &receiver.registers;
    out.rax.set(0);
    out.rdi.set(ipc::reply_handle(caller).0.into());
    out.rsi.set(info);
    out.rdx.set(badge);
    // Threads of a process on several CPUs may lose a count now and then: it is a figure for
    // people, not worth a locked addition.
    let calls = &process.counters.calls;
    calls.store(calls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    // The owner changes now: the caller belongs to the endpoint, the receiver to this CPU. In this
    // order, so that who dooms the receiver and finds that it does not wait interrupts this CPU.
    receiver.cpu.set(cpu.index());
    receiver.set_wait(Wait::Nothing, NONE);
    caller.set_wait(Wait::Reply, endpoint);
    if caller.is_doomed() {
        ipc::end_call(caller);
        drop(guard);
        return end_doomed(cpu, caller, receiver);
    }
    // From here on the caller may be anybody's, even gone: only the receiver is touched.
    drop(guard);
    sched::switch_to(cpu, receiver);
    core::ptr::from_ref(receiver)
}

/// `reply_receive`, from entry.s: reply and endpoint, message, deadline, current thread.
#[unsafe(no_mangle)]
extern "C" fn fast_reply_receive(
    handles: u64,
    info: u64,
    deadline: u64,
    server: &'static Thread,
) -> *const Thread {
    let reply = RawHandle(handles as u32);
    if !is_plain(info, deadline) || !server.is_simple() || !ipc::is_reply(reply) {
        return SLOW;
    }
    let process = PROCESSES.get(server.process.get());
    let receive = handles >> 32;
    let found = look_up(process, receive, ObjectKind::Endpoint, Rights::RECEIVE);
    let Some((endpoint, word)) = found else {
        return SLOW;
    };
    let id = u32::from(reply.index() & !ipc::REPLY_INDEX);
    if id >= THREADS.made() {
        return SLOW;
    }
    let caller = THREADS.get(id);
    let call = &caller.call;
    let mut held = Held::enter();
    let mut guard = ENDPOINTS.get(endpoint).state.lock(&mut held);
    let wait = caller.wait();
    let is_duty = wait.kind() == Wait::Reply
        && wait.object() == endpoint
        && call.number.get() as u16 == reply.generation()
        && call.marks.get() & !crate::thread::REDELIVERED == IN_SERVICE
        && call.server.get() == process.id.get();
    let is_plain_call = Info(caller.registers.rsi.get()).moved() == 0 && caller.is_simple();
    let nothing_waits = guard.is_open && !guard.waits.has_caller() && !guard.has_news();
    if !is_duty || !is_plain_call || !nothing_waits || !is_unchanged(process, receive, word) {
        return SLOW;
    }
    let cpu = cpu::this();
    call.number.set(call.number.get().wrapping_add(1));
    call.marks.set(0);
    copy_page(server, caller, info);
    let out = &caller.registers;
    out.rax.set(0);
    out.rsi.set(info);
    server.client.set(NONE);
    server.next_wait();
    guard.waits.wait(&ThreadNodes, server.id.get());
    caller.cpu.set(cpu.index());
    caller.set_wait(Wait::Nothing, NONE);
    server.set_wait(Wait::Message, endpoint);
    if server.is_doomed() {
        guard.waits.forget_receiver(&ThreadNodes, server.id.get());
        server.set_wait(Wait::Nothing, NONE);
        drop(guard);
        return end_doomed(cpu, server, caller);
    }
    // From here on the server may be anybody's, even gone: only the caller is touched.
    drop(guard);
    sched::switch_to(cpu, caller);
    core::ptr::from_ref(caller)
}

impl EndpointState {
    /// Returns whether a receiver would get news before any request.
    #[inline]
    fn has_news(&self) -> bool {
        self.has_closed_senders()
            || self.notification != NONE && NOTIFICATIONS.get(self.notification).has_bits()
    }
}
