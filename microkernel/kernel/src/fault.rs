//! Page faults as calls on the pager of a process.
//!
//! The fault is sent like a call, with the mark `IS_FAULT`; a pager that waits runs at once. Its
//! answer takes the fast path of replies (fastpath.s) if it has no mapping. One with mappings in
//! registers is dealt with here, one with more the general way.

use core::sync::atomic::Ordering;

use skink_abi::{Error, FaultMessage, Info, ObjectKind, REGISTER_BYTES, RawHandle, Rights};
use skink_kcore::NONE;
use skink_kcore::endpoint::Arrival;

use crate::arch::x86_64::{cpu, time};
use crate::endpoint::{ENDPOINTS, SENDERS};
use crate::lock::Held;
use crate::process::PROCESSES;
use crate::thread::{IS_FAULT, THREADS, Thread, ThreadNodes, Wait};
use crate::{ipc, object, sched, teardown};

/// Sends a page fault of the current thread to its pager. Returns whether there is one.
pub(crate) fn send(held: &mut Held<0>, thread: &'static Thread, fault: FaultMessage) -> bool {
    let process = PROCESSES.get(thread.process.get());
    let pager = {
        // The pager is only changed under this lock.
        let _state = process.state.lock(held);
        let pager = process.pager.load(Ordering::Relaxed);
        if pager == NONE {
            return false;
        }
        SENDERS.retain(pager);
        pager
    };
    thread.set_fault(fault);
    ipc::start_call(held, thread, pager, IS_FAULT, skink_abi::FOREVER);
    object::release_sender(held, pager);
    true
}

/// Sends a page fault of the current thread to a pager that waits, and switches to it. Returns
/// false and has done nothing if the pager does not wait or one of the two needs more than this:
/// then [`send`] does it. The conditions are those of the fast path.
#[inline]
pub(crate) fn send_at_once(thread: &'static Thread, fault: FaultMessage) -> bool {
    if !thread.is_simple() {
        return false;
    }
    let process = PROCESSES.get(thread.process.get());
    let mut held = Held::enter();
    // While this is held the pager stays, and so its sender and endpoint.
    let mut state = process.state.lock(&mut held);
    let pager = process.pager.load(Ordering::Relaxed);
    if pager == NONE {
        return false;
    }
    let sender = SENDERS.get(pager);
    let endpoint = sender.endpoint.get();
    let mut guard = ENDPOINTS.get(endpoint).state.lock(state.held());
    let Some(receiver) = guard.waits.next_receiver() else {
        return false;
    };
    let receiver = THREADS.get(receiver);
    if !sender.is_open() || !receiver.is_simple() {
        return false;
    }
    let cpu = cpu::this();
    let call = &thread.call;
    call.count();
    call.set_marks(IS_FAULT);
    call.serve(receiver.process.get());
    call.badge.set(sender.badge.get());
    thread.set_fault(fault);
    thread.next_wait();
    thread.client.set(cpu.payer.get());
    let arrival = guard.waits.arrive(&ThreadNodes, thread.id.get());
    debug_assert_eq!(arrival, Arrival::Deliver(receiver.id.get()));
    show(thread, receiver, fault);
    receiver.cpu.set(cpu.index());
    receiver.set_wait(Wait::Nothing, NONE);
    thread.set_wait(Wait::Reply, endpoint);
    let is_doomed = thread.is_doomed();
    if is_doomed {
        ipc::end_call(thread);
    }
    // From here on the thread may be anybody's, even gone.
    drop(guard);
    drop(state);
    if is_doomed {
        sched::make_ready(&mut held, thread, sched::Urgency::Normal);
    }
    sched::switch_to(cpu, receiver);
    true
}

/// Gives a receiver the message about a fault and the duty to answer.
fn show(thread: &Thread, receiver: &Thread, fault: FaultMessage) {
    let out = &receiver.registers;
    out.rax.set(0);
    out.rdi.set(thread.call.reply().0.into());
    let info = Info::new(0, size_of::<FaultMessage>(), 0).0 | Info::FAULT;
    out.rsi.set(info);
    out.rdx.set(thread.call.badge.get());
    out.set_payload(&[fault.address, fault.instruction, fault.code]);
    let control = receiver.control();
    // SAFETY: a field of the receiver's control page.
    unsafe { (&raw mut (*control).sequence).write_volatile(thread.call.ticket.get()) };
}

/// Does a `reply_receive` whose reply is the answer to a page fault, with mappings in registers,
/// for a pager that nothing else waits for. From fastpath.s, which has found that the reply is one to
/// a fault and has saved all registers; it holds no lock. Returns false and has done nothing if the
/// general way must do it.
pub(crate) extern "C" fn answer_at_once(pager: &'static Thread) -> bool {
    let registers = &pager.registers;
    let (info, handles) = (Info(registers.rsi.get()), registers.rdi.get());
    let receive = RawHandle((handles >> 32) as u32);
    let process = PROCESSES.get(pager.process.get());
    let found = process.glance(receive, ObjectKind::Endpoint, Rights::RECEIVE);
    let Some(found) = found.filter(|_| info.0 <= REGISTER_BYTES as u64) else {
        return false;
    };
    // Mapping may take a while: it counts as an entry of its own.
    let cpu = cpu::this();
    cpu.entered_at.store(time::ticks(), Ordering::Relaxed);
    let mut held = Held::enter();
    let reply = RawHandle(handles as u32);
    let Some(thread) = ipc::take_fault(&mut held, pager, reply) else {
        return false;
    };
    resolve(&mut held, pager, thread, info);
    let endpoint = found.object();
    let guard = ENDPOINTS.get(endpoint).state.lock(&mut held);
    let nothing_waits = !guard.has_news && !guard.waits.has_caller();
    if nothing_waits && found.is_current() && sched::is_same_payer(thread) && !thread.is_doomed() {
        ipc::wait_at_once(guard, pager, endpoint);
        sched::run_instead(thread);
        sched::note_entry(cpu);
    } else {
        drop(guard);
        ipc::receive_after_answer(&mut held, pager, thread);
        sched::finish(&mut held);
    }
    true
}

/// Does what a pager's answer says: installs mappings, or ends the process. A pager that answers with
/// what is no mapping at all is damaged: it is ended itself, and the thread touches the page again.
pub(crate) fn resolve(held: &mut Held<0>, pager: &Thread, faulted: &'static Thread, info: Info) {
    let target = PROCESSES.get(faulted.process.get());
    let address = faulted.call.fault[0].get();
    if info.label() != 0 {
        return teardown::end_by_fault(held, faulted, 14, address);
    }
    match crate::memory::map_from_reply(held, pager, target, info) {
        Ok(()) => faulted.faults.set(faulted.faults.get() + 1),
        Err(error) if is_no_mapping(error) => teardown::end_by_fault(held, pager, 13, address),
        Err(_) => teardown::end_by_fault(held, faulted, 14, address),
    }
}

/// Returns whether an item was refused for what only the pager decides: its own handle, and numbers.
fn is_no_mapping(error: Error) -> bool {
    matches!(
        error,
        Error::InvalidHandle | Error::WrongKind | Error::MissingRight | Error::InvalidArgument
    )
}
