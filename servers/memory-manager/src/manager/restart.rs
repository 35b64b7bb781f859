//! The manager dies before every step that it takes, and the next one goes on.
//!
//! A script of requests is run once without a death, to count the steps; then once for each step,
//! with a death before it and the request delivered again. Whatever the step: each request is
//! answered as the model says, pages hold what was written to them and are shown to nobody else,
//! each frame has one owner or is free, and no handle is left over.

mod client;
mod damage;
mod step;

use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use libipc::proto::memory::{ImageSegment, MemoryError, Protection};
use proptest::prelude::*;

use super::Manager;
use super::fake::{Body, Died, FakeHandle, FakeMachine, TableMemory, fault, name, name_of};
use crate::inventory::StartedOver;
use crate::journal::RequestName;
use crate::machine::Life;
use crate::resolve::{Access, Refusal};
use crate::{Frame, PAGE_BYTES};
use client::{Client, IMAGE_PAGES};
use step::{CLIENTS, Step, step};

type TestManager<'a> = Manager<'a, FakeMachine>;

/// What a request was answered with.
enum Answer {
    Done(Result<(), MemoryError>),
    Sender(Result<FakeHandle, MemoryError>),
    Object(Result<FakeHandle, MemoryError>),
    Fault(Result<super::Mapping, Refusal>),
}

/// What is under way.
enum Request {
    Register(usize),
    Step(Step),
}

/// Everything outside of the manager.
struct Outside {
    machine: FakeMachine,
    clients: Vec<Client>,
    objects: Vec<Rc<Body>>,
    /// Unique patterns.
    next_content: u64,
    /// The request that is to be answered next, under its name.
    current: Option<(RequestName, Request)>,
    /// Numbers of spaces of clients.
    seen: BTreeSet<u32>,
    /// Processes that were never started and that nobody can start any more.
    forsaken: Vec<usize>,
    deaths: usize,
}

impl Outside {
    fn new(machine: FakeMachine) -> Self {
        Outside {
            machine,
            clients: Vec::new(),
            objects: Vec::new(),
            next_content: 1,
            current: None,
            seen: BTreeSet::new(),
            forsaken: Vec::new(),
            deaths: 0,
        }
    }

    /// Lets `manager` do the current request; it may die in it.
    fn carry_out(&self, manager: &mut TestManager<'_>, by: RequestName) -> Answer {
        let Some((_, request)) = &self.current else {
            return Answer::Done(Ok(()));
        };
        match request {
            Request::Register(process) => {
                let process = self.machine.process(*process);
                Answer::Sender(manager.create_space(by, process))
            }
            Request::Step(step) => self.carry_out_step(manager, by, step),
        }
    }

    fn carry_out_step(
        &self,
        manager: &mut TestManager<'_>,
        by: RequestName,
        step: &Step,
    ) -> Answer {
        let place = |pages: &Range<u64>| (pages.start * PAGE_BYTES, pages.end - pages.start);
        Answer::Done(match step {
            Step::Map {
                pages, protection, ..
            } => {
                let (address, count) = place(pages);
                manager.map_anonymous(by, address, count, *protection)
            }
            Step::MapImage {
                page, protection, ..
            } => {
                let segment = segment(*page, *protection);
                let image = self.machine.image(IMAGE_PAGES);
                manager.map_image(by, &segment, image)
            }
            Step::Unmap { pages, .. } => {
                let (address, count) = place(pages);
                manager.unmap(by, address, count)
            }
            Step::Protect {
                pages, protection, ..
            } => {
                let (address, count) = place(pages);
                manager.protect(by, address, count, *protection)
            }
            Step::Touch {
                client,
                page,
                access,
            } => {
                let code = if *access == Access::Write { 6 } else { 4 };
                return Answer::Fault(
                    manager.fault(self.clients[*client].space, &fault(*page, code)),
                );
            }
            Step::Create { pages, .. } => {
                return Answer::Object(manager.create_object(by, *pages));
            }
            Step::RegisterAgain { client } => {
                let process = self.machine.process(self.clients[*client].process);
                return Answer::Sender(manager.create_space(by, process));
            }
            Step::DropObject | Step::End { .. } | Step::Forsake { .. } | Step::Housekeeping => {
                manager.sweep_objects(2);
                manager.note_deaths();
                manager.reap(3);
                Ok(())
            }
        })
    }

