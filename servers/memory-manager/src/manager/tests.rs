//! The manager over a fake kernel, against a naive model.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use libipc::proto::memory::{ImageSegment, MemoryError, Protection};
use proptest::prelude::*;
use skink_abi::FaultMessage;

use super::{Content, Manager, Mapping, Tables};
use crate::machine::{Copy, Life, Machine};
use crate::residents::Residents;
use crate::resolve::Refusal;
use crate::zones::Zones;
use crate::{Frame, PAGE_BYTES};

/// What the fake kernel knows, shared with the test.
#[derive(Debug, Default)]
struct World {
    lives: Vec<Life>,
    /// (process, page) -> frame (none for an object's own) and protection.
    mapped: BTreeMap<(usize, u64), (Option<Frame>, Protection)>,
    copies: Vec<Copy>,
    images_readable: bool,
}

#[derive(Clone, Debug)]
struct FakeMemory(Rc<(Frame, u64)>);

#[derive(Clone, Debug, Default)]
struct FakeMachine(Rc<RefCell<World>>);

impl Machine for FakeMachine {
    type Process = usize;
    type Memory = FakeMemory;
    type Sender = u32;

    fn process_number(&self, process: &usize) -> Result<u64, MemoryError> {
        Ok(*process as u64)
    }

    fn adopt(&mut self, process: &usize, space: u32) -> Result<u32, MemoryError> {
        match self.0.borrow().lives[*process] {
            Life::Gone => Err(MemoryError::ProcessDead),
            _ => Ok(space),
        }
    }

    fn life(&self, process: &usize) -> Life {
        self.0.borrow().lives[*process]
    }

    fn kill(&mut self, process: &usize) {
        self.0.borrow_mut().end(*process);
    }

    fn unmap(&mut self, process: &usize, page: u64, pages: u64) -> Result<(), MemoryError> {
        for page in page..page + pages {
            self.0.borrow_mut().mapped.remove(&(*process, page)).expect("unmapped what was not");
        }
        Ok(())
    }

    fn protect(
        &mut self,
        process: &usize,
        page: u64,
        pages: u64,
        protection: Protection,
    ) -> Result<(), MemoryError> {
        for page in page..page + pages {
            let mut world = self.0.borrow_mut();
            world.mapped.get_mut(&(*process, page)).expect("protected what was not there").1 =
                protection;
        }
        Ok(())
    }

    fn map_shared(
        &mut self,
        process: &usize,
        segment: &ImageSegment,
        _memory: &FakeMemory,
    ) -> Result<(), MemoryError> {
        let first = segment.address / PAGE_BYTES;
        for page in first..first + segment.pages {
            let entry = (None, segment.protection);
            assert_eq!(self.0.borrow_mut().mapped.insert((*process, page), entry), None);
        }
        Ok(())
    }

    fn readable_pages(&self, memory: &FakeMemory) -> Result<u64, MemoryError> {
        Ok(memory.0.1)
    }

    fn copy(&mut self, _memory: &FakeMemory, copy: Copy) -> Result<(), MemoryError> {
        let mut world = self.0.borrow_mut();
        if !world.images_readable {
            return Err(MemoryError::BadHandle);
        }
        world.copies.push(copy);
        Ok(())
    }

    fn make_object(
        &mut self,
        first: Frame,
        pages: u32,
    ) -> Result<(FakeMemory, FakeMemory), MemoryError> {
        let memory = FakeMemory(Rc::new((first, u64::from(pages))));
        Ok((memory.clone(), memory))
    }

    fn is_used(&self, memory: &FakeMemory) -> bool {
        Rc::strong_count(&memory.0) > 1
    }
}

impl World {
    fn end(&mut self, process: usize) {
        self.lives[process] = Life::Gone;
        self.mapped.retain(|(owner, _), _| *owner != process);
    }

    /// Does what the kernel does with the reply to a fault.
    fn install(&mut self, process: usize, mapping: &Mapping) {
        for (page, frame) in (mapping.page..mapping.page + mapping.pages).zip(mapping.frame..) {
            let entry = (Some(frame), mapping.protection);
            let old = self.mapped.insert((process, page), entry);
            assert!(old.is_none() || mapping.content == Content::Present);
        }
    }
}

/// A manager of `frames` frames behind ten that hold its tables.
fn manager(frames: u64) -> (Manager<'static, FakeMachine>, FakeMachine) {
    let machine = FakeMachine::default();
    machine.0.borrow_mut().images_readable = true;
    let zones = Zones::new([(3, 10 + frames / 2), (0x1000, frames - frames / 2)]);
    let numbers = zones.numbers();
    let tables = Tables {
        buddy: vec![Default::default(); numbers].leak(),
        residents: vec![Default::default(); numbers].leak(),
        buckets: vec![Default::default(); Residents::buckets_for(numbers)].leak(),
    };
    (Manager::new(machine.clone(), &zones, tables, 3..13), machine)
}

