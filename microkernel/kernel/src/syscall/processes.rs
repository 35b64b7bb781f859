//! Calls on processes and threads.

use core::sync::atomic::Ordering;

use skink_abi::layout::USER_END;
use skink_abi::{Error, ExitReason, NAME_BYTES, ObjectKind, PAGE_SIZE, Rights, ThreadParams};
use skink_kcore::handles::Entry;
use skink_kcore::range::{self, UserRange};
use skink_kcore::{Id, NONE};

use super::objects::{MAKER, give, take_notification};
use super::{Call, Result};
use crate::endpoint::SENDERS;
use crate::ipc::RawHandle32;
use crate::lock::Held;
use crate::memory::MEMORIES;
use crate::process::{Exit, MAX_THREADS, PROCESSES, Process};
use crate::sched::{self, Urgency};
use crate::thread::{Family, THREADS, Thread};
use crate::{memory, object, revival, stepping, teardown, user};

/// Runs `f` on the process that a handle names, holding a reference to it.
pub(super) fn with_process(
    call: &mut Call<'_>,
    handle: u64,
    rights: Rights,
    f: impl FnOnce(&mut Call<'_>, &'static Process) -> Result,
) -> Result {
    let id = {
        let handle = RawHandle32::check(handle)?;
        let handles = call.process.handles.lock(call.held);
        let entry = handles.find(handle, ObjectKind::Process, rights)?;
        PROCESSES.retain(entry.object);
        entry.object
    };
    let result = f(call, PROCESSES.get(id));
    object::release_process(call.held, id);
    result
}

pub(super) fn create(call: &mut Call<'_>) -> Result {
    let [quota, name_address, name_bytes, ..] = call.arguments;
    let mut name = [0; NAME_BYTES];
    let length = (name_bytes as usize).min(NAME_BYTES);
    user::read_bytes(call.held, call.process, name_address, &mut name[..length])?;
    for byte in &mut name[..length] {
        // Names stand in the log: they must not be able to look like other lines.
        if !matches!(byte, 0x21..=0x7e) {
            *byte = b'?';
        }
    }
    let id = Process::create(call.held, Some(call.process), quota, name)?;
    let given = give(call, Entry::new(ObjectKind::Process, MAKER, id, 0));
    if given.is_err() {
        teardown::end_process(call.held, PROCESSES.get(id), killed(0));
    }
    given
}

fn killed(code: u64) -> Exit {
    Exit {
        reason: ExitReason::Killed,
        code,
        address: 0,
        fault_address: 0,
    }
}

pub(super) fn kill(call: &mut Call<'_>) -> Result {
    let [handle, code, ..] = call.arguments;
    with_process(call, handle, Rights::MANAGE, |call, target| {
        if teardown::end_process(call.held, target, killed(code)) {
            Ok((0, 0))
        } else {
            Err(Error::Dead)
        }
    })
}

/// Ends the calling process; the current thread, doomed like all others, ends with this entry.
pub(super) fn exit(held: &mut Held<0>, thread: &'static Thread) {
    let process = PROCESSES.get(thread.process.get());
    let code = thread.registers.rdi.get();
    let exit = Exit {
        reason: ExitReason::Exited,
        code,
        address: 0,
        fault_address: 0,
    };
    teardown::end_process(held, process, exit);
}

pub(super) fn info(call: &mut Call<'_>) -> Result {
    let [handle, out, ..] = call.arguments;
    with_process(call, handle, Rights::INSPECT, |call, target| {
        let info = target.info(call.held);
        user::write(call.held, call.process, out, &info)?;
        Ok((0, 0))
    })
}

pub(super) fn next(call: &mut Call<'_>) -> Result {
    let [system, number, out, ..] = call.arguments;
    call.process
        .find(call.held, system, ObjectKind::System, Rights::INSPECT)?;
    let mut best: Option<(u64, Id)> = None;
    for id in 0..PROCESSES.made() {
        let candidate = PROCESSES.get(id).number.load(Ordering::Acquire);
        let is_better = best.is_none_or(|(best, _)| candidate < best);
        if candidate >= number.max(1) && is_better {
            best = Some((candidate, id));
        }
    }
    let (_, id) = best.ok_or(Error::Unavailable)?;
    let info = PROCESSES.get(id).info(call.held);
    user::write(call.held, call.process, out, &info)?;
    Ok((0, 0))
}

pub(super) fn watch(call: &mut Call<'_>) -> Result {
    let [handle, notification, ..] = call.arguments;
    with_process(call, handle, Rights::INSPECT, |call, target| {
        let (id, bits) = take_notification(call.process, call.held, notification, Rights::NOTIFY)?;
        let result = {
            let mut state = target.state.lock(call.held);
            let watchers = &mut state.watchers;
            let known = watchers.iter().position(|watcher| watcher.0 == id);
            let free = || watchers.iter().position(|watcher| watcher.0 == NONE);
            match known.or_else(free) {
                _ if !target.is_alive() => Err(Error::Dead),
                Some(at) => {
                    let old = watchers[at];
                    watchers[at] = (id, old.1 | bits);
                    Ok(old.0 != NONE)
                }
                None => Err(Error::AlreadyBound),
            }
        };
        // The list holds one reference.
        if result != Ok(false) {
            object::release_notification(id);
        }
        result.map(|_| (0, 0))
    })
}