    /// Names the request of a step.
    fn name_for(&self, step: &Step) -> RequestName {
        match step {
            Step::Map { client, .. }
            | Step::MapImage { client, .. }
            | Step::Unmap { client, .. }
            | Step::Protect { client, .. }
            | Step::Create { client, .. } => name_of(self.clients[*client].space),
            _ => name(),
        }
    }

    /// Does what happens in the kernel before the manager hears of it. Returns whether it has to.
    fn begin(&mut self, step: &Step) -> bool {
        match *step {
            Step::Touch {
                client,
                page,
                access,
            } => !self.touch(client, page, access),
            Step::DropObject => {
                self.objects.pop();
                true
            }
            Step::End { client, is_slow } => {
                let client = self.clients.remove(client);
                let mut world = self.machine.0.borrow_mut();
                world.close_sender(client.space);
                if is_slow {
                    world.dying.insert(client.process);
                } else {
                    world.end(client.process);
                }
                true
            }
            Step::Forsake { client } => {
                let client = self.clients.remove(client);
                let mut world = self.machine.0.borrow_mut();
                world.lives[client.process] = Life::Unstarted;
                world.close_sender(client.space);
                self.forsaken.push(client.process);
                true
            }
            _ => true,
        }
    }

    /// A client touches a page that it can reach. Returns whether it could.
    fn touch(&mut self, client: usize, page: u64, access: Access) -> bool {
        let mut world = self.machine.0.borrow_mut();
        let key = (self.clients[client].process, page);
        let Some((frame, protection)) = world.mapped.get(&key).copied() else {
            return false;
        };
        if !access.is_allowed(protection) {
            return false;
        }
        let model = self.clients[client].pages.get_mut(&page);
        let model = model.expect("it can reach what it has not");
        let Some(frame) = frame else {
            assert!(model.is_shared);
            return true;
        };
        assert_eq!(
            world.contents.get(&frame),
            Some(&model.content),
            "at {page}"
        );
        model.is_there = true;
        if access == Access::Write {
            model.content = self.next_content;
            self.next_content += 1;
            world.contents.insert(frame, model.content);
        }
        true
    }

    /// The answer has reached its client: compares it with the model.
    fn answered(&mut self, manager: &mut TestManager<'_>, answer: Answer) {
        let Some((_, request)) = self.current.take() else {
            return;
        };
        match (request, answer) {
            (Request::Register(process), Answer::Sender(sender)) => {
                let space = sender.expect("not registered").send();
                assert!(self.seen.insert(space), "a space number came twice");
                self.clients.push(Client::new(process, space));
            }
            (Request::Step(Step::RegisterAgain { .. }), Answer::Sender(sender)) => {
                assert_eq!(sender.unwrap_err(), MemoryError::AlreadyRegistered);
            }
            (Request::Step(Step::Create { .. }), Answer::Object(object)) => match object {
                Ok(object) => self.take_object(object),
                Err(error) => {
                    assert_eq!(error, MemoryError::NoMemory);
                    assert!(manager.totals().largest_free_run < 8);
                }
            },
            (
                Request::Step(Step::Touch {
                    client,
                    page,
                    access,
                }),
                Answer::Fault(mapping),
            ) => self.check_fault(client, page, access, mapping),
            (Request::Step(step), Answer::Done(result)) => self.check_done(&step, result),
            _ => panic!("an answer to something else"),
        }
    }

    fn take_object(&mut self, object: FakeHandle) {
        let body = object.body();
        let mut world = self.machine.0.borrow_mut();
        for frame in frames_of(&body) {
            assert_eq!(world.contents.get(&frame), Some(&0), "not zeroed");
            world.contents.insert(frame, u64::MAX - u64::from(frame));
        }
        drop(world);
        self.objects.push(body);
    }

