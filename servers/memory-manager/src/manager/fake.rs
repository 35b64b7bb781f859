//! A fake kernel for tests of the manager. It panics where the real one would be misused.
//!
//! It keeps what outlives a manager: handles, mappings, what is in frames, the state region. A
//! manager can be made to die before any step of its own: a system call, a store to the state
//! region, a reply.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeBounds};
use std::panic::resume_unwind;
use std::rc::Rc;

use libipc::proto::memory::{ImageSegment, MemoryError, Protection};
use libsys::state::StateMemory;
use skink_abi::FaultMessage;

use super::{Content, Manager, Mapping, Tables};
use crate::journal::{OpenError, RawHandle, RequestName};
use crate::machine::{self, Adopted, Copy, End, Extent, Life, Machine, MappedRun};
use crate::rebuild::Found;
use crate::residents::Residents;
use crate::spaces::{Era, client_badge, pager_badge, space_of_badge};
use crate::zones::Zones;
use crate::{Frame, PAGE_BYTES};

/// Frames that hold the tables.
const TABLE_FRAMES: Range<Frame> = 3..13;
/// Physical page behind the first page of the image that stands outside of all zones.
const IMAGE: u64 = 1 << 30;
/// What a page of an image holds: this and its number.
pub(super) const IMAGE_CONTENT: u64 = 1 << 40;

/// The era that the first manager begins.
pub(super) const FIRST_ERA: Era = Era::beginning_at(1);

/// What a manager that dies unwinds with.
pub(super) struct Died;

/// A memory object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Body {
    /// First frame; an image has none.
    pub(super) first: Option<Frame>,
    pub(super) pages: u64,
}

/// What a handle names.
#[derive(Debug)]
enum Target {
    Process(usize),
    Memory(Rc<Body>),
    Sender(u32),
}

/// What the fake kernel knows, shared with the test.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) zones: Zones,
    pub(super) lives: Vec<Life>,
    /// Processes that are being taken apart: nobody can look at what they have mapped.
    pub(super) dying: BTreeSet<usize>,
    /// (process, page) -> frame (none for one outside of all zones) and protection.
    pub(super) mapped: BTreeMap<(usize, u64), (Option<Frame>, Protection)>,
    /// What is in frames that were written.
    pub(super) contents: BTreeMap<Frame, u64>,
    pub(super) copies: Vec<Copy>,
    pub(super) images_readable: bool,
    /// Bits of the badges of senders that the manager gets wrong.
    pub(super) wrong_badges: u64,
    /// The manager's handle table.
    handles: BTreeMap<RawHandle, Target>,
    next_handle: RawHandle,
    /// Senders that clients hold: the numbers of their spaces.
    pub(super) senders: BTreeSet<u32>,
    /// Numbers of spaces whose last sender was closed.
    pub(super) news: Vec<u32>,
    /// Numbers that senders were ever minted for.
    minted: BTreeSet<u64>,
    /// Eras begun.
    eras: u64,
    /// Processes that were ended because nobody can tell what their memory is to be.
    pub(super) lost: Vec<usize>,
    /// Whether what is written down may be wrong.
    pub(super) is_damaged: bool,
    pub(super) state: Vec<u8>,
    pub(super) steps: usize,
    /// The step before which the manager dies.
    pub(super) last_step: Option<usize>,
    pub(super) is_dead: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct FakeMachine(pub(super) Rc<RefCell<World>>);

/// A handle in the manager's table: closed when dropped, unless the manager died.
#[derive(Debug)]
pub(super) struct FakeHandle {
    machine: FakeMachine,
    pub(super) raw: RawHandle,
}

impl Drop for FakeHandle {
    fn drop(&mut self) {
        let mut world = self.machine.0.borrow_mut();
        if !world.is_dead {
            world.close(self.raw);
        }
    }
}

impl FakeHandle {
    /// Returns the object.
    pub(super) fn body(&self) -> Rc<Body> {
        match self.machine.0.borrow().handles.get(&self.raw) {
            Some(Target::Memory(body)) => Rc::clone(body),
            other => panic!("{other:?} is no memory"),
        }
    }

