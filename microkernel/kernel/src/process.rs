//! Processes: an address space, a handle table, threads and a quota of kernel memory.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use skink_abi::{
    Error, ExitReason, NAME_BYTES, ObjectKind, PAGE_SIZE, ProcessInfo, ProcessState, RawHandle,
    Rights,
};
use skink_kcore::handles::{Entries, Entry, HandleTable};
use skink_kcore::list::List;
use skink_kcore::{Id, NONE};

use crate::arch::x86_64::entry::Word;
use crate::arch::x86_64::paging::Tables;
use crate::arch::x86_64::{physical, time};
use crate::arena::{Arena, Object};
use crate::cell::Field;
use crate::lock::{Held, Lock, level};
use crate::thread::{Family, THREADS, Thread, Wait};
use crate::{pool, time_page};

/// Most threads of one process: ending a process visits all of them in one go.
pub(crate) const MAX_THREADS: u32 = 256;
const ENTRY_BYTES: usize = 16;
const ENTRIES_PER_PAGE: usize = PAGE_SIZE / ENTRY_BYTES;
/// Most pages of a handle table.
pub(crate) const HANDLE_PAGES: usize = skink_abi::MAX_PROCESS_HANDLES / ENTRIES_PER_PAGE;
const WATCHERS: usize = 2;
/// What a new process takes of its quota: itself, its top-level page table, and the three tables
/// on the way to the time page.
const FIRST_BYTES: u64 = Arena::<Process>::BYTES + FIRST_TABLES_BYTES;
/// The tables that a process has as long as it lives.
pub(crate) const FIRST_TABLES_BYTES: u64 = 4 * PAGE_SIZE as u64;

/// A process.
pub(crate) struct Process {
    /// Its number, never used again; 0 in an unused place.
    pub(crate) number: AtomicU64,
    /// Its own id.
    pub(crate) id: Field,
    /// [`ProcessState`] as a number.
    status: AtomicU32,
    /// Threads, mappings, watchers, reason of its end.
    pub(crate) state: Lock<State, { level::PROCESS }>,
    /// Page tables.
    pub(crate) tables: Lock<Tables, { level::SPACE }>,
    /// Physical address of the top-level table.
    pub(crate) root: Word,
    /// Handles.
    pub(crate) handles: Lock<HandleTable<HandlePages>, { level::HANDLES }>,
    /// Addresses of the handle table's pages; where there is none yet, of [`NO_HANDLES`]. Set under
    /// the table's lock and not taken back before the last thread has ended, so that the fast path
    /// can read them without it.
    handle_pages: [Word; HANDLE_PAGES],
    /// Whether its handles stay when it dies, so that it can be revived. Under `state`.
    keeps_handles: AtomicBool,
    /// Whether the threads that it gets run before those of programs when they wake.
    is_urgent: AtomicBool,
    /// The sender that page faults go to, or [`NONE`]; a reference is held.
    pub(crate) pager: AtomicU32,
    quota_limit: AtomicU64,
    quota_used: AtomicU64,
    /// How much of the quota is with children, dead ones whose children live included.
    quota_of_children: AtomicU64,
    /// Whether it has given its quota back. Under [`QUOTAS`].
    quota_returned: AtomicBool,
    /// Who gave the quota and gets it back; a reference is held.
    pub(crate) parent: Field,
    name: [Word; NAME_BYTES / 8],
    /// What it used and did.
    pub(crate) counters: Counters,
    /// How many instructions it may still execute, and marks ([`crate::stepping`]).
    pub(crate) steps: AtomicU64,
    /// How far its teardown is. Only the processor that works on it touches this.
    pub(crate) teardown: crate::teardown::Progress,
}

/// A page of handles of which none is in use, for reading.
static NO_HANDLES: [[Word; 2]; ENTRIES_PER_PAGE] = [const { [Word::ZERO; 2] }; ENTRIES_PER_PAGE];

/// What a process used and did.
pub(crate) struct Counters {
    /// Ticks that its threads ran, and that servers ran for it.
    pub(crate) cpu_ticks: AtomicU64,
    /// Ticks that its threads ran for callers.
    pub(crate) served_ticks: AtomicU64,
    /// Page faults of its threads, of those which have ended, that a pager resolved.
    pub(crate) faults: AtomicU64,
    /// Calls that its threads made, those which have ended.
    pub(crate) calls: AtomicU64,
    /// Pages mapped.
    pub(crate) pages: AtomicU64,
}