    fn check_fault(
        &mut self,
        client: usize,
        page: u64,
        access: Access,
        mapping: Result<super::Mapping, Refusal>,
    ) {
        let owner = &self.clients[client];
        let expected = match owner.pages.get(&page) {
            None => Err(Refusal::OutsideRegions),
            Some(page) if !access.is_allowed(page.protection) => Err(Refusal::Protection),
            Some(_) => Ok(()),
        };
        match mapping {
            Ok(mapping) => {
                assert_eq!(expected, Ok(()));
                self.machine.0.borrow_mut().install(owner.process, &mapping);
                for page in mapping.page..mapping.page + mapping.pages {
                    self.clients[client].pages.get_mut(&page).unwrap().is_there = true;
                }
                assert!(self.touch(client, page, access));
            }
            Err(Refusal::OutOfMemory) => {}
            Err(refusal) => assert_eq!(expected, Err(refusal)),
        }
    }

    fn check_done(&mut self, step: &Step, result: Result<(), MemoryError>) {
        let expected = match step {
            Step::Map {
                client,
                pages,
                protection,
            } => self.clients[*client].map(pages.clone(), *protection),
            Step::MapImage {
                client,
                page,
                protection,
            } => self.clients[*client].map_image(*page, *protection),
            Step::Unmap { client, pages } => self.clients[*client].unmap(pages),
            Step::Protect {
                client,
                pages,
                protection,
            } => self.clients[*client].protect(pages, *protection),
            _ => Ok(()),
        };
        assert_eq!(result, expected);
    }

    /// Returns whether the request that is not answered yet may have changed a page.
    fn is_changing(&self, owner: &Client, page: u64) -> bool {
        let Some((_, Request::Step(step))) = &self.current else {
            return false;
        };
        let (client, pages) = match step {
            Step::Unmap { client, pages }
            | Step::Protect { client, pages, .. }
            | Step::Map { client, pages, .. } => (*client, pages.clone()),
            Step::MapImage { client, page, .. } => (*client, *page..page + IMAGE_PAGES),
            _ => return false,
        };
        self.clients[client].process == owner.process && pages.contains(&page)
    }

    fn check(&self, manager: &TestManager<'_>) {
        let totals = manager.totals();
        let used = totals.free + totals.anonymous + totals.objects + totals.tables;
        assert_eq!(used, totals.total);
        assert!(manager.is_sound());
        assert_eq!(self.machine.table(), manager.journal.records().handles());

        let world = self.machine.0.borrow();
        let mut owned: Vec<Frame> = self
            .objects
            .iter()
            .flat_map(|body| frames_of(body))
            .collect();
        for frame in &owned {
            let content = world.contents.get(frame);
            assert_eq!(
                content,
                Some(&(u64::MAX - u64::from(*frame))),
                "an object was written"
            );
        }
        for ((process, page), (frame, protection)) in &world.mapped {
            owned.extend(frame);
            let mut clients = self.clients.iter();
            let Some(client) = clients.find(|client| client.process == *process) else {
                // It ends: what is mapped is still its own, but nobody reads it any more.
                continue;
            };
            if self.is_changing(client, *page) {
                continue;
            }
            let model = &client.pages[page];
            assert_eq!(model.protection, *protection);
            if let Some(frame) = frame {
                assert_eq!(
                    world.contents.get(frame),
                    Some(&model.content),
                    "at {page:#x}"
                );
            }
        }
        for client in &self.clients {
            assert_ne!(
                world.lives[client.process],
                Life::Gone,
                "a client was ended"
            );
            for (page, model) in &client.pages {
                let is_mapped = world.mapped.contains_key(&(client.process, *page))
                    || self.is_changing(client, *page);
                assert!(
                    is_mapped || !model.is_there && !model.is_shared,
                    "{page:#x} was lost"
                );
            }
        }
        let count = owned.len();
        owned.sort_unstable();
        owned.dedup();
        assert_eq!(owned.len(), count, "a frame has two users");
        assert!(owned.iter().all(|frame| !manager.buddy.is_free(*frame)));
    }
}

fn segment(page: u64, protection: Protection) -> ImageSegment {
    ImageSegment {
        address: page * PAGE_BYTES,
        pages: IMAGE_PAGES,
        page_offset: 0,
        file_bytes: IMAGE_PAGES * PAGE_BYTES,
        protection,
    }
}

