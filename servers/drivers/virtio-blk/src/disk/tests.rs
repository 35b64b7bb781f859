use proptest::prelude::*;

use libipc::proto::block::{BufferId, IoError, Operation, Receipt, Request};

use super::{Accepted, Buffer, Disk, Done, STALL_NS};
use crate::fake::{DATA, Fake, Group, Lie, SECTORS};
use crate::{Fault, SetupError};

const BUFFER: BufferId = BufferId(5);

fn disk(queue_size: u16) -> (Fake, Disk<Group>) {
    let (fake, device) = Fake::device(queue_size);
    let mut disk = Disk::new(device);
    assert!(disk.register(
        BUFFER,
        Buffer {
            physical: DATA,
            bytes: 64 * 512,
            is_writable: true
        }
    ));
    (fake, disk)
}

fn request(operation: Operation, offset: u64, sector: u64, sectors: u64) -> Request {
    Request {
        operation,
        buffer: BUFFER,
        offset,
        sector,
        sectors,
    }
}

fn poll(disk: &mut Disk<Group>) -> Vec<Done> {
    let mut done = Vec::new();
    assert_eq!(disk.poll(0, &mut done), None);
    done
}

#[test]
fn reads_and_writes_move_the_data() {
    let (fake, mut disk) = disk(256);
    fake.0.borrow_mut().data[512..1024].fill(0xab);
    let (write, read) = (
        request(Operation::Write, 512, 9, 1),
        request(Operation::Read, 1024, 8, 3),
    );
    disk.accept(1, &write, 0).unwrap();
    disk.kick();
    fake.serve(1);
    disk.accept(2, &read, 0).unwrap();
    fake.serve(1);
    disk.accept(3, &Request::flush(), 0).unwrap();
    fake.serve(1);
    let done = poll(&mut disk);
    assert_eq!(
        done.iter()
            .map(|d| (d.token, d.outcome))
            .collect::<Vec<_>>(),
        [(1, write), (2, read), (3, Request::flush())]
            .map(|(token, request)| (token, Ok(Receipt::of(&request))))
    );
    let state = fake.0.borrow();
    assert_eq!(
        state.data[1024..1024 + 3 * 512],
        state.disk[8 * 512..11 * 512]
    );
    assert!(state.data[1536..2048].iter().all(|byte| *byte == 0xab));
    assert_eq!(state.kicks, 1);
}

#[test]
fn a_device_that_changes_its_queue_does_not_change_the_receipt() {
    let (fake, area) = Fake::new(256);
    let queue = area.alias().unwrap();
    let mut disk = Disk::new(fake.set_up(area).unwrap());
    let buffer = Buffer {
        physical: DATA,
        bytes: 64 * 512,
        is_writable: true,
    };
    assert!(disk.register(BUFFER, buffer));
    let read = request(Operation::Read, 512, 9, 1);
    // Sector, kind, address, length.
    for at in [12 * 1024 + 8, 12 * 1024, 16 + 1, 16 + 9] {
        disk.accept(1, &read, 0).unwrap();
        fake.serve(1);
        queue.write_u8(at, 4).unwrap();
        assert_eq!(poll(&mut disk)[0].outcome, Ok(Receipt::of(&read)));
    }
}

#[test]
fn requests_out_of_bounds_are_refused() {
    let (_fake, mut disk) = disk(256);
    let read = |offset, sector, sectors| request(Operation::Read, offset, sector, sectors);
    let other = Request {
        buffer: BufferId(6),
        ..read(0, 0, 1)
    };
    for (bad, error) in [
        (read(0, 0, 0), IoError::Invalid),
        (read(1, 0, 1), IoError::Invalid),
        (read(0, 0, 65), IoError::Invalid),
        (read(0, SECTORS, 1), IoError::OutOfRange),
        (read(0, u64::MAX, 2), IoError::OutOfRange),
        (read(0, 0, u64::MAX), IoError::Invalid),
        (read(512, 0, 64), IoError::BadBuffer),
        (read(u64::MAX - 511, 0, 1), IoError::BadBuffer),
        (other, IoError::BadBuffer),
    ] {
        assert_eq!(disk.accept(0, &bad, 0), Err(error), "{bad:?}");
    }
    assert_eq!(disk.in_flight(), 0);
    let read_only = Buffer {
        physical: DATA,
        bytes: 512,
        is_writable: false,
    };
    assert!(disk.register(BufferId(7), read_only));
    let bad = Request {
        buffer: BufferId(7),
        ..read(0, 0, 1)
    };
    assert_eq!(disk.accept(0, &bad, 0), Err(IoError::ReadOnly));
}