    fn process(&self) -> usize {
        match self.machine.0.borrow().handles.get(&self.raw) {
            Some(Target::Process(process)) => *process,
            other => panic!("{other:?} is no process"),
        }
    }

    /// Gives the sender to a client, and returns the number of its space.
    pub(super) fn send(self) -> u32 {
        let mut world = self.machine.0.borrow_mut();
        let Some(&Target::Sender(space)) = world.handles.get(&self.raw) else {
            panic!("no sender")
        };
        world.senders.insert(space);
        space
    }
}

/// The state region of the fake kernel.
#[derive(Debug)]
pub(super) struct Store {
    bytes: Vec<u8>,
    machine: FakeMachine,
}

impl StateMemory for Store {
    fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn view(&self, range: impl RangeBounds<usize>) -> &[u8] {
        &self.bytes[(range.start_bound().cloned(), range.end_bound().cloned())]
    }

    fn fill<R>(&mut self, at: usize, room: usize, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        self.machine.step();
        let (bytes, result) = f(&mut self.bytes[at..at + room]);
        let range = at..at + bytes;
        self.machine.0.borrow_mut().state[range.clone()].copy_from_slice(&self.bytes[range]);
        result
    }

    fn commit(&mut self, at: usize, value: u64) {
        assert!(at.is_multiple_of(8), "a committed word is aligned");
        self.write(at, &value.to_le_bytes());
    }
}

impl FakeMachine {
    /// Makes a machine with `frames` frames behind those that hold the tables.
    pub(super) fn new(frames: u64, state_bytes: usize) -> Self {
        let tables = u64::from(TABLE_FRAMES.end - TABLE_FRAMES.start);
        let world = World {
            images_readable: true,
            zones: Zones::new([
                (u64::from(TABLE_FRAMES.start), tables + frames / 2),
                (0x1000, frames - frames / 2),
            ]),
            state: vec![0; state_bytes],
            next_handle: 1,
            ..World::default()
        };
        FakeMachine(Rc::new(RefCell::new(world)))
    }

    /// A step of the manager begins: it may die before it.
    pub(super) fn step(&self) {
        let mut world = self.0.borrow_mut();
        if world.last_step == Some(world.steps) {
            world.is_dead = true;
            drop(world);
            // Without a word: this is no failure.
            resume_unwind(Box::new(Died));
        }
        world.steps += 1;
    }

    /// Lets a next instance live; the dead one is gone altogether.
    pub(super) fn bury(&self, last_step: Option<usize>) {
        let mut world = self.0.borrow_mut();
        world.is_dead = false;
        world.steps = 0;
        world.last_step = last_step;
    }

    fn handle(&self, target: Target) -> FakeHandle {
        let mut world = self.0.borrow_mut();
        let raw = world.next_handle;
        world.next_handle += 1;
        world.handles.insert(raw, target);
        FakeHandle {
            machine: self.clone(),
            raw,
        }
    }

    /// Gives the manager a handle to a process, as with a request.
    pub(super) fn process(&self, process: usize) -> FakeHandle {
        self.handle(Target::Process(process))
    }

    /// Gives the manager a handle to an image of so many pages.
    pub(super) fn image(&self, pages: u64) -> FakeHandle {
        self.handle(Target::Memory(Rc::new(Body { first: None, pages })))
    }

    /// Returns the handles in the manager's table.
    pub(super) fn table(&self) -> Vec<RawHandle> {
        self.0.borrow().handles.keys().copied().collect()
    }

    fn take(&self, handle: RawHandle) -> FakeHandle {
        FakeHandle {
            machine: self.clone(),
            raw: handle,
        }
    }
}

impl Machine for FakeMachine {
    type Process = FakeHandle;
    type Memory = FakeHandle;
    type Sender = FakeHandle;
    type Store = Store;

    fn process_handle(process: &FakeHandle) -> RawHandle {
        process.raw
    }

    fn memory_handle(memory: &FakeHandle) -> RawHandle {
        memory.raw
    }

