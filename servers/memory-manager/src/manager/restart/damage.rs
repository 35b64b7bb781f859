//! What is written down is damaged: whatever is lost, no frame ever has two users, none is lost,
//! and what others have stays as it is.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use libipc::proto::memory::{MemoryError, Protection};
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::fake::{
    Died, FIRST_ERA, FakeHandle, FakeMachine, TableMemory, fault, name, name_in, name_of, store,
};
use super::step::{Step, step};
use super::{Outside, Run, TestManager, drop_without_closing, frames_of};
use crate::inventory::{Contradiction, StartedOver};
use crate::journal::{Journal, ObjectRecord, Record};
use crate::machine::Life;
use crate::resolve::Access;
use crate::{Frame, PAGE_BYTES};

const STATE_BYTES: usize = 16 * 1024;
const WRITE: u64 = 6;

/// Runs a script without a death, and leaves everything as it is when the manager dies then.
fn leave(script: &[Step]) -> Outside {
    let machine = FakeMachine::new(60, STATE_BYTES);
    let mut run = Run {
        outside: Outside::new(machine.clone()),
        steps: script.iter(),
        is_over: false,
    };
    let mut tables = TableMemory::new(&machine);
    let (mut manager, _) = tables.open(&machine).unwrap();
    while run.take_turn(&mut manager) {}
    drop_without_closing(manager, &machine);
    machine.0.borrow_mut().is_damaged = true;
    run.outside
}

