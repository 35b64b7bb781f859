//! Calls, replies and receiving: the mechanism around `skink_kcore::endpoint`.
//!
//! A caller stays blocked from its call to the reply, and its registers and IPC page keep the
//! request all that time. That is what makes redelivery free: when a receiver dies, its reply
//! handles are closed by `teardown`, and each request goes back to its old place in the queue.
//!
//! Handles in a request are copied to the receiver; those that the caller moves leave its table
//! only when the reply arrives, so that a redelivered request still has them.

mod ending;
mod transfer;

use skink_abi::{Error, FaultMessage, Info, ObjectKind, REGISTER_BYTES, RawHandle, Rights};
use skink_kcore::endpoint::Arrival;
use skink_kcore::{Id, NONE};

use self::ending::fail_call;
pub(crate) use self::ending::{abandon, fail_callers, fail_receivers, interrupt_wait};
use self::transfer::{Leftovers, Undelivered, copy_handles, remove_moved, write_control};
use crate::arch::x86_64::{cpu, physical};
use crate::endpoint::{ENDPOINTS, EndpointState, SENDERS};
use crate::lock::{Guard, Held, level};
use crate::process::{PROCESSES, Process};
use crate::sched::{self, Urgency};
use crate::thread::{
    IS_FAULT, MOVES_HANDLES, REDELIVERED, THREADS, Thread, ThreadNodes, Wait, caller_of,
};
use crate::{answers, fault, object};

type EndpointGuard<'l, 'h> = Guard<'l, 'h, EndpointState, { level::ENDPOINT }>;

fn process_of(thread: &Thread) -> &'static Process {
    PROCESSES.get(thread.process.get())
}

/// System call `call`.
pub(crate) fn call(held: &mut Held<0>, thread: &'static Thread) {
    let registers = &thread.registers;
    let process = process_of(thread);
    let info = Info(registers.rsi.get() & Info::SENDER_BITS);
    registers.rsi.set(info.0);
    if !info.is_valid() {
        return thread.set_result(Err(Error::MessageTooLong));
    }
    let found = {
        let handles = process.handles.lock(held);
        // As on the fast path, only the lower half of the register counts.
        let handle = RawHandle(registers.rdi.get() as u32);
        handles
            .find(handle, ObjectKind::Sender, Rights::CALL)
            .inspect(|entry| SENDERS.retain(entry.object))
    };
    match found {
        Ok(entry) => {
            thread.calls.set(thread.calls.get() + 1);
            let marks = if info.moved() == 0 { 0 } else { MOVES_HANDLES };
            start_call(held, thread, entry.object, marks, registers.rdx.get());
            object::release_sender(held, entry.object);
        }
        Err(error) => thread.set_result(Err(error)),
    }
}

/// Lets the current thread wait for the answer to a request that it sends through `sender`, to
/// which the caller has a reference.
pub(crate) fn start_call(
    held: &mut Held<0>,
    thread: &'static Thread,
    sender: Id,
    marks: u32,
    deadline: u64,
) {
    let through = SENDERS.get(sender);
    let endpoint_id = through.endpoint.get();
    let call = &thread.call;
    let mut leftovers = Leftovers::default();
    call.set_marks(marks);
    let mut guard = ENDPOINTS.get(endpoint_id).state.lock(held);
    if !guard.is_open || !through.is_open() {
        drop(guard);
        return end_with(held, thread, Error::EndpointGone);
    }
    sched::stop(thread);
    call.count();
    call.badge.set(through.badge.get());
    thread.next_wait();
    sched::set_deadline(guard.held(), thread, deadline);
    thread.set_wait(Wait::Reply, endpoint_id);
    if thread.is_doomed() {
        // Who doomed it looked before it waited; it must not wait.
        thread.set_wait(Wait::Nothing, NONE);
        sched::clear_deadline(guard.held(), thread);
        drop(guard);
        return sched::make_ready(held, thread, Urgency::Normal);
    }
    let next = match guard.waits.arrive(&ThreadNodes, thread.id.get()) {
        Arrival::Queued => None,
        Arrival::Deliver(receiver) => {
            let receiver = THREADS.get(receiver);
            finish_deliver(&mut guard, thread, receiver, &mut leftovers)
        }
    };
    drop(guard);
    leftovers.drop_all(held);
    match next {
        None => {}
        Some(Next::Run(next)) => sched::run(next),
        Some(Next::Fail(caller, error)) => {
            caller.registers.rax.set(error.code());
            sched::run(caller);
        }
    }
}

