use std::collections::BTreeMap;

use proptest::prelude::{Strategy, any, prop, proptest};
use serde::{Deserialize, Serialize};

use super::fake::FakeMemory;
use super::{Found, Full, MIN_REGION_BYTES, Purpose, Region, State};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Table {
    rows: BTreeMap<u8, Vec<u8>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Row {
    Put(u8, Vec<u8>),
    Remove(u8),
}

impl State for Table {
    type Record = Row;
    const SCHEMA: &'static str = "test.1";

    fn apply(&mut self, record: Row) {
        match record {
            Row::Put(key, value) => {
                self.rows.insert(key, value);
            }
            Row::Remove(key) => {
                self.rows.remove(&key);
            }
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct OtherTable(u64);

impl State for OtherTable {
    type Record = u64;
    const SCHEMA: &'static str = "test.2";

    fn apply(&mut self, record: u64) {
        self.0 += record;
    }
}

type TestRegion = Region<Table, FakeMemory>;

fn purpose(row: &Row) -> Purpose {
    match row {
        Row::Put(..) => Purpose::Grow,
        Row::Remove(_) => Purpose::Shrink,
    }
}

fn rows(count: u8) -> Vec<Row> {
    (0..count)
        .map(|i| {
            if i % 3 == 2 {
                Row::Remove(i / 2)
            } else {
                Row::Put(i % 7, vec![i; i.into()])
            }
        })
        .collect()
}

#[test]
fn a_new_region_is_empty_and_remembers() {
    let (mut region, report) = TestRegion::open(FakeMemory::new(4096)).unwrap();
    assert_eq!(report.found, Found::Fresh);
    assert!(!report.has_losses());
    region
        .append(Row::Put(1, b"one".to_vec()), Purpose::Grow)
        .unwrap();
    region
        .append(Row::Put(2, Vec::new()), Purpose::Grow)
        .unwrap();
    let expected = region.state().clone();
    let (region, report) = TestRegion::open(region.into_memory().survivor()).unwrap();
    assert_eq!(region.state(), &expected);
    assert_eq!(
        (report.found, report.replayed, report.dropped),
        (Found::Intact, 2, 0)
    );
}

#[test]
fn death_between_any_two_stores_leaves_the_old_or_the_new_state() {
    // Small enough that the journal is compacted several times on the way.
    let all = rows(40);
    let (mut region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    let mut compactions = 0;
    for row in all {
        let before = region.state().clone();
        let start = region.memory().survivor();
        let made = region.memory().stores();
        let half = region.half.active_word();
        let result = region.append(row.clone(), purpose(&row));
        compactions += u32::from(region.half.active_word() != half);
        let after = region.state().clone();
        assert!(result.is_ok() || before == after);
        let stores = region.memory().stores() - made;
        for limit in 0..=stores {
            let (mut victim, _) = TestRegion::open(start.survivor().dying_after(limit)).unwrap();
            assert_eq!(victim.append(row.clone(), purpose(&row)), result);
            let (found, report) = TestRegion::open(victim.into_memory().survivor()).unwrap();
            let expected = if limit == stores {
                &after
            } else {
                found.state()
            };
            assert_eq!(found.state(), expected, "cut after {limit} of {stores}");
            assert!(found.state() == &before || found.state() == &after);
            assert!(
                !report.has_losses(),
                "cut after {limit} of {stores}: {report}"
            );
        }
    }
    assert!(compactions > 2);
}

#[test]
fn death_while_a_region_is_made_leaves_an_empty_one() {
    let (region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    for limit in 0..=region.memory().stores() {
        let memory = FakeMemory::new(MIN_REGION_BYTES).dying_after(limit);
        let (victim, _) = TestRegion::open(memory).unwrap();
        let (found, report) = TestRegion::open(victim.into_memory().survivor()).unwrap();
        assert_eq!(found.state(), &Table::default());
        assert!(!report.has_losses());
    }
}

#[test]
fn death_while_another_schema_is_replaced_leaves_one_of_both() {
    let (mut old, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    old.append(Row::Put(1, vec![1; 100]), Purpose::Grow)
        .unwrap();
    let memory = old.into_memory();
    let (new, report) = Region::<OtherTable, _>::open(memory.survivor()).unwrap();
    assert_eq!(report.found, Found::OtherSchema);
    for limit in 0..=new.memory().stores() {
        let victim = Region::<OtherTable, _>::open(memory.survivor().dying_after(limit));
        let survivor = victim.unwrap().0.into_memory().survivor();
        let (found, report) = Region::<OtherTable, _>::open(survivor).unwrap();
        assert_eq!(found.state().0, 0);
        assert!(matches!(
            report.found,
            Found::OtherSchema | Found::Fresh | Found::Intact
        ));
    }
}

#[test]
fn a_full_region_says_so_and_can_be_emptied() {
    let (mut region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    let mut stored = 0;
    for key in 0..=255 {
        match region.append(Row::Put(key, vec![key; 24]), Purpose::Grow) {
            Ok(()) => stored += 1,
            Err(Full) => break,
        }
    }
    assert!((5..=255).contains(&stored));
    let full = region.state().clone();
    assert_eq!(
        region.append(Row::Put(200, vec![0; 64]), Purpose::Grow),
        Err(Full)
    );
    assert_eq!(region.state(), &full);
    for key in 0..stored {
        region
            .append(Row::Remove(key as u8), Purpose::Shrink)
            .unwrap();
    }
    region
        .append(Row::Put(1, vec![9; 24]), Purpose::Grow)
        .unwrap();
}

#[test]
fn memory_too_small_is_refused() {
    assert_eq!(
        TestRegion::open(FakeMemory::new(MIN_REGION_BYTES - 1)).unwrap_err(),
        Full
    );
}

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
    memory.damage(place, 0x01);
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
    let half = region.half.active_word() & 1;
    let mut memory = region.into_memory();
    // The second word of the snapshot in the active half.
    memory.damage(
        64 + half as usize * ((MIN_REGION_BYTES - 64) / 2 / 8 * 8) + 24,
        0x10,
    );
    let (region, report) = TestRegion::open(memory).unwrap();
    assert_eq!((report.found, report.dropped), (Found::SnapshotDamaged, 0));
    assert_eq!(region.state(), &expected);
}

fn position(memory: &FakeMemory, needle: &[u8]) -> usize {
    use super::StateMemory;
    memory
        .view(..)
        .windows(needle.len())
        .position(|window| window == needle)
        .unwrap()
}

fn any_row() -> impl Strategy<Value = Row> {
    (
        any::<u8>(),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
    )
        .prop_map(|(key, value)| match value {
            Some(value) => Row::Put(key % 16, value),
            None => Row::Remove(key % 16),
        })
}

proptest! {
    #[test]
    fn agrees_with_a_plain_table(rows in prop::collection::vec(any_row(), 0..200)) {
        let (mut region, _) = TestRegion::open(FakeMemory::new(4096)).unwrap();
        let mut model = Table::default();
        for row in rows {
            if region.append(row.clone(), purpose(&row)).is_ok() {
                model.apply(row);
            }
        }
        assert_eq!(region.state(), &model);
        let (region, report) = TestRegion::open(region.into_memory().survivor()).unwrap();
        assert_eq!(region.state(), &model);
        assert!(!report.has_losses());
    }

    #[test]
    fn damage_never_panics_and_never_invents_rows(
        rows in prop::collection::vec(any_row(), 1..60),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..20),
    ) {
        let (mut region, _) = TestRegion::open(FakeMemory::new(2048)).unwrap();
        let mut known: Vec<(u8, Vec<u8>)> = Vec::new();
        for row in rows {
            if let Row::Put(key, value) = &row {
                known.push((*key, value.clone()));
            }
            // A full region is part of the test.
            let _ = region.append(row.clone(), purpose(&row));
        }
        let mut memory = region.into_memory();
        for (at, mask) in damage {
            memory.damage(at.index(2048), mask);
        }
        let (region, _) = TestRegion::open(memory).unwrap();
        for (key, value) in &region.state().rows {
            assert!(known.contains(&(*key, value.clone())));
        }
    }
}
