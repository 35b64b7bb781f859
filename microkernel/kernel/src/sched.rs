//! The scheduler: a round-robin queue and a deadline queue per CPU.
//!
//! `finish` is where every entry into the kernel ends: it picks the thread that runs next, or
//! waits for one. A thread that calls a waiting server does not come here: `ipc` switches to the
//! server directly, which then runs on the caller's CPU and in the caller's slice.
//!
//! A thread of an urgent process goes to the head of the queue when it wakes or begins, and takes
//! the CPU from a program. If it uses up its slice it goes to the tail like all others: a server
//! that never waits is no more urgent than a program, and starves nobody. It has a whole slice for
//! itself, however often others take the CPU from it or the timer fires for somebody's deadline.
//! The turn of a program ends whenever the timer fires.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use skink_abi::Error;
use skink_kcore::deadlines::Deadlines;
use skink_kcore::list::List;
use skink_kcore::placement::choose_cpu;
use skink_kcore::{Id, NONE};

use crate::arch::x86_64::cpu::{self, CpuLocal};
use crate::arch::x86_64::{apic, entry, fpu, paging, time};
use crate::lock::{Held, Lock, level};
use crate::process::PROCESSES;
use crate::thread::{HAS_TIMER, THREADS, Thread, ThreadNodes, Wait};
use crate::{ipc, teardown};

/// How long a thread runs before others get their turn, ns.
const SLICE_NS: u64 = 10_000_000;

/// The scheduler's part of a CPU.
pub(crate) struct CpuSched {
    queue: Lock<Queue, { level::SCHED }>,
    /// Switches between threads.
    pub(crate) switches: AtomicU64,
    /// System calls.
    pub(crate) syscalls: AtomicU64,
    /// Interrupts.
    pub(crate) interrupts: AtomicU64,
    /// Ticks without a thread.
    pub(crate) idle_ticks: AtomicU64,
    /// Longest stretch with interrupts off, ticks.
    pub(crate) longest_entry: AtomicU64,
    /// Whether the running thread should let the first in the queue run: a [`Turn`].
    turn: AtomicU8,
}

struct Queue {
    ready: List,
    deadlines: Deadlines,
    /// When the timer fires next, ns since boot, or `u64::MAX`.
    timer_at: u64,
    /// Whether the timer fires within a slice: the running thread will not run for longer.
    is_slice_timed: bool,
}

/// CPUs that run no thread, a bit each.
static IDLE: AtomicU64 = AtomicU64::new(0);

/// Idle CPUs that look for threads themselves and need not be interrupted.
static POLLING: AtomicU64 = AtomicU64::new(0);

/// How long an idle CPU looks for threads before it sleeps, µs. About as long as it takes to wake a
/// sleeping one: who is answered within that time waits at most twice as long as is necessary.
const POLL_US: u64 = 30;

impl CpuSched {
    /// Offset of the count of switches, for code in assembly.
    pub(crate) const SWITCHES: usize = core::mem::offset_of!(CpuSched, switches);

    pub(crate) const fn new() -> CpuSched {
        let queue = Queue {
            ready: List::EMPTY,
            deadlines: Deadlines::EMPTY,
            timer_at: u64::MAX,
            is_slice_timed: false,
        };
        CpuSched {
            queue: Lock::new(queue),
            switches: AtomicU64::new(0),
            syscalls: AtomicU64::new(0),
            interrupts: AtomicU64::new(0),
            idle_ticks: AtomicU64::new(0),
            longest_entry: AtomicU64::new(0),
            turn: AtomicU8::new(Turn::GoesOn as u8),
        }
    }

    /// Lets the first in the queue run before the running thread at the end of the entry.
    fn preempt(&self) {
        // The end of a slice stays one.
        if self.turn.load(Ordering::Relaxed) == Turn::GoesOn as u8 {
            self.turn.store(Turn::Preempted as u8, Ordering::Relaxed);
        }
    }

    fn take_turn(&self) -> Turn {
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(Turn::GoesOn as u8, Ordering::Relaxed);
        match turn {
            1 => Turn::Preempted,
            2 => Turn::Over,
            _ => Turn::GoesOn,
        }
    }
}

/// What becomes of the running thread at the end of the entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It goes on.
    GoesOn = 0,
    /// The first in the queue runs, then this one.
    Preempted = 1,
    /// It goes behind all others.
    Over = 2,
}

