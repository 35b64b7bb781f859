//! Threads: saved registers, what they wait for, their part in a call.
//!
//! **Ownership.** A thread is always owned by exactly one: the CPU that runs it, the run queue it
//! is in, the endpoint, notification or deadline queue it waits in, or the CPU that has just taken
//! it out of one. Only the owner touches its registers and the fields below marked *owner*. Who
//! takes a thread out of a queue, under the queue's lock, owns it. There is no kernel stack to
//! keep: a waiting thread is nothing but this struct.

use core::sync::atomic::{AtomicU32, Ordering};

use skink_abi::{FaultMessage, RawHandle, ThreadControl};
use skink_kcore::deadlines::{HeapNode, HeapNodes};
use skink_kcore::endpoint::Callers;
use skink_kcore::list::{Links, Nodes};
use skink_kcore::{Id, NONE};

use crate::arch::x86_64::entry::{Registers, Word};
use crate::arch::x86_64::physical;
use crate::arena::{Arena, Object};
use crate::cell::{Field, LinkFields};
use crate::process::PROCESSES;

/// What a thread waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Wait {
    /// Nothing: it runs or is ready.
    Nothing = 0,
    /// The answer to a call (or to a page fault).
    Reply = 1,
    /// A message.
    Message = 2,
    /// Bits of a notification.
    Bits = 3,
    /// Only its deadline.
    Time = 4,
}

/// In `special`: the thread must end.
pub(crate) const DOOMED: u32 = 1;
/// In `special`: the thread has FPU registers to be saved and loaded.
pub(crate) const HAS_FPU: u32 = 2;
/// In `special`: the thread is in a deadline queue.
pub(crate) const HAS_TIMER: u32 = 4;
/// In `special`: the thread's process ends when it answers ([`crate::answers`]).
pub(crate) const ENDS_AT_ANSWER: u32 = 8;
/// In `special`: the thread's next answer is lost.
pub(crate) const LOSES_ANSWER: u32 = 16;

/// What a thread waits for, and on which endpoint or notification: one word, so that nobody sees
/// half of a change. Ids have 24 bits, which leaves room for the kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WaitState(u32);

impl WaitState {
    /// Makes the state of a thread that waits for something on an object.
    #[inline(always)]
    pub(crate) const fn new(kind: Wait, object: Id) -> WaitState {
        WaitState(object << 3 | kind as u32)
    }

    /// Returns it as a word.
    pub(crate) const fn word(self) -> u32 {
        self.0
    }

    /// Returns what kind of wait it is.
    pub(crate) const fn kind(self) -> Wait {
        match self.0 & 7 {
            1 => Wait::Reply,
            2 => Wait::Message,
            3 => Wait::Bits,
            4 => Wait::Time,
            _ => Wait::Nothing,
        }
    }

    /// Returns the endpoint or notification.
    pub(crate) const fn object(self) -> Id {
        self.0 >> 3
    }
}

