use std::collections::BTreeMap;

use proptest::prelude::{Strategy, any, prop, proptest};
use serde::{Deserialize, Serialize};

use super::fake::FakeMemory;
use super::{Found, Full, MIN_REGION_BYTES, NoPrevious, OpenError, Purpose, Region, State};

mod cuts;
pub(super) mod damage;
mod faithful;
mod limit;
pub(super) mod versions;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) rows: BTreeMap<u8, Vec<u8>>,
    changes: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Row {
    Put(u8, Vec<u8>),
    Remove(u8),
}

impl State for Table {
    type Record = Row;
    type Previous = versions::List;
    const SCHEMA: &'static str = "test.table";

    fn apply(&mut self, record: Row) {
        self.changes += 1;
        match record {
            Row::Put(key, value) => {
                self.rows.insert(key, value);
            }
            Row::Remove(key) => {
                self.rows.remove(&key);
            }
        }
    }

    fn downgrade(&self) -> Option<versions::List> {
        Some(self.into())
    }
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct OtherTable(u64);

impl State for OtherTable {
    type Record = u64;
    type Previous = NoPrevious;
    const SCHEMA: &'static str = "test.other";

    fn apply(&mut self, record: u64) {
        self.0 += record;
    }
}

pub(super) type TestRegion = Region<Table, FakeMemory>;

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
fn volatile_memory_is_not_written_and_the_state_changes_all_the_same() {
    let memory = FakeMemory::new(MIN_REGION_BYTES).volatile();
    let (mut region, _) = TestRegion::open(memory).unwrap();
    let stores = region.memory().stores();
    for key in 0..100 {
        // More than fits.
        let row = Row::Put(key, vec![key; 20]);
        region.append(row, Purpose::Grow).unwrap();
    }
    region.about_to(1, 2);
    region.is_done();
    assert_eq!(region.state().rows.len(), 100);
    assert_eq!(region.memory().stores(), stores);
    let (next, _) = TestRegion::open(region.into_memory().survivor()).unwrap();
    assert_eq!(next.state().rows.len(), 0);
}

#[test]
fn a_record_may_be_as_large_as_the_region_lets_it() {
    let (mut region, _) = TestRegion::open(FakeMemory::new(16 * 1024)).unwrap();
    let row = |bytes| Row::Put(1, vec![7; bytes]);
    region.append(row(5000), Purpose::Grow).unwrap();
    assert_eq!(region.append(row(9000), Purpose::Grow), Err(Full));
    assert_eq!(region.append(row(1 << 20), Purpose::Grow), Err(Full));
    region.append(row(3), Purpose::Grow).unwrap();
    let (next, _) = TestRegion::open(region.into_memory().survivor()).unwrap();
    assert_eq!(next.state().rows, BTreeMap::from([(1, vec![7; 3])]));
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
        OpenError::Full
    );
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
}
