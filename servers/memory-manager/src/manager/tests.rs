//! The manager over a fake kernel, case by case.

use libipc::proto::memory::{ImageSegment, MemoryError, Protection};

use super::Content;
use super::fake::{fault, manager, name, name_of, process, register};
use crate::machine::{Copy, Life};
use crate::resolve::Refusal;

const WRITE: u64 = 6;

#[test]
fn frames_come_back_when_the_process_is_gone_and_not_before() {
    let (mut manager, machine) = manager(64);
    let process = process(&machine);
    let space = register(&mut manager, process).unwrap();
    manager
        .map_anonymous(name_of(space), 0x10_0000, 40, Protection::ReadWrite)
        .unwrap();
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
    assert_eq!(
        manager.fault(space, &fault(0x100, WRITE)),
        Err(Refusal::NoSpace)
    );
    while manager.reap(8) {}
    assert_eq!(manager.totals().free, 64);
    assert_eq!(manager.totals().spaces, 0);
}

#[test]
fn a_changed_number_of_frames_is_found() {
    let (mut manager, machine) = manager(64);
    let process = process(&machine);
    let space = register(&mut manager, process).unwrap();
    let _object = manager.create_object(name_of(space), 4).unwrap();
    manager
        .map_anonymous(name_of(space), 0x10_0000, 4, Protection::ReadWrite)
        .unwrap();
    manager.fault(space, &fault(0x100, WRITE)).unwrap();
    assert!(manager.is_sound());
    for bit in 0..20 {
        manager.anonymous ^= 1 << bit;
        assert!(!manager.is_sound());
        manager.anonymous ^= 1 << bit;
        manager.total ^= 1 << bit;
        assert!(!manager.is_sound());
        manager.total ^= 1 << bit;
    }
    assert!(manager.is_sound());
}

