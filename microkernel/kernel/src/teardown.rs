//! The end of threads and processes.
//!
//! Ending a process dooms its threads; each ends when a processor would run it. Then everything
//! that the process had is taken apart in slices of bounded length, as many as the time allows at
//! the end of whatever entries into the kernel come: first the requests that it held go back to their endpoints, then its
//! handles go, unless it keeps them ([`crate::revival`]), then those who watch it are told, then its
//! mappings and page tables go, and they are told again that all of it is gone.

use core::sync::atomic::{AtomicU32, Ordering};

use skink_abi::{ExitReason, ProcessState};
use skink_kcore::endpoint::Abandon;
use skink_kcore::{Id, NONE};
use spin::Mutex;

use crate::arch::x86_64::{apic, cpu};
use crate::cell::Field;
use crate::lock::{Guard, Held, level};
use crate::object::{self, Closing};
use crate::process::{Exit, INIT_NUMBER, PROCESSES, Process, State};
use crate::sched::Urgency;
use crate::thread::{Family, THREADS, Thread};
use crate::{first_process, ipc, memory, notification, pool, revival, space};

/// Handles, mappings or page tables per slice.
const SLICE: usize = 32;
/// The stage in which handles are closed.
pub(crate) const HANDLES: u32 = 1;
/// The stage in which `init` is loaded anew.
pub(crate) const RELOAD: u32 = 6;
/// Threads looked at per slice.
const THREAD_SLICE: u32 = 256;

/// How far the teardown of a process is.
pub(crate) struct Progress {
    stage: Field,
    /// The next thread or handle of this stage.
    pub(crate) next_index: Field,
    /// Handles to itself that a process that keeps its handles has; they hold no references now.
    pub(crate) own_handles: Field,
    /// The process behind it in the queue.
    next: Field,
}

impl Progress {
    /// Nothing is done yet.
    #[expect(
        clippy::declare_interior_mutable_const,
        reason = "a value to begin with, copied"
    )]
    pub(crate) const NEW: Progress = Progress {
        stage: Field::new(0),
        next_index: Field::new(0),
        own_handles: Field::new(0),
        next: Field::new(NONE),
    };

    /// Forgets the last teardown of this place.
    pub(crate) fn restart(&self) {
        self.begin(0);
        self.own_handles.set(0);
    }

    /// Goes on with a stage.
    pub(crate) fn begin(&self, stage: u32) {
        self.stage.set(stage);
        self.next_index.set(0);
    }
}

/// Processes to take apart: a list through [`Progress`], first and last. A leaf lock.
static QUEUE: Mutex<(Id, Id)> = Mutex::new((NONE, NONE));
static PENDING: AtomicU32 = AtomicU32::new(0);

/// Returns whether a process waits to be taken apart.
#[inline]
pub(crate) fn is_pending() -> bool {
    PENDING.load(Ordering::Relaxed) != 0
}

/// Has a process that nobody works on taken apart.
pub(crate) fn push(process: &Process) {
    let id = process.id.get();
    process.teardown.next.set(NONE);
    let mut queue = QUEUE.lock();
    match queue.1 {
        NONE => queue.0 = id,
        last => PROCESSES.get(last).teardown.next.set(id),
    }
    queue.1 = id;
    PENDING.fetch_add(1, Ordering::Release);
}

fn pop() -> Option<&'static Process> {
    let mut queue = QUEUE.lock();
    let id = cpu::some_id(queue.0)?;
    let process = PROCESSES.get(id);
    queue.0 = process.teardown.next.get();
    if queue.0 == NONE {
        queue.1 = NONE;
    }
    PENDING.fetch_sub(1, Ordering::Release);
    Some(process)
}

/// Ends a process. Returns whether it was alive.
pub(crate) fn end_process(held: &mut Held<0>, process: &Process, exit: Exit) -> bool {
    let here = cpu::this().index();
    let mut state = process.state.lock(held);
    if !process.is_alive() {
        return false;
    }
    state.exit = exit;
    process.set_status(ProcessState::Dying);
    let (state, held_state) = state.parts();
    for id in state.threads.iter(&Family) {
        let thread = THREADS.get(id);
        thread.doom();
        ipc::interrupt_wait(held_state, thread, skink_abi::Error::Dead, None);
        // If it runs elsewhere, that processor must look at it.
        let runs_on = thread.cpu.get();
        if runs_on != NONE && runs_on != here {
            apic::send(
                cpu::by_index(runs_on).apic_id.load(Ordering::Relaxed),
                apic::WAKE,
            );
        }
    }
    if state.thread_count == 0 {
        push(process);
    }
    true
}

/// Ends a process to which no handle is left, if it has no thread: nobody could ever start one or
/// end it, and what it has of its ancestors' quota would be lost. The caller dropped the last
/// reference but the process's own, when the process had this number.
pub(crate) fn end_unreachable(held: &mut Held<0>, process: &Process, number: u64) {
    let is_lost = {
        let state = process.state.lock(held);
        // One that ends may be gone by now, and another be in its place. One that lives and that
        // nobody can reach stays as it is.
        let is_same = process.number() == number;
        let is_lost = is_same && process.is_alive() && state.thread_count == 0;
        if is_lost {
            process.close_handles();
        } else if is_same && process.is_dead() && process.keeps_handles() {
            revival::give_up(process);
            push(process);
        }
        is_lost
    };
    if is_lost {
        let exit = Exit {
            reason: ExitReason::Killed,
            code: 0,
            address: 0,
            fault_address: 0,
        };
        end_process(held, process, exit);
    }
}