/// Starts managers on what is left, which die before these steps of theirs, and has `then` look
/// at the first one that lives, with what the instances said about starting over.
fn start(
    outside: &mut Outside,
    deaths: &[usize],
    then: impl FnOnce(&mut Outside, &mut TestManager<'_>, Option<StartedOver>),
) {
    let machine = outside.machine.clone();
    let mut then = Some(then);
    for death in deaths.iter().copied().map(Some).chain([None]) {
        machine.bury(death);
        let life = catch_unwind(AssertUnwindSafe(|| {
            let mut tables = TableMemory::new(&machine);
            let (mut manager, found) = tables.open(&machine).unwrap();
            if death.is_none()
                && let Some(then) = then.take()
            {
                then(outside, &mut manager, found.started_over);
            }
            drop_without_closing(manager, &machine);
        }));
        match life {
            Ok(()) => {}
            Err(cause) if cause.is::<Died>() => {}
            Err(cause) => resume_unwind(cause),
        }
    }
}

/// Fails if a frame that somebody can reach is free or has two users, if one was lost, or if an
/// object was changed.
fn check_frames(outside: &Outside, manager: &TestManager<'_>) {
    let totals = manager.totals();
    let used = totals.free + totals.anonymous + totals.objects + totals.tables;
    assert_eq!(used, totals.total, "frames are lost");
    assert_eq!(
        outside.machine.table(),
        manager.journal.records().handles(),
        "handles are left over"
    );
    let world = outside.machine.0.borrow();
    let bodies = outside.objects.iter();
    let mut users: Vec<Frame> = bodies.flat_map(|body| frames_of(body)).collect();
    for frame in &users {
        let content = u64::MAX - u64::from(*frame);
        assert_eq!(world.contents.get(frame), Some(&content), "of an object");
    }
    users.extend(world.mapped.values().filter_map(|(frame, _)| *frame));
    let count = users.len();
    let users: BTreeSet<Frame> = users.into_iter().collect();
    assert_eq!(users.len(), count, "a frame has two users");
    assert!(users.iter().all(|frame| !manager.buddy.is_free(*frame)));
}

/// Goes on with a manager that started over: nobody of before runs, new clients get frames of
/// nobody, and in the end all of them are free.
fn go_on(outside: &mut Outside, manager: &mut TestManager<'_>) {
    for client in outside.clients.drain(..) {
        assert_eq!(
            outside.machine.0.borrow().lives[client.process],
            Life::Gone,
            "a process runs on of which nobody knows what it may touch"
        );
        let refused = manager.map_anonymous(name_of(client.space), 1 << 20, 1, Protection::Read);
        assert_eq!(refused, Err(MemoryError::NoSpace), "an old sender is good");
    }
    assert_eq!(manager.totals().spaces, 0);
    for _ in 0..2 {
        let process = super::super::fake::process(&outside.machine);
        let handle = outside.machine.process(process);
        let space = manager.create_space(name(), handle).map(FakeHandle::send);
        let space = space.unwrap();
        let by = name_in(manager.era, space);
        manager
            .map_anonymous(by, 16 * PAGE_BYTES, 60, Protection::ReadWrite)
            .unwrap();
        let mut page = 16;
        while page < 76 {
            let Ok(mapping) = manager.fault(space, &fault(page, WRITE)) else {
                break;
            };
            outside.machine.0.borrow_mut().install(process, &mapping);
            page = mapping.page + mapping.pages;
        }
        check_frames(outside, manager);
    }
    outside.objects.clear();
    let processes = outside.machine.0.borrow().lives.len();
    for process in 0..processes {
        outside.machine.0.borrow_mut().end(process);
    }
    manager.sweep_objects(usize::MAX);
    manager.note_deaths();
    while manager.reap(7) {}
    let totals = manager.totals();
    assert_eq!(totals.free + totals.tables, totals.total);
    assert_eq!(outside.machine.table(), [0; 0]);
}

/// Starts managers on what is left and fails if any of them does harm.
fn check_whatever_is_lost(outside: &mut Outside, deaths: &[usize]) {
    start(outside, deaths, |outside, manager, _| {
        check_frames(outside, manager);
        if manager.era == FIRST_ERA {
            // All was there, or made right.
            assert!(outside.machine.0.borrow().lost.is_empty());
            outside.check(manager);
        } else {
            go_on(outside, manager);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_damage_to_the_records_makes_two_users_of_a_frame(
        script in prop::collection::vec(step(), 1..40),
        damage in prop::collection::vec((any::<Index>(), 1_u8..), 1..12),
        deaths in prop::collection::vec(0..160_usize, 0..4),
    ) {
        let mut outside = leave(&script);
        {
            let mut world = outside.machine.0.borrow_mut();
            // Most of it is not used yet.
            let used = world.state.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
            for (place, mask) in damage {
                world.state[place.index(used)] ^= mask;
            }
        }
        check_whatever_is_lost(&mut outside, &deaths);
    }

    #[test]
    fn nor_does_their_loss(
        script in prop::collection::vec(step(), 1..40),
        deaths in prop::collection::vec(0..160_usize, 0..4),
    ) {
        let mut outside = leave(&script);
        outside.machine.0.borrow_mut().state.fill(0);
        check_whatever_is_lost(&mut outside, &deaths);
    }
}

/// A client with two pages, and an object that somebody has.
fn simple() -> Outside {
    leave(&[
        Step::Map {
            client: 0,
            pages: 16..20,
            protection: Protection::ReadWrite,
        },
        Step::Touch {
            client: 0,
            page: 16,
            access: Access::Write,
        },
        Step::Create {
            client: 1,
            pages: 3,
        },
    ])
}

/// A manager that starts over may die before each of its steps.
#[test]
fn starting_over_can_be_interrupted_anywhere() {
    let mut steps = 0;
    let mut outside = simple();
    outside.machine.0.borrow_mut().state.fill(0);
    start(&mut outside, &[], |outside, _, _| {
        steps = outside.machine.0.borrow().steps;
    });
    assert!(steps > 20);
    for death in 0..steps {
        let mut outside = simple();
        outside.machine.0.borrow_mut().state.fill(0);
        check_whatever_is_lost(&mut outside, &[death]);
        assert_eq!(outside.machine.0.borrow().eras(), 2);
    }
}

/// Writes something down that is not true, and returns what the next instance says.
fn contradiction(lie: impl FnOnce(&Outside, &mut Journal<super::super::fake::Store>)) {
    let mut outside = simple();
    let (mut journal, _) = Journal::open(store(&outside.machine)).unwrap();
    lie(&outside, &mut journal);
    start(&mut outside, &[], |outside, manager, over| {
        let over = over.expect("believed");
        assert!(over.has_losses());
        assert_ne!(over.why, Contradiction::NothingWritten);
        // The object is still there, and the clients are not.
        assert_eq!((over.ended, over.objects), (3, 1), "{}", over.why);
        check_frames(outside, manager);
        go_on(outside, manager);
    });
}

#[test]
fn records_that_the_kernel_contradicts_are_not_believed() {
    let first = |outside: &Outside| outside.objects[0].first.unwrap();
    let object = |outside: &Outside, journal: &Journal<_>| -> ObjectRecord {
        journal.records().objects()[&first(outside)]
    };
    // An object was forgotten that somebody has.
    contradiction(|outside, journal| {
        journal.change(Record::ObjectGone(first(outside))).unwrap();
    });
    // A space was forgotten whose process has a frame.
    contradiction(|outside, journal| {
        let gone = Record::SpaceGone(outside.clients[0].space);
        journal.change(gone).unwrap();
    });
    // The process of a space is another one.
    contradiction(|outside, journal| {
        let space = outside.clients[1].space;
        let made = Record::SpaceMade {
            space,
            process: journal.records().spaces()[&space].process,
            process_number: 77,
            by: name(),
        };
        journal.add(made).unwrap();
    });
    // An object is elsewhere, longer, or has no handle.
    for (offset, pages, handle) in [(1, 3, 0), (0, 4, 0), (0, 3, 1000), (8, 3, 1000)] {
        contradiction(|outside, journal| {
            let mut object = object(outside, journal);
            object.pages = pages;
            object.memory += handle;
            if offset == 1 {
                journal.change(Record::ObjectGone(first(outside))).unwrap();
            }
            let made = Record::ObjectMade {
                first: first(outside) + offset,
                object,
            };
            journal.add(made).unwrap();
        });
    }
}

#[test]
fn a_first_start_is_no_loss() {
    let machine = FakeMachine::new(60, STATE_BYTES);
    let mut tables = TableMemory::new(&machine);
    let (_, found) = tables.open(&machine).unwrap();
    let over = found.started_over.unwrap();
    assert_eq!(over.why, Contradiction::NothingWritten);
    assert!(!over.has_losses());
}
