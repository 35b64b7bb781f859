//! Notifications: 64 bits that some set and others wait for.

use core::sync::atomic::{AtomicU64, Ordering};

use skink_abi::{Error, ObjectKind, RawHandle, Rights};
use skink_kcore::list::Stack;
use skink_kcore::{Id, NONE};

use crate::arena::{Arena, Object};
use crate::endpoint::{ENDPOINTS, offer_news};
use crate::lock::{Guard, Held, Lock, level};
use crate::object;
use crate::process::{PROCESSES, Process};
use crate::sched::{self, Urgency};
use crate::thread::{THREADS, Thread, ThreadNodes, Wait};

/// A notification.
pub(crate) struct Notification {
    bits: AtomicU64,
    state: Lock<State, { level::NOTIFICATION }>,
}

/// What a notification's lock guards.
pub(crate) struct State {
    waiters: Stack,
    /// The endpoint that it is bound to, or [`NONE`]. No reference: the endpoint names the
    /// notification too, and who follows this checks that.
    endpoint: Id,
}

impl Object for Notification {
    const ARENA: u64 = 4;
    const NEW: Notification = Notification {
        bits: AtomicU64::new(0),
        state: Lock::new(State {
            waiters: Stack::EMPTY,
            endpoint: NONE,
        }),
    };
}

/// All notifications.
pub(crate) static NOTIFICATIONS: Arena<Notification> = Arena::new();

impl Notification {
    /// Makes a place ready for a new notification.
    pub(crate) fn reset(&self, held: &mut Held<0>) {
        let mut guard = self.state.lock(held);
        self.bits.store(0, Ordering::Relaxed);
        *guard = State {
            waiters: Stack::EMPTY,
            endpoint: NONE,
        };
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

type NotificationGuard<'h> = Guard<'static, 'h, State, { level::NOTIFICATION }>;

/// A notification that a handle names, locked: so it is alive.
struct Found<'h> {
    id: Id,
    guard: NotificationGuard<'h>,
    /// The bits of the handle.
    bits: u64,
}

/// Finds the notification that a handle of a process names. Neither the table's lock nor a
/// reference is taken.
///
/// # Errors
///
/// `InvalidHandle`, `WrongKind`, `MissingRight`.
#[inline(always)]
fn find<'h>(
    held: &'h mut Held<0>,
    process: &Process,
    handle: u64,
    rights: Rights,
) -> Result<Found<'h>, Error> {
    let kind = ObjectKind::Notification;
    let handle = RawHandle(handle as u32);
    let Some(glance) = process.glance(handle, kind, rights) else {
        return Err(process.why_not(held, handle, kind, rights));
    };
    let id = glance.object();
    let guard = NOTIFICATIONS.get(id).state.lock(held);
    if glance.is_current() {
        Ok(Found {
            id,
            guard,
            bits: glance.detail,
        })
    } else {
        // Another thread has just closed it.
        Err(Error::InvalidHandle)
    }
}

/// System call `notify`.
///
/// # Errors
///
/// Those of a bad handle.
pub(crate) fn notify_by(held: &mut Held<0>, process: &Process, handle: u64) -> Result<(), Error> {
    let Found { id, guard, bits } = find(held, process, handle, Rights::NOTIFY)?;
    if let Some(waiter) = set(guard, id, bits, Urgency::Normal) {
        wake(held, id, waiter, Urgency::Normal);
    }
    Ok(())
}

/// Sets bits and wakes one who waits for them. The caller has a reference.
pub(crate) fn notify<const H: u8>(held: &mut Held<H>, id: Id, bits: u64, urgency: Urgency) {
    let guard = NOTIFICATIONS.get(id).state.lock(held);
    if let Some(waiter) = set(guard, id, bits, urgency) {
        wake(held, id, waiter, urgency);
    }
}

/// Lets a thread run that waited, when no lock is held: interrupting another CPU may take long.
#[inline(always)]
fn wake<const H: u8>(held: &mut Held<H>, id: Id, waiter: &'static Thread, urgency: Urgency) {
    sched::make_ready(held, waiter, urgency);
    // The waiter's reference.
    object::release_notification(id);
}

/// Sets bits. Returns a thread that waited for them, which the caller owns now and must [`wake`].
#[inline(always)]
fn set(
    mut guard: NotificationGuard<'_>,
    id: Id,
    bits: u64,
    urgency: Urgency,
) -> Option<&'static Thread> {
    let notification = NOTIFICATIONS.get(id);
    notification.bits.fetch_or(bits, Ordering::SeqCst);
    if let Some(waiter) = guard.waiters.pop(&ThreadNodes) {
        let taken = notification.take_bits();
        if taken == 0 {
            // A receiver of the endpoint that it is bound to has taken them.
            guard.waiters.push(&ThreadNodes, waiter);
            return None;
        }
        let thread = THREADS.get(waiter);
        thread.set_wait(Wait::Nothing, NONE);
        sched::clear_deadline(guard.held(), thread);
        thread.set_result(Ok((taken, 0)));
        return Some(thread);
    }
    let endpoint = guard.endpoint;
    if endpoint != NONE {
        // The receiver looks at the bits under the endpoint's lock before it waits, so it either
        // sees them or is found waiting here.
        offer_news(guard.held(), endpoint, urgency);
    }
    None
}

/// System call `wait`: without a notification, waits for the deadline; else takes bits, or lets the
/// current thread wait for some. It then keeps a reference to the notification until it no longer
/// waits.
pub(crate) fn wait(held: &mut Held<0>, thread: &'static Thread, handle: u64, deadline: u64) {
    if handle == 0 {
        return sleep(held, thread, deadline);
    }
    let process = PROCESSES.get(thread.process.get());
    let mut found = match find(held, process, handle, Rights::WAIT) {
        Ok(found) => found,
        Err(error) => return thread.set_result(Err(error)),
    };
    let notification = NOTIFICATIONS.get(found.id);
    let bits = notification.take_bits();
    if bits != 0 {
        return thread.set_result(Ok((bits, 0)));
    }
    if deadline == 0 {
        return thread.set_result(Err(Error::WouldBlock));
    }
    sched::stop(thread);
    thread.next_wait();
    sched::set_deadline(found.guard.held(), thread, deadline);
    thread.set_wait(Wait::Bits, found.id);
    if thread.is_doomed() {
        thread.set_wait(Wait::Nothing, NONE);
        sched::clear_deadline(found.guard.held(), thread);
        return sched::run(thread);
    }
    NOTIFICATIONS.retain(found.id);
    let id = thread.id.get();
    found.guard.waiters.push(&ThreadNodes, id);
    drop(found);
    sched::run_next(held);
}

/// Lets the current thread wait for a deadline.
fn sleep(held: &mut Held<0>, thread: &'static Thread, deadline: u64) {
    sched::stop(thread);
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
