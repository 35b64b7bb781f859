//! The short way of `call` and `reply_receive`: from one program's `syscall` to the other's
//! `sysret` without the run queue, the scheduler, or a full save of registers.
//!
//! It serves the common case: no handles in the message, no deadline, a receiver that waits (or,
//! for a reply, nothing else that waits for the receiver), nobody with FPU registers or a timer.
//! All conditions are checked before anything changes; if one fails, the functions return
//! [`SLOW`] and the general code in `ipc` does the whole call. What both do to the endpoint, the
//! threads and the handle tables is the same: the state machine of `skink_kcore::endpoint`.
//!
//! The payload in registers is not copied at all: entry.s leaves it where it is. A caller's
//! registers are saved as well, since they are the request until the reply comes.
//!
//! Time is not billed here. A server runs on its caller's account, so the switch changes nothing
//! about who pays; the next switch that bills finds the payer through the running thread.

use core::sync::atomic::Ordering;

use skink_abi::{FOREVER, Info, MAX_MESSAGE_BYTES, ObjectKind, REGISTER_BYTES, RawHandle, Rights};
use skink_abi::ThreadControl;
use skink_kcore::NONE;
use skink_kcore::endpoint::Arrival;
use skink_kcore::handles::Entry;

use crate::arch::x86_64::cpu::{self, CpuLocal};
use crate::arch::x86_64::physical;
use crate::endpoint::{ENDPOINTS, SENDERS};
use crate::lock::Held;
use crate::notification::NOTIFICATIONS;
use crate::process::{PROCESSES, Process};
use crate::sched;
use crate::thread::{THREADS, Thread, ThreadNodes, Wait};
use crate::{ipc, object};

/// The general code must do the call.
const SLOW: *const Thread = core::ptr::null();
/// The call is done; the current thread is loaded from all of its registers.
const FULL_RETURN: *const Thread = core::ptr::without_provenance(1);

/// Bits that a message of the short way may have: label and length.
const PLAIN: u64 = 0xffff_ffff_0000_1fff;

fn is_plain(info: u64) -> bool {
    info & !PLAIN == 0 && Info(info).bytes() <= MAX_MESSAGE_BYTES
}

/// Returns whether a thread can be switched to or from without looking after FPU or timers.
fn is_simple(cpu: &CpuLocal, thread: &Thread) -> bool {
    thread.fpu.get() == 0
        && !cpu.fpu_on.load(Ordering::Relaxed)
        && thread.timer_cpu.load(Ordering::Relaxed) == NONE
        && !thread.is_doomed()
}

/// Copies what does not fit into registers.
#[inline]
fn copy_page(from: &Thread, to: &Thread, info: u64) {
    let bytes = Info(info).bytes();
    if bytes > REGISTER_BYTES {
        let words = (bytes as u64).next_multiple_of(8);
        // SAFETY: both are IPC pages, RAM that their threads' processes hold a reference to;
        // `bytes` is at most a page.
        unsafe { physical::copy(from.ipc_page(), to.ipc_page(), words) };
    }
}

/// Makes a partner the current thread: it goes on with the registers that entry.s has in hand, or,
/// if something must be looked after first, with those in its struct.
fn hand_over(
    held: &mut Held<0>,
    cpu: &CpuLocal,
    from: &'static Thread,
    to: &'static Thread,
) -> *const Thread {
    sched::switch_to(cpu, to);
    // Who doomed one of the two before they changed places looked at the wrong one.
    if from.is_doomed() || to.is_doomed() {
        for (to, from) in to.registers.payload().iter().zip(from.registers.payload()) {
            to.set(from.get());
        }
        if from.is_doomed() {
            ipc::interrupt_wait(held, from, skink_abi::Error::Dead, None);
        }
        sched::finish(held);
        return FULL_RETURN;
    }
    core::ptr::from_ref(to)
}

