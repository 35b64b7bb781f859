use std::collections::{BTreeMap, BTreeSet};

use libipc::proto::block::{BufferId, IoError, Operation, Receipt, Request};
use proptest::prelude::*;

use super::{Answer, BufferView, Limits, Origin, Scheduler};

const LIMITS: Limits = Limits {
    sectors: 1000,
    is_read_only: false,
    max_sectors: 8,
    depth: 4,
};
const BUFFER: BufferView = BufferView {
    bytes: 64 * 512,
    is_writable: true,
};

fn request(operation: Operation, offset: u64, sector: u64, sectors: u64) -> Request {
    Request {
        operation,
        buffer: BufferId(1),
        offset: offset * 512,
        sector,
        sectors,
    }
}

fn read(offset: u64, sector: u64, sectors: u64) -> Request {
    request(Operation::Read, offset, sector, sectors)
}

fn origin(token: u64) -> Origin {
    Origin { queue: 1, token }
}

fn submit(scheduler: &mut Scheduler, token: u64, request: &Request) -> Result<(), IoError> {
    scheduler.submit(origin(token), request, Some(BUFFER))
}

fn complete(scheduler: &mut Scheduler, tag: u64, outcome: Result<Receipt, IoError>) -> Vec<Answer> {
    let mut answers = Vec::new();
    assert!(outcome.is_ok_and(|receipt| scheduler.was_asked(tag, receipt)) || outcome.is_err());
    assert!(scheduler.complete(tag, outcome, &mut answers));
    answers
}

/// What a driver answers that did a request.
fn done(request: &Request) -> Result<Receipt, IoError> {
    Ok(Receipt::of(request))
}

#[test]
fn bad_requests_are_refused_with_their_reason() {
    let mut scheduler = Scheduler::new(LIMITS);
    let unaligned = Request {
        offset: 7,
        ..read(0, 0, 1)
    };
    for (bad, error) in [
        (read(0, 0, 0), IoError::Invalid),
        (unaligned, IoError::Invalid),
        (read(0, 1000, 1), IoError::OutOfRange),
        (read(0, u64::MAX, 1), IoError::OutOfRange),
        (read(0, 0, u64::MAX), IoError::OutOfRange),
        (read(60, 0, 5), IoError::BadBuffer),
        (
            Request {
                offset: u64::MAX - 511,
                ..read(0, 0, 1)
            },
            IoError::BadBuffer,
        ),
    ] {
        assert_eq!(submit(&mut scheduler, 0, &bad), Err(error), "{bad:?}");
    }
    assert_eq!(
        scheduler.submit(origin(0), &read(0, 0, 1), None),
        Err(IoError::BadBuffer)
    );
    let view = Some(BufferView {
        is_writable: false,
        ..BUFFER
    });
    assert_eq!(
        scheduler.submit(origin(0), &read(0, 0, 1), view),
        Err(IoError::ReadOnly)
    );
    let mut read_only = Scheduler::new(Limits {
        is_read_only: true,
        ..LIMITS
    });
    let write = request(Operation::Write, 0, 0, 1);
    assert_eq!(submit(&mut read_only, 0, &write), Err(IoError::ReadOnly));
    assert_eq!(scheduler.statistics().failed, 9);
    assert_eq!(scheduler.next_for_driver(), None);
}

#[test]
fn long_requests_are_split_and_answered_once() {
    let mut scheduler = Scheduler::new(LIMITS);
    submit(&mut scheduler, 7, &read(3, 100, 20)).unwrap();
    let parts: Vec<_> = core::iter::from_fn(|| scheduler.next_for_driver()).collect();
    let requests: Vec<_> = parts.iter().map(|(_, request)| *request).collect();
    assert_eq!(
        requests,
        [read(3, 100, 8), read(11, 108, 8), read(19, 116, 4)]
    );
    assert_eq!(complete(&mut scheduler, parts[2].0, done(&parts[2].1)), []);
    assert_eq!(
        complete(&mut scheduler, parts[0].0, Err(IoError::Device)),
        []
    );
    let answers = complete(&mut scheduler, parts[1].0, done(&parts[1].1));
    assert_eq!(
        answers,
        [Answer {
            origin: origin(7),
            outcome: Err(IoError::Device)
        }]
    );
}