impl CpuSched {
    /// Counts a system call. Only the CPU itself counts, so no atomic addition is needed.
    #[inline]
    pub(crate) fn count_syscall(&self) {
        let calls = self.syscalls.load(Ordering::Relaxed);
        self.syscalls.store(calls + 1, Ordering::Relaxed);
    }
}

/// Whether a thread that becomes ready may take the CPU from the one that runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// It takes its turn.
    Normal,
    /// It serves others: it runs before all that take their turn.
    Server,
    /// It answers a device: it runs as soon as the current entry ends.
    Device,
}

/// Makes a thread that the caller owns ready to run.
#[inline]
pub(crate) fn make_ready<const H: u8>(
    held: &mut Held<H>,
    thread: &'static Thread,
    urgency: Urgency,
) {
    let idle = IDLE.load(Ordering::SeqCst);
    let urgency = if urgency == Urgency::Normal && thread.is_urgent() {
        Urgency::Server
    } else {
        urgency
    };
    if idle != 0 || urgency != Urgency::Normal {
        return place(held, thread, urgency, idle);
    }
    let mut queue = cpu::this().sched.queue.lock(held);
    queue.ready.push_back(&ThreadNodes, thread.id.get());
}

/// Makes a thread ready that may run on another CPU, or before others.
#[inline(never)]
fn place<const H: u8>(held: &mut Held<H>, thread: &'static Thread, urgency: Urgency, idle: u64) {
    let here = cpu::this();
    let mut target = choose_cpu(thread.cpu.get(), here.index(), idle);
    // Claimed, so that the next thread goes to another one, and that one that polls stops. If it
    // has found work itself meanwhile, the thread stays here.
    let bit = 1 << target;
    if IDLE.fetch_and(!bit, Ordering::SeqCst) & bit == 0 {
        target = here.index();
    }
    let cpu = cpu::by_index(target);
    thread.turn_ticks.set(0);
    {
        let mut queue = cpu.sched.queue.lock(held);
        if urgency != Urgency::Normal {
            queue.ready.push_front(&ThreadNodes, thread.id.get());
        } else {
            queue.ready.push_back(&ThreadNodes, thread.id.get());
        }
    }
    if target != here.index() {
        // It looks into its queue once more after it has stopped polling.
        if POLLING.load(Ordering::SeqCst) & 1 << target == 0 {
            apic::send(cpu.apic_id.load(Ordering::Relaxed), apic::WAKE);
        }
    } else if urgency == Urgency::Device
        || urgency == Urgency::Server && here.current().is_some_and(|current| !current.is_urgent())
    {
        here.sched.preempt();
    }
}

/// Takes the running thread off the CPU: its registers are complete in its struct and another
/// CPU may run it as soon as it is put into a queue.
#[inline]
pub(crate) fn stop(thread: &'static Thread) {
    let cpu = cpu::this();
    fpu::save(thread);
    bill(cpu, thread);
    cpu.set_current(None);
}

/// Runs a thread that the caller owns on this CPU as soon as the entry ends.
#[inline]
pub(crate) fn run(thread: &'static Thread) {
    let cpu = cpu::this();
    fpu::load(cpu, thread);
    let client = thread.client.get();
    let own = thread.process.get();
    cpu.payer.set(if client == NONE { own } else { client });
    thread.cpu.set(cpu.index());
    switch_to(cpu, thread);
}

/// Returns whether the one who pays for the time of the running thread also pays for another's.
#[inline]
pub(crate) fn is_same_payer(thread: &Thread) -> bool {
    cpu::this().payer.get() == thread.client.get()
}

/// Runs a thread that the caller owns, and for which the same one pays, in place of the current
/// one, which may be anybody's by now.
#[inline]
pub(crate) fn run_instead(thread: &'static Thread) {
    let cpu = cpu::this();
    thread.cpu.set(cpu.index());
    switch_to(cpu, thread);
}

/// Bills the time since the last bill: since the end of the last thread's time, or of idleness. Who
/// pays is the CPU's affair, not the thread's: along a chain of calls every server works on the
/// account of the first caller, and the fast path need not note it anywhere.
fn bill(cpu: &CpuLocal, thread: &Thread) {
    let now = time::ticks();
    let ticks = now.wrapping_sub(cpu.billed_until.load(Ordering::Relaxed));
    cpu.billed_until.store(now, Ordering::Relaxed);
    thread.turn_ticks.set(thread.turn_ticks.get() + ticks);
    let (own, payer) = (thread.process.get(), cpu.payer.get());
    let account = &PROCESSES.get(payer).counters;
    account.cpu_ticks.fetch_add(ticks, Ordering::Relaxed);
    if payer == own {
        thread.client.set(NONE);
    } else {
        // It goes on for the same client when it is run again.
        thread.client.set(payer);
        let served = &PROCESSES.get(own).counters.served_ticks;
        served.fetch_add(ticks, Ordering::Relaxed);
    }
}