/// A thread. Its registers come first: code in assembly relies on it, and finds the rest by
/// [`offsets`].
#[repr(C)]
pub(crate) struct Thread {
    /// Saved registers. *Owner.*
    pub(crate) registers: Registers,
    /// Its own id. Set once.
    pub(crate) id: Field,
    /// Its process. Set once.
    pub(crate) process: Field,
    /// What [`CallState::duty`] is for calls that it serves and that have no other mark. Set once.
    duty: Word,
    /// Address of its process's table of handle pages. Set once.
    handles: Word,
    /// Its process's page tables. Set once.
    root: Word,
    /// Whether its process is urgent, 0 or 1. Set once.
    urgent: Field,
    /// How many calls it made. *Owner.*
    pub(crate) calls: Word,
    /// How many of its page faults a pager resolved. *Owner.*
    pub(crate) faults: Word,
    /// What the fast path must not pass by: [`DOOMED`], [`HAS_FPU`], [`HAS_TIMER`],
    /// [`ENDS_AT_ANSWER`], [`LOSES_ANSWER`].
    special: AtomicU32,
    /// What it waits for ([`WaitState`]): written by the owner, read by all.
    wait: AtomicU32,
    /// Counts its waits, so that a deadline that comes late is recognised.
    pub(crate) wait_number: Field,
    /// The CPU it ran on last. *Owner.*
    pub(crate) cpu: Field,
    /// The CPU in whose deadline queue it is, or [`NONE`]. Under that CPU's lock.
    pub(crate) timer_cpu: AtomicU32,
    /// Its deadline, ns since boot. Under that CPU's lock.
    pub(crate) deadline: Word,
    heap: [Field; 3],
    links: LinkFields,
    /// Links in its process's list of threads. Under the process's lock.
    pub(crate) family: LinkFields,
    /// Its part in a call. Under the endpoint's lock.
    pub(crate) call: CallState,
    /// The process for whose call it works, or [`NONE`]. *Owner.*
    pub(crate) client: Field,
    /// Physical address of its control page; the IPC page follows. Set once, as the next.
    control: Word,
    /// Where the kernel has that page mapped.
    control_address: Word,
    /// Memory object of the two pages. Set once.
    pub(crate) control_memory: Field,
    /// Address of the control page in its space. Set once.
    pub(crate) fs_base: Word,
    /// Physical address of its FPU registers, or 0 if it does not use the FPU. *Owner.*
    pub(crate) fpu: Word,
    /// What it was billed since its turn began, ticks. *Owner.*
    pub(crate) turn_ticks: Word,
}

/// What a thread that calls has to do with the endpoint that it waits on.
pub(crate) struct CallState {
    /// The handle by which its call is answered: the index names the thread, the generation counts
    /// the beginnings and ends of its calls. A reply handle with another number is for a call that
    /// has ended.
    reply: Field,
    /// Who has the duty to answer, and marks: [`IN_SERVICE`], [`IS_FAULT`], [`REDELIVERED`],
    /// [`MOVES_HANDLES`]. One word, so that the fast path sets and compares all of it at once.
    duty: Word,
    crashes: Field,
    /// Badge of the sender that it called through.
    pub(crate) badge: Word,
    /// When it came, by the endpoint's count: its place in the order, and the request's sequence
    /// number.
    pub(crate) ticket: Word,
    /// The page fault.
    pub(crate) fault: [Word; 3],
}

/// A receiver has the duty to answer; else the request waits.
pub(crate) const IN_SERVICE: u32 = 1;
/// It is a page fault, not a call.
pub(crate) const IS_FAULT: u32 = 2;
/// The request was delivered before.
pub(crate) const REDELIVERED: u32 = 4;
/// Handles leave the caller's table when the reply arrives.
pub(crate) const MOVES_HANDLES: u32 = 8;

/// In the index of a handle: it stands for the duty to answer a call. The rest of the index is the
/// id of the caller.
const REPLY_INDEX: u16 = 0x8000;
/// Threads have ids below this, so that a reply handle can name them.
pub(crate) const MAX_THREAD_IDS: Id = REPLY_INDEX as Id;

/// Returns the id of the thread whose call a reply handle stands for, or `None` if it is no reply
/// handle. It proves nothing: whether its holder has the duty is seen by the state of the call.
#[inline(always)]
pub(crate) const fn caller_of(reply: RawHandle) -> Option<Id> {
    let index = reply.index();
    if index & REPLY_INDEX == 0 {
        return None;
    }
    Some((index & !REPLY_INDEX) as Id)
}

impl CallState {
    /// Returns the handle by which the present call is answered.
    #[inline(always)]
    pub(crate) fn reply(&self) -> RawHandle {
        RawHandle(self.reply.get())
    }

    /// Counts that a call begins or ends: reply handles from before are stale.
    #[inline(always)]
    pub(crate) fn count(&self) {
        self.reply.set(self.reply.get().wrapping_add(1 << 16));
    }

