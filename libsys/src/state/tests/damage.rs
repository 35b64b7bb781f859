//! Bits that flip behind everyone's back: what comes out is right, or the report says otherwise.

use proptest::prelude::{any, prop, proptest};

use super::{Row, Table, TestRegion, any_row, purpose, rows};
use crate::state::fake::FakeMemory;
use crate::state::{
    ACTIVE_AT, Found, HALVES_AT, MIN_REGION_BYTES, Purpose, Region, StateMemory, word,
};

#[test]
fn a_damaged_record_is_dropped_and_the_others_are_kept() {
    let (mut region, _) = TestRegion::open(FakeMemory::new(4096)).unwrap();
    for key in 0..3 {
        region
            .append(Row::Put(key, vec![0xa0 + key; 16]), Purpose::Grow)
            .unwrap();
    }
    let mut memory = region.into_memory();
    let place = position(&memory, &[0xa1; 16]);
    memory.damage(place, 0x03);
    let (region, report) = TestRegion::open(memory).unwrap();
    assert_eq!(
        (report.found, report.replayed, report.dropped),
        (Found::Intact, 2, 1)
    );
    assert_eq!(
        region.state().rows.keys().copied().collect::<Vec<_>>(),
        [0, 2]
    );
    // What was found damaged is not found again.
    let (_, report) = TestRegion::open(region.into_memory()).unwrap();
    assert!(!report.has_losses());
}