/// The part of `run` that every switch needs: address space, thread pointer, current thread. The
/// fast path does the same (fastpath.s).
#[inline(always)]
pub(crate) fn switch_to(cpu: &CpuLocal, thread: &'static Thread) {
    let process = thread.process.get();
    if cpu.space.load(Ordering::Relaxed) != process {
        // First the wish, then the deed, then the record of it: `space::flush` asks a processor
        // that is anywhere between. Loading the tables orders memory as a fence does.
        cpu.space.store(process, Ordering::Release);
        // SAFETY: the process has a thread, so its page tables live, and teardown makes sure that
        // no CPU has them loaded before it frees them.
        unsafe { paging::load(PROCESSES.get(process).root.get()) };
        cpu.loaded.store(process, Ordering::Release);
    }
    // Always: a program can change its fs base by loading a selector.
    cpu::set_fs_base(thread.fs_base.get());
    // Only this CPU counts here, so no atomic addition is needed.
    let switches = cpu.sched.switches.load(Ordering::Relaxed);
    cpu.sched.switches.store(switches + 1, Ordering::Relaxed);
    cpu.set_current(Some(thread));
}

/// Puts the running thread behind all others that are ready on this CPU.
pub(crate) fn yield_current(held: &mut Held<0>, thread: &'static Thread) {
    let cpu = cpu::this();
    stop(thread);
    cpu.sched
        .queue
        .lock(held)
        .ready
        .push_back(&ThreadNodes, thread.id.get());
}

/// Has a thread that is about to wait woken at a deadline. The caller owns it.
pub(crate) fn set_deadline<const H: u8>(
    held: &mut Held<H>,
    thread: &'static Thread,
    deadline: u64,
) {
    if deadline == skink_abi::FOREVER {
        return;
    }
    let cpu = cpu::this();
    let mut queue = cpu.sched.queue.lock(held);
    thread.deadline.set(deadline);
    thread.timer_cpu.store(cpu.index(), Ordering::Relaxed);
    thread.set_special(HAS_TIMER);
    queue.deadlines.insert(&ThreadNodes, thread.id.get());
    if deadline < queue.timer_at {
        queue.set_timer(deadline);
    }
}

/// Takes back the deadline of a thread that the caller owns or is about to own. Returns whether
/// it still had one.
pub(crate) fn clear_deadline<const H: u8>(held: &mut Held<H>, thread: &'static Thread) -> bool {
    let armed_on = thread.timer_cpu.load(Ordering::Acquire);
    if armed_on == NONE {
        return false;
    }
    let mut queue = cpu::by_index(armed_on).sched.queue.lock(held);
    // The timer may have been quicker.
    if thread.timer_cpu.load(Ordering::Relaxed) != armed_on {
        return false;
    }
    queue.deadlines.remove(&ThreadNodes, thread.id.get());
    thread.clear_special(HAS_TIMER);
    thread.timer_cpu.store(NONE, Ordering::Release);
    true
}

impl Queue {
    fn set_timer(&mut self, at: u64) {
        self.timer_at = at;
        apic::set_timer(at.saturating_sub(time::now()));
    }
}

/// Deals with the timer interrupt: deadlines that have passed, and the end of a slice.
pub(crate) fn on_timer(held: &mut Held<0>) {
    let cpu = cpu::this();
    let now = time::now();
    cpu.sched.queue.lock(held).forget_timer();
    loop {
        let due = {
            let mut queue = cpu.sched.queue.lock(held);
            let due = queue.deadlines.pop_due(&ThreadNodes, now);
            if let Some(id) = due {
                let thread = THREADS.get(id);
                // In this order: once it has no timer, it may go on to its next wait.
                let number = thread.wait_number.get();
                thread.clear_special(HAS_TIMER);
                thread.timer_cpu.store(NONE, Ordering::Release);
                Some((thread, number))
            } else {
                None
            }
        };
        let Some((thread, number)) = due else { break };
        ipc::interrupt_wait(held, thread, Error::Timeout, Some(number));
    }
    let Some(current) = cpu.current() else { return };
    match rest_of_turn(cpu, current) {
        0 => cpu.sched.turn.store(Turn::Over as u8, Ordering::Relaxed),
        rest_ns => cpu.sched.queue.lock(held).time_slice(rest_ns),
    }
}

