//! Calls that make and use endpoints, senders and notifications.

use skink_abi::{Error, ObjectKind, Rights};
use skink_kcore::Id;
use skink_kcore::handles::Entry;

use super::{Call, Result};
use crate::endpoint::{self, ENDPOINTS, SENDERS};
use crate::ipc::RawHandle32;
use crate::lock::Held;
use crate::notification::{self, NOTIFICATIONS};
use crate::object;
use crate::process::Process;
use crate::sched::Urgency;

/// Rights of everybody who makes an object on what can be done with any handle.
pub(super) const MAKER: Rights =
    Rights(Rights::DUPLICATE.0 | Rights::TRANSFER.0 | Rights::MANAGE.0 | Rights::INSPECT.0);

/// Gives the caller a handle to what it made; drops the object if the table is full.
pub(super) fn give(call: &mut Call<'_>, entry: Entry) -> Result {
    let inserted = call.process.handles.lock(call.held).insert(entry);
    match inserted {
        Ok(handle) => Ok((handle.0.into(), 0)),
        Err(error) => {
            object::release(call.held, entry);
            Err(error)
        }
    }
}

/// Finds an endpoint and takes a reference to it.
fn take_endpoint(call: &mut Call<'_>, handle: u64) -> core::result::Result<Id, Error> {
    let handle = RawHandle32::check(handle)?;
    let handles = call.process.handles.lock(call.held);
    let entry = handles.find(handle, ObjectKind::Endpoint, Rights::RECEIVE)?;
    ENDPOINTS.retain(entry.object);
    Ok(entry.object)
}

/// Finds a notification, takes a reference to it, and returns the bits of the handle.
pub(super) fn take_notification(
    process: &Process,
    held: &mut Held<0>,
    handle: u64,
    rights: Rights,
) -> core::result::Result<(Id, u64), Error> {
    let handle = RawHandle32::check(handle)?;
    let handles = process.handles.lock(held);
    let entry = handles.find(handle, ObjectKind::Notification, rights)?;
    NOTIFICATIONS.retain(entry.object);
    Ok((entry.object, entry.detail))
}

pub(super) fn create_endpoint(call: &mut Call<'_>) -> Result {
    let id = ENDPOINTS.allocate_for(call.process)?;
    ENDPOINTS.get(id).reset(call.held, id);
    give(
        call,
        Entry::new(ObjectKind::Endpoint, MAKER | Rights::RECEIVE, id, 0),
    )
}

pub(super) fn mint_sender(call: &mut Call<'_>) -> Result {
    let [endpoint, badge, ..] = call.arguments;
    // The sender keeps the reference.
    let endpoint = take_endpoint(call, endpoint)?;
    let id = match SENDERS.allocate_for(call.process) {
        Ok(id) => id,
        Err(error) => {
            object::release_endpoint(call.held, endpoint);
            return Err(error);
        }
    };
    SENDERS.get(id).reset(endpoint, badge);
    give(
        call,
        Entry::new(ObjectKind::Sender, MAKER | Rights::CALL, id, 0),
    )
}

pub(super) fn forget_badge(call: &mut Call<'_>) -> Result {
    let [endpoint, badge, ..] = call.arguments;
    let id = take_endpoint(call, endpoint)?;
    let found = endpoint::forget(call.held, id, badge);
    object::release_endpoint(call.held, id);
    if found {
        Ok((0, 0))
    } else {
        Err(Error::InvalidArgument)
    }
}

pub(super) fn create_notification(call: &mut Call<'_>) -> Result {
    let id = NOTIFICATIONS.allocate_for(call.process)?;
    NOTIFICATIONS.get(id).reset(call.held);
    let rights = MAKER | Rights::NOTIFY | Rights::WAIT;
    give(
        call,
        Entry::new(ObjectKind::Notification, rights, id, u64::MAX),
    )
}

pub(super) fn mint_notification(call: &mut Call<'_>) -> Result {
    let [handle, bits, ..] = call.arguments;
    let (id, _) = take_notification(call.process, call.held, handle, Rights::WAIT)?;
    let rights = Rights::DUPLICATE | Rights::TRANSFER | Rights::NOTIFY;
    give(call, Entry::new(ObjectKind::Notification, rights, id, bits))
}

pub(super) fn bind_notification(call: &mut Call<'_>) -> Result {
    let [handle, endpoint, ..] = call.arguments;
    let endpoint = take_endpoint(call, endpoint)?;
    let bound = take_notification(call.process, call.held, handle, Rights::WAIT);
    let bound = bound.and_then(|(id, _)| {
        let old = notification::bind(call.held, id, endpoint).inspect_err(|_| {
            object::release_notification(id);
        })?;
        if old != skink_kcore::NONE {
            object::release_notification(old);
        }
        endpoint::offer_news(call.held, endpoint, Urgency::Normal);
        Ok((0, 0))
    });
    object::release_endpoint(call.held, endpoint);
    bound
}
