//! Notifications: 64 bits that some set and others wait for.

use core::sync::atomic::{AtomicU64, Ordering};

use skink_abi::Error;
use skink_kcore::list::List;
use skink_kcore::{Id, NONE};

use crate::arena::{Arena, Object};
use crate::endpoint::{ENDPOINTS, offer_news};
use crate::lock::{Held, Lock, level};
use crate::object;
use crate::sched::{self, Urgency};
use crate::thread::{THREADS, Thread, ThreadNodes, Wait};

/// A notification.
pub(crate) struct Notification {
    bits: AtomicU64,
    state: Lock<State, { level::NOTIFICATION }>,
}

struct State {
    waiters: List,
    /// The endpoint that it is bound to, or [`NONE`]. No reference: the endpoint names the
    /// notification too, and who follows this checks that.
    endpoint: Id,
}

impl Object for Notification {
    const ARENA: u64 = 4;
    const NEW: Notification = Notification {
        bits: AtomicU64::new(0),
        state: Lock::new(State {
            waiters: List::EMPTY,
            endpoint: NONE,
        }),
    };
}

/// All notifications.
pub(crate) static NOTIFICATIONS: Arena<Notification> = Arena::new();

impl Notification {
    /// Makes a place ready for a new notification.
    pub(crate) fn reset(&self, held: &mut Held<0>) {
        self.bits.store(0, Ordering::Relaxed);
        *self.state.lock(held) = State {
            waiters: List::EMPTY,
            endpoint: NONE,
        };
    }

    /// Returns whether any bit is set.
    pub(crate) fn has_bits(&self) -> bool {
        self.bits.load(Ordering::SeqCst) != 0
    }

    /// Takes all bits that are set.
    pub(crate) fn take_bits(&self) -> u64 {
        if self.bits.load(Ordering::SeqCst) == 0 {
            0
        } else {
            self.bits.swap(0, Ordering::SeqCst)
        }
    }
}

/// Sets bits and wakes one who waits for them.
pub(crate) fn notify<const H: u8>(held: &mut Held<H>, id: Id, bits: u64, urgency: Urgency) {
    let notification = NOTIFICATIONS.get(id);
    notification.bits.fetch_or(bits, Ordering::SeqCst);
    let mut guard = notification.state.lock(held);
    if let Some(waiter) = guard.waiters.pop_front(&ThreadNodes) {
        let taken = notification.take_bits();
        if taken == 0 {
            // Before this lock was taken, the waiter took the bits and came to wait again.
            guard.waiters.push_front(&ThreadNodes, waiter);
            return;
        }
        let thread = THREADS.get(waiter);
        thread.set_wait(Wait::Nothing, NONE);
        let held = guard.held();
        sched::clear_deadline(held, thread);
        thread.set_result(Ok((taken, 0)));
        sched::make_ready(held, thread, urgency);
        drop(guard);
        // The waiter's. The caller has one of its own, so this is never the last.
        NOTIFICATIONS.release(id);
        return;
    }
    let endpoint = guard.endpoint;
    if endpoint == NONE {
        return;
    }
    // The receiver looks at the bits under the endpoint's lock before it waits, so it either sees
    // them or is found waiting here.
    offer_news(guard.held(), endpoint, urgency);
}

/// What became of a thread that asked to wait for bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// It goes on with a result.
    No,
    /// It waits, and keeps the reference to the notification until it no longer does.
    Yes,
}

/// Lets the current thread wait for bits of a notification, to which the caller has a reference.
pub(crate) fn wait(held: &mut Held<0>, thread: &'static Thread, id: Id, deadline: u64) -> Waiting {
    let notification = NOTIFICATIONS.get(id);
    let mut guard = notification.state.lock(held);
    let bits = notification.take_bits();
    if bits != 0 {
        thread.set_result(Ok((bits, 0)));
        return Waiting::No;
    }
    if deadline == 0 {
        thread.set_result(Err(Error::WouldBlock));
        return Waiting::No;
    }
    sched::stop_current();
    thread.next_wait();
    sched::set_deadline(guard.held(), thread, deadline);
    thread.set_wait(Wait::Bits, id);
    if thread.is_doomed() {
        thread.set_wait(Wait::Nothing, NONE);
        sched::clear_deadline(guard.held(), thread);
        drop(guard);
        sched::run(thread);
        return Waiting::No;
    }
    guard.waiters.push_back(&ThreadNodes, thread.id.get());
    Waiting::Yes
}

/// Lets the current thread wait for a deadline.
pub(crate) fn sleep(held: &mut Held<0>, thread: &'static Thread, deadline: u64) {
    sched::stop_current();
    thread.next_wait();
    thread.set_wait(Wait::Time, NONE);
    // Also one that never comes: the queue of deadlines is where its end finds the thread.
    sched::set_deadline(held, thread, deadline.min(skink_abi::FOREVER - 1));
    // Whoever doomed it before this point may have found it neither waiting nor in the queue.
    if thread.is_doomed() && sched::take_sleeper(held, thread) {
        sched::run(thread);
    }
}

/// Takes a thread out of the waiters if `is_same` says that it still is the wait that was meant.
/// Returns whether the caller owns it now.
pub(crate) fn forget_waiter<const H: u8>(
    held: &mut Held<H>,
    id: Id,
    thread: &Thread,
    is_same: impl FnOnce() -> bool,
) -> bool {
    let mut guard = NOTIFICATIONS.get(id).state.lock(held);
    let same = is_same();
    if same {
        guard.waiters.remove(&ThreadNodes, thread.id.get());
        thread.set_wait(Wait::Nothing, NONE);
        drop(guard);
        object::release_notification(id);
    }
    same
}

/// Lets receivers of an endpoint get the bits of a notification, to which the caller passes on a
/// reference. Returns the notification that was bound there before.
///
/// # Errors
///
/// `AlreadyBound` to another endpoint, `EndpointGone`.
pub(crate) fn bind(held: &mut Held<0>, id: Id, endpoint: Id) -> Result<Id, Error> {
    let mut guard = NOTIFICATIONS.get(id).state.lock(held);
    let (bound, held) = guard.parts();
    if bound.endpoint != NONE && bound.endpoint != endpoint {
        return Err(Error::AlreadyBound);
    }
    let mut state = ENDPOINTS.get(endpoint).state.lock(held);
    if !state.is_open {
        return Err(Error::EndpointGone);
    }
    bound.endpoint = endpoint;
    Ok(core::mem::replace(&mut state.notification, id))
}
