//! Calls on handles of any kind.

use skink_abi::{Error, HandleInfo, ObjectKind, Rights};
use skink_kcore::handles::Entry;

use super::{Call, Result};
use crate::endpoint::SENDERS;
use crate::ipc::RawHandle32;
use crate::memory::MEMORIES;
use crate::process::Process;
use crate::{endpoint, ipc, object, thread, user};

/// Copies an entry of the caller's table with a reference, with at most some rights.
fn copy_entry(
    call: &mut Call<'_>,
    handle: u64,
    needed: Rights,
    most: u64,
) -> core::result::Result<Entry, Error> {
    let handle = RawHandle32::check(handle)?;
    if thread::caller_of(handle).is_some() {
        return Err(Error::WrongKind);
    }
    let handles = call.process.handles.lock(call.held);
    let mut entry = handles.get(handle)?;
    entry.require(needed)?;
    entry.rights = entry.rights.intersect(Rights(most as u16));
    object::retain(&entry)?;
    Ok(entry)
}

/// Puts an entry into a table, or drops its reference.
fn insert(call: &mut Call<'_>, table: &Process, entry: Entry) -> Result {
    let inserted = table.handles.lock(call.held).insert(entry);
    match inserted {
        Ok(handle) => Ok((handle.0.into(), 0)),
        Err(error) => {
            object::release(call.held, entry);
            Err(error)
        }
    }
}

pub(super) fn duplicate(call: &mut Call<'_>) -> Result {
    let [handle, rights, ..] = call.arguments;
    let entry = copy_entry(call, handle, Rights::DUPLICATE, rights)?;
    insert(call, call.process, entry)
}

pub(super) fn close(call: &mut Call<'_>) -> Result {
    let handle = RawHandle32::check(call.arguments[0])?;
    if thread::caller_of(handle).is_some() {
        ipc::drop_reply(call.held, call.process.id.get(), handle)?;
        return Ok((0, 0));
    }
    let entry = call.process.handles.lock(call.held).remove(handle)?;
    object::release(call.held, entry);
    Ok((0, 0))
}

pub(super) fn info(call: &mut Call<'_>) -> Result {
    let [handle, out, ..] = call.arguments;
    let handle = RawHandle32::check(handle)?;
    let entry = if thread::caller_of(handle).is_some() {
        let is_awaited = match ipc::check_reply(call.held, call.process.id.get(), handle) {
            Ok(()) => 1,
            Err(Error::ReplyGone) => 0,
            Err(error) => return Err(error),
        };
        Entry::new(
            ObjectKind::Reply,
            Rights::NONE,
            skink_kcore::NONE,
            is_awaited,
        )
    } else {
        call.process.handles.lock(call.held).get(handle)?
    };
    let badge = match entry.kind {
        Some(ObjectKind::Sender) => SENDERS.get(entry.object).badge.get(),
        Some(ObjectKind::Notification | ObjectKind::Reply) => entry.detail,
        _ => 0,
    };
    let kind = entry.kind.map_or(0, |kind| kind as u32);
    let info = HandleInfo {
        kind,
        rights: entry.rights.0.into(),
        badge,
    };
    user::write(call.held, call.process, out, &info)?;
    Ok((0, 0))
}

pub(super) fn next(call: &mut Call<'_>) -> Result {
    let first = usize::try_from(call.arguments[0]).map_err(|_| Error::Unavailable)?;
    let next = call.process.handles.lock(call.held).next(first);
    let (handle, kind) = next.ok_or(Error::Unavailable)?;
    Ok((handle.0.into(), kind as u64))
}

pub(super) fn grant(call: &mut Call<'_>) -> Result {
    super::processes::with_process(call, call.arguments[0], Rights::MANAGE, |call, target| {
        let [_, handle, rights, ..] = call.arguments;
        let entry = copy_entry(call, handle, Rights::TRANSFER, rights)?;
        let inserted = {
            // Teardown begins under this lock, so a live process's table is not being emptied.
            let mut state = target.state.lock(call.held);
            if target.is_alive() {
                target.handles.lock(state.held()).insert(entry)
            } else {
                Err(Error::Dead)
            }
        };
        match inserted {
            Ok(handle) => Ok((handle.0.into(), 0)),
            Err(error) => {
                object::release(call.held, entry);
                Err(error)
            }
        }
    })
}

pub(super) fn revoke(call: &mut Call<'_>) -> Result {
    let handle = RawHandle32::check(call.arguments[0])?;
    let entry = {
        let mut handles = call.process.handles.lock(call.held);
        let entry = handles.get(handle)?;
        entry.require(Rights::MANAGE)?;
        let can_end = matches!(
            entry.kind,
            Some(ObjectKind::Endpoint | ObjectKind::Sender | ObjectKind::Memory)
        );
        if !can_end {
            return Err(Error::WrongKind);
        }
        handles.remove(handle)?
    };
    match entry.kind {
        Some(ObjectKind::Endpoint) => endpoint::close(call.held, entry.object),
        Some(ObjectKind::Sender) => SENDERS.get(entry.object).close(),
        _ => MEMORIES.get(entry.object).revoke(),
    }
    object::release(call.held, entry);
    Ok((0, 0))
}
