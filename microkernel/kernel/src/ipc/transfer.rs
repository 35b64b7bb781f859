//! Handles that go along with messages.
//!
//! Those of a request are copied to the receiver; what the caller moves leaves its table only when
//! the reply arrives, so that a redelivered request still has it. Those of a reply move at once.

use skink_abi::{Error, Info, MAX_HANDLES, RawHandle, Rights, ThreadControl};
use skink_kcore::handles::Entry;

use super::process_of;
use crate::lock::Held;
use crate::object;
use crate::process::Process;
use crate::thread::Thread;

/// Who is to blame that a message could not be delivered.
pub(super) enum Undelivered {
    /// The caller passed handles that it has not.
    Caller(Error),
    /// The receiver has no room for handles.
    Receiver(Error),
}

/// Handles that were copied for a message that was then not delivered: to be dropped when no
/// lock is held.
#[derive(Default)]
pub(super) struct Leftovers(heapless::Vec<Entry, { MAX_HANDLES + 1 }>);

impl Leftovers {
    pub(super) fn push(&mut self, entry: Entry) {
        // There are never more than a message's handles.
        let _ = self.0.push(entry);
    }

    pub(super) fn drop_all(self, held: &mut Held<0>) {
        for entry in self.0 {
            object::release(held, entry);
        }
    }
}

pub(super) fn write_control(thread: &Thread, write: impl FnOnce(*mut ThreadControl)) {
    write(thread.control());
}

fn sent_handles(thread: &Thread) -> [u32; MAX_HANDLES] {
    let control = thread.control();
    // SAFETY: a field of the thread's control page; the program may change it at any time, so it
    // is read once.
    unsafe { (&raw const (*control).send_handles).read_volatile() }
}

/// Copies the handles of a message into the receiver's table.
pub(super) fn copy_handles<const H: u8>(
    held: &mut Held<H>,
    (from, sender): (&Process, &Thread),
    (to, receiver): (&Process, &Thread),
    info: Info,
    leftovers: &mut Leftovers,
) -> Result<(), Undelivered> {
    let sent = sent_handles(sender);
    let mut received = [0; MAX_HANDLES];
    let mut kinds = [0; 8];
    let mut result = Ok(());
    for (slot, &handle) in sent.iter().take(info.handles()).enumerate() {
        let copied = from
            .handles
            .lock(held)
            .get(RawHandle(handle))
            .and_then(|entry| {
                entry.require(Rights::TRANSFER)?;
                object::retain(&entry)?;
                Ok(entry)
            });
        let entry = match copied {
            Ok(entry) => entry,
            Err(error) => {
                result = Err(Undelivered::Caller(error));
                break;
            }
        };
        match to.handles.lock(held).insert(entry) {
            Ok(handle) => {
                received[slot] = handle.0;
                kinds[slot] = entry.kind.map_or(0, |kind| kind as u8);
            }
            Err(error) => {
                leftovers.push(entry);
                result = Err(Undelivered::Receiver(error));
                break;
            }
        }
    }
    write_control(receiver, |control| {
        // SAFETY: fields of the receiver's control page.
        unsafe {
            (&raw mut (*control).received_handles).write_volatile(received);
            (&raw mut (*control).received_kinds).write_volatile(kinds);
        }
    });
    if result.is_err() {
        take_back(held, to, received, leftovers);
    }
    result
}

fn take_back<const H: u8>(
    held: &mut Held<H>,
    to: &Process,
    received: [u32; MAX_HANDLES],
    leftovers: &mut Leftovers,
) {
    let mut handles = to.handles.lock(held);
    for handle in received.into_iter().filter(|&handle| handle != 0) {
        if let Ok(entry) = handles.remove(RawHandle(handle)) {
            leftovers.push(entry);
        }
    }
}

/// Removes from a caller's table the handles that it moved with its request or reply.
pub(super) fn remove_moved(held: &mut Held<0>, thread: &Thread, info: Info) {
    let process = process_of(thread);
    let sent = sent_handles(thread);
    for (slot, handle) in sent.into_iter().take(info.handles()).enumerate() {
        if info.moved() & 1 << slot != 0 {
            let removed = process.handles.lock(held).remove(RawHandle(handle));
            if let Ok(entry) = removed {
                object::release(held, entry);
            }
        }
    }
}