    /// Returns whether a mark is set.
    pub(crate) fn is(&self, mark: u32) -> bool {
        self.marks() & mark != 0
    }

    /// Returns all marks.
    pub(crate) fn marks(&self) -> u32 {
        self.duty.get() as u32
    }

    /// Sets all marks; nobody has the duty to answer.
    pub(crate) fn set_marks(&self, marks: u32) {
        self.duty.set(marks.into());
    }

    /// Gives a process the duty to answer.
    pub(crate) fn serve(&self, server: Id) {
        let marks = self.marks() | IN_SERVICE;
        self.duty.set(u64::from(server) << 32 | u64::from(marks));
    }

    /// Takes the duty back.
    pub(crate) fn unserve(&self) {
        self.set_marks(self.marks() & !IN_SERVICE);
    }

    /// Returns whether a process has the duty to answer.
    pub(crate) fn is_served_by(&self, server: Id) -> bool {
        self.is(IN_SERVICE) && (self.duty.get() >> 32) as Id == server
    }
}

/// Where code in assembly finds the fields of a thread: offsets from the end of its registers, to
/// which the stack pointer of entries from Ring 3 points while it runs.
pub(crate) mod offsets {
    use core::mem::offset_of;

    use super::{CallState, LinkFields, Registers, Thread, Word};

    /// The end of the registers, from the beginning of the thread.
    pub(crate) const END: isize = size_of::<Registers>() as isize;

    const fn at(offset: usize) -> isize {
        offset as isize - END
    }

    const fn in_call(offset: usize) -> isize {
        at(offset_of!(Thread, call) + offset)
    }

    pub(crate) const SPECIAL: isize = at(offset_of!(Thread, special));
    pub(crate) const ID: isize = at(offset_of!(Thread, id));
    pub(crate) const PROCESS: isize = at(offset_of!(Thread, process));
    pub(crate) const DUTY: isize = at(offset_of!(Thread, duty));
    pub(crate) const HANDLES: isize = at(offset_of!(Thread, handles));
    pub(crate) const ROOT: isize = at(offset_of!(Thread, root));
    pub(crate) const CALLS: isize = at(offset_of!(Thread, calls));
    pub(crate) const FAULTS: isize = at(offset_of!(Thread, faults));
    pub(crate) const WAIT: isize = at(offset_of!(Thread, wait));
    pub(crate) const WAIT_NUMBER: isize = at(offset_of!(Thread, wait_number));
    pub(crate) const CPU: isize = at(offset_of!(Thread, cpu));
    pub(crate) const NEXT: isize = at(offset_of!(Thread, links) + LinkFields::NEXT);
    pub(crate) const CLIENT: isize = at(offset_of!(Thread, client));
    pub(crate) const CONTROL: isize = at(offset_of!(Thread, control_address));
    pub(crate) const FS_LOW: isize = at(offset_of!(Thread, fs_base));
    pub(crate) const FS_HIGH: isize = FS_LOW + size_of::<Word>() as isize / 2;
    pub(crate) const CALL_REPLY: isize = in_call(offset_of!(CallState, reply));
    pub(crate) const CALL_DUTY: isize = in_call(offset_of!(CallState, duty));
    pub(crate) const CALL_CRASHES: isize = in_call(offset_of!(CallState, crashes));
    pub(crate) const CALL_BADGE: isize = in_call(offset_of!(CallState, badge));
    pub(crate) const CALL_TICKET: isize = in_call(offset_of!(CallState, ticket));
}

