//! References to kernel objects: what handles hold.

use core::sync::atomic::Ordering;

use skink_abi::{Error, ObjectKind, ProcessState};
use skink_kcore::handles::Entry;
use skink_kcore::{Id, NONE};

use crate::endpoint::{self, ENDPOINTS, SENDERS};
use crate::interrupt::{self, INTERRUPTS};
use crate::lock::Held;
use crate::memory::{self, MEMORIES};
use crate::notification::NOTIFICATIONS;
use crate::process::PROCESSES;
use crate::teardown;
use crate::thread::THREADS;

/// Adds a reference for a copy of a handle.
///
/// # Errors
///
/// `WrongKind` for a reply: a duty cannot be copied.
pub(crate) fn retain(entry: &Entry) -> Result<(), Error> {
    let id = entry.object;
    match entry.kind {
        Some(ObjectKind::Process) => PROCESSES.retain(id),
        Some(ObjectKind::Thread) => THREADS.retain(id),
        Some(ObjectKind::Endpoint) => {
            ENDPOINTS
                .get(id)
                .receive_handles
                .fetch_add(1, Ordering::Relaxed);
            ENDPOINTS.retain(id);
        }
        Some(ObjectKind::Sender) => SENDERS.retain(id),
        Some(ObjectKind::Notification) => NOTIFICATIONS.retain(id),
        Some(ObjectKind::Memory) => MEMORIES.retain(id),
        Some(ObjectKind::Interrupt) => INTERRUPTS.retain(id),
        Some(ObjectKind::IoPorts | ObjectKind::System) => {}
        Some(ObjectKind::Reply) | None => return Err(Error::WrongKind),
    }
    Ok(())
}

/// Why a handle goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// It was closed by itself.
    Handle,
    /// Its process ended.
    Process,
}

/// Drops the reference of a handle that was closed.
pub(crate) fn release(held: &mut Held<0>, entry: Entry) {
    release_from(held, entry, Closing::Handle);
}

/// Drops the reference of a handle.
pub(crate) fn release_from(held: &mut Held<0>, entry: Entry, why: Closing) {
    let id = entry.object;
    match entry.kind {
        Some(ObjectKind::Process) => release_process(held, id),
        Some(ObjectKind::Thread) => release_thread(id),
        Some(ObjectKind::Endpoint) => {
            if ENDPOINTS
                .get(id)
                .receive_handles
                .fetch_sub(1, Ordering::AcqRel)
                == 1
            {
                endpoint::close(held, id);
            } else if why == Closing::Process {
                endpoint::receiver_died(held, id);
            }
            release_endpoint(held, id);
        }
        Some(ObjectKind::Sender) => release_sender(held, id),
        Some(ObjectKind::Notification) => release_notification(id),
        Some(ObjectKind::Memory) => memory::release(id),
        Some(ObjectKind::Interrupt) => interrupt::release(id),
        // A reply has no entry in any table.
        Some(ObjectKind::IoPorts | ObjectKind::System | ObjectKind::Reply) | None => {}
    }
}

/// Drops a reference to a process; the last one drops that to its parent, and so on up.
pub(crate) fn release_process(held: &mut Held<0>, mut id: Id) {
    while id != NONE {
        let process = PROCESSES.get(id);
        let number = process.number();
        match PROCESSES.release_one(id) {
            0 => {}
            // Only the one that it keeps to itself until it is gone.
            1 => return teardown::end_unreachable(held, process, number),
            _ => return,
        }
        debug_assert!(!process.is_alive());
        let parent = process.parent.get();
        process.parent.set(NONE);
        process.set_status(ProcessState::Dead);
        process.number.store(0, Ordering::Release);
        PROCESSES.free(id);
        id = parent;
    }
}

/// Drops a reference to a thread.
pub(crate) fn release_thread(id: Id) {
    if THREADS.release(id) {
        teardown::free_thread(id);
    }
}

/// Drops a reference to an endpoint.
pub(crate) fn release_endpoint(_held: &mut Held<0>, id: Id) {
    if ENDPOINTS.release(id) {
        ENDPOINTS.free(id);
    }
}

/// Drops a reference to a sender; the endpoint's receiver is told of the last one.
pub(crate) fn release_sender(held: &mut Held<0>, id: Id) {
    if SENDERS.release(id) {
        endpoint::sender_closed(held, id);
    }
}

/// Drops a reference to a notification.
pub(crate) fn release_notification(id: Id) {
    if NOTIFICATIONS.release(id) {
        NOTIFICATIONS.free(id);
    }
}