    fn take_process(&mut self, handle: RawHandle) -> Result<FakeHandle, MemoryError> {
        self.step();
        match self.0.borrow().handles.get(&handle) {
            Some(Target::Process(_)) => Ok(self.take(handle)),
            _ if self.0.borrow().is_damaged => Err(MemoryError::BadHandle),
            other => panic!("{other:?} was written down as a process"),
        }
    }

    fn leave_process(&self, process: FakeHandle) {
        std::mem::forget(process);
    }

    fn take_memory(&mut self, handle: RawHandle) -> Result<FakeHandle, MemoryError> {
        self.step();
        match self.0.borrow().handles.get(&handle) {
            Some(Target::Memory(_)) => Ok(self.take(handle)),
            _ if self.0.borrow().is_damaged => Err(MemoryError::BadHandle),
            other => panic!("{other:?} was written down as memory"),
        }
    }

    fn others(&self) -> Vec<(RawHandle, machine::Target)> {
        self.step();
        let world = self.0.borrow();
        let target = |(raw, target): (&RawHandle, &Target)| {
            let target = match target {
                Target::Process(_) => machine::Target::Process,
                Target::Memory(body) => machine::Target::Memory(Some(world.extent(body))),
                Target::Sender(_) => return None,
            };
            Some((*raw, target))
        };
        world.handles.iter().filter_map(target).collect()
    }

    fn begin_era(&self) -> Era {
        self.step();
        let mut world = self.0.borrow_mut();
        // One of which no number was given out is as good as a new one.
        let is_used = |badge: &u64| space_of_badge(Era::beginning_at(world.eras), *badge).is_some();
        if world.eras == 0 || world.minted.iter().any(is_used) {
            world.eras += 1;
        }
        Era::beginning_at(world.eras)
    }

    fn close_others(&mut self, kept: &[RawHandle]) {
        for handle in self.table() {
            self.step();
            if kept.binary_search(&handle).is_err() {
                self.0.borrow_mut().close(handle);
            }
        }
    }

    fn mappings(
        &self,
        process: &FakeHandle,
        tell: &mut dyn FnMut(MappedRun),
    ) -> Result<(), MemoryError> {
        self.step();
        let process = process.process();
        let world = self.0.borrow();
        if world.dying.contains(&process) {
            return Err(MemoryError::ProcessDead);
        }
        let mut runs: Vec<MappedRun> = Vec::new();
        for ((_, page), (frame, _)) in world.mapped.range((process, 0)..(process + 1, 0)) {
            let physical = frame.map_or(IMAGE + page, |frame| world.physical(frame));
            match runs.last_mut() {
                Some(run)
                    if (run.page + run.pages, run.physical + run.pages) == (*page, physical) =>
                {
                    run.pages += 1;
                }
                _ => runs.push(MappedRun {
                    page: *page,
                    physical,
                    pages: 1,
                }),
            }
        }
        drop(world);
        runs.into_iter().for_each(tell);
        Ok(())
    }

    fn pause(&self) {
        self.step();
        let dying = std::mem::take(&mut self.0.borrow_mut().dying);
        for process in dying {
            self.0.borrow_mut().end(process);
        }
    }

    fn process_number(&self, process: &FakeHandle) -> Result<u64, MemoryError> {
        Ok(process.process() as u64)
    }

    fn adopt(
        &mut self,
        process: &FakeHandle,
        era: Era,
        space: u32,
    ) -> Result<Adopted<FakeHandle>, MemoryError> {
        self.step();
        assert!(
            self.0.borrow_mut().minted.insert(client_badge(era, space)),
            "{space:#x} was the number of a space before"
        );
        let sender = self.handle(Target::Sender(space));
        self.step();
        let process = process.process();
        let wrong = self.0.borrow().wrong_badges;
        match self.0.borrow().lives[process] {
            Life::Gone => Err(MemoryError::ProcessDead),
            _ => Ok(Adopted {
                sender,
                client_badge: client_badge(era, space) ^ wrong,
                pager_badge: pager_badge(era, space) ^ wrong,
            }),
        }
    }