#[test]
fn neighbours_are_joined_and_apart_again_when_they_fail() {
    let mut scheduler = Scheduler::new(LIMITS);
    submit(&mut scheduler, 1, &read(2, 12, 2)).unwrap();
    submit(&mut scheduler, 2, &read(4, 14, 1)).unwrap();
    submit(&mut scheduler, 3, &read(0, 10, 2)).unwrap();
    submit(&mut scheduler, 4, &read(9, 15, 1)).unwrap();
    let (joined, request) = scheduler.next_for_driver().unwrap();
    assert_eq!(request, read(0, 10, 5));
    assert_eq!(scheduler.statistics().merged, 2);
    assert_eq!(complete(&mut scheduler, joined, Err(IoError::Device)), []);
    let apart: Vec<_> = core::iter::from_fn(|| scheduler.next_for_driver()).collect();
    let requests: Vec<_> = apart.iter().map(|(_, request)| *request).collect();
    assert_eq!(
        requests,
        [
            read(0, 10, 2),
            read(2, 12, 2),
            read(4, 14, 1),
            read(9, 15, 1)
        ]
    );
    let answers = complete(&mut scheduler, apart[1].0, Err(IoError::Device));
    assert_eq!(
        answers,
        [Answer {
            origin: origin(1),
            outcome: Err(IoError::Device)
        }]
    );
    let answers = complete(&mut scheduler, apart[0].0, done(&apart[0].1));
    assert_eq!(
        answers,
        [Answer {
            origin: origin(3),
            outcome: done(&read(0, 10, 2))
        }]
    );
}

#[test]
fn the_driver_never_has_more_than_it_can_take() {
    let mut scheduler = Scheduler::new(LIMITS);
    for i in 0..10 {
        submit(&mut scheduler, i, &read(i, i * 2, 1)).unwrap();
    }
    let parts: Vec<_> = core::iter::from_fn(|| scheduler.next_for_driver()).collect();
    assert_eq!(parts.len(), 4);
    scheduler.put_back(parts[3].0);
    let (tag, request) = scheduler.next_for_driver().unwrap();
    assert_eq!(request, parts[3].1);
    assert_eq!(complete(&mut scheduler, tag, done(&request)).len(), 1);
    assert!(!scheduler.complete(tag, done(&request), &mut Vec::new()));
}

#[test]
fn a_cancelled_queue_gets_no_answers_for_what_waited() {
    let mut scheduler = Scheduler::new(LIMITS);
    submit(&mut scheduler, 1, &read(0, 0, 20)).unwrap();
    submit(&mut scheduler, 2, &Request::flush()).unwrap();
    let other = Origin { queue: 2, token: 3 };
    scheduler.submit(other, &Request::flush(), None).unwrap();
    let (tag, request) = scheduler.next_for_driver().unwrap();
    scheduler.cancel(1);
    assert!(scheduler.is_at_driver(1) && scheduler.uses_buffer(1));
    assert_eq!(complete(&mut scheduler, tag, done(&request)).len(), 1);
    assert!(!scheduler.is_at_driver(1) && !scheduler.uses_buffer(1));
    let (tag, _) = scheduler.next_for_driver().unwrap();
    let answers = complete(&mut scheduler, tag, done(&Request::flush()));
    assert_eq!(
        answers,
        [Answer {
            origin: other,
            outcome: done(&Request::flush())
        }]
    );
    assert_eq!(scheduler.next_for_driver(), None);
}

/// A request and what the device thinks of it.
fn any_request() -> impl Strategy<Value = Request> {
    let operation = prop_oneof![
        Just(Operation::Read),
        Just(Operation::Write),
        Just(Operation::Flush)
    ];
    (operation, 0_u64..4, 0_u64..70, 0_u64..40, 0_u64..40).prop_map(
        |(operation, buffer, offset, sector, sectors)| Request {
            buffer: BufferId(buffer as u32),
            ..request(operation, offset, sector * 8, sectors)
        },
    )
}