fn frames_of(body: &Body) -> Range<Frame> {
    let first = body.first.unwrap();
    first..first + body.pages as u32
}

/// The script and how far it has got.
struct Run<'s> {
    outside: Outside,
    steps: std::slice::Iter<'s, Step>,
    is_over: bool,
}

impl Run<'_> {
    /// Goes on with this manager until the script is over, or the manager dies.
    fn go_on(&mut self, manager: &mut TestManager<'_>) {
        while !self.is_over {
            if !self.take_turn(manager) {
                self.end(manager);
            }
        }
    }

    /// Has the manager answer the next request. Returns whether there was one.
    fn take_turn(&mut self, manager: &mut TestManager<'_>) -> bool {
        self.hear_news(manager);
        if self.outside.current.is_none() && !self.next_request() {
            return false;
        }
        let Some((by, _)) = self.outside.current else {
            return true;
        };
        let answer = self.outside.carry_out(manager, by);
        // Before the reply, and with it.
        self.outside.machine.step();
        self.outside.answered(manager, answer);
        self.outside.check(manager);
        true
    }

    fn hear_news(&self, manager: &mut TestManager<'_>) {
        loop {
            let news = self.outside.machine.0.borrow().news.first().copied();
            let Some(space) = news else { return };
            manager.sender_closed(space);
            self.outside.machine.step();
            self.outside.machine.0.borrow_mut().news.remove(0);
        }
    }

    /// Makes the next request. Returns whether there is one.
    fn next_request(&mut self) -> bool {
        if self.outside.clients.len() < CLIENTS {
            let mut world = self.outside.machine.0.borrow_mut();
            world.lives.push(Life::Unstarted);
            let request = Request::Register(world.lives.len() - 1);
            drop(world);
            self.outside.current = Some((name(), request));
            return true;
        }
        for step in self.steps.by_ref() {
            // Those that were registered go on to run.
            for client in &self.outside.clients {
                let life = &mut self.outside.machine.0.borrow_mut().lives[client.process];
                if *life == Life::Unstarted {
                    *life = Life::Running;
                }
            }
            let by = self.outside.name_for(step);
            if self.outside.begin(step) {
                self.outside.current = Some((by, Request::Step(step.clone())));
                return true;
            }
        }
        false
    }

    /// Ends everything: nothing may be left over.
    fn end(&mut self, manager: &mut TestManager<'_>) {
        // News may wait for any other request.
        let refused = manager.map_anonymous(name_of(0), 1 << 20, 1, Protection::Read);
        assert_eq!(refused, Err(MemoryError::NoSpace));
        for process in &self.outside.forsaken {
            let life = self.outside.machine.0.borrow().lives[*process];
            assert_eq!(life, Life::Gone, "it is there for ever");
        }
        self.outside.objects.clear();
        let processes = self.outside.machine.0.borrow().lives.len();
        for process in 0..processes {
            self.outside.machine.0.borrow_mut().end(process);
        }
        self.outside.clients.clear();
        manager.sweep_objects(usize::MAX);
        manager.note_deaths();
        while manager.reap(7) {}
        let totals = manager.totals();
        assert_eq!(totals.free + totals.tables, totals.total);
        assert_eq!(totals.spaces, 0);
        assert_eq!(self.outside.machine.table(), [0; 0]);
        self.is_over = true;
    }
}

/// Runs a script; the instances of the manager die before these steps of theirs. Returns how many
/// steps the last instance took, and how many died.
fn run(script: &[Step], state_bytes: usize, deaths: &[usize]) -> (usize, usize) {
    let machine = FakeMachine::new(60, state_bytes);
    let mut deaths = deaths.iter().copied();
    machine.bury(deaths.next());
    let mut run = Run {
        outside: Outside::new(machine.clone()),
        steps: script.iter(),
        is_over: false,
    };
    while !run.is_over {
        let life = catch_unwind(AssertUnwindSafe(|| {
            let mut tables = TableMemory::new(&machine);
            let (mut manager, found) = tables.open(&machine).unwrap();
            assert_eq!(found.stray, 0);
            let started_over = found.started_over.filter(StartedOver::has_losses);
            assert_eq!(started_over, None, "nothing was damaged");
            run.outside.check(&manager);
            run.go_on(&mut manager);
        }));
        match life {
            Ok(()) => {}
            Err(cause) if cause.is::<Died>() => {
                run.outside.deaths += 1;
                machine.bury(deaths.next());
            }
            Err(cause) => resume_unwind(cause),
        }
    }
    let steps = machine.0.borrow().steps;
    (steps, run.outside.deaths)
}