pub(super) fn keep_handles(call: &mut Call<'_>) -> Result {
    with_process(call, call.arguments[0], Rights::MANAGE, |call, target| {
        let _state = target.state.lock(call.held);
        if !target.is_alive() {
            return Err(Error::Dead);
        }
        target.keep_handles();
        Ok((0, 0))
    })
}

pub(super) fn set_urgent(call: &mut Call<'_>) -> Result {
    let [system, handle, ..] = call.arguments;
    call.process
        .find(call.held, system, ObjectKind::System, Rights::MANAGE)?;
    with_process(call, handle, Rights::MANAGE, |_, target| {
        target.set_urgent();
        Ok((0, 0))
    })
}

pub(super) fn revive(call: &mut Call<'_>) -> Result {
    with_process(call, call.arguments[0], Rights::MANAGE, |call, target| {
        revival::revive(call.held, target).map(|()| (0, 0))
    })
}

pub(super) fn set_pager(call: &mut Call<'_>) -> Result {
    let [handle, sender, ..] = call.arguments;
    with_process(call, handle, Rights::MANAGE, |call, target| {
        let sender = {
            let sender = RawHandle32::check(sender)?;
            let handles = call.process.handles.lock(call.held);
            let entry = handles.find(sender, ObjectKind::Sender, Rights::CALL)?;
            SENDERS.retain(entry.object);
            entry.object
        };
        let (is_alive, old) = {
            let _state = target.state.lock(call.held);
            match target.is_alive() {
                true => (true, target.pager.swap(sender, Ordering::Relaxed)),
                false => (false, sender),
            }
        };
        if old != NONE {
            object::release_sender(call.held, old);
        }
        if is_alive {
            Ok((0, 0))
        } else {
            Err(Error::Dead)
        }
    })
}

pub(super) fn create_thread(call: &mut Call<'_>) -> Result {
    let [handle, params, ..] = call.arguments;
    with_process(call, handle, Rights::MANAGE, |call, target| {
        let params: ThreadParams = user::read(call.held, call.process, params)?;
        UserRange::new(params.control, 2)?;
        if params.entry >= USER_END || params.stack > USER_END {
            return Err(Error::InvalidArgument);
        }
        let control = take_control(call, &params)?;
        let result = start_thread(call, target, &params, control);
        if result.is_err() {
            memory::release(control.0);
        }
        result
    })
}

/// Takes a reference to the memory of a new thread's control pages: the object, and the physical
/// address of the first page.
fn take_control(
    call: &mut Call<'_>,
    params: &ThreadParams,
) -> core::result::Result<(Id, u64), Error> {
    let handles = call.process.handles.lock(call.held);
    let needed = Rights::READ | Rights::WRITE;
    let handle = skink_abi::RawHandle(params.control_memory);
    let entry = handles.find(handle, ObjectKind::Memory, needed)?;
    let object = MEMORIES.get(entry.object);
    object.check()?;
    if !object.is_ram() {
        return Err(Error::WrongKind);
    }
    range::within(params.control_page.into(), 2, object.pages.get())?;
    MEMORIES.retain(entry.object);
    let offset = u64::from(params.control_page) * PAGE_SIZE as u64;
    Ok((entry.object, object.start.get() + offset))
}

fn start_thread(
    call: &mut Call<'_>,
    target: &'static Process,
    params: &ThreadParams,
    (memory, physical): (Id, u64),
) -> Result {
    let id = THREADS.allocate_for(target)?;
    if id >= crate::thread::MAX_THREAD_IDS {
        object::release_thread(id);
        return Err(Error::NoMemory);
    }
    let thread = THREADS.get(id);
    thread.reset(id, target.id.get());
    thread
        .registers
        .start(params.entry, params.stack, params.argument);
    stepping::join(thread);
    thread.set_control(physical);
    thread.control_memory.set(memory);
    thread.fs_base.set(params.control);
    // One reference for the process's list, one for the handle.
    THREADS.retain(id);
    let entry = Entry::new(ObjectKind::Thread, MAKER, id, 0);
    let handle = match give(call, entry) {
        Ok(handle) => handle,
        Err(error) => {
            object::release_thread(id);
            return Err(error);
        }
    };
    let is_listed = {
        let mut state = target.state.lock(call.held);
        let fits = target.is_alive() && state.thread_count < MAX_THREADS;
        if fits {
            state.threads.push_back(&Family, id);
            state.thread_count += 1;
        }
        fits
    };
    if !is_listed {
        let removed = call
            .process
            .handles
            .lock(call.held)
            .remove(skink_abi::RawHandle(handle.0 as u32));
        if let Ok(entry) = removed {
            object::release(call.held, entry);
        }
        object::release_thread(id);
        return Err(if target.is_alive() {
            Error::NoMemory
        } else {
            Error::Dead
        });
    }
    sched::make_ready(call.held, thread, Urgency::Normal);
    Ok(handle)
}
