//! The ends that waits come to without what they waited for: a receiver that died, an endpoint that
//! was closed, a deadline, the end of a process.

use skink_abi::Error;
use skink_kcore::endpoint::{Abandon, Requeue};
use skink_kcore::{Id, NONE};

use super::transfer::Leftovers;
use super::{Next, end_call, finish_deliver};
use crate::endpoint::ENDPOINTS;
use crate::lock::Held;
use crate::notification;
use crate::sched::{self, Urgency};
use crate::thread::{IN_SERVICE, IS_FAULT, REDELIVERED, THREADS, Thread, ThreadNodes, Wait};

/// Puts the request of a thread back to its endpoint if it is one that a dead process had the duty
/// to answer.
pub(crate) fn abandon(held: &mut Held<0>, caller: &'static Thread, server: Id, how: Abandon) {
    let wait = caller.wait();
    let is_served = || caller.wait() == wait && caller.call.is_served_by(server);
    if wait.kind() != Wait::Reply || !is_served() {
        return;
    }
    let mut guard = ENDPOINTS.get(wait.object()).state.lock(held);
    if !is_served() {
        return;
    }
    // Handles of the dead process's other threads must not match any more.
    let call = &caller.call;
    call.count();
    call.set_marks(call.marks() & !IN_SERVICE | REDELIVERED);
    if guard.waits.abandon(&ThreadNodes, caller.id.get(), how) == Requeue::Poisoned {
        end_call(caller);
        drop(guard);
        crate::stats::POISONED.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        return fail_call(held, caller, Error::ServerCrashed);
    }
    crate::stats::REDELIVERED.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    // Another process may receive from the endpoint already.
    let mut leftovers = Leftovers::default();
    let mut ready = None;
    if let Some(receiver) = guard.waits.take_receiver(&ThreadNodes) {
        let receiver = THREADS.get(receiver);
        match guard.waits.take(&ThreadNodes) {
            Some(first) => {
                let first = THREADS.get(first);
                ready = finish_deliver(&mut guard, first, receiver, &mut leftovers);
            }
            None => guard.waits.wait(&ThreadNodes, receiver.id.get()),
        }
    }
    drop(guard);
    leftovers.drop_all(held);
    match ready {
        Some(Next::Run(thread)) => sched::make_ready(held, thread, Urgency::Normal),
        Some(Next::Fail(failed, error)) => fail_call(held, failed, error),
        None => {}
    }
}

/// Ends the call of an owned thread with an error and lets it run.
pub(super) fn fail_call(held: &mut Held<0>, thread: &'static Thread, error: Error) {
    sched::clear_deadline(held, thread);
    if thread.call.is(IS_FAULT) {
        crate::teardown::end_by_fault(held, thread, 14, thread.call.fault[0].get());
    } else {
        thread.registers.rax.set(error.code());
    }
    sched::make_ready(held, thread, Urgency::Normal);
}

/// Fails all calls on an endpoint that nobody will ever receive from: those that wait, and those
/// that a receiver has, of which no list is kept.
pub(crate) fn fail_callers(held: &mut Held<0>, endpoint: Id) {
    for id in 0..THREADS.made() {
        let caller = THREADS.get(id);
        let wait = caller.wait();
        if wait.kind() != Wait::Reply || wait.object() != endpoint {
            continue;
        }
        let mut guard = ENDPOINTS.get(endpoint).state.lock(held);
        if caller.wait() != wait {
            continue;
        }
        if !caller.call.is(IN_SERVICE) {
            guard.waits.forget_caller(&ThreadNodes, id);
        }
        end_call(caller);
        drop(guard);
        fail_call(held, caller, Error::EndpointGone);
    }
}

/// Fails all receivers of an endpoint that was revoked.
pub(crate) fn fail_receivers(held: &mut Held<0>, endpoint: Id) {
    loop {
        let mut guard = ENDPOINTS.get(endpoint).state.lock(held);
        let Some(receiver) = guard.waits.take_receiver(&ThreadNodes) else {
            break;
        };
        let receiver = THREADS.get(receiver);
        receiver.set_wait(Wait::Nothing, NONE);
        drop(guard);
        sched::clear_deadline(held, receiver);
        receiver.registers.rax.set(Error::EndpointGone.code());
        sched::make_ready(held, receiver, Urgency::Normal);
    }
}

/// Ends whatever a thread waits for with an error, if it still waits: for a deadline (then the
/// number of the wait is given) and for the end of its process.
pub(crate) fn interrupt_wait<const H: u8>(
    held: &mut Held<H>,
    thread: &'static Thread,
    error: Error,
    number: Option<u32>,
) {
    let wait = thread.wait();
    let object = wait.object();
    let is_same =
        || thread.wait() == wait && number.is_none_or(|number| thread.wait_number.get() == number);
    let taken = match wait.kind() {
        Wait::Nothing => false,
        Wait::Reply => {
            let mut guard = ENDPOINTS.get(object).state.lock(held);
            let same = is_same();
            if same {
                if !thread.call.is(IN_SERVICE) {
                    guard.waits.forget_caller(&ThreadNodes, thread.id.get());
                }
                end_call(thread);
            }
            same
        }
        Wait::Message => {
            let mut guard = ENDPOINTS.get(object).state.lock(held);
            let same = is_same();
            if same {
                guard.waits.forget_receiver(&ThreadNodes, thread.id.get());
                thread.set_wait(Wait::Nothing, NONE);
            }
            same
        }
        Wait::Bits => notification::forget_waiter(held, object, thread, is_same),
        Wait::Time => match number {
            // The timer took it out of the only queue that it was in, if it is still that wait.
            Some(number) if number == thread.wait_number.get() => {
                thread.set_wait(Wait::Nothing, NONE);
                true
            }
            Some(_) => false,
            None => sched::take_sleeper(held, thread),
        },
    };
    if taken {
        sched::clear_deadline(held, thread);
        thread.registers.rax.set(error.code());
        sched::make_ready(held, thread, Urgency::Normal);
    }
}