/// Runs a script with a death before each step, one after the other.
fn run_with_every_death(script: &[Step], state_bytes: usize) {
    let (steps, _) = run(script, state_bytes, &[]);
    for last in 0..steps {
        let result = catch_unwind(|| run(script, state_bytes, &[last]));
        match result {
            Ok((_, deaths)) => assert_eq!(deaths, 1),
            Err(cause) => {
                eprintln!("died before step {last} of {steps}");
                resume_unwind(cause);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_death_before_any_step_is_not_noticed(script in prop::collection::vec(step(), 1..40)) {
        run_with_every_death(&script, 64 * 1024);
    }

    #[test]
    fn nor_is_one_while_the_journal_is_written_afresh(
        script in prop::collection::vec(step(), 1..40)
    ) {
        run_with_every_death(&script, 4096);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn many_deaths_in_a_row_are_not_noticed(
        script in prop::collection::vec(step(), 1..60),
        deaths in prop::collection::vec(0..120_usize, 1..40),
    ) {
        run(&script, 8192, &deaths);
    }
}

#[test]
fn a_page_that_no_region_has_is_unmapped_before_its_frame_is_free() {
    let machine = FakeMachine::new(60, 8192);
    let process = super::fake::process(&machine);
    let mut tables = TableMemory::new(&machine);
    let (mut manager, _) = tables.open(&machine).unwrap();
    let handle = machine.process(process);
    let space = manager.create_space(name(), handle).map(FakeHandle::send);
    let (address, space) = (16 * PAGE_BYTES, space.unwrap());
    manager
        .map_anonymous(name_of(space), address, 4, Protection::ReadWrite)
        .unwrap();
    let mapping = manager.fault(space, &fault(16, 6)).unwrap();
    machine.0.borrow_mut().install(process, &mapping);
    let elsewhere = super::Mapping {
        page: 90,
        ..mapping
    };
    machine.0.borrow_mut().install(process, &elsewhere);
    drop_without_closing(manager, &machine);

    let mut tables = TableMemory::new(&machine);
    let (manager, found) = tables.open(&machine).unwrap();
    assert_eq!(found.stray, 1);
    assert_eq!(machine.0.borrow().mapped.len(), 1);
    assert_eq!(manager.totals().anonymous, 1);
}

/// Lets a manager die between two requests.
fn drop_without_closing(manager: TestManager<'_>, machine: &FakeMachine) {
    machine.0.borrow_mut().is_dead = true;
    drop(manager);
    machine.bury(None);
}

/// The ways of the table in `journal`, so that none depends on luck.
#[test]
fn every_kind_of_request_outlives_every_death() {
    let write = |page| Step::Touch {
        client: 0,
        page,
        access: Access::Write,
    };
    let mut script = vec![
        Step::Map {
            client: 0,
            pages: 16..30,
            protection: Protection::ReadWrite,
        },
        Step::MapImage {
            client: 0,
            page: 40,
            protection: Protection::ReadWrite,
        },
        Step::MapImage {
            client: 0,
            page: 44,
            protection: Protection::ReadExecute,
        },
    ];
    script.extend((16..24).chain(40..43).map(write));
    script.extend([
        Step::Protect {
            client: 0,
            pages: 18..20,
            protection: Protection::Read,
        },
        Step::Unmap {
            client: 0,
            pages: 20..42,
        },
        Step::Unmap {
            client: 0,
            pages: 42..60,
        },
        Step::Create {
            client: 0,
            pages: 3,
        },
        Step::DropObject,
        Step::Housekeeping,
        Step::RegisterAgain { client: 0 },
        Step::Forsake { client: 1 },
        Step::End {
            client: 0,
            is_slow: true,
        },
        Step::Housekeeping,
    ]);
    run_with_every_death(&script, 16 * 1024);
}