proptest! {
    #[test]
    fn every_request_is_answered_once_and_covers_its_range(
        requests in prop::collection::vec((any_request(), any::<bool>()), 1..60),
        failing in prop::collection::btree_set(0_u64..320, 0..3),
        order in prop::collection::vec(any::<prop::sample::Index>(), 600),
    ) {
        let mut scheduler = Scheduler::new(LIMITS);
        let (mut expected, mut answers) = (BTreeMap::new(), BTreeMap::new());
        // Sectors that the driver was asked for: (is write, buffer, offset in it, sector).
        let mut moved = BTreeSet::new();
        let mut at_driver: Vec<(u64, Request)> = Vec::new();
        let mut order = order.into_iter();
        let mut input = requests.into_iter().enumerate();
        loop {
            if let Some((token, (request, work))) = input.next() {
                let is_accepted = submit(&mut scheduler, token as u64, &request).is_ok();
                if is_accepted {
                    expected.insert(token as u64, request);
                }
                if !work {
                    continue;
                }
            }
            while let Some((tag, request)) = scheduler.next_for_driver() {
                prop_assert!(request.sectors <= LIMITS.max_sectors);
                prop_assert!(request.offset + request.sectors * 512 <= BUFFER.bytes);
                at_driver.push((tag, request));
            }
            prop_assert!(at_driver.len() <= LIMITS.depth);
            if at_driver.is_empty() {
                if input.len() == 0 {
                    break;
                }
                continue;
            }
            let which = order.next().map_or(0, |index| index.index(at_driver.len()));
            let (tag, request) = at_driver.swap_remove(which);
            let range = request.sector..request.sector + request.sectors;
            let outcome = if failing.iter().any(|bad| range.contains(bad)) {
                Err(IoError::Device)
            } else {
                for i in 0..request.sectors {
                    let place = request.offset / 512 + i;
                    let is_write = request.operation == Operation::Write;
                    moved.insert((is_write, request.buffer, place, request.sector + i));
                }
                done(&request)
            };
            prop_assert!(outcome.is_err() || scheduler.was_asked(tag, Receipt::of(&request)));
            let other = Request { sector: request.sector ^ 1, ..request };
            let is_flush = request.operation == Operation::Flush;
            prop_assert!(is_flush || !scheduler.was_asked(tag, Receipt::of(&other)));
            let mut new = Vec::new();
            prop_assert!(scheduler.complete(tag, outcome, &mut new));
            for answer in new {
                prop_assert!(answers.insert(answer.origin.token, answer.outcome).is_none());
            }
        }
        prop_assert!(answers.keys().eq(expected.keys()));
        for (token, request) in expected {
            let range = request.sector..request.sector + request.sectors;
            let is_flush = request.operation == Operation::Flush;
            let must_fail = !is_flush && failing.iter().any(|bad| range.contains(bad));
            let expected = if must_fail { Err(IoError::Device) } else { done(&request) };
            prop_assert_eq!(answers[&token], expected);
            for i in 0..request.sectors {
                let is_write = request.operation == Operation::Write;
                let place = (is_write, request.buffer, request.offset / 512 + i, request.sector + i);
                prop_assert!(must_fail || is_flush || moved.contains(&place));
            }
        }
        prop_assert_eq!(scheduler.statistics().in_flight, 0);
    }
}

#[test]
fn a_receipt_for_a_part_of_what_was_joined_is_none_for_all() {
    let mut scheduler = Scheduler::new(LIMITS);
    let parts = [read(2, 12, 2), read(4, 14, 1), read(0, 10, 2)];
    for (token, part) in (1..).zip(&parts) {
        submit(&mut scheduler, token, part).unwrap();
    }
    let (joined, request) = scheduler.next_for_driver().unwrap();
    for part in &parts {
        assert!(!scheduler.was_asked(joined, Receipt::of(part)));
    }
    let answers = complete(&mut scheduler, joined, done(&request));
    let told: BTreeMap<_, _> = answers
        .iter()
        .map(|answer| (answer.origin.token, answer.outcome))
        .collect();
    assert_eq!(told, (1..).zip(parts.iter().map(done)).collect());
}

#[test]
fn what_the_driver_did_wrong_reaches_the_client_whole() {
    let mut scheduler = Scheduler::new(LIMITS);
    let (first, second) = (read(0, 10, 2), read(2, 12, 2));
    submit(&mut scheduler, 1, &first).unwrap();
    submit(&mut scheduler, 2, &second).unwrap();
    let (joined, request) = scheduler.next_for_driver().unwrap();
    let wrong = Receipt::of(&Request {
        sector: 11,
        ..request
    });
    // Nobody looked at it.
    let mut answers = Vec::new();
    assert!(scheduler.complete(joined, Ok(wrong), &mut answers));
    let told: Vec<_> = answers
        .iter()
        .map(|answer| answer.outcome.unwrap())
        .collect();
    assert_eq!(told.iter().copied().sum::<Receipt>(), wrong);
    assert_ne!(told, [Receipt::of(&first), Receipt::of(&second)]);
}

#[test]
fn what_the_driver_fails_goes_to_it_once_more_if_somebody_wants_it() {
    let mut scheduler = Scheduler::new(LIMITS);
    submit(&mut scheduler, 1, &read(0, 0, 2)).unwrap();
    submit(&mut scheduler, 2, &read(8, 500, 1)).unwrap();
    let (first, _) = scheduler.next_for_driver().unwrap();
    assert!(!scheduler.try_again(first, |_| false), "its queue is gone");
    assert!(!scheduler.try_again(first + 9, |_| true), "no such request");
    assert!(scheduler.try_again(first, |queue| queue == 1));
    // It goes first, and under another number.
    let (again, request) = scheduler.next_for_driver().unwrap();
    assert_eq!((again == first, request), (false, read(0, 0, 2)));
    assert!(!scheduler.try_again(again, |_| true), "twice is enough");
    let failed = complete(&mut scheduler, again, Err(IoError::Device));
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].outcome, Err(IoError::Device));
}