/// `call`, from entry.s: sender, message, deadline, current thread.
#[unsafe(no_mangle)]
extern "C" fn fast_call(
    handle: u64,
    info: u64,
    deadline: u64,
    caller: &'static Thread,
) -> *const Thread {
    let cpu = cpu::this();
    let call = &caller.call;
    let plain = is_plain(info) && deadline == FOREVER && handle >> 32 == 0;
    if !plain || call.sender.get() != NONE || !is_simple(cpu, caller) {
        return SLOW;
    }
    let mut held = Held::enter();
    let process = PROCESSES.get(caller.process.get());
    let sender_id = {
        let handles = process.handles.lock(&mut held);
        let handle = RawHandle(handle as u32);
        let Ok(entry) = handles.find(handle, ObjectKind::Sender, Rights::CALL) else {
            return SLOW;
        };
        SENDERS.retain(entry.object);
        entry.object
    };
    let sender = SENDERS.get(sender_id);
    let endpoint_id = sender.endpoint.get();
    let mut guard = ENDPOINTS.get(endpoint_id).state.lock(&mut held);
    let receiver = guard.waits.next_receiver().map(|id| THREADS.get(id));
    let receiver = receiver.filter(|receiver| {
        guard.is_open && sender.is_open() && is_simple(cpu, receiver)
    });
    let Some(receiver) = receiver else {
        drop(guard);
        object::release_sender(&mut held, sender_id);
        return SLOW;
    };
    let number = call.number.get().wrapping_add(1);
    let mut entry =
        Entry::new(ObjectKind::Reply, Rights::NONE, caller.id.get(), u64::from(number));
    entry.extra = u64::from(endpoint_id);
    let server = PROCESSES.get(receiver.process.get());
    let Ok(reply) = server.handles.lock(guard.held()).insert(entry) else {
        drop(guard);
        object::release_sender(&mut held, sender_id);
        return SLOW;
    };
    call.number.set(number);
    call.sender.set(sender_id);
    call.endpoint.set(endpoint_id);
    call.is_fault.set(0);
    call.redelivered.set(0);
    call.in_service.set(1);
    call.server.set(receiver.process.get());
    let sequence = sender.next_sequence();
    call.sequence.set(sequence);
    let arrival = guard.waits.arrive(&ThreadNodes, caller.id.get());
    debug_assert_eq!(arrival, Arrival::Deliver(receiver.id.get()));
    caller.next_wait();
    copy_page(caller, receiver, info);
    let control = physical::pointer::<ThreadControl>(receiver.control.get());
    // SAFETY: a field of the receiver's control page.
    unsafe { (&raw mut (*control).sequence).write_volatile(sequence) };
    receiver.registers.rax.set(0);
    receiver.registers.rdi.set(u64::from(reply.0));
    receiver.registers.rsi.set(info);
    receiver.registers.rdx.set(sender.badge.get());
    receiver.client.set(payer_of(caller));
    count_call(process);
    // The owner changes now: the caller belongs to the endpoint, the receiver to this CPU.
    receiver.cpu.set(cpu.index());
    receiver.set_wait(Wait::Nothing, NONE);
    caller.set_wait(Wait::Reply, endpoint_id);
    drop(guard);
    hand_over(&mut held, cpu, caller, receiver)
}

fn payer_of(caller: &Thread) -> u32 {
    let client = caller.client.get();
    if client == NONE { caller.process.get() } else { client }
}

/// Counts a call. Threads of a process on several CPUs may lose one now and then: it is a figure
/// for people, not worth a locked addition.
fn count_call(process: &Process) {
    let calls = &process.counters.calls;
    calls.store(calls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// `reply_receive`, from entry.s: reply and endpoint, message, deadline, current thread.
#[unsafe(no_mangle)]
extern "C" fn fast_reply_receive(
    handles: u64,
    info: u64,
    deadline: u64,
    server: &'static Thread,
) -> *const Thread {
    let cpu = cpu::this();
    if !is_plain(info) || deadline != FOREVER || !is_simple(cpu, server) {
        return SLOW;
    }
    let mut held = Held::enter();
    let process = PROCESSES.get(server.process.get());
    let reply = RawHandle(handles as u32);
    let (endpoint_id, entry) = {
        let table = process.handles.lock(&mut held);
        let endpoint = RawHandle((handles >> 32) as u32);
        let Ok(endpoint) = table.find(endpoint, ObjectKind::Endpoint, Rights::RECEIVE) else {
            return SLOW;
        };
        let Ok(entry) = table.find(reply, ObjectKind::Reply, Rights::NONE) else { return SLOW };
        (endpoint.object, entry)
    };
    if entry.extra != u64::from(endpoint_id) {
        return SLOW;
    }
    let caller = THREADS.get(entry.object);
    let call = &caller.call;
    // The handle keeps the endpoint; should another thread close it meanwhile, the place is still
    // an endpoint, and one that is closed.
    let mut guard = ENDPOINTS.get(endpoint_id).state.lock(&mut held);
    let nothing_waits = guard.is_open && !guard.waits.has_caller() && !guard.has_news();
    let answerable = ipc::is_same_call(caller, &entry)
        && call.is_fault.get() == 0
        && Info(caller.registers.rsi.get()).moved() == 0
        && is_simple(cpu, caller);
    if !nothing_waits || !answerable {
        return SLOW;
    }
    if process.handles.lock(guard.held()).remove(reply).is_err() {
        // Another thread of the server was quicker.
        return SLOW;
    }
    guard.waits.finish(&ThreadNodes, caller.id.get());
    call.number.set(call.number.get().wrapping_add(1));
    let sender = call.sender.get();
    call.sender.set(NONE);
    copy_page(server, caller, info);
    caller.registers.rax.set(0);
    caller.registers.rsi.set(info);
    server.client.set(NONE);
    server.next_wait();
    guard.waits.wait(&ThreadNodes, server.id.get());
    caller.cpu.set(cpu.index());
    caller.set_wait(Wait::Nothing, NONE);
    server.set_wait(Wait::Message, endpoint_id);
    drop(guard);
    let next = hand_over(&mut held, cpu, server, caller);
    object::release_sender(&mut held, sender);
    next
}

impl crate::endpoint::EndpointState {
    /// Returns whether a receiver would get news before any request.
    fn has_news(&self) -> bool {
        self.has_closed_senders()
            || self.notification != NONE && NOTIFICATIONS.get(self.notification).has_bits()
    }
}