/// What comes after an attempt to deliver.
enum Next {
    /// This thread, now owned, runs.
    Run(&'static Thread),
    /// The call of this thread failed with this error; it is owned and in no list.
    Fail(&'static Thread, Error),
}

/// Delivers a request that the state machine has paired with a waiting receiver.
fn finish_deliver(
    guard: &mut EndpointGuard<'_, '_>,
    caller: &'static Thread,
    receiver: &'static Thread,
    leftovers: &mut Leftovers,
) -> Option<Next> {
    match deliver(guard, caller, receiver, leftovers) {
        Ok(()) => {
            receiver.set_wait(Wait::Nothing, NONE);
            sched::clear_deadline(guard.held(), receiver);
            Some(Next::Run(receiver))
        }
        Err(Undelivered::Caller(error)) => {
            let (state, held) = guard.parts();
            end_call(caller);
            sched::clear_deadline(held, caller);
            state.waits.wait(&ThreadNodes, receiver.id.get());
            Some(Next::Fail(caller, error))
        }
        Err(Undelivered::Receiver(error)) => {
            let (state, held) = guard.parts();
            state.waits.undo(&ThreadNodes, caller.id.get());
            receiver.set_wait(Wait::Nothing, NONE);
            sched::clear_deadline(held, receiver);
            receiver.registers.rax.set(error.code());
            Some(Next::Run(receiver))
        }
    }
}

/// Ends a thread's part in a call, under the lock of its endpoint; the caller took it out of the
/// queue, or holds the duty to answer.
pub(crate) fn end_call(thread: &Thread) {
    thread.call.count();
    thread.call.unserve();
    thread.set_wait(Wait::Nothing, NONE);
}

/// Fails a call or page fault of the current thread before it waited.
fn end_with(held: &mut Held<0>, thread: &'static Thread, error: Error) {
    if thread.call.is(IS_FAULT) {
        crate::teardown::end_by_fault(held, thread, 14, thread.call.fault[0].get());
    } else {
        thread.set_result(Err(error));
    }
}

/// System call `receive`.
pub(crate) fn receive(held: &mut Held<0>, thread: &'static Thread) {
    let handle = thread.registers.rdi.get() >> 32;
    let deadline = thread.registers.rdx.get();
    match find_endpoint(held, thread, handle) {
        Ok(endpoint) => {
            wait_for_message(held, thread, endpoint, deadline, None);
            object::release_endpoint(held, endpoint);
        }
        Err(error) => thread.set_result(Err(error)),
    }
}

/// System call `reply`.
pub(crate) fn reply(held: &mut Held<0>, thread: &'static Thread) {
    let handle = thread.registers.rdi.get() & 0xffff_ffff;
    let result = answer(held, thread, handle).map(|answered| {
        if let Some(caller) = answered {
            sched::make_ready(held, caller, Urgency::Normal);
        }
        (0, 0)
    });
    thread.set_result(result);
}

/// System call `reply_receive`: the caller that is answered runs next if the server waits.
pub(crate) fn reply_receive(held: &mut Held<0>, thread: &'static Thread) {
    let handles = thread.registers.rdi.get();
    let deadline = thread.registers.rdx.get();
    let endpoint = match find_endpoint(held, thread, handles >> 32) {
        Ok(endpoint) => endpoint,
        Err(error) => return thread.set_result(Err(error)),
    };
    // A caller that no longer waits is no error of the server.
    let answered = match answer(held, thread, handles & 0xffff_ffff) {
        Ok(answered) => answered,
        Err(Error::ReplyGone) => None,
        Err(error) => {
            object::release_endpoint(held, endpoint);
            return thread.set_result(Err(error));
        }
    };
    wait_for_message(held, thread, endpoint, deadline, answered);
    object::release_endpoint(held, endpoint);
}

fn find_endpoint(held: &mut Held<0>, thread: &Thread, handle: u64) -> Result<Id, Error> {
    let handle = RawHandle32::check(handle)?;
    let handles = process_of(thread).handles.lock(held);
    let entry = handles.find(handle, ObjectKind::Endpoint, Rights::RECEIVE)?;
    ENDPOINTS.retain(entry.object);
    Ok(entry.object)
}

/// Gives the current thread the next message, or lets it wait for one. `answered` is a caller
/// that it has just answered and that runs in its place if it waits.
fn wait_for_message(
    held: &mut Held<0>,
    thread: &'static Thread,
    endpoint_id: Id,
    deadline: u64,
    answered: Option<&'static Thread>,
) {
    let mut leftovers = Leftovers::default();
    thread.client.set(NONE);
    let mut guard = ENDPOINTS.get(endpoint_id).state.lock(held);
    let found = take_message(&mut guard, thread, &mut leftovers);
    let has_stopped = match found {
        Found::Nothing if deadline == 0 => {
            thread.registers.rax.set(Error::WouldBlock.code());
            false
        }
        Found::Nothing => block_receiver(&mut guard, thread, endpoint_id, deadline),
        Found::Message | Found::Failed(..) => false,
    };
    drop(guard);
    leftovers.drop_all(held);
    if let Found::Failed(caller, error) = found {
        fail_call(held, caller, error);
        // Bounded work: the receiver asks again for the request behind that one.
        thread.registers.rax.set(Error::WouldBlock.code());
    }
    match answered {
        Some(caller) if has_stopped => sched::run(caller),
        Some(caller) => sched::make_ready(held, caller, Urgency::Normal),
        None => {}
    }
}

/// Lets the current thread, which has answered a caller that runs in its place, wait for a message
/// at an endpoint where there is none. It has no deadline.
pub(crate) fn wait_at_once(
    mut guard: EndpointGuard<'_, '_>,
    thread: &'static Thread,
    endpoint: Id,
) {
    thread.client.set(NONE);
    thread.next_wait();
    thread.set_wait(Wait::Message, endpoint);
    if !thread.is_doomed() {
        return guard.waits.wait(&ThreadNodes, thread.id.get());
    }
    thread.set_wait(Wait::Nothing, NONE);
    sched::make_ready(guard.held(), thread, Urgency::Normal);
}

/// The second half of `reply_receive`, after the reply.
pub(crate) fn receive_after_answer(
    held: &mut Held<0>,
    thread: &'static Thread,
    answered: &'static Thread,
) {
    match find_endpoint(held, thread, thread.registers.rdi.get() >> 32) {
        Ok(endpoint) => {
            let deadline = thread.registers.rdx.get();
            wait_for_message(held, thread, endpoint, deadline, Some(answered));
            object::release_endpoint(held, endpoint);
        }
        Err(error) => {
            thread.set_result(Err(error));
            sched::make_ready(held, answered, Urgency::Normal);
        }
    }
}

/// What a receiver finds at its endpoint.
enum Found {
    /// Its registers hold a message, or the error that keeps it from taking one.
    Message,
    /// Nothing is there.
    Nothing,
    /// A request that cannot be delivered: its caller, now owned, gets this error.
    Failed(&'static Thread, Error),
}

/// Looks for news and requests for a receiver that is running.
fn take_message(
    guard: &mut EndpointGuard<'_, '_>,
    thread: &'static Thread,
    leftovers: &mut Leftovers,
) -> Found {
    if guard.take_news(thread) {
        return Found::Message;
    }
    if !guard.is_open {
        thread.registers.rax.set(Error::EndpointGone.code());
        return Found::Message;
    }
    let Some(caller) = guard.waits.take(&ThreadNodes) else {
        return Found::Nothing;
    };
    let caller = THREADS.get(caller);
    match deliver(guard, caller, thread, leftovers) {
        Ok(()) => Found::Message,
        Err(Undelivered::Receiver(error)) => {
            guard.waits.undo(&ThreadNodes, caller.id.get());
            thread.registers.rax.set(error.code());
            Found::Message
        }
        Err(Undelivered::Caller(error)) => {
            end_call(caller);
            Found::Failed(caller, error)
        }
    }
}

/// Lets the current thread wait for a message. Returns whether it does: one that must end does
/// not wait any more.
fn block_receiver(
    guard: &mut EndpointGuard<'_, '_>,
    thread: &'static Thread,
    endpoint_id: Id,
    deadline: u64,
) -> bool {
    sched::stop(thread);
    thread.next_wait();
    sched::set_deadline(guard.held(), thread, deadline);
    thread.set_wait(Wait::Message, endpoint_id);
    if thread.is_doomed() {
        thread.set_wait(Wait::Nothing, NONE);
        sched::clear_deadline(guard.held(), thread);
        sched::run(thread);
        return false;
    }
    guard.waits.wait(&ThreadNodes, thread.id.get());
    true
}

/// Copies a request into a receiver's registers and IPC page and gives it the duty to answer.
fn deliver(
    guard: &mut EndpointGuard<'_, '_>,
    caller: &'static Thread,
    receiver: &'static Thread,
    leftovers: &mut Leftovers,
) -> Result<(), Undelivered> {
    if caller.call.is(IS_FAULT) {
        let fault = caller.fault();
        let words = [fault.address, fault.instruction, fault.code];
        receiver.registers.set_payload(&words);
        let info = Info(Info::new(0, size_of::<FaultMessage>(), 0).0 | Info::FAULT);
        show_request(caller, receiver, info);
        return Ok(());
    }
    let info = Info(caller.registers.rsi.get() & Info::SENDER_BITS);
    if info.handles() > 0 {
        let from = process_of(caller);
        let to = process_of(receiver);
        copy_handles(
            guard.held(),
            (from, caller),
            (to, receiver),
            info,
            leftovers,
        )?;
    }
    copy_payload(caller, receiver, info.bytes());
    show_request(caller, receiver, info);
    Ok(())
}

/// Gives a receiver the duty to answer and tells it whose request it has.
fn show_request(caller: &Thread, receiver: &Thread, info: Info) {
    let call = &caller.call;
    let marks = if call.is(REDELIVERED) {
        Info::REDELIVERED
    } else {
        0
    };
    call.serve(receiver.process.get());
    let out = &receiver.registers;
    out.rax.set(0);
    out.rsi.set(info.0 & !0x00f0_0000 | marks);
    out.rdi.set(call.reply().0.into());
    out.rdx.set(call.badge.get());
    write_control(receiver, |control| {
        // SAFETY: a field of the receiver's control page.
        unsafe { (&raw mut (*control).sequence).write_volatile(call.ticket.get()) };
    });
    let client = match caller.client.get() {
        NONE => caller.process.get(),
        client => client,
    };
    receiver.client.set(client);
}

/// Copies the payload from one owned thread to another. Of a short payload only its words are in
/// the sender's struct for certain (entry.s saves no more).
#[inline]
fn copy_payload(from: &Thread, to: &Thread, bytes: usize) {
    if bytes <= REGISTER_BYTES {
        let words = bytes.div_ceil(8);
        let (to, from) = (to.registers.payload(), from.registers.payload());
        for (at, (to, from)) in to.iter().zip(&from).enumerate() {
            to.set(if at < words { from.get() } else { 0 });
        }
    } else {
        let words = (bytes as u64).next_multiple_of(8);
        // SAFETY: both are IPC pages, RAM that their threads' processes hold a reference to;
        // `bytes` is at most a page.
        unsafe { physical::copy(from.ipc_page(), to.ipc_page(), words) };
        to.registers.set_payload(&[]);
    }
}

/// Answers the call that a reply handle of the current thread stands for: the caller that was
/// answered is now owned by this CPU and ready to run. None is if the answer was to be lost.
fn answer(
    held: &mut Held<0>,
    thread: &'static Thread,
    handle: u64,
) -> Result<Option<&'static Thread>, Error> {
    let info = Info(thread.registers.rsi.get() & Info::SENDER_BITS);
    if !info.is_valid() {
        return Err(Error::MessageTooLong);
    }
    let handle = RawHandle32::check(handle)?;
    let process = process_of(thread);
    if answers::is_lost(held, thread, handle, info.handles()) {
        remove_moved(held, thread, info);
        return Ok(None);
    }
    let caller = match take_caller(held, thread.process.get(), handle) {
        Ok(caller) => caller,
        Err(error) => {
            // What the server wanted to give away it does not keep, whoever is there to get it.
            remove_moved(held, thread, info);
            return Err(error);
        }
    };
    thread.client.set(NONE);
    if caller.call.is(IS_FAULT) {
        fault::resolve(held, thread, caller, info);
        return Ok(Some(caller));
    }
    let request = Info(caller.registers.rsi.get());
    if request.moved() != 0 {
        remove_moved(held, caller, request);
    }
    let mut leftovers = Leftovers::default();
    let mut status = 0;
    if info.handles() > 0 {
        let to = process_of(caller);
        match copy_handles(held, (process, thread), (to, caller), info, &mut leftovers) {
            Ok(()) => {}
            // Handles that the server has not are no fault of the caller.
            Err(Undelivered::Caller(_)) => status = Error::ReplyDropped.code(),
            Err(Undelivered::Receiver(error)) => status = error.code(),
        }
        leftovers.drop_all(held);
        // Also when they did not arrive: a caller without room must not fill the server's table.
        remove_moved(held, thread, info);
    }
    copy_payload(thread, caller, info.bytes());
    caller.registers.rax.set(status);
    caller.registers.rsi.set(info.0 & !0x00f0_0000);
    sched::clear_deadline(held, caller);
    Ok(Some(caller))
}

/// Takes the caller whose call a process has the duty to answer out of service, and makes this CPU
/// its owner.
///
/// # Errors
///
/// `InvalidHandle` for what is no reply handle or another process's duty, `ReplyGone` when the call
/// has ended.
fn take_caller(
    held: &mut Held<0>,
    server: Id,
    handle: RawHandle,
) -> Result<&'static Thread, Error> {
    with_duty(held, server, handle, |caller| {
        end_call(caller);
        caller
    })
}

/// As [`take_caller`], for a thread that waits for the answer to a page fault and needs nothing but
/// that.
pub(crate) fn take_fault(
    held: &mut Held<0>,
    pager: &Thread,
    reply: RawHandle,
) -> Option<&'static Thread> {
    with_duty(held, pager.process.get(), reply, |caller| {
        let is_fault = caller.call.is(IS_FAULT) && caller.is_simple();
        is_fault.then(|| {
            // Before it no longer waits: who dooms it then interrupts this CPU.
            caller.cpu.set(cpu::this().index());
            end_call(caller);
            caller
        })
    })
    .ok()?
}

