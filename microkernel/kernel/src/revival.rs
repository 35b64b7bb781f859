//! Processes that keep their handles: dead, and alive again.
//!
//! Such a process dies like any other, but its handle table stays as it is, and so does what it has
//! of its ancestors' quota. It is dead with its handles until it is revived, or until nobody has a
//! handle to it any more: then they are closed. Its handles to itself do not count while it is dead,
//! since nobody could use them.

use core::sync::atomic::Ordering;

use skink_abi::{Error, ObjectKind, ProcessState};

use crate::endpoint;
use crate::first_process;
use crate::lock::Held;
use crate::process::{Exit, FIRST_TABLES_BYTES, INIT_NUMBER, PROCESSES, Process};
use crate::teardown;
use crate::time_page;

/// Handles looked at per slice.
const SLICE: usize = 128;

/// Does with handles that stay what the end of their process means for them. Returns whether all
/// were looked at.
pub(crate) fn look_at_handles(held: &mut Held<0>, process: &Process) -> bool {
    let (progress, own) = (&process.teardown, process.id.get());
    for _ in 0..SLICE {
        let index = progress.next_index.get();
        let Ok(entry) = process.handles.lock(held).at(index as usize) else {
            return true;
        };
        match entry.and_then(|entry| Some((entry.kind?, entry.object))) {
            // What it was told and had not dealt with is news again.
            Some((ObjectKind::Endpoint, id)) => endpoint::receiver_died(held, id),
            Some((ObjectKind::Process, id)) if id == own => {
                progress.own_handles.set(progress.own_handles.get() + 1);
                PROCESSES.release_one(own);
            }
            _ => {}
        }
        progress.next_index.set(index + 1);
    }
    false
}

/// Ends the teardown of a process that keeps its handles. Returns whether it is over; it is not
/// if the handles must be closed after all.
pub(crate) fn rest(held: &mut Held<0>, process: &Process) -> bool {
    teardown::drop_pager(held, process);
    // The tables to begin with stay paid for, so that a revival cannot fail for want of quota.
    process.charge_again(FIRST_TABLES_BYTES);
    if process.number() == INIT_NUMBER {
        first_process::begin_reload(held, process);
        return false;
    }
    // Whoever drops the last handle looks under this lock whether it is dead.
    let mut state = process.state.lock(held);
    // Only the one that it keeps to itself until it is gone.
    if PROCESSES.references(process.id.get()) == 1 {
        give_up(process);
        return false;
    }
    process.set_status(ProcessState::Dead);
    // Before the lock is let go of: then it may be revived, or end for good.
    teardown::tell(&mut state);
    true
}

/// Lets the teardown of a process go on with closing the handles that it kept. The caller holds its
/// lock, and pushes it unless it is at work on it.
pub(crate) fn give_up(process: &Process) {
    process.close_handles();
    process.set_status(ProcessState::Dying);
    process.teardown.begin(teardown::HANDLES);
    count_own_handles(process);
}

/// Lets the handles of a process to itself count again.
fn count_own_handles(process: &Process) {
    let own = &process.teardown.own_handles;
    for _ in 0..own.get() {
        PROCESSES.retain(process.id.get());
    }
    own.set(0);
}

/// Gives a process that kept its handles an empty space and a teardown still to come.
///
/// # Errors
///
/// `NoMemory`.
pub(crate) fn renew<const H: u8>(held: &mut Held<H>, process: &Process) -> Result<(), Error> {
    let tables = Process::first_tables()?;
    process.root.set(tables.root());
    *process.tables.lock(held) = tables;
    let pages = &process.counters.pages;
    pages.store(time_page::PAGES, Ordering::Relaxed);
    process.teardown.begin(0);
    count_own_handles(process);
    Ok(())
}

/// Makes a dead process that kept its handles alive again.
///
/// # Errors
///
/// `StillAlive`, `Dead` if it did not keep them, `NoMemory`.
pub(crate) fn revive(held: &mut Held<0>, process: &Process) -> Result<(), Error> {
    let mut state = process.state.lock(held);
    if !process.is_dead() {
        return Err(Error::StillAlive);
    }
    if !process.keeps_handles() {
        return Err(Error::Dead);
    }
    renew(state.held(), process)?;
    state.exit = Exit::NONE;
    process.set_status(ProcessState::Alive);
    Ok(())
}