/// Ends the process of a thread because of an exception.
pub(crate) fn end_by_fault(held: &mut Held<0>, thread: &Thread, vector: u64, fault_address: u64) {
    let process = PROCESSES.get(thread.process.get());
    let address = thread.registers.rip.get();
    log::info!(
        "{} (process {}): exception {vector} at {address:#x}, address {fault_address:#x}",
        process.name(),
        process.number()
    );
    let exit = Exit {
        reason: ExitReason::Fault,
        code: vector,
        address,
        fault_address,
    };
    end_process(held, process, exit);
}

/// Ends the current thread of this processor.
pub(crate) fn end_thread(held: &mut Held<0>, thread: &'static Thread) {
    let cpu = cpu::this();
    cpu.set_current(None);
    let process = PROCESSES.get(thread.process.get());
    let fpu = thread.fpu.get();
    if fpu != 0 {
        thread.fpu.set(0);
        // SAFETY: the area was this thread's alone.
        unsafe { pool::free(fpu) };
        process.refund(skink_abi::PAGE_SIZE as u64);
    }
    memory::release(thread.control_memory.get());
    let is_last = {
        let mut state = process.state.lock(held);
        let counters = &process.counters;
        counters
            .calls
            .fetch_add(thread.calls.get(), Ordering::Relaxed);
        counters
            .faults
            .fetch_add(thread.faults.get(), Ordering::Relaxed);
        state.threads.remove(&Family, thread.id.get());
        state.thread_count -= 1;
        if state.thread_count == 0 && process.is_alive() {
            state.exit = Exit {
                reason: ExitReason::Exited,
                code: 0,
                address: 0,
                fault_address: 0,
            };
            process.set_status(ProcessState::Dying);
        }
        state.thread_count == 0
    };
    object::release_thread(thread.id.get());
    if is_last {
        push(process);
    }
}

/// Gives the place of a thread back to which nothing refers any more.
pub(crate) fn free_thread(id: Id) {
    THREADS.free(id);
}

/// Does a slice of the work.
pub(crate) fn run_slice(held: &mut Held<0>) {
    let Some(process) = pop() else { return };
    let progress = &process.teardown;
    let is_done = match progress.stage.get() {
        0 => give_back_requests(held, process),
        HANDLES if process.keeps_handles() => revival::look_at_handles(held, process),
        HANDLES => close_handles(held, process),
        2 => {
            tell_watchers(held, process);
            space::unload(held, process.id.get());
            true
        }
        3 => memory::drop_mappings(held, process, SLICE),
        4 => {
            let mut tables = process.tables.lock(held);
            // SAFETY: unloaded in stage 2, and no thread is left that could load them again.
            let freed = unsafe { tables.free_some(SLICE) };
            process.refund((freed * skink_abi::PAGE_SIZE) as u64);
            freed < SLICE
        }
        RELOAD => match first_process::reload_slice(held, process) {
            true => return,
            false => false,
        },
        _ if process.keeps_handles() => match revival::rest(held, process) {
            true => return,
            false => false,
        },
        _ => return finish(held, process),
    };
    if is_done {
        progress.begin(progress.stage.get() + 1);
    }
    push(process);
}

/// Puts the requests that the process had the duty to answer back to their endpoints. No list of
/// them is kept, since every call would have to change it; a death looks at all threads instead.
fn give_back_requests(held: &mut Held<0>, process: &Process) -> bool {
    let exit = process.state.lock(held).exit;
    let first = process.teardown.next_index.get();
    if process.number() == INIT_NUMBER && first == 0 {
        first_process::note_end(&exit);
    }
    let how = match exit.reason {
        ExitReason::Killed => Abandon::Killed,
        // An orderly end: a panic ends with another code.
        ExitReason::Exited if exit.code == 0 => Abandon::Killed,
        _ => Abandon::Crashed,
    };
    let end = (first + THREAD_SLICE).min(THREADS.made());
    for id in first..end {
        ipc::abandon(held, THREADS.get(id), process.id.get(), how);
    }
    process.teardown.next_index.set(end);
    end == THREADS.made()
}

fn close_handles(held: &mut Held<0>, process: &Process) -> bool {
    for _ in 0..SLICE {
        let index = process.teardown.next_index.get();
        let removed = process.handles.lock(held).remove_at(index as usize);
        match removed {
            Ok(Some(entry)) => object::release_from(held, entry, Closing::Process),
            Ok(None) => {}
            Err(_) => return true,
        }
        process.teardown.next_index.set(index + 1);
    }
    false
}

fn tell_watchers(held: &mut Held<0>, process: &Process) {
    tell(&mut process.state.lock(held));
}

/// Tells those who watch a process.
pub(crate) fn tell(state: &mut Guard<'_, '_, State, { level::PROCESS }>) {
    let (state, held) = state.parts();
    for (id, bits) in state.watchers {
        if id != NONE {
            notification::notify(held, id, bits, Urgency::Normal);
        }
    }
}

/// Drops the reference to the pager of a process without threads.
pub(crate) fn drop_pager(held: &mut Held<0>, process: &Process) {
    let pager = process.pager.swap(NONE, Ordering::Relaxed);
    if pager != NONE {
        object::release_sender(held, pager);
    }
}

fn finish(held: &mut Held<0>, process: &Process) {
    {
        let mut handles = process.handles.lock(held);
        handles.entries_mut().free();
        *handles = skink_kcore::handles::HandleTable::new(crate::process::HandlePages::NEW);
    }
    drop_pager(held, process);
    process.return_quota();
    process.set_status(ProcessState::Dead);
    tell_watchers(held, process);
    let watchers = core::mem::replace(&mut process.state.lock(held).watchers, [(NONE, 0); 2]);
    for (id, _) in watchers {
        if id != NONE {
            object::release_notification(id);
        }
    }
    object::release_process(held, process.id.get());
}