    fn has_ended(&self, process: &FakeHandle) -> bool {
        let process = process.process();
        let world = self.0.borrow();
        world.lives[process] == Life::Gone || world.dying.contains(&process)
    }

    fn life(&self, process: &FakeHandle) -> Life {
        let process = process.process();
        self.0.borrow().lives[process]
    }

    fn kill(&mut self, process: &FakeHandle, end: End) {
        self.step();
        let process = process.process();
        let mut world = self.0.borrow_mut();
        match end {
            End::NeverStarted => world.end(process),
            End::Lost => {
                world.lost.push(process);
                // It takes a while.
                world.dying.insert(process);
            }
        }
    }

    fn unmap(&mut self, process: &FakeHandle, ranges: &[Range<u64>]) -> Result<(), MemoryError> {
        for page in ranges.iter().cloned().flatten() {
            self.step();
            let key = (process.process(), page);
            self.0.borrow_mut().mapped.remove(&key);
        }
        Ok(())
    }

    fn protect(
        &mut self,
        process: &FakeHandle,
        ranges: &[Range<u64>],
        protection: Protection,
    ) -> Result<(), MemoryError> {
        for page in ranges.iter().cloned().flatten() {
            self.step();
            let key = (process.process(), page);
            let mut world = self.0.borrow_mut();
            world
                .mapped
                .get_mut(&key)
                .expect("protected what was not there")
                .1 = protection;
        }
        Ok(())
    }

    fn map_shared(
        &mut self,
        process: &FakeHandle,
        segment: &ImageSegment,
        _memory: &FakeHandle,
    ) -> Result<(), MemoryError> {
        let first = segment.address / PAGE_BYTES;
        for page in first..first + segment.pages {
            self.step();
            let entry = (None, segment.protection);
            let key = (process.process(), page);
            assert_eq!(self.0.borrow_mut().mapped.insert(key, entry), None);
        }
        Ok(())
    }

    fn readable_pages(&self, memory: &FakeHandle) -> Result<u64, MemoryError> {
        if !self.0.borrow().images_readable {
            return Err(MemoryError::BadHandle);
        }
        Ok(memory.body().pages)
    }

    fn copy(&mut self, _memory: &FakeHandle, copy: Copy) -> Result<(), MemoryError> {
        self.step();
        let mut world = self.0.borrow_mut();
        if !world.images_readable {
            return Err(MemoryError::BadHandle);
        }
        world.copies.push(copy);
        world
            .contents
            .insert(copy.frame, IMAGE_CONTENT + copy.image_page);
        Ok(())
    }

    fn make_object(
        &mut self,
        first: Frame,
        pages: u32,
    ) -> Result<(FakeHandle, FakeHandle), MemoryError> {
        self.step();
        let body = Rc::new(Body {
            first: Some(first),
            pages: pages.into(),
        });
        let kept = self.handle(Target::Memory(Rc::clone(&body)));
        self.step();
        for frame in first..first + pages {
            self.0.borrow_mut().contents.insert(frame, 0);
        }
        self.step();
        Ok((kept, self.handle(Target::Memory(body))))
    }

    fn is_used(&self, memory: &FakeHandle) -> bool {
        // One that asks, one in the table.
        Rc::strong_count(&memory.body()) > 2
    }
}

impl World {
    fn close(&mut self, handle: RawHandle) {
        if let Some(Target::Sender(space)) = self.handles.remove(&handle)
            && !self.senders.contains(&space)
        {
            self.news.push(space);
        }
    }

    /// A client closes its sender.
    pub(super) fn close_sender(&mut self, space: u32) {
        assert!(self.senders.remove(&space));
        self.news.push(space);
    }

    fn extent(&self, body: &Rc<Body>) -> Extent {
        let physical = body.first.map_or(IMAGE, |first| self.physical(first));
        Extent {
            identity: Rc::as_ptr(body) as u64,
            physical,
            pages: body.pages,
            references: Rc::strong_count(body) as u64,
        }
    }