#[test]
fn a_damaged_snapshot_costs_nothing() {
    let (mut region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    let first = region.half.active_word();
    let mut key = 0;
    while region.half.active_word() == first {
        region
            .append(Row::Put(key % 5, vec![0xb0 + key % 5; 24]), Purpose::Grow)
            .unwrap();
        key += 1;
    }
    let expected = region.state().clone();
    let mut memory = region.into_memory();
    let place = snapshot_place(&memory);
    memory.damage(place, 0x10);
    let (region, report) = TestRegion::open(memory).unwrap();
    assert_eq!((report.found, report.dropped), (Found::SnapshotDamaged, 0));
    assert_eq!(region.state(), &expected);
}

pub(in crate::state) fn position(memory: &FakeMemory, needle: &[u8]) -> usize {
    memory
        .view(..)
        .windows(needle.len())
        .position(|window| window == needle)
        .unwrap()
}

/// Returns where the snapshot lies that counts.
pub(super) fn snapshot_place(memory: &FakeMemory) -> usize {
    let half = word(memory, ACTIVE_AT) as usize & 1;
    HALVES_AT + half * ((MIN_REGION_BYTES - HALVES_AT) / 2 / 8 * 8) + 24
}

/// Makes a region whose halves have both been used, and what is in it.
fn used_region() -> (FakeMemory, Table) {
    let (mut region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    for row in rows(24) {
        region.append(row.clone(), purpose(&row)).unwrap();
    }
    let expected = region.state().clone();
    (region.into_memory(), expected)
}

/// Opens a damaged region: either nothing is wrong or it is said.
fn check(memory: FakeMemory, expected: &Table) -> bool {
    let (region, report) = TestRegion::open(memory).unwrap();
    if !report.has_losses() {
        assert_eq!(region.state(), expected, "wrong without a word: {report}");
    }
    // Damage is found once.
    let state = region.state().clone();
    let (again, second) = TestRegion::open(region.into_memory()).unwrap();
    assert_eq!(again.state(), &state);
    assert!(!second.has_losses(), "first {report}, then {second}");
    report.has_losses()
}

#[test]
fn a_damaged_first_snapshot_costs_nothing() {
    let (mut region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    region.append(Row::Put(1, vec![1]), Purpose::Grow).unwrap();
    let expected = region.state().clone();
    let mut memory = region.into_memory();
    let place = snapshot_place(&memory);
    memory.damage(place, 1);
    let (region, report) = TestRegion::open(memory).unwrap();
    assert_eq!(report.found, Found::SnapshotDamaged);
    assert_eq!(region.state(), &expected);
}

/// Flips each bit of a region in turn: all that was kept is found again, and what was wrong is not
/// found twice. Returns how often something was noticed.
fn flip_each_bit(memory: &FakeMemory, expected: &Table) -> usize {
    let mut noticed = 0;
    for at in 0..memory.bytes() {
        for bit in 0..8 {
            let mut damaged = memory.survivor();
            damaged.damage(at, 1 << bit);
            let (region, report) = TestRegion::open(damaged).unwrap();
            assert_eq!(region.state(), expected, "{at}.{bit}: {report}");
            assert_eq!(report.dropped, 0, "{at}.{bit}: {report}");
            let is_noticed = report.has_losses() || report.mended > 0;
            noticed += usize::from(is_noticed);
            let (again, report) = TestRegion::open(region.into_memory()).unwrap();
            assert_eq!(again.state(), expected);
            assert!(
                !report.has_losses() && report.mended == 0,
                "{at}.{bit}: {report}"
            );
        }
    }
    noticed
}

#[test]
fn any_single_bit_may_flip_and_nothing_is_lost() {
    let (memory, expected) = used_region();
    // What counts takes much of the region, and all of that is noticed.
    assert!(flip_each_bit(&memory, &expected) > memory.bytes() * 8 / 5);
    // Nor is anything in a region that is new.
    let (mut region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    region.append(Row::Put(1, vec![1]), Purpose::Grow).unwrap();
    let expected = region.state().clone();
    flip_each_bit(&region.into_memory(), &expected);
}

#[test]
fn one_wrong_bit_does_not_start_a_state_over() {
    let (memory, expected) = used_region();
    for at in 0..memory.bytes() {
        for bit in 0..8 {
            let mut damaged = memory.survivor();
            damaged.damage(at, 1 << bit);
            let (region, report) = TestRegion::open_complete(damaged).unwrap();
            assert_eq!(region.state(), &expected, "{at}.{bit}: {report}");
            assert!(report.is_complete(), "{at}.{bit}: {report}");
        }
    }
}

/// Opens a damaged region of which all is wanted or nothing: it has all, or says that it has
/// nothing, at every later start too and wherever the first one dies.
fn check_complete(memory: &FakeMemory, expected: &Table) {
    let (region, report) = TestRegion::open_complete(memory.survivor()).unwrap();
    if region.state() == expected {
        return;
    }
    assert_eq!(region.state(), &Table::default(), "{report}");
    assert!(report.has_losses() && !report.is_complete());
    let stores = region.memory().stores();
    let (again, second) = TestRegion::open_complete(region.into_memory()).unwrap();
    assert_eq!(again.state(), &Table::default());
    assert!(!second.has_losses(), "first {report}, then {second}");
    for limit in 0..stores {
        let dying = memory.survivor().dying_after(limit);
        let (region, _) = TestRegion::open_complete(dying).unwrap();
        let next = region.into_memory().survivor();
        let (next, report) = TestRegion::open_complete(next).unwrap();
        assert_eq!(next.state(), &Table::default(), "after {limit}: {report}");
    }
}

proptest! {
    #[test]
    fn of_a_state_that_must_be_complete_no_part_is_ever_taken_for_the_whole(
        rows in prop::collection::vec(any_row(), 1..60),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..6),
        bytes in MIN_REGION_BYTES..2048,
    ) {
        let (mut region, _) = TestRegion::open(FakeMemory::new(bytes)).unwrap();
        for row in rows {
            // A full region is as good as any other here.
            let _ = region.append(row.clone(), purpose(&row));
        }
        let expected = region.state().clone();
        let mut memory = region.into_memory();
        for (place, mask) in damage {
            memory.damage(place.index(bytes), mask);
        }
        check_complete(&memory, &expected);
    }

    #[test]
    fn damage_is_never_silent(
        rows in prop::collection::vec(any_row(), 1..60),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..20),
        bytes in MIN_REGION_BYTES..2048,
    ) {
        let (mut region, _) = TestRegion::open(FakeMemory::new(bytes)).unwrap();
        let mut known: Vec<(u8, Vec<u8>)> = Vec::new();
        for row in rows {
            if let Row::Put(key, value) = &row {
                known.push((*key, value.clone()));
            }
            // A full region is part of the test.
            let _ = region.append(row.clone(), purpose(&row));
        }
        let expected = region.state().clone();
        let mut memory = region.into_memory();
        for (at, mask) in damage {
            memory.damage(at.index(bytes), mask);
        }
        let (region, _) = TestRegion::open(memory.survivor()).unwrap();
        for (key, value) in &region.state().rows {
            assert!(known.contains(&(*key, value.clone())), "a row that nobody put there");
        }
        check(memory, &expected);
    }

    #[test]
    fn damage_before_a_migration_is_never_silent(
        rows in prop::collection::vec(any_row(), 1..40),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..8),
    ) {
        let (mut region, _) =
            Region::<super::versions::List, _>::open(FakeMemory::new(2048)).unwrap();
        for row in rows {
            // As above.
            let _ = region.append(super::versions::change(&row), purpose(&row));
        }
        let expected = Table::from(region.state().clone());
        let mut memory = region.into_memory();
        for (at, mask) in damage {
            memory.damage(at.index(2048), mask);
        }
        check(memory, &expected);
    }
}