#[test]
fn many_requests_are_in_flight_and_a_buffer_in_use_stays() {
    let (fake, mut disk) = disk(256);
    let mut count = 0;
    while disk.has_room() {
        disk.accept(count, &request(Operation::Read, 0, count, 1), 0)
            .unwrap();
        count += 1;
    }
    assert_eq!(count, 64);
    assert!(!disk.unregister(BUFFER));
    fake.serve(64);
    assert_eq!(poll(&mut disk).len(), 64);
    assert!(disk.unregister(BUFFER));
    assert_eq!(
        disk.accept(0, &request(Operation::Read, 0, 0, 1), 0),
        Err(IoError::BadBuffer)
    );
}

#[test]
fn a_device_without_a_cache_needs_no_flush() {
    let (fake, area) = Fake::new(256);
    fake.0.borrow_mut().features = 1 << 32;
    let mut disk = Disk::new(fake.set_up(area).unwrap());
    assert_eq!(disk.accept(3, &Request::flush(), 0), Ok(Accepted::Finished));
    assert_eq!(disk.in_flight(), 0);
}

#[test]
fn every_lie_leads_to_a_reset_and_the_request_is_done_again() {
    let lies = [
        (Lie::Id(1), Fault::UnknownId),
        (Lie::Id(3), Fault::UnknownId),
        (Lie::Id(u32::MAX), Fault::UnknownId),
        (Lie::Index(1), Fault::TooManyUsed),
        (Lie::Index(0x8000), Fault::TooManyUsed),
        (Lie::Length(514), Fault::TooLong),
        (Lie::Status(3), Fault::BadStatus),
    ];
    for (lie, fault) in lies {
        let (fake, mut disk) = disk(256);
        fake.0.borrow_mut().lie = lie;
        disk.accept(9, &request(Operation::Read, 0, 4, 1), 0)
            .unwrap();
        fake.serve(1);
        let mut done = Vec::new();
        assert_eq!(disk.poll(0, &mut done), Some(fault), "{lie:?}");
        assert!(done.is_empty());
        fake.0.borrow_mut().lie = Lie::None;
        fake.serve(1);
        assert_eq!(
            poll(&mut disk),
            [Done {
                token: 9,
                outcome: Ok(Receipt::of(&request(Operation::Read, 0, 4, 1)))
            }],
            "{lie:?}"
        );
    }
}

#[test]
fn a_device_that_only_lies_is_given_up() {
    let (fake, mut disk) = disk(256);
    fake.0.borrow_mut().lie = Lie::Id(77);
    disk.accept(9, &request(Operation::Read, 0, 4, 1), 0)
        .unwrap();
    let mut done = Vec::new();
    for _ in 0..10 {
        fake.serve(1);
        let _ = disk.poll(0, &mut done);
    }
    assert!(disk.is_gone());
    assert_eq!(
        done,
        [Done {
            token: 9,
            outcome: Err(IoError::Gone)
        }]
    );
    assert_eq!(
        disk.accept(1, &request(Operation::Read, 0, 4, 1), 0),
        Err(IoError::Gone)
    );
    assert!(!disk.is_stuck());
    assert!(disk.unregister(BUFFER));
}

#[test]
fn a_device_that_does_not_even_reset_is_stuck() {
    let (fake, mut disk) = disk(256);
    disk.accept(9, &request(Operation::Read, 0, 4, 1), 0)
        .unwrap();
    fake.0.borrow_mut().is_dead = true;
    let mut done = Vec::new();
    assert_eq!(disk.poll(STALL_NS + 1, &mut done), Some(Fault::Stalled));
    assert!(disk.is_gone() && disk.is_stuck());
    assert_eq!(done.len(), 1);
}

