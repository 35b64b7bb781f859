//! A writer that dies between any two stores, and within those that can come apart.

use core::fmt::Debug;

use super::versions::{List, old_region};
use super::{OtherTable, Row, Table, TestRegion, purpose, rows};
use crate::state::fake::{FakeMemory, Tearing};
use crate::state::{MIN_REGION_BYTES, Purpose, Region, State, schema_hash};

const TEARINGS: [Tearing; 5] = [
    Tearing::Words,
    Tearing::Bytes,
    Tearing::BytesBackwards,
    Tearing::Scattered(1),
    Tearing::Scattered(0x5eed),
];

/// Lets `act` die at each of its stores in turn: its successor, opened as `S`, must find one of
/// the states, without losses; the last one if nothing was cut.
fn cut_everywhere<S: State + PartialEq + Debug>(
    start: &FakeMemory,
    act: impl Fn(FakeMemory) -> FakeMemory,
    allowed: &[S],
) {
    for tearing in TEARINGS {
        let before = start.survivor().tearing(tearing);
        let stores = act(before).stores();
        for limit in 0..=stores {
            let victim = act(start.survivor().tearing(tearing).dying_after(limit));
            let (found, report) = Region::<S, _>::open(victim.survivor()).unwrap();
            let place = format!("cut after {limit} of {stores}, {tearing:?}: {report}");
            assert!(allowed.contains(found.state()), "{place}");
            if limit == stores {
                assert_eq!(Some(found.state()), allowed.last(), "{place}");
            }
            assert!(!report.has_losses(), "{place}");
        }
    }
}

#[test]
fn appending_and_compacting() {
    // Small enough that the journal is compacted several times on the way.
    let (mut region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    let mut compactions = 0;
    for row in rows(40) {
        let before = region.state().clone();
        let start = region.memory().survivor();
        let half = region.half.active_word();
        let result = region.append(row.clone(), purpose(&row));
        compactions += u32::from(region.half.active_word() != half);
        let after = region.state().clone();
        assert!(result.is_ok() || before == after);
        let append = |memory| {
            let (mut victim, _) = TestRegion::open(memory).unwrap();
            assert_eq!(victim.append(row.clone(), purpose(&row)), result);
            victim.into_memory()
        };
        cut_everywhere(&start, append, &[before, after]);
    }
    assert!(compactions > 2);
}

#[test]
fn making_a_region() {
    let make = |memory| TestRegion::open(memory).unwrap().0.into_memory();
    let start = FakeMemory::new(MIN_REGION_BYTES);
    cut_everywhere(&start, make, &[Table::default()]);
}

#[test]
fn migrating() {
    let (start, old) = old_region();
    let migrate = |memory| TestRegion::open(memory).unwrap().0.into_memory();
    cut_everywhere(&start, migrate, &[Table::from(old)]);
}

#[test]
fn migrating_and_going_on() {
    let (start, old) = old_region();
    let before = Table::from(old);
    let row = Row::Put(3, vec![9; 20]);
    let mut after = before.clone();
    after.apply(row.clone());
    let go_on = |memory| {
        let (mut region, _) = TestRegion::open(memory).unwrap();
        region.append(row.clone(), Purpose::Grow).unwrap();
        region.into_memory()
    };
    cut_everywhere(&start, go_on, &[before, after]);
}

/// Read by the older version, once it counts; read by the newer one at any time.
#[test]
fn exporting() {
    let (mut region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    for row in rows(20) {
        region.append(row.clone(), purpose(&row)).unwrap();
    }
    let before = region.state().clone();
    let exported = Table::from(List::from(&before));
    let start = region.into_memory();
    let export = |memory| {
        let (mut victim, _) = TestRegion::open(memory).unwrap();
        victim.export(schema_hash::<List>()).unwrap();
        victim.into_memory()
    };
    cut_everywhere(&start, export, &[before.clone(), exported]);
    let (old, _) = Region::<List, _>::open(export(start.survivor())).unwrap();
    assert_eq!(old.state(), &List::from(&before));
}

/// What only the newer version can tell is lost when the export counts and its writer dies;
/// nothing else is.
#[test]
fn taking_an_export_back() {
    let (mut region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    for row in rows(12) {
        region.append(row.clone(), purpose(&row)).unwrap();
    }
    let before = region.state().clone();
    let exported = Table::from(List::from(&before));
    let row = Row::Remove(0);
    let mut after = before.clone();
    after.apply(row.clone());
    let there_and_back = |memory| {
        let (mut victim, _) = TestRegion::open(memory).unwrap();
        victim.export(schema_hash::<List>()).unwrap();
        victim.append(row.clone(), Purpose::Shrink).unwrap();
        victim.into_memory()
    };
    let start = region.into_memory();
    cut_everywhere(&start, there_and_back, &[before, exported, after]);
}

#[test]
fn replacing_an_unknown_state() {
    let (mut old, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    old.append(Row::Put(1, vec![1; 100]), Purpose::Grow)
        .unwrap();
    let start = old.into_memory();
    for tearing in TEARINGS {
        let replace = |memory: FakeMemory| {
            let (new, _) = Region::<OtherTable, _>::open_or_fresh(memory).unwrap();
            new.into_memory()
        };
        let stores = replace(start.survivor().tearing(tearing)).stores();
        for limit in 0..=stores {
            let victim = replace(start.survivor().tearing(tearing).dying_after(limit));
            // The old state as its own program finds it, or the new one.
            let Ok((old, report)) = TestRegion::open(victim.survivor()) else {
                let (new, report) = Region::<OtherTable, _>::open(victim.survivor()).unwrap();
                assert_eq!(new.state(), &OtherTable::default());
                assert!(!report.has_losses());
                continue;
            };
            assert!(limit < stores, "{tearing:?}");
            assert_eq!(old.state().rows[&1], [1; 100]);
            assert!(!report.has_losses(), "cut after {limit}: {report}");
        }
    }
}

/// A region that was damaged is repaired where it lies; a second death meanwhile loses no more.
#[test]
fn repairing() {
    let (mut region, _) = TestRegion::open(FakeMemory::new(4096)).unwrap();
    for key in 0..3 {
        region
            .append(Row::Put(key, vec![0xa0 + key; 16]), Purpose::Grow)
            .unwrap();
    }
    let mut memory = region.into_memory();
    let place = super::damage::position(&memory, &[0xa1; 16]);
    memory.damage(place, 0x03);
    let (repaired, report) = TestRegion::open(memory.survivor()).unwrap();
    assert_eq!(report.dropped, 1);
    for tearing in TEARINGS {
        let repair = |memory: FakeMemory| TestRegion::open(memory).unwrap().0.into_memory();
        let stores = repair(memory.survivor().tearing(tearing)).stores();
        for limit in 0..=stores {
            let victim = repair(memory.survivor().tearing(tearing).dying_after(limit));
            let (found, report) = TestRegion::open(victim.survivor()).unwrap();
            assert_eq!(found.state(), repaired.state());
            assert_eq!(report.has_losses(), limit < stores);
        }
    }
}