/// Why a process ended.
#[derive(Clone, Copy)]
pub(crate) struct Exit {
    pub(crate) reason: ExitReason,
    pub(crate) code: u64,
    pub(crate) address: u64,
    pub(crate) fault_address: u64,
}

/// What the process's lock guards.
pub(crate) struct State {
    pub(crate) threads: List,
    pub(crate) thread_count: u32,
    /// Tracked mappings, by their own arena's links.
    pub(crate) mappings: List,
    /// Notifications to set when it dies and when it is gone: id and bits.
    pub(crate) watchers: [(Id, u64); WATCHERS],
    pub(crate) exit: Exit,
}

impl Object for Process {
    const ARENA: u64 = 0;
    const NEW: Process = Process {
        number: AtomicU64::new(0),
        id: Field::new(NONE),
        status: AtomicU32::new(ProcessState::Dead as u32),
        state: Lock::new(State::NEW),
        tables: Lock::new(Tables::NONE),
        root: Word::ZERO,
        handles: Lock::new(HandleTable::new(HandlePages::NEW)),
        handle_pages: [const { Word::ZERO }; HANDLE_PAGES],
        keeps_handles: AtomicBool::new(false),
        is_urgent: AtomicBool::new(false),
        pager: AtomicU32::new(NONE),
        quota_limit: AtomicU64::new(0),
        quota_used: AtomicU64::new(0),
        quota_of_children: AtomicU64::new(0),
        quota_returned: AtomicBool::new(false),
        parent: Field::new(NONE),
        name: [const { Word::ZERO }; NAME_BYTES / 8],
        counters: Counters {
            cpu_ticks: AtomicU64::new(0),
            served_ticks: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            pages: AtomicU64::new(0),
        },
        steps: AtomicU64::new(crate::stepping::NEVER),
        teardown: crate::teardown::Progress::NEW,
    };
}

impl State {
    const NEW: State = State {
        threads: List::EMPTY,
        thread_count: 0,
        mappings: List::EMPTY,
        watchers: [(NONE, 0); WATCHERS],
        exit: Exit::NONE,
    };
}

impl Exit {
    /// It has not ended.
    pub(crate) const NONE: Exit = Exit {
        reason: ExitReason::None,
        code: 0,
        address: 0,
        fault_address: 0,
    };
}

/// All processes.
pub(crate) static PROCESSES: Arena<Process> = Arena::new();

/// Quotas go up the tree of processes one at a time. A leaf lock.
static QUOTAS: spin::Mutex<()> = spin::Mutex::new(());

/// The number of `init`, the first process.
pub(crate) const INIT_NUMBER: u64 = 1;

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(INIT_NUMBER);

impl Process {
    /// Makes an empty process with one reference, for the handle, and one that it keeps to itself
    /// until it is gone.
    ///
    /// # Errors
    ///
    /// `NoMemory`.
    pub(crate) fn create(
        held: &mut Held<0>,
        parent: Option<&Process>,
        quota: u64,
        name: [u8; NAME_BYTES],
    ) -> Result<Id, Error> {
        if quota < FIRST_BYTES {
            return Err(Error::NoMemory);
        }
        if let Some(parent) = parent {
            parent.charge(quota)?;
        }
        let made = Self::make(held, parent, quota, name);
        if made.is_err()
            && let Some(parent) = parent
        {
            parent.refund(quota);
        }
        made
    }