/// Returns how much longer the running thread may run when the timer has fired, ns.
fn rest_of_turn(cpu: &CpuLocal, thread: &Thread) -> u64 {
    if !thread.is_urgent() {
        return 0;
    }
    let open = time::ticks().wrapping_sub(cpu.billed_until.load(Ordering::Relaxed));
    let used = thread.turn_ticks.get().saturating_add(open);
    SLICE_NS.saturating_sub(time::to_ns(used))
}

/// Ends an entry into the kernel: afterwards this CPU has a thread to run.
#[inline]
pub(crate) fn finish(held: &mut Held<0>) {
    let cpu = cpu::this();
    let has_nothing_to_do = cpu.current().is_some_and(|thread| !thread.is_doomed())
        && !teardown::is_pending()
        && cpu.sched.turn.load(Ordering::Relaxed) == Turn::GoesOn as u8;
    if !has_nothing_to_do {
        find_work(held, cpu);
    }
    note_entry(cpu);
}

/// Does what must be done before Ring 3 goes on, and finds a thread to run.
#[inline(never)]
fn find_work(held: &mut Held<0>, cpu: &'static CpuLocal) {
    loop {
        while teardown::is_pending() {
            teardown::run_slice(held);
            if is_long(cpu) {
                break;
            }
        }
        let Some(thread) = cpu.current() else {
            next(held, cpu);
            continue;
        };
        if thread.is_doomed() {
            teardown::end_thread(held, thread);
            continue;
        }
        match cpu.sched.take_turn() {
            Turn::GoesOn => break,
            turn => rotate(held, cpu, thread, turn),
        }
    }
}

/// Lets the first in the queue run instead of the current thread, if there is one, which is the
/// next one if its turn is not over; keeps the timer going.
fn rotate(held: &mut Held<0>, cpu: &'static CpuLocal, old: &'static Thread, turn: Turn) {
    let mut queue = cpu.sched.queue.lock(held);
    queue.begin_slice();
    if let Some(next) = queue.ready.pop_front(&ThreadNodes) {
        drop(queue);
        stop(old);
        let ready = &mut cpu.sched.queue.lock(held).ready;
        if turn == Turn::Preempted {
            ready.push_front(&ThreadNodes, old.id.get());
        } else {
            old.turn_ticks.set(0);
            ready.push_back(&ThreadNodes, old.id.get());
        }
        run(THREADS.get(next));
    } else {
        // It goes on; what it used so far is seen all the same.
        bill(cpu, old);
        old.turn_ticks.set(0);
    }
}

impl Queue {
    /// Makes sure that the timer fires at the end of a slice at the latest. If it is set already,
    /// for a thread that stopped before the end of its slice, the next one runs in the rest of it:
    /// reading the clock and setting the timer at each switch would cost more than that is worth.
    #[inline]
    fn begin_slice(&mut self) {
        if !self.is_slice_timed {
            self.time_slice(SLICE_NS);
        }
    }

    fn time_slice(&mut self, ns: u64) {
        let slice_end = time::now() + ns;
        if self.timer_at > slice_end {
            let deadline = self.next_deadline();
            self.set_timer(deadline.min(slice_end));
        }
        self.is_slice_timed = true;
    }

    fn forget_timer(&mut self) {
        self.timer_at = u64::MAX;
        self.is_slice_timed = false;
    }

    fn next_deadline(&self) -> u64 {
        self.deadlines
            .earliest()
            .map_or(u64::MAX, |id| THREADS.get(id).deadline.get())
    }
}

/// Runs the next ready thread on a CPU that has none to run, if there is one. Otherwise the end of
/// the entry finds one or waits.
#[inline]
pub(crate) fn run_next(held: &mut Held<0>) {
    if let Some(id) = take_ready(held, cpu::this()) {
        run(THREADS.get(id));
    }
}