impl Object for Thread {
    const ARENA: u64 = 1;
    const NEW: Thread = Thread {
        registers: Registers::new(),
        id: Field::new(NONE),
        process: Field::new(NONE),
        duty: Word::ZERO,
        handles: Word::ZERO,
        root: Word::ZERO,
        urgent: Field::new(0),
        calls: Word::ZERO,
        faults: Word::ZERO,
        special: AtomicU32::new(0),
        wait: AtomicU32::new(0),
        wait_number: Field::new(0),
        cpu: Field::new(NONE),
        timer_cpu: AtomicU32::new(NONE),
        deadline: Word::ZERO,
        heap: [Field::new(NONE), Field::new(NONE), Field::new(NONE)],
        links: LinkFields::new(),
        family: LinkFields::new(),
        call: CallState {
            reply: Field::new(0),
            duty: Word::ZERO,
            crashes: Field::new(0),
            badge: Word::ZERO,
            ticket: Word::ZERO,
            fault: [Word::ZERO, Word::ZERO, Word::ZERO],
        },
        client: Field::new(NONE),
        control: Word::ZERO,
        control_address: Word::ZERO,
        control_memory: Field::new(NONE),
        fs_base: Word::ZERO,
        fpu: Word::ZERO,
        turn_ticks: Word::ZERO,
    };
}

/// All threads.
pub(crate) static THREADS: Arena<Thread> = Arena::new();

impl Thread {
    /// Makes a place ready for a new thread of a process.
    pub(crate) fn reset(&self, id: Id, process: Id) {
        self.id.set(id);
        self.process.set(process);
        self.duty
            .set(u64::from(process) << 32 | u64::from(IN_SERVICE));
        let process = PROCESSES.get(process);
        self.handles.set(process.handle_table());
        self.root.set(process.root.get());
        self.urgent.set(process.is_urgent().into());
        self.calls.set(0);
        self.faults.set(0);
        self.special.store(0, Ordering::Relaxed);
        self.set_wait(Wait::Nothing, NONE);
        self.cpu.set(NONE);
        self.client.set(NONE);
        self.fpu.set(0);
        self.turn_ticks.set(0);
        // The number goes on, so that reply handles for the place's last user stay stale.
        let number = self.call.reply().generation();
        let reply = RawHandle::new(REPLY_INDEX | id as u16, number);
        self.call.reply.set(reply.0);
        self.call.count();
    }

    /// Returns whether it runs before programs when it wakes.
    pub(crate) fn is_urgent(&self) -> bool {
        self.urgent.get() != 0
    }

    /// Says that the thread must end as soon as a CPU would run it.
    pub(crate) fn doom(&self) {
        self.special.fetch_or(DOOMED, Ordering::SeqCst);
    }

    /// Returns whether the thread must end.
    #[inline]
    pub(crate) fn is_doomed(&self) -> bool {
        self.special.load(Ordering::SeqCst) & DOOMED != 0
    }

    /// Notes a reason for the general way.
    pub(crate) fn set_special(&self, mark: u32) {
        self.special.fetch_or(mark, Ordering::SeqCst);
    }

    /// Notes that reasons for the general way are gone; returns those that were there.
    pub(crate) fn clear_special(&self, marks: u32) -> u32 {
        self.special.fetch_and(!marks, Ordering::SeqCst) & marks
    }

    /// Returns whether there is any of these reasons for the general way.
    #[inline]
    pub(crate) fn has_special(&self, marks: u32) -> bool {
        self.special.load(Ordering::Relaxed) & marks != 0
    }

    /// Returns what it waits for.
    pub(crate) fn wait(&self) -> WaitState {
        WaitState(self.wait.load(Ordering::SeqCst))
    }

    /// Sets what it waits for, and the endpoint or notification.
    #[inline(always)]
    pub(crate) fn set_wait(&self, wait: Wait, object: Id) {
        self.wait
            .store(WaitState::new(wait, object).0, Ordering::SeqCst);
    }

    /// Begins a wait: later deadlines of earlier waits no longer match.
    pub(crate) fn next_wait(&self) -> u32 {
        let number = self.wait_number.get().wrapping_add(1);
        self.wait_number.set(number);
        number
    }