    fn make(
        held: &mut Held<0>,
        parent: Option<&Process>,
        quota: u64,
        name: [u8; NAME_BYTES],
    ) -> Result<Id, Error> {
        let tables = Self::first_tables()?;
        let id = PROCESSES.allocate().inspect_err(|_| {
            let mut tables = Tables::of(tables.root());
            // SAFETY: never loaded.
            unsafe { tables.free_some(usize::MAX) };
        })?;
        PROCESSES.retain(id);
        let process = PROCESSES.get(id);
        process.id.set(id);
        process.root.set(tables.root());
        process.teardown.restart();
        process.close_handles();
        process.is_urgent.store(false, Ordering::Relaxed);
        *process.tables.lock(held) = tables;
        for page in &process.handle_pages {
            page.set((&raw const NO_HANDLES) as u64);
        }
        *process.state.lock(held) = State::NEW;
        process.handles.lock(held).entries_mut().owner = id;
        process.pager.store(NONE, Ordering::Relaxed);
        process.quota_limit.store(quota, Ordering::Relaxed);
        process.quota_used.store(FIRST_BYTES, Ordering::Relaxed);
        process.quota_of_children.store(0, Ordering::Relaxed);
        process.quota_returned.store(false, Ordering::Relaxed);
        process
            .parent
            .set(parent.map_or(NONE, |parent| parent.id.get()));
        if let Some(parent) = parent {
            PROCESSES.retain(parent.id.get());
            parent.quota_of_children.fetch_add(quota, Ordering::Relaxed);
        }
        for (word, bytes) in process.name.iter().zip(name.as_chunks::<8>().0) {
            word.set(u64::from_le_bytes(*bytes));
        }
        let counters = &process.counters;
        for counter in [
            &counters.cpu_ticks,
            &counters.served_ticks,
            &counters.faults,
            &counters.calls,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        counters.pages.store(time_page::PAGES, Ordering::Relaxed);
        process
            .steps
            .store(crate::stepping::NEVER, Ordering::Relaxed);
        process
            .status
            .store(ProcessState::Alive as u32, Ordering::Release);
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        process.number.store(number, Ordering::Release);
        Ok(id)
    }

    /// Makes page tables that map the time page and nothing else.
    pub(crate) fn first_tables() -> Result<Tables, Error> {
        let mut tables = Tables::new()?;
        if let Err(error) = time_page::map(&mut tables) {
            // SAFETY: never loaded.
            unsafe { tables.free_some(usize::MAX) };
            return Err(error);
        }
        Ok(tables)
    }

    /// Returns its number.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// Returns whether it can run.
    pub(crate) fn is_alive(&self) -> bool {
        self.status.load(Ordering::Acquire) == ProcessState::Alive as u32
    }

    /// Returns whether it is dead.
    pub(crate) fn is_dead(&self) -> bool {
        self.status.load(Ordering::Acquire) == ProcessState::Dead as u32
    }

    /// Returns whether its handles stay when it dies.
    pub(crate) fn keeps_handles(&self) -> bool {
        self.keeps_handles.load(Ordering::Relaxed)
    }

    /// Has its handles stay when it dies.
    pub(crate) fn keep_handles(&self) {
        self.keeps_handles.store(true, Ordering::Relaxed);
    }

    /// Returns whether its threads run before those of programs when they wake.
    pub(crate) fn is_urgent(&self) -> bool {
        self.is_urgent.load(Ordering::Relaxed)
    }

    /// Has threads that it gets from now on run before those of programs when they wake.
    pub(crate) fn set_urgent(&self) {
        self.is_urgent.store(true, Ordering::Relaxed);
    }

    /// Has its handles closed when it dies.
    pub(crate) fn close_handles(&self) {
        self.keeps_handles.store(false, Ordering::Relaxed);
    }

    /// Sets whether it can run.
    pub(crate) fn set_status(&self, status: ProcessState) {
        self.status.store(status as u32, Ordering::Release);
    }

    /// Takes kernel memory from the quota.
    ///
    /// # Errors
    ///
    /// `NoMemory`.
    pub(crate) fn charge(&self, bytes: u64) -> Result<(), Error> {
        let limit = self.quota_limit.load(Ordering::Relaxed);
        let add = |used: u64| used.checked_add(bytes).filter(|&used| used <= limit);
        self.quota_used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .map(|_| ())
            .map_err(|_| Error::NoMemory)
    }

    /// Takes kernel memory from the quota that was given back to it and is needed again.
    pub(crate) fn charge_again(&self, bytes: u64) {
        self.quota_used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives kernel memory back to the quota.
    pub(crate) fn refund(&self, bytes: u64) {
        self.quota_used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Gives the quota back to the nearest ancestor that still has its own, but for what living
    /// children of this process have of it: that comes back when they end.
    pub(crate) fn return_quota(&self) {
        let _one = QUOTAS.lock();
        self.quota_returned.store(true, Ordering::Relaxed);
        let kept = self.quota_of_children.load(Ordering::Relaxed);
        let rest = self.quota_limit.load(Ordering::Relaxed) - kept;
        let mut ancestor = self.parent.get();
        while ancestor != NONE {
            let process = PROCESSES.get(ancestor);
            process.quota_of_children.fetch_sub(rest, Ordering::Relaxed);
            // One that is dying gives it back itself, with its own.
            if !process.quota_returned.load(Ordering::Relaxed) {
                process.refund(rest);
                return;
            }
            ancestor = process.parent.get();
        }
    }

    /// Takes a zeroed frame and charges it.
    ///
    /// # Errors
    ///
    /// `NoMemory`.
    pub(crate) fn charged_frame(&self) -> Result<u64, Error> {
        self.charge(PAGE_SIZE as u64)?;
        pool::allocate_zeroed().inspect_err(|_| self.refund(PAGE_SIZE as u64))
    }

    /// Returns why a handle does not name an object of a kind with rights. Another thread may have
    /// put that right since.
    #[cold]
    pub(crate) fn why_not(
        &self,
        held: &mut Held<0>,
        handle: RawHandle,
        kind: ObjectKind,
        rights: Rights,
    ) -> Error {
        let found = self.find(held, handle.0.into(), kind, rights);
        found.err().unwrap_or(Error::InvalidHandle)
    }

    /// Looks at a handle's entry without the table's lock.
    #[inline(always)]
    pub(crate) fn glance(
        &self,
        handle: RawHandle,
        kind: ObjectKind,
        rights: Rights,
    ) -> Option<Glance> {
        let [first, detail] = self.handle_words(handle.index().into())?;
        let word = first.get();
        let detail = detail.get();
        Entry::matches(word, handle, kind, rights).then_some(Glance {
            first,
            word,
            detail,
        })
    }

    /// Finds a handle of a kind with rights.
    ///
    /// # Errors
    ///
    /// `InvalidHandle`, `WrongKind`, `MissingRight`.
    pub(crate) fn find<const H: u8>(
        &self,
        held: &mut Held<H>,
        handle: u64,
        kind: ObjectKind,
        rights: Rights,
    ) -> Result<Entry, Error> {
        let handle = u32::try_from(handle).map_err(|_| Error::InvalidHandle)?;
        self.handles
            .lock(held)
            .find(RawHandle(handle), kind, rights)
    }

    /// Counts the requests that it has the duty to answer: no list is kept of them.
    fn duties(&self) -> u64 {
        let threads = (0..THREADS.made()).map(|id| THREADS.get(id));
        let is_ours = |thread: &Thread| {
            thread.wait().kind() == Wait::Reply && thread.call.is_served_by(self.id.get())
        };
        threads.filter(|thread| is_ours(thread)).count() as u64
    }

    /// Tells what it is and does.
    pub(crate) fn info(&self, held: &mut Held<0>) -> ProcessInfo {
        let handles = self.handles.lock(held).used();
        let state = self.state.lock(held);
        let (mut calling, mut receiving, mut waiting, mut sleeping) = (0, 0, 0, 0);
        let mut calls = self.counters.calls.load(Ordering::Relaxed);
        let mut faults = self.counters.faults.load(Ordering::Relaxed);
        for id in state.threads.iter(&Family) {
            let thread = THREADS.get(id);
            calls += thread.calls.get();
            faults += thread.faults.get();
            match thread.wait().kind() {
                Wait::Reply => calling += 1,
                Wait::Message => receiving += 1,
                Wait::Bits => waiting += 1,
                Wait::Time => sleeping += 1,
                Wait::Nothing => {}
            }
        }
        let counters = &self.counters;
        let mut name = [0; NAME_BYTES];
        for (bytes, word) in name.as_chunks_mut::<8>().0.iter_mut().zip(&self.name) {
            *bytes = word.get().to_le_bytes();
        }
        ProcessInfo {
            id: self.number(),
            state: self.status.load(Ordering::Acquire),
            reason: state.exit.reason as u32,
            code: state.exit.code,
            address: state.exit.address,
            fault_address: state.exit.fault_address,
            cpu_ns: time::to_ns(counters.cpu_ticks.load(Ordering::Relaxed)),
            served_ns: time::to_ns(counters.served_ticks.load(Ordering::Relaxed)),
            faults,
            calls,
            threads: state.thread_count,
            handles,
            kernel_bytes: self.quota_used.load(Ordering::Relaxed),
            kernel_quota: self.quota_limit.load(Ordering::Relaxed),
            mapped_pages: counters.pages.load(Ordering::Relaxed),
            calling,
            receiving,
            waiting,
            sleeping,
            duties: self.duties(),
            name,
        }
    }

    /// Returns the name for messages.
    pub(crate) fn name(&self) -> heapless::String<NAME_BYTES> {
        let mut name = heapless::String::new();
        for byte in self.name.iter().flat_map(|word| word.get().to_le_bytes()) {
            if byte == 0 || name.push(char::from(byte)).is_err() {
                break;
            }
        }
        name
    }
}

/// What an entry of a handle table was at a moment.
pub(crate) struct Glance {
    first: &'static Word,
    word: u64,
    /// The second word, if the entry still is what it was.
    pub(crate) detail: u64,
}

impl Glance {
    /// Returns the object that the entry named.
    #[inline]
    pub(crate) const fn object(&self) -> Id {
        Entry::object_of(self.word)
    }

    /// Returns what the holder may do.
    #[inline]
    pub(crate) const fn rights(&self) -> Rights {
        Entry::rights_of(self.word)
    }

    /// Returns whether the entry still is what it was. Under the lock of the object that it named
    /// this says that the object is alive and the right one.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        self.first.get() == self.word
    }
}

/// The pages of a handle table: frames of the kernel's pool, charged to the owner.
pub(crate) struct HandlePages {
    count: usize,
    owner: Id,
}

impl HandlePages {
    /// No pages.
    pub(crate) const NEW: HandlePages = HandlePages {
        count: 0,
        owner: NONE,
    };

    /// Gives all pages back; the table must be empty.
    pub(crate) fn free(&mut self) {
        if self.count == 0 {
            return;
        }
        for page in &PROCESSES.get(self.owner).handle_pages[..self.count] {
            // SAFETY: taken in `grow`; the process has no thread left that could look into it.
            unsafe { pool::free(page.get() - physical::PHYSICAL_MAP) };
            page.set((&raw const NO_HANDLES) as u64);
        }
        self.count = 0;
    }
}

impl Process {
    /// Returns the address of the addresses of the handle table's pages.
    pub(crate) fn handle_table(&self) -> u64 {
        core::ptr::from_ref(&self.handle_pages) as u64
    }

    /// Returns the words of a handle's entry, or `None` for an index that no table can have.
    /// Without the table's lock only the first word means anything, and only as long as it stays
    /// the same.
    #[inline(always)]
    pub(crate) fn handle_words(&self, index: usize) -> Option<&'static [Word; 2]> {
        let page = self.handle_pages.get(index / ENTRIES_PER_PAGE)?.get();
        let entries: *const [Word; 2] = core::ptr::with_exposed_provenance(page as usize);
        // SAFETY: a page of entries made by `grow`, which lives as long as any thread of the
        // process, or `NO_HANDLES`; entries are words that are read and written whole.
        Some(unsafe { &*entries.wrapping_add(index % ENTRIES_PER_PAGE) })
    }
}

impl Entries for HandlePages {
    fn len(&self) -> usize {
        self.count * ENTRIES_PER_PAGE
    }

    fn get(&self, index: usize) -> Entry {
        let words = PROCESSES.get(self.owner).handle_words(index);
        words.map_or(Entry::FREE, |[first, detail]| {
            Entry::from_words([first.get(), detail.get()])
        })
    }

    fn set(&mut self, index: usize, entry: Entry) {
        if let Some([first, detail]) = PROCESSES.get(self.owner).handle_words(index) {
            let words = entry.to_words();
            detail.set(words[1]);
            first.set(words[0]);
        }
    }

    fn grow(&mut self) -> Result<(), Error> {
        let owner = PROCESSES.get(self.owner);
        let slot = owner
            .handle_pages
            .get(self.count)
            .ok_or(Error::TooManyHandles)?;
        // A page of zeros is a page of free entries.
        slot.set(physical::PHYSICAL_MAP + owner.charged_frame()?);
        self.count += 1;
        Ok(())
    }
}
