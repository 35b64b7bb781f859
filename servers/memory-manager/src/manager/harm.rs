//! Tables that are damaged: the manager ends before it refuses what the records allow, or says that
//! something came about that did not.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libipc::proto::memory::{ImageSegment, MemoryError, Protection};

use super::Manager;
use super::fake::{FakeMachine, fault, manager, name_of, process, register};
use crate::journal::ObjectRecord;
use crate::machine::Life;
use crate::regions::Backing;
use crate::resolve::Refusal;

const WRITE: u64 = 6;
const FETCH: u64 = 0x14;

type TestManager = Manager<'static, FakeMachine>;

/// A manager of one space: zeros from page 0x100 to 0x140, an image's copies from 0x200 to 0x204.
fn with_space() -> (TestManager, u32) {
    let (mut manager, machine) = manager(256);
    let process = process(&machine);
    let space = register(&mut manager, process).unwrap();
    let by = name_of(space);
    manager
        .map_anonymous(by, 0x10_0000, 0x40, Protection::ReadWrite)
        .unwrap();
    let segment = ImageSegment {
        address: 0x20_0000,
        pages: 4,
        page_offset: 0,
        file_bytes: 4 * 4096,
        protection: Protection::ReadWrite,
    };
    let image = machine.image(4);
    manager.map_image(name_of(space), &segment, image).unwrap();
    (manager, space)
}

fn ends(what: &str, act: impl FnOnce()) {
    let result = catch_unwind(AssertUnwindSafe(act));
    assert!(result.is_err(), "{what} was not noticed");
}

fn ends_at_fault(what: &str, page: u64, damage: impl FnOnce(&mut TestManager, u32)) {
    let (mut manager, space) = with_space();
    damage(&mut manager, space);
    ends(what, || {
        let _ = manager.fault(space, &fault(page, WRITE));
    });
}

#[test]
fn a_fault_that_the_records_allow_is_not_refused() {
    ends_at_fault("a space taken for gone", 0x100, |manager, space| {
        manager.spaces.live_mut(space).unwrap().is_gone = true;
    });
    ends_at_fault("a lost region", 0x100, |manager, space| {
        let range = crate::regions::PageRange::from_pages(0x100, 0x40).unwrap();
        let space = manager.spaces.live_mut(space).unwrap();
        space.regions.remove(&range);
    });
    ends_at_fault("another protection", 0x100, |manager, space| {
        let space = manager.spaces.live_mut(space).unwrap();
        space.regions.find_mut(0x100).unwrap().protection = Protection::Read;
    });
    ends_at_fault("frames that were lost", 0x100, |manager, _| {
        while manager.buddy.allocate(1).is_some() {}
    });
}

#[test]
fn a_fault_that_the_records_refuse_is_refused() {
    let (mut manager, space) = with_space();
    for (page, code, refusal) in [
        (0xff, WRITE, Refusal::OutsideRegions),
        (0x140, WRITE, Refusal::OutsideRegions),
        (0x100, FETCH, Refusal::Protection),
    ] {
        assert_eq!(manager.fault(space, &fault(page, code)), Err(refusal));
    }
    let none = manager.fault(space + 1024, &fault(0x100, WRITE));
    assert_eq!(none, Err(Refusal::NoSpace));
}

#[test]
fn the_last_frames_are_refused_to_who_has_much_without_an_end() {
    let (mut manager, space) = with_space();
    manager
        .map_anonymous(name_of(space), 0x40_0000, 0x200, Protection::ReadWrite)
        .unwrap();
    let refused = (0x400..0x600)
        .map(|page| manager.fault(space, &fault(page, WRITE)))
        .find_map(Result::err);
    assert_eq!(refused, Some(Refusal::OutOfMemory));
    // They are for who has little.
    assert!(manager.totals().free > 0);
}