fn process(machine: &FakeMachine) -> usize {
    let mut world = machine.0.borrow_mut();
    world.lives.push(Life::Running);
    world.lives.len() - 1
}

fn fault(page: u64, code: u64) -> FaultMessage {
    FaultMessage { address: page * PAGE_BYTES, instruction: 0x40_0000, code }
}

fn image(pages: u64) -> FakeMemory {
    FakeMemory(Rc::new((0, pages)))
}

const WRITE: u64 = 6;

#[test]
fn frames_come_back_when_the_process_is_gone_and_not_before() {
    let (mut manager, machine) = manager(64);
    let process = process(&machine);
    let space = manager.create_space(process).unwrap();
    manager.map_anonymous(space, 0x10_0000, 40, Protection::ReadWrite).unwrap();
    let mut page = 0x100;
    while page < 0x128 {
        page += manager.fault(space, &fault(page, WRITE)).unwrap().pages;
    }
    assert_eq!(manager.totals().anonymous, 40);
    assert!(!manager.note_deaths());
    assert!(!manager.reap(8));
    machine.0.borrow_mut().end(process);
    assert!(manager.note_deaths());
    assert_eq!(manager.usage(space), Err(MemoryError::NoSpace));
    assert_eq!(manager.fault(space, &fault(0x100, WRITE)), Err(Refusal::NoSpace));
    while manager.reap(8) {}
    assert_eq!(manager.totals().free, 64);
    assert_eq!(manager.totals().spaces, 0);
}

#[test]
fn memory_of_the_dead_and_unused_objects_serve_a_fault_that_finds_none_free() {
    let (mut manager, machine) = manager(8);
    let (old, new) = (process(&machine), process(&machine));
    let old_space = manager.create_space(old).unwrap();
    let new_space = manager.create_space(new).unwrap();
    let object = manager.create_object(new_space, 4).unwrap();
    for space in [old_space, new_space] {
        manager.map_anonymous(space, 0x10_0000, 64, Protection::ReadWrite).unwrap();
    }
    let mut at = 0x100;
    while manager.totals().free > 0 {
        at += manager.fault(old_space, &fault(at, WRITE)).unwrap().pages;
    }
    let none = manager.fault(new_space, &fault(0x100, WRITE));
    assert_eq!(none, Err(Refusal::OutOfMemory));
    drop(object);
    manager.fault(new_space, &fault(0x100, WRITE)).unwrap();
    assert_eq!(manager.totals().objects, 0);
    machine.0.borrow_mut().end(old);
    for page in 0x101..0x108 {
        manager.fault(new_space, &fault(page, WRITE)).unwrap();
    }
}

#[test]
fn private_pages_are_copied_once_and_shared_ones_are_mapped_at_once() {
    let (mut manager, machine) = manager(64);
    let process = process(&machine);
    let space = manager.create_space(process).unwrap();
    let mut segment = ImageSegment {
        address: 0x40_0000,
        pages: 2,
        page_offset: 1,
        file_bytes: 8192,
        protection: Protection::ReadExecute,
    };
    manager.map_image(space, &segment, image(3)).unwrap();
    assert_eq!(machine.0.borrow().mapped.len(), 2);
    assert_eq!(manager.fault(space, &fault(0x400, 7)), Err(Refusal::Protection));

    segment.address = 0x50_0000;
    segment.pages = 4;
    segment.file_bytes = 5000;
    segment.protection = Protection::ReadWrite;
    manager.map_image(space, &segment, image(3)).unwrap();
    let mapping = manager.fault(space, &fault(0x501, WRITE)).unwrap();
    assert_eq!(mapping.content, Content::New);
    let copy = Copy { image_page: 2, bytes: 904, frame: mapping.frame };
    assert_eq!(machine.0.borrow().copies, [copy]);
    assert_eq!(manager.fault(space, &fault(0x501, WRITE)).unwrap().content, Content::Present);
    assert_eq!(manager.fault(space, &fault(0x503, WRITE)).unwrap().content, Content::Foreign);

    machine.0.borrow_mut().images_readable = false;
    assert_eq!(manager.fault(space, &fault(0x500, WRITE)), Err(Refusal::ImageGone));
    let usage = manager.usage(space).unwrap();
    assert_eq!((usage.resident_pages, usage.shared_pages, usage.regions), (2, 2, 2));
}