/// Checks that a process has the duty to answer that a reply handle stands for.
///
/// # Errors
///
/// As [`take_caller`].
pub(crate) fn check_reply(held: &mut Held<0>, server: Id, handle: RawHandle) -> Result<(), Error> {
    with_duty(held, server, handle, |_| ())
}

/// Runs `f` on the caller of a reply handle's call, under the lock of its endpoint, if a process
/// has the duty to answer it.
fn with_duty<R>(
    held: &mut Held<0>,
    server: Id,
    handle: RawHandle,
    f: impl FnOnce(&'static Thread) -> R,
) -> Result<R, Error> {
    let id = caller_of(handle).ok_or(Error::InvalidHandle)?;
    if id >= THREADS.made() {
        return Err(Error::InvalidHandle);
    }
    let caller = THREADS.get(id);
    let wait = caller.wait();
    if wait.kind() != Wait::Reply {
        return Err(Error::ReplyGone);
    }
    let _guard = ENDPOINTS.get(wait.object()).state.lock(held);
    let call = &caller.call;
    if caller.wait() != wait || call.reply() != handle {
        return Err(Error::ReplyGone);
    }
    if !call.is_served_by(server) {
        return Err(Error::InvalidHandle);
    }
    Ok(f(caller))
}

/// Closes a reply handle without an answer: the caller fails with `ReplyDropped`.
///
/// # Errors
///
/// As [`take_caller`].
pub(crate) fn drop_reply(held: &mut Held<0>, server: Id, handle: RawHandle) -> Result<(), Error> {
    let caller = take_caller(held, server, handle)?;
    fail_call(held, caller, Error::ReplyDropped);
    Ok(())
}

/// A handle number as a register holds it.
pub(crate) struct RawHandle32;

impl RawHandle32 {
    /// Checks that nothing stands in the upper half.
    pub(crate) fn check(register: u64) -> Result<RawHandle, Error> {
        u32::try_from(register)
            .map(RawHandle)
            .map_err(|_| Error::InvalidHandle)
    }
}