#[test]
fn pages_that_are_there_are_not_brought_again() {
    let (mut manager, space) = with_space();
    manager.fault(space, &fault(0x100, WRITE)).unwrap();
    let list = &mut manager.spaces.live_mut(space).unwrap().frames;
    let frame = manager.buddy.allocate(4).unwrap();
    // As if what is there around a page were not looked for.
    ends("a page with two frames", || {
        manager
            .residents
            .insert_run(list, space, 0xfe..0x102, frame);
    });
}

#[test]
fn memory_of_the_manager_that_is_not_used_up_is_no_reason_to_refuse() {
    let (manager, _) = with_space();
    ends("room that is not seen", || {
        manager.check_no_space(MemoryError::NoMemory);
    });
    ends("spaces that are not there", || {
        manager.check_no_space(MemoryError::LimitReached);
    });
    ends("an error that cannot be", || {
        manager.check_no_space(MemoryError::Overlap);
    });
    let (mut manager, machine) = super::fake::manager(256);
    assert!(!manager.is_used_up());
    for _ in 0..crate::spaces::MAX_SPACES / 2 {
        let process = process(&machine);
        register(&mut manager, process).unwrap();
    }
    assert!(manager.is_used_up());
    manager.check_no_space(MemoryError::NoMemory);
}

#[test]
fn a_space_is_not_made_under_another_name() {
    // Of the number, of the era, and the one that tells a pager from a client.
    for bit in [0, 40, 62] {
        let (mut manager, machine) = manager(64);
        let process = process(&machine);
        machine.0.borrow_mut().wrong_badges = 1 << bit;
        ends("a badge of something else", || {
            let _ = register(&mut manager, process);
        });
        // The next instance is asked once more.
        assert!(manager.journal.records().spaces().is_empty());
    }
    let (manager, space) = with_space();
    ends("a number that was given out", || manager.check_new(space));
    ends("a space that is laid out", || manager.check_made(space, 0));
    ends("a space that is not there", || {
        manager.check_made(space + 1, 0)
    });
    ends("a request that is not noted", || {
        let by = name_of(space);
        manager.check_noted(by);
    });
    ends("an owner that did not ask", || {
        manager.check_owner(name_of(space), space + 1);
    });
    manager.check_owner(name_of(space), space);
}

#[test]
fn an_object_is_written_down_as_it_is() {
    let (mut manager, space) = with_space();
    let _given = manager.create_object(name_of(space), 4).unwrap();
    let (&first, &record) = manager.journal.records().objects().iter().next().unwrap();
    manager.check_object(first, record);
    for wrong in [
        ObjectRecord {
            memory: record.memory + 1,
            ..record
        },
        ObjectRecord { pages: 2, ..record },
        ObjectRecord {
            owner: space + 1,
            ..record
        },
    ] {
        ends("another object", || manager.check_object(first, wrong));
    }
}

#[test]
fn an_image_is_shown_as_it_was_asked_for() {
    let (mut manager, space) = with_space();
    let space = manager.spaces.live_mut(space).unwrap();
    let Backing::Private(image) = &mut space.regions.find_mut(0x200).unwrap().backing else {
        panic!("no image")
    };
    image.memory = std::rc::Rc::new(manager.machine.image(4));
    let by = name_of(manager.spaces.all_numbered().next().unwrap().0);
    ends("another image", || {
        let _ = manager.map_anonymous(by, 0x60_0000, 1, Protection::Read);
    });
}

#[test]
fn a_frame_that_holds_a_page_is_not_given_out() {
    // Of a run, the second of its two frames.
    let (mut manager, space) = with_space();
    let first = manager.fault(space, &fault(0x100, WRITE)).unwrap();
    manager.buddy.release(first.frame, 1);
    ends("a frame that is in use", || {
        let mut page = 0x101;
        while page < 0x140 {
            page += manager.fault(space, &fault(page, WRITE)).unwrap().pages;
        }
    });
    for page in [0x200, 0x201] {
        let (mut manager, space) = with_space();
        let first = manager.fault(space, &fault(0x100, WRITE)).unwrap();
        // It is the next one that is taken.
        manager.buddy.release(first.frame, 1);
        ends("a frame that is in use", || {
            let _ = manager.fault(space, &fault(page, WRITE));
        });
        let (mut manager, space) = with_space();
        let first = manager.fault(space, &fault(0x100, WRITE)).unwrap();
        manager.buddy.release(first.frame, 1);
        ends("a frame that is in use", || {
            let _ = manager.create_object(name_of(space), 1);
        });
    }
}