    fn physical(&self, frame: Frame) -> u64 {
        let (zone, page) = self.zones.locate(frame).unwrap();
        self.zones.all()[zone].physical + page
    }

    /// Returns how many eras were begun.
    pub(super) fn eras(&self) -> u64 {
        self.eras
    }

    pub(super) fn end(&mut self, process: usize) {
        self.lives[process] = Life::Gone;
        self.mapped.retain(|(owner, _), _| *owner != process);
    }

    /// Does what the kernel does with the reply to a fault.
    pub(super) fn install(&mut self, process: usize, mapping: &Mapping) {
        for (page, frame) in (mapping.page..mapping.page + mapping.pages).zip(mapping.frame..) {
            let entry = (Some(frame), mapping.protection);
            let old = self.mapped.insert((process, page), entry);
            assert!(old.is_none() || mapping.content == Content::Present);
            if mapping.content == Content::Foreign {
                self.contents.insert(frame, 0);
            }
        }
    }
}

/// What outlives a manager, for harm from outside.
pub(super) fn store(machine: &FakeMachine) -> Store {
    Store {
        bytes: machine.0.borrow().state.clone(),
        machine: machine.clone(),
    }
}

/// Memory for the tables of a manager.
pub(super) struct TableMemory {
    buddy: Vec<crate::buddy::BuddyEntry>,
    residents: Vec<crate::residents::ResidentEntry>,
    buckets: Vec<crate::residents::Bucket>,
}

impl TableMemory {
    pub(super) fn new(machine: &FakeMachine) -> Self {
        let numbers = machine.0.borrow().zones.numbers();
        TableMemory {
            buddy: vec![Default::default(); numbers],
            residents: vec![Default::default(); numbers],
            buckets: vec![Default::default(); Residents::buckets_for(numbers)],
        }
    }

    /// Starts a manager on what an earlier one left.
    pub(super) fn open(
        &mut self,
        machine: &FakeMachine,
    ) -> Result<(Manager<'_, FakeMachine>, Found), OpenError> {
        let zones = machine.0.borrow().zones.clone();
        let tables = Tables {
            buddy: &mut self.buddy,
            residents: &mut self.residents,
            buckets: &mut self.buckets,
        };
        let store = store(machine);
        Manager::open(machine.clone(), &zones, tables, TABLE_FRAMES, store)
    }
}

/// A manager that never dies, of `frames` frames behind those that hold its tables.
pub(super) fn manager(frames: u64) -> (Manager<'static, FakeMachine>, FakeMachine) {
    let machine = FakeMachine::new(frames, 64 * 1024);
    let tables = Box::leak(Box::new(TableMemory::new(&machine)));
    let (manager, _) = tables.open(&machine).unwrap();
    (manager, machine)
}

/// Makes a process that runs.
pub(super) fn process(machine: &FakeMachine) -> usize {
    let mut world = machine.0.borrow_mut();
    world.lives.push(Life::Running);
    world.lives.len() - 1
}

/// Registers a process and returns the number of its space, whose sender the client holds.
pub(super) fn register(
    manager: &mut Manager<'static, FakeMachine>,
    process: usize,
) -> Result<u32, MemoryError> {
    let process = manager.machine().process(process);
    manager.create_space(name(), process).map(FakeHandle::send)
}

/// Returns a name that no other request has, from a client without a space.
pub(super) fn name() -> RequestName {
    named(7)
}

/// As [`name`], from the client with this space.
pub(super) fn name_of(space: u32) -> RequestName {
    named(client_badge(FIRST_ERA, space))
}

/// As [`name_of`], for a space of this era.
pub(super) fn name_in(era: Era, space: u32) -> RequestName {
    named(client_badge(era, space))
}

fn named(badge: u64) -> RequestName {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    RequestName {
        badge,
        sequence: NEXT.fetch_add(1, Ordering::Relaxed),
    }
}

pub(super) fn fault(page: u64, code: u64) -> FaultMessage {
    FaultMessage {
        address: page * PAGE_BYTES,
        instruction: 0x40_0000,
        code,
    }
}