#[test]
fn images_past_their_end_are_refused() {
    let (mut manager, machine) = manager(64);
    let process = process(&machine);
    let space = manager.create_space(process).unwrap();
    for (page_offset, file_bytes, pages, protection) in [
        (0, 4096 * 3 + 1, 4, Protection::ReadWrite),
        (u64::MAX, 1, 1, Protection::ReadWrite),
        (2, 4096, 2, Protection::Read),
        (0, u64::MAX, 1, Protection::ReadWrite),
    ] {
        let segment =
            ImageSegment { address: 0x40_0000, pages, page_offset, file_bytes, protection };
        let result = manager.map_image(space, &segment, image(3));
        assert_eq!(result, Err(MemoryError::PastEnd), "{segment:?}");
    }
}

#[test]
fn an_unstarted_process_ends_with_its_sender_and_a_running_one_does_not() {
    let (mut manager, machine) = manager(16);
    let (first, second) = (process(&machine), process(&machine));
    let first_space = manager.create_space(first).unwrap();
    let second_space = manager.create_space(second).unwrap();
    assert_eq!(manager.create_space(first), Err(MemoryError::AlreadyRegistered));
    machine.0.borrow_mut().lives[first] = Life::Unstarted;
    manager.sender_closed(first_space);
    manager.sender_closed(second_space);
    assert_eq!(machine.0.borrow().lives, [Life::Gone, Life::Running]);
    assert!(manager.note_deaths());
    while manager.reap(1) {}
    assert_eq!(manager.totals().spaces, 1);
    let third = process(&machine);
    assert_ne!(manager.create_space(third).unwrap(), first_space);
}

#[test]
fn limits_hold() {
    let (mut manager, machine) = manager(16);
    let process = process(&machine);
    let space = manager.create_space(process).unwrap();
    assert_eq!(manager.create_object(0, 0).unwrap_err(), MemoryError::BadRange);
    assert_eq!(manager.create_object(0, u64::MAX).unwrap_err(), MemoryError::BadRange);
    assert_eq!(manager.create_object(0, 17).unwrap_err(), MemoryError::NoMemory);
    let mut made = 0;
    while manager.map_anonymous(space, 0x10_0000 + made * 8192, 1, Protection::Read).is_ok() {
        made += 1;
    }
    assert_eq!(made as usize, libipc::proto::memory::MAX_REGIONS);
    assert_eq!(manager.map_anonymous(9, 0x10_0000, 1, Protection::Read), Err(MemoryError::NoSpace));
}

/// What a client may do, with small numbers so that things meet.
#[derive(Clone, Debug)]
enum Step {
    Map { space: usize, page: u64, pages: u64, protection: Protection },
    Unmap { space: usize, page: u64, pages: u64 },
    Protect { space: usize, page: u64, pages: u64, protection: Protection },
    Fault { space: usize, page: u64, code: u64 },
    Create { pages: u64 },
    DropObject,
    End { space: usize },
    Housekeeping,
}

