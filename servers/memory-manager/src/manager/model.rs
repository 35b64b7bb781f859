//! The manager over a fake kernel, against a naive model: a protection for each page.

use std::collections::BTreeMap;
use std::ops::Range;

use libipc::proto::memory::{MemoryError, Protection};
use proptest::prelude::*;

use super::Manager;
use super::fake::{FakeHandle, FakeMachine, fault, manager, name, name_of, process, register};
use crate::resolve::Refusal;
use crate::{Frame, PAGE_BYTES};

/// Frames of the machine.
const FRAMES: u64 = 60;

type TestManager = Manager<'static, FakeMachine>;

/// What a client may do, with small numbers so that things meet.
#[derive(Clone, Debug)]
enum Step {
    Map {
        space: usize,
        page: u64,
        pages: u64,
        protection: Protection,
    },
    Unmap {
        space: usize,
        page: u64,
        pages: u64,
    },
    Protect {
        space: usize,
        page: u64,
        pages: u64,
        protection: Protection,
    },
    Fault {
        space: usize,
        page: u64,
        code: u64,
    },
    Create {
        pages: u64,
    },
    DropObject,
    End {
        space: usize,
    },
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

impl Client {
    fn map(&mut self, manager: &mut TestManager, pages: Range<u64>, protection: Protection) {
        let is_free = pages.clone().all(|page| !self.pages.contains_key(&page));
        let (address, count) = (pages.start * PAGE_BYTES, pages.end - pages.start);
        let result = manager.map_anonymous(name_of(self.space), address, count, protection);
        let expected = if is_free {
            Ok(())
        } else {
            Err(MemoryError::Overlap)
        };
        assert_eq!(result, expected);
        if is_free {
            self.pages.extend(pages.map(|page| (page, protection)));
        }
    }

    fn unmap(&mut self, manager: &mut TestManager, pages: Range<u64>) {
        let any = pages.clone().any(|page| self.pages.contains_key(&page));
        let count = pages.end - pages.start;
        let result = manager.unmap(name_of(self.space), pages.start * PAGE_BYTES, count);
        assert_eq!(
            result,
            if any {
                Ok(())
            } else {
                Err(MemoryError::NotMapped)
            }
        );
        self.pages.retain(|page, _| !pages.contains(page));
    }

    fn protect(&mut self, manager: &mut TestManager, pages: Range<u64>, protection: Protection) {
        let all = pages.clone().all(|page| self.pages.contains_key(&page));
        let (address, count) = (pages.start * PAGE_BYTES, pages.end - pages.start);
        let result = manager.protect(name_of(self.space), address, count, protection);
        assert_eq!(
            result,
            if all {
                Ok(())
            } else {
                Err(MemoryError::NotMapped)
            }
        );
        if all {
            self.pages.extend(pages.map(|page| (page, protection)));
        }
    }

    fn fault(&self, manager: &mut TestManager, machine: &FakeMachine, page: u64, code: u64) {
        let result = manager.fault(self.space, &fault(page, code));
        let Some(protection) = self.pages.get(&page) else {
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
                machine.0.borrow_mut().install(self.process, &mapping);
            }
            // The last frames are not for everybody.
            Err(Refusal::OutOfMemory) => assert!(manager.totals().free <= FRAMES / 8),
            Err(refusal) => assert!(!is_allowed && refusal == Refusal::Protection),
        }
    }
}

struct Model {
    manager: TestManager,
    machine: FakeMachine,
    clients: Vec<Client>,
    objects: Vec<FakeHandle>,
}

impl Model {
    fn new() -> Self {
        let (manager, machine) = manager(FRAMES);
        let mut model = Model {
            manager,
            machine,
            clients: Vec::new(),
            objects: Vec::new(),
        };
        for _ in 0..3 {
            let client = model.new_client();
            model.clients.push(client);
        }
        model
    }

    fn new_client(&mut self) -> Client {
        let process = process(&self.machine);
        let space = register(&mut self.manager, process).unwrap();
        Client {
            process,
            space,
            pages: BTreeMap::new(),
        }
    }

    fn run(&mut self, step: &Step) {
        let Model {
            manager,
            machine,
            clients,
            objects,
        } = self;
        match *step {
            Step::Map {
                space,
                page,
                pages,
                protection,
            } => {
                clients[space].map(manager, page..page + pages, protection);
            }
            Step::Unmap { space, page, pages } => clients[space].unmap(manager, page..page + pages),
            Step::Protect {
                space,
                page,
                pages,
                protection,
            } => {
                clients[space].protect(manager, page..page + pages, protection);
            }
            Step::Fault { space, page, code } => {
                clients[space].fault(manager, machine, page, code);
            }
            Step::Create { pages } => objects.extend(manager.create_object(name(), pages).ok()),
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

    fn check(&self) {
        let totals = self.manager.totals();
        let used = totals.free + totals.anonymous + totals.objects + totals.tables;
        assert_eq!(used, totals.total);
        let mut frames: Vec<Frame> = Vec::new();
        let world = self.machine.0.borrow();
        for ((process, page), (frame, protection)) in &world.mapped {
            let client = self
                .clients
                .iter()
                .find(|client| client.process == *process)
                .unwrap();
            assert_eq!(client.pages.get(page), Some(protection));
            frames.extend(frame);
        }
        drop(world);
        for object in &self.objects {
            let body = object.body();
            let first = body.first.unwrap();
            frames.extend(first..first + body.pages as u32);
        }
        let count = frames.len();
        frames.sort_unstable();
        frames.dedup();
        assert_eq!(frames.len(), count, "a frame has two users");
        assert!(
            frames
                .iter()
                .all(|frame| !self.manager.buddy.is_free(*frame))
        );
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