#[test]
fn a_request_that_the_records_allow_is_not_refused() {
    let (mut manager, space) = with_space();
    let range = crate::regions::PageRange::from_pages(0x100, 0x40).unwrap();
    let live = manager.spaces.live_mut(space).unwrap();
    live.regions.remove(&range);
    ends("a region that is not found", || {
        let _ = manager.unmap(name_of(space), 0x10_0000, 0x40);
    });
    ends("a region that is not found", || {
        let _ = manager.protect(name_of(space), 0x10_0000, 0x40, Protection::Read);
    });
    // What was done to tables and records that disagree does not count as done.
    ends("a region that is missing", || {
        let _ = manager.map_anonymous(name_of(space), 0x30_0000, 1, Protection::Read);
    });
    let (mut manager, space) = with_space();
    manager.spaces.live_mut(space).unwrap().is_gone = true;
    ends("a space taken for gone", || {
        let _ = manager.unmap(name_of(space), 0x10_0000, 0x40);
    });
    let (mut manager, space) = with_space();
    while manager.buddy.allocate(1).is_some() {}
    ends("frames that were lost", || {
        let _ = manager.create_object(name_of(space), 1);
    });
}

#[test]
fn nonsense_is_refused_without_an_end() {
    let (mut manager, space) = with_space();
    let by = || name_of(space);
    let kept = Protection::Read;
    let results = [
        (
            manager.map_anonymous(by(), 0x10_0000, 1, kept),
            MemoryError::Overlap,
        ),
        (
            manager.map_anonymous(by(), 0xff_000, 2, kept),
            MemoryError::Overlap,
        ),
        (
            manager.map_anonymous(by(), 0x10_0001, 1, kept),
            MemoryError::BadRange,
        ),
        (
            manager.map_anonymous(by(), 0, 1, kept),
            MemoryError::BadRange,
        ),
        (
            manager.map_anonymous(by(), u64::MAX - 4095, 1, kept),
            MemoryError::BadRange,
        ),
        (
            manager.map_anonymous(by(), 0x50_0000, u64::MAX, kept),
            MemoryError::BadRange,
        ),
        (manager.unmap(by(), 0x14_0000, 1), MemoryError::NotMapped),
        (
            manager.protect(by(), 0x13_f000, 2, kept),
            MemoryError::NotMapped,
        ),
        (
            manager.unmap(name_of(space + 1024), 0x10_0000, 1),
            MemoryError::NoSpace,
        ),
    ];
    for (index, (result, error)) in results.into_iter().enumerate() {
        assert_eq!(result, Err(error), "{index}");
    }
    let none = manager.create_object(by(), 0).map(drop);
    assert_eq!(none, Err(MemoryError::BadRange));
    let none = manager.create_object(by(), 1 << 20).map(drop);
    assert_eq!(none, Err(MemoryError::BadRange));
    let none = manager.create_object(by(), 250).map(drop);
    assert_eq!(none, Err(MemoryError::NoMemory));
}

#[test]
fn a_process_that_has_pages_is_not_gone() {
    let (mut manager, machine) = manager(64);
    let process = process(&machine);
    let space = register(&mut manager, process).unwrap();
    manager
        .map_anonymous(name_of(space), 0x10_0000, 4, Protection::ReadWrite)
        .unwrap();
    let mapping = manager.fault(space, &fault(0x100, WRITE)).unwrap();
    machine.0.borrow_mut().install(process, &mapping);
    // As if the wrong bit of its state were looked at.
    machine.0.borrow_mut().lives[process] = Life::Gone;
    ends("a process that lives", || {
        manager.note_deaths();
    });
}