fn protection() -> impl Strategy<Value = Protection> {
    prop_oneof![
        1 => Just(Protection::Read),
        4 => Just(Protection::ReadWrite),
        1 => Just(Protection::ReadExecute)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let place = (0..3_usize, 16..80_u64, 1..24_u64);
    prop_oneof![
        3 => (place.clone(), protection()).prop_map(|((space, page, pages), protection)| {
            Step::Map { space, page, pages, protection }
        }),
        1 => place.clone().prop_map(|(space, page, pages)| Step::Unmap { space, page, pages }),
        1 => (place.clone(), protection()).prop_map(|((space, page, pages), protection)| {
            Step::Protect { space, page, pages, protection }
        }),
        12 => (place, prop_oneof![Just(4_u64), Just(6), Just(0x14)])
            .prop_map(|((space, page, _), code)| Step::Fault { space, page, code }),
        1 => (1..20_u64).prop_map(|pages| Step::Create { pages }),
        1 => Just(Step::DropObject),
        1 => (0..3_usize).prop_map(|space| Step::End { space }),
        1 => Just(Step::Housekeeping),
    ]
}

/// One client as the model sees it: a protection for each page.
struct Client {
    process: usize,
    space: u32,
    pages: BTreeMap<u64, Protection>,
}

struct Model {
    manager: Manager<'static, FakeMachine>,
    machine: FakeMachine,
    clients: Vec<Client>,
    objects: Vec<FakeMemory>,
}

impl Model {
    fn new() -> Self {
        let (manager, machine) = manager(60);
        let mut model = Model { manager, machine, clients: Vec::new(), objects: Vec::new() };
        for _ in 0..3 {
            let client = model.new_client();
            model.clients.push(client);
        }
        model
    }

    fn new_client(&mut self) -> Client {
        let process = process(&self.machine);
        let space = self.manager.create_space(process).unwrap();
        Client { process, space, pages: BTreeMap::new() }
    }

    fn run(&mut self, step: &Step) {
        let Model { manager, machine, clients, objects } = self;
        match *step {
            Step::Map { space, page, pages, protection } => {
                let client = &mut clients[space];
                let is_free = (page..page + pages).all(|page| !client.pages.contains_key(&page));
                let result =
                    manager.map_anonymous(client.space, page * PAGE_BYTES, pages, protection);
                assert_eq!(result, if is_free { Ok(()) } else { Err(MemoryError::Overlap) });
                if is_free {
                    client.pages.extend((page..page + pages).map(|page| (page, protection)));
                }
            }
            Step::Unmap { space, page, pages } => {
                let client = &mut clients[space];
                let any = (page..page + pages).any(|page| client.pages.contains_key(&page));
                let result = manager.unmap(client.space, page * PAGE_BYTES, pages);
                assert_eq!(result, if any { Ok(()) } else { Err(MemoryError::NotMapped) });
                client.pages.retain(|at, _| !(page..page + pages).contains(at));
            }
            Step::Protect { space, page, pages, protection } => {
                let client = &mut clients[space];
                let all = (page..page + pages).all(|page| client.pages.contains_key(&page));
                let result = manager.protect(client.space, page * PAGE_BYTES, pages, protection);
                assert_eq!(result, if all { Ok(()) } else { Err(MemoryError::NotMapped) });
                if all {
                    client.pages.extend((page..page + pages).map(|page| (page, protection)));
                }
            }
            Step::Fault { space, page, code } => Self::fault(manager, machine, &clients[space], page, code),
            Step::Create { pages } => objects.extend(manager.create_object(0, pages).ok()),
            Step::DropObject => drop(objects.pop()),
            Step::End { space } => {
                machine.0.borrow_mut().end(clients[space].process);
                manager.note_deaths();
                let fresh = self.new_client();
                self.clients[space] = fresh;
            }
            Step::Housekeeping => {
                manager.sweep_objects(1);
                manager.reap(3);
            }
        }
    }

    fn fault(
        manager: &mut Manager<'_, FakeMachine>,
        machine: &FakeMachine,
        client: &Client,
        page: u64,
        code: u64,
    ) {
        let result = manager.fault(client.space, &fault(page, code));
        let Some(protection) = client.pages.get(&page) else {
            assert_eq!(result, Err(Refusal::OutsideRegions));
            return;
        };
        let is_allowed = match code {
            6 => *protection == Protection::ReadWrite,
            0x14 => *protection == Protection::ReadExecute,
            _ => true,
        };
        match result {
            Ok(mapping) => {
                assert!(is_allowed);
                assert_eq!(mapping.protection, *protection);
                assert!((mapping.page..mapping.page + mapping.pages).contains(&page));
                machine.0.borrow_mut().install(client.process, &mapping);
            }
            Err(Refusal::OutOfMemory) => assert_eq!(manager.totals().free, 0),
            Err(refusal) => assert!(!is_allowed && refusal == Refusal::Protection),
        }
    }

    fn check(&self) {
        let totals = self.manager.totals();
        let used = totals.free + totals.anonymous + totals.objects + totals.tables;
        assert_eq!(used, totals.total);
        let world = self.machine.0.borrow();
        let mut frames: Vec<Frame> = Vec::new();
        for ((process, page), (frame, protection)) in &world.mapped {
            let client = self.clients.iter().find(|client| client.process == *process).unwrap();
            assert_eq!(client.pages.get(page), Some(protection));
            frames.extend(frame);
        }
        for object in &self.objects {
            frames.extend(object.0.0..object.0.0 + object.0.1 as u32);
        }
        let count = frames.len();
        frames.sort_unstable();
        frames.dedup();
        assert_eq!(frames.len(), count, "a frame has two users");
        assert!(frames.iter().all(|frame| !self.manager.buddy.is_free(*frame)));
    }
}

proptest! {
    #[test]
    fn frames_have_one_user_and_pages_their_protection(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.run(step);
            model.check();
        }
        for space in 0..3 {
            model.run(&Step::End { space });
        }
        model.objects.clear();
        model.manager.sweep_objects(usize::MAX);
        while model.manager.reap(7) {}
        let totals = model.manager.totals();
        prop_assert_eq!(totals.free + totals.tables, totals.total);
    }
}