/// Runs the next ready thread, or waits for an interrupt.
fn next(held: &mut Held<0>, cpu: &'static CpuLocal) {
    if let Some(id) = take_ready(held, cpu) {
        run(THREADS.get(id));
        return;
    }
    let bit = 1 << cpu.index();
    IDLE.fetch_or(bit, Ordering::SeqCst);
    poll(cpu, bit);
    {
        // Only deadlines matter while nothing runs. Look again at the queue: who put a thread
        // there before the bit was set sent no interrupt.
        let mut queue = cpu.sched.queue.lock(held);
        if queue.ready.is_empty() {
            let deadline = queue.next_deadline();
            if deadline == u64::MAX {
                queue.forget_timer();
                apic::stop_timer();
            } else if deadline != queue.timer_at {
                queue.is_slice_timed = false;
                queue.set_timer(deadline);
            }
        } else {
            drop(queue);
            IDLE.fetch_and(!bit, Ordering::SeqCst);
            return;
        }
    }
    note_entry(cpu);
    if teardown::is_pending() || cpu.must_flush() {
        // There is work, but interrupts get their turn between its slices.
        x86_64::instructions::interrupts::enable();
        x86_64::instructions::nop();
        x86_64::instructions::interrupts::disable();
    } else {
        let start = time::ticks();
        x86_64::instructions::interrupts::enable_and_hlt();
        x86_64::instructions::interrupts::disable();
        cpu.sched
            .idle_ticks
            .fetch_add(time::ticks() - start, Ordering::Relaxed);
    }
    IDLE.fetch_and(!bit, Ordering::SeqCst);
    let now = time::ticks();
    cpu.entered_at.store(now, Ordering::Relaxed);
    cpu.billed_until.store(now, Ordering::Relaxed);
    crate::space::answer_flush(cpu);
}

/// Looks for a thread that another CPU makes ready here, for a while: that CPU then need not send
/// an interrupt, nor this one sleep and wake.
fn poll(cpu: &'static CpuLocal, bit: u64) {
    if cpu::count() == 1 {
        return;
    }
    note_entry(cpu);
    POLLING.fetch_or(bit, Ordering::SeqCst);
    let start = time::ticks();
    let most = POLL_US * time::ticks_per_ms() / 1000;
    // Who has put a thread here has claimed this CPU.
    while IDLE.load(Ordering::Relaxed) & bit != 0
        && !teardown::is_pending()
        && !cpu.must_flush()
        && time::ticks().wrapping_sub(start) < most
    {
        x86_64::instructions::interrupts::enable();
        core::hint::spin_loop();
        x86_64::instructions::interrupts::disable();
    }
    POLLING.fetch_and(!bit, Ordering::SeqCst);
    let now = time::ticks();
    // Interrupts were on: what follows counts anew.
    cpu.entered_at.store(now, Ordering::Relaxed);
    let idle = now.wrapping_sub(start);
    cpu.sched.idle_ticks.fetch_add(idle, Ordering::Relaxed);
}

#[inline]
fn take_ready(held: &mut Held<0>, cpu: &'static CpuLocal) -> Option<Id> {
    let mut queue = cpu.sched.queue.lock(held);
    let id = queue.ready.pop_front(&ThreadNodes)?;
    queue.begin_slice();
    Some(id)
}

/// Returns whether interrupts have been off for as long as work that can be cut may take.
pub(crate) fn is_long(cpu: &CpuLocal) -> bool {
    let entered_at = cpu.entered_at.load(Ordering::Relaxed);
    let ticks = time::ticks().wrapping_sub(entered_at);
    ticks > time::ticks_per_ms() * skink_abi::MAX_BATCH_NS / 1_000_000
}

/// Notes how long interrupts were off.
#[inline]
pub(crate) fn note_entry(cpu: &CpuLocal) {
    let ticks = time::ticks().wrapping_sub(cpu.entered_at.load(Ordering::Relaxed));
    if ticks > cpu.sched.longest_entry.load(Ordering::Relaxed) {
        cpu.sched.longest_entry.store(ticks, Ordering::Relaxed);
    }
}

/// Begins scheduling on the calling CPU; its boot stack is not used again.
pub(crate) fn run_processor() -> ! {
    let cpu = cpu::this();
    cpu.entered_at.store(time::ticks(), Ordering::Relaxed);
    cpu.billed_until.store(time::ticks(), Ordering::Relaxed);
    finish(&mut Held::enter());
    entry::enter_user()
}

/// Returns whether a thread waits for nothing but its deadline, and if so makes the caller its
/// owner.
pub(crate) fn take_sleeper<const H: u8>(held: &mut Held<H>, thread: &'static Thread) -> bool {
    if thread.wait().kind() == Wait::Time && clear_deadline(held, thread) {
        thread.set_wait(Wait::Nothing, NONE);
        return true;
    }
    false
}