#[test]
fn memory_of_the_dead_and_unused_objects_serve_a_fault_that_finds_none_free() {
    let (mut manager, machine) = manager(8);
    let (old, new) = (process(&machine), process(&machine));
    let old_space = register(&mut manager, old).unwrap();
    let new_space = register(&mut manager, new).unwrap();
    let object = manager.create_object(name_of(new_space), 4).unwrap();
    for space in [old_space, new_space] {
        manager
            .map_anonymous(name_of(space), 0x10_0000, 64, Protection::ReadWrite)
            .unwrap();
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
    // The last frame is for those who have less.
    for page in 0x101..0x107 {
        manager.fault(new_space, &fault(page, WRITE)).unwrap();
    }
}

#[test]
fn private_pages_are_copied_once_and_shared_ones_are_mapped_at_once() {
    let (mut manager, machine) = manager(64);
    let process = process(&machine);
    let space = register(&mut manager, process).unwrap();
    let mut segment = ImageSegment {
        address: 0x40_0000,
        pages: 2,
        page_offset: 1,
        file_bytes: 8192,
        protection: Protection::ReadExecute,
    };
    manager
        .map_image(name_of(space), &segment, machine.image(3))
        .unwrap();
    assert_eq!(machine.0.borrow().mapped.len(), 2);
    assert_eq!(
        manager.fault(space, &fault(0x400, 7)),
        Err(Refusal::Protection)
    );

    segment.address = 0x50_0000;
    segment.pages = 4;
    segment.file_bytes = 5000;
    segment.protection = Protection::ReadWrite;
    manager
        .map_image(name_of(space), &segment, machine.image(3))
        .unwrap();
    let mapping = manager.fault(space, &fault(0x501, WRITE)).unwrap();
    assert_eq!(mapping.content, Content::New);
    let copy = Copy {
        image_page: 2,
        bytes: 904,
        frame: mapping.frame,
    };
    assert_eq!(machine.0.borrow().copies, [copy]);
    assert_eq!(
        manager.fault(space, &fault(0x501, WRITE)).unwrap().content,
        Content::Present
    );
    assert_eq!(
        manager.fault(space, &fault(0x503, WRITE)).unwrap().content,
        Content::Foreign
    );

    machine.0.borrow_mut().images_readable = false;
    assert_eq!(
        manager.fault(space, &fault(0x500, WRITE)),
        Err(Refusal::ImageGone)
    );
    let usage = manager.usage(space).unwrap();
    assert_eq!(
        (usage.resident_pages, usage.shared_pages, usage.regions),
        (2, 2, 2)
    );
}

#[test]
fn images_past_their_end_are_refused() {
    let (mut manager, machine) = manager(64);
    let process = process(&machine);
    let space = register(&mut manager, process).unwrap();
    for (page_offset, file_bytes, pages, protection) in [
        (0, 4096 * 3 + 1, 4, Protection::ReadWrite),
        (u64::MAX, 1, 1, Protection::ReadWrite),
        (2, 4096, 2, Protection::Read),
        (0, u64::MAX, 1, Protection::ReadWrite),
    ] {
        let segment = ImageSegment {
            address: 0x40_0000,
            pages,
            page_offset,
            file_bytes,
            protection,
        };
        let result = manager.map_image(name_of(space), &segment, machine.image(3));
        assert_eq!(result, Err(MemoryError::PastEnd), "{segment:?}");
    }
}

#[test]
fn an_unstarted_process_ends_with_its_sender_and_a_running_one_does_not() {
    let (mut manager, machine) = manager(16);
    let (first, second) = (process(&machine), process(&machine));
    let first_space = register(&mut manager, first).unwrap();
    let second_space = register(&mut manager, second).unwrap();
    assert_eq!(
        register(&mut manager, first),
        Err(MemoryError::AlreadyRegistered)
    );
    machine.0.borrow_mut().lives[first] = Life::Unstarted;
    manager.sender_closed(first_space);
    manager.sender_closed(second_space);
    assert_eq!(machine.0.borrow().lives, [Life::Gone, Life::Running]);
    assert!(manager.note_deaths());
    while manager.reap(1) {}
    assert_eq!(manager.totals().spaces, 1);
    let third = process(&machine);
    assert_ne!(register(&mut manager, third).unwrap(), first_space);
}

#[test]
fn limits_hold() {
    let (mut manager, machine) = manager(16);
    let process = process(&machine);
    let space = register(&mut manager, process).unwrap();
    assert_eq!(
        manager.create_object(name(), 0).unwrap_err(),
        MemoryError::BadRange
    );
    assert_eq!(
        manager.create_object(name(), u64::MAX).unwrap_err(),
        MemoryError::BadRange
    );
    assert_eq!(
        manager.create_object(name(), 17).unwrap_err(),
        MemoryError::NoMemory
    );
    let mut made = 0;
    while manager
        .map_anonymous(name_of(space), 0x10_0000 + made * 8192, 1, Protection::Read)
        .is_ok()
    {
        made += 1;
    }
    assert_eq!(made as usize, libipc::proto::memory::MAX_REGIONS);
    assert_eq!(
        manager.map_anonymous(name_of(9), 0x10_0000, 1, Protection::Read),
        Err(MemoryError::NoSpace)
    );
}

#[test]
fn who_has_much_gets_none_of_the_last_frames() {
    let (mut manager, machine) = manager(64);
    let (greedy, other) = (process(&machine), process(&machine));
    let greedy = register(&mut manager, greedy).unwrap();
    let other = register(&mut manager, other).unwrap();
    for space in [greedy, other] {
        manager
            .map_anonymous(name_of(space), 0x10_0000, 64, Protection::ReadWrite)
            .unwrap();
    }
    let mut page = 0x100;
    let refused = loop {
        match manager.fault(greedy, &fault(page, WRITE)) {
            Ok(mapping) => page += mapping.pages,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refused, Refusal::OutOfMemory);
    assert!((1..=4).contains(&manager.totals().free));
    manager.fault(other, &fault(0x100, WRITE)).unwrap();
}