#[test]
fn errors_of_the_device_and_short_reads_are_told() {
    let (fake, mut disk) = disk(256);
    for lie in [Lie::Status(1), Lie::Status(2), Lie::Length(511)] {
        fake.0.borrow_mut().lie = lie;
        disk.accept(9, &request(Operation::Read, 0, 4, 1), 0)
            .unwrap();
        fake.serve(1);
        assert_eq!(
            poll(&mut disk),
            [Done {
                token: 9,
                outcome: Err(IoError::Device)
            }]
        );
    }
}

#[test]
fn a_device_that_does_nothing_is_reset_after_a_while() {
    let (fake, mut disk) = disk(256);
    disk.accept(1, &request(Operation::Read, 0, 4, 1), 1000)
        .unwrap();
    let mut done = Vec::new();
    assert_eq!(disk.poll(1000 + STALL_NS, &mut done), None);
    assert_eq!(disk.poll(1001 + STALL_NS, &mut done), Some(Fault::Stalled));
    assert_eq!(fake.0.borrow().resets, 2);
    fake.serve(1);
    assert_eq!(disk.poll(1002 + STALL_NS, &mut done), None);
    assert_eq!(done.len(), 1);
}

#[test]
fn devices_that_cannot_be_used_are_refused() {
    let set_up = |change: fn(&mut crate::fake::State), size| {
        let (fake, area) = Fake::new(size);
        change(&mut fake.0.borrow_mut());
        fake.set_up(area).map(|_| ())
    };
    assert_eq!(
        set_up(|s| s.features = 1 << 9, 256),
        Err(SetupError::Features)
    );
    assert_eq!(set_up(|s| s.is_dead = true, 256), Err(SetupError::Reset));
    assert_eq!(set_up(|_| (), 0), Err(SetupError::Queue));
    assert_eq!(set_up(|_| (), 2), Err(SetupError::Queue));
    assert_eq!(set_up(|_| (), 4), Ok(()));
}

fn any_lie() -> impl Strategy<Value = Lie> {
    prop_oneof![
        6 => Just(Lie::None),
        1 => any::<u32>().prop_map(Lie::Id),
        1 => (0_u32..200).prop_map(Lie::Id),
        1 => any::<u16>().prop_map(Lie::Index),
        1 => any::<u32>().prop_map(Lie::Length),
        1 => any::<u8>().prop_map(Lie::Status),
    ]
}

proptest! {
    #[test]
    fn every_accepted_request_is_answered_exactly_once(
        size in prop_oneof![Just(4_u16), Just(64), Just(256), Just(1024)],
        steps in prop::collection::vec((0..3_u8, any_lie(), 0_u64..300, 0_u64..70), 1..200),
    ) {
        let (fake, mut disk) = disk(size);
        let (mut accepted, mut done) = (0_u64, Vec::new());
        for (step, lie, sector, sectors) in steps {
            match step {
                0 if disk.has_room() => {
                    let read = request(Operation::Read, 0, sector, sectors);
                    if disk.accept(accepted, &read, 0).is_ok() {
                        accepted += 1;
                    }
                }
                1 => {
                    fake.0.borrow_mut().lie = lie;
                    fake.serve(1);
                }
                _ => {
                    let _ = disk.poll(0, &mut done);
                }
            }
        }
        fake.0.borrow_mut().lie = Lie::None;
        for _ in 0..8 {
            fake.serve(usize::MAX);
            let _ = disk.poll(0, &mut done);
        }
        let mut tokens: Vec<u64> = done.iter().map(|done| done.token).collect();
        tokens.sort_unstable();
        prop_assert_eq!(tokens, (0..accepted).collect::<Vec<_>>());
        prop_assert_eq!(disk.in_flight(), 0);
        prop_assert!(!disk.is_in_use(BUFFER));
    }
}