    /// Sets the result registers of a plain system call.
    pub(crate) fn set_result(&self, result: Result<(u64, u64), skink_abi::Error>) {
        match result {
            Ok((first, second)) => {
                self.registers.rax.set(0);
                self.registers.rdx.set(first);
                self.registers.rsi.set(second);
            }
            Err(error) => self.registers.rax.set(error.code()),
        }
    }

    /// Returns whether nothing about it needs the general way: it may live on, uses no FPU and has
    /// no deadline.
    #[inline]
    pub(crate) fn is_simple(&self) -> bool {
        self.special.load(Ordering::SeqCst) == 0
    }

    /// Notes the page fault that it waits for.
    pub(crate) fn set_fault(&self, fault: FaultMessage) {
        let [address, instruction, code] = &self.call.fault;
        address.set(fault.address);
        instruction.set(fault.instruction);
        code.set(fault.code);
    }

    /// Returns the page fault it waits for.
    pub(crate) fn fault(&self) -> FaultMessage {
        let [address, instruction, code] = &self.call.fault;
        FaultMessage {
            address: address.get(),
            instruction: instruction.get(),
            code: code.get(),
        }
    }

    /// Sets the physical address of its control page.
    pub(crate) fn set_control(&self, physical: u64) {
        self.control.set(physical);
        self.control_address
            .set(physical::pointer::<u8>(physical) as u64);
    }

    /// Returns its control page.
    pub(crate) fn control(&self) -> *mut ThreadControl {
        physical::pointer(self.control.get())
    }

    /// Returns the physical address of its IPC page.
    pub(crate) fn ipc_page(&self) -> u64 {
        self.control.get() + skink_abi::PAGE_SIZE as u64
    }
}

/// Access of `skink_kcore` to the links of threads: in the run queues, in endpoints and
/// notifications, in deadline queues.
pub(crate) struct ThreadNodes;

impl Nodes for ThreadNodes {
    #[inline]
    fn links(&self, id: Id) -> Links {
        THREADS.get(id).links.get()
    }

    #[inline]
    fn set_links(&self, id: Id, links: Links) {
        THREADS.get(id).links.set(links);
    }

    #[inline(always)]
    fn next(&self, id: Id) -> Id {
        THREADS.get(id).links.next()
    }

    #[inline(always)]
    fn set_next(&self, id: Id, next: Id) {
        THREADS.get(id).links.set_next(next);
    }
}

impl Callers for ThreadNodes {
    fn ticket(&self, id: Id) -> u64 {
        THREADS.get(id).call.ticket.get()
    }

    fn set_ticket(&self, id: Id, ticket: u64) {
        THREADS.get(id).call.ticket.set(ticket);
    }

    fn crashes(&self, id: Id) -> u8 {
        THREADS.get(id).call.crashes.get() as u8
    }

    fn set_crashes(&self, id: Id, crashes: u8) {
        THREADS.get(id).call.crashes.set(crashes.into());
    }
}

impl HeapNodes for ThreadNodes {
    fn node(&self, id: Id) -> HeapNode {
        let [child, sibling, previous] = &THREADS.get(id).heap;
        HeapNode {
            child: child.get(),
            sibling: sibling.get(),
            previous: previous.get(),
        }
    }

    fn set_node(&self, id: Id, node: HeapNode) {
        let [child, sibling, previous] = &THREADS.get(id).heap;
        child.set(node.child);
        sibling.set(node.sibling);
        previous.set(node.previous);
    }

    fn deadline(&self, id: Id) -> u64 {
        THREADS.get(id).deadline.get()
    }
}

/// Access to the list of a process's threads.
pub(crate) struct Family;

impl Nodes for Family {
    fn links(&self, id: Id) -> Links {
        THREADS.get(id).family.get()
    }

    fn set_links(&self, id: Id, links: Links) {
        THREADS.get(id).family.set(links);
    }
}
