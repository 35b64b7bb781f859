use libsys::state::State;
use proptest::prelude::*;

use super::{Asked, Flights, Record};
use crate::Kind;

const ASKED: Asked = Asked {
    kind: Kind::Read,
    sector: 7,
    sectors: 8,
};

fn taken(flights: &mut Flights, disk: u32, keys: &[u64]) {
    let requests = keys.iter().map(|&key| (key, ASKED)).collect();
    flights.apply(Record::Taken(disk, requests));
}

/// Starts another instance after so many crashes since boot.
fn started(flights: &mut Flights, crashes: u32) {
    flights.apply(Record::Started { crashes });
}

#[test]
fn a_request_alone_at_two_crashes_is_poison() {
    let mut flights = Flights::default();
    started(&mut flights, 0);
    for crash in 1..=2 {
        taken(&mut flights, 0, &[5]);
        assert!(!flights.is_poison(0, 5));
        started(&mut flights, crash);
        assert!(flights.is_careful());
    }
    assert!(flights.is_poison(0, 5));
    assert!(!flights.is_poison(1, 5) && !flights.is_poison(0, 6));
    assert_eq!(flights.get(0, 5).unwrap().attempts, 2);
    flights.apply(Record::Done(0, vec![5]));
    assert!(!flights.is_careful());
    assert_eq!(flights.room(), usize::MAX);
}

#[test]
fn ending_the_driver_from_outside_blames_nobody() {
    let mut flights = Flights::default();
    started(&mut flights, 3);
    for _ in 0..5 {
        taken(&mut flights, 0, &[1]);
        started(&mut flights, 3);
    }
    assert!(!flights.is_careful() && !flights.is_poison(0, 1));
    assert!(flights.has_untaken(0) && !flights.has_untaken(1));
}

#[test]
fn several_suspects_are_tried_one_at_a_time_over_all_disks() {
    let mut flights = Flights::default();
    taken(&mut flights, 0, &[1, 2]);
    taken(&mut flights, 1, &[1]);
    started(&mut flights, 1);
    // None of them is to blame alone.
    assert!(
        [(0, 1), (0, 2), (1, 1)]
            .iter()
            .all(|&(disk, key)| !flights.is_poison(disk, key))
    );
    let mut crashes = 1;
    for attempt in 0..3 {
        assert_eq!(flights.room(), 1);
        taken(&mut flights, 0, &[1]);
        assert_eq!(flights.room(), 0);
        flights.apply(Record::Done(0, vec![1]));
        if flights.is_poison(0, 2) {
            assert_eq!(attempt, 2);
            break;
        }
        taken(&mut flights, 0, &[2]);
        crashes += 1;
        started(&mut flights, crashes);
    }
    flights.apply(Record::Done(0, vec![2]));
    assert_eq!(flights.room(), 1);
    taken(&mut flights, 1, &[1]);
    flights.apply(Record::Done(1, vec![1]));
    assert_eq!(flights.room(), usize::MAX);
}

#[test]
fn what_does_not_come_again_is_forgotten() {
    let mut flights = Flights::default();
    taken(&mut flights, 0, &[1, 2]);
    taken(&mut flights, 1, &[3]);
    started(&mut flights, 1);
    flights.apply(Record::Ring(1));
    assert!(flights.get(1, 3).is_none());
    taken(&mut flights, 0, &[1]);
    flights.apply(Record::Forgotten(0));
    assert!(flights.get(0, 1).is_some() && flights.get(0, 2).is_none());
}

#[test]
fn schema_changes_only_with_a_migration() {
    libsys::golden_schema!("tests/golden/state.txt", Flights);
}

proptest! {
    /// Whatever happens, one poisoned request among many is found, alone, within so many crashes
    /// as there are requests and two more; all others are answered.
    #[test]
    fn the_one_to_blame_is_found(count in 1_u64..12, poison in 0_u64..12, depth in 1_usize..12) {
        let poison = poison % count;
        let mut flights = Flights::default();
        let mut open: Vec<u64> = (0..count).collect();
        let (mut crashes, mut failed) = (0, Vec::new());
        while !open.is_empty() {
            prop_assert!(crashes <= 3);
            let mut batch = Vec::new();
            for key in open.clone() {
                if flights.is_poison(0, key) {
                    flights.apply(Record::Done(0, vec![key]));
                    open.retain(|other| *other != key);
                    failed.push(key);
                } else if batch.len() < flights.room().min(depth) {
                    batch.push(key);
                }
            }
            if batch.is_empty() {
                continue;
            }
            taken(&mut flights, 0, &batch);
            if batch.contains(&poison) {
                crashes += 1;
                started(&mut flights, crashes);
                continue;
            }
            flights.apply(Record::Done(0, batch.clone()));
            open.retain(|key| !batch.contains(key));
        }
        prop_assert_eq!(failed, vec![poison]);
        prop_assert!(!flights.is_careful());
    }
}
