//! Three versions of one state, and the ways between them.

use serde::{Deserialize, Serialize};

use super::{OtherTable, Row, Table, TestRegion, purpose, rows};
use crate::state::fake::FakeMemory;
use crate::state::{
    ExportError, Found, MIN_REGION_BYTES, NoPrevious, OpenError, Purpose, Region, State,
    known_schemas, reads, schema_hash, schema_in,
};

/// The version before [`Table`]: a list of rows, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::state) struct List {
    rows: Vec<(Vec<u8>, u8)>,
}

impl State for List {
    type Record = (u8, Option<Vec<u8>>);
    type Previous = Keys;
    const SCHEMA: &'static str = "test.table";

    fn apply(&mut self, (key, value): Self::Record) {
        self.rows.retain(|(_, known)| *known != key);
        self.rows.extend(value.map(|value| (value, key)));
    }

    fn downgrade(&self) -> Option<Keys> {
        let is_told_by_keys = self.rows.iter().all(|(value, _)| value.is_empty());
        is_told_by_keys.then(|| Keys(self.rows.iter().map(|(_, key)| *key).collect()))
    }
}

impl From<List> for Table {
    fn from(list: List) -> Self {
        let rows = list.rows.into_iter();
        Table {
            rows: rows.map(|(value, key)| (key, value)).collect(),
            changes: 0,
        }
    }
}

impl From<&Table> for List {
    fn from(table: &Table) -> Self {
        let rows = table.rows.iter();
        List {
            rows: rows.map(|(key, value)| (value.clone(), *key)).collect(),
        }
    }
}

/// The first version: keys only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::state) struct Keys(Vec<u8>);

impl State for Keys {
    type Record = u8;
    type Previous = NoPrevious;
    const SCHEMA: &'static str = "test.table";

    fn apply(&mut self, key: u8) {
        self.0.push(key);
    }
}

impl From<Keys> for List {
    fn from(Keys(keys): Keys) -> Self {
        let rows = keys.into_iter().map(|key| (Vec::new(), key));
        List {
            rows: rows.collect(),
        }
    }
}

/// Returns the record of [`List`] that does what a row does.
pub(super) fn change(row: &Row) -> (u8, Option<Vec<u8>>) {
    match row {
        Row::Put(key, value) => (*key, Some(value.clone())),
        Row::Remove(key) => (*key, None),
    }
}

/// Makes a region of the version before, with snapshot and journal.
pub(super) fn old_region() -> (FakeMemory, List) {
    let (mut region, _) = Region::<List, _>::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    for row in rows(20) {
        region.append(change(&row), purpose(&row)).unwrap();
    }
    let state = region.state().clone();
    (region.into_memory(), state)
}

#[test]
fn schemas_of_all_versions_differ_and_are_known() {
    let schemas = known_schemas::<Table>();
    assert_eq!(
        schemas,
        [
            schema_hash::<Table>(),
            schema_hash::<List>(),
            schema_hash::<Keys>()
        ]
    );
    assert!(schemas[0] != schemas[1] && schemas[1] != schemas[2]);
    assert!(schemas.iter().all(|&schema| reads::<Table>(schema)));
    assert!(!reads::<Table>(schema_hash::<OtherTable>()));
    assert!(!reads::<List>(schema_hash::<Table>()));
}

#[test]
fn an_older_state_is_migrated_once() {
    let (memory, old) = old_region();
    assert_eq!(schema_in(&memory), Some(schema_hash::<List>()));
    let (region, report) = TestRegion::open(memory).unwrap();
    assert_eq!(region.state(), &Table::from(old));
    assert_eq!(report.migrated_from, Some(schema_hash::<List>()));
    assert!(report.replayed > 0 && !report.has_losses());
    assert!(report.to_string().contains("migrated from schema"));
    let expected = region.state().clone();
    let memory = region.into_memory();
    assert_eq!(schema_in(&memory), Some(schema_hash::<Table>()));
    let (region, report) = TestRegion::open(memory).unwrap();
    assert_eq!((report.migrated_from, report.replayed), (None, 0));
    assert_eq!(region.state(), &expected);
}

#[test]
fn a_migration_may_take_several_steps() {
    let (mut region, _) = Region::<Keys, _>::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    for key in [3, 1, 2] {
        region.append(key, Purpose::Grow).unwrap();
    }
    let (region, report) = TestRegion::open(region.into_memory()).unwrap();
    assert_eq!(report.migrated_from, Some(schema_hash::<Keys>()));
    assert_eq!(
        region.state().rows.keys().copied().collect::<Vec<_>>(),
        [1, 2, 3]
    );
}

#[test]
fn a_damaged_snapshot_can_be_migrated_all_the_same() {
    let (mut memory, old) = old_region();
    let place = super::damage::snapshot_place(&memory);
    memory.damage(place, 1);
    let (region, report) = TestRegion::open(memory).unwrap();
    assert_eq!(report.found, Found::SnapshotDamaged);
    assert_eq!(region.state(), &Table::from(old));
}

#[test]
fn an_unknown_state_is_refused_and_left_alone() {
    let (mut other, _) = Region::<OtherTable, _>::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    other.append(7, Purpose::Grow).unwrap();
    let memory = other.into_memory();
    let found = schema_hash::<OtherTable>();
    let error = TestRegion::open(memory.survivor()).unwrap_err();
    let known = schema_hash::<Table>();
    assert_eq!(error, OpenError::UnknownSchema { found, known });
    let text = error.to_string();
    assert!(text.contains(&format!("{found:016x}")) && text.contains(&format!("{known:016x}")));
    let (region, _) = Region::<OtherTable, _>::open(memory.survivor()).unwrap();
    assert_eq!(region.state().0, 7);
    // Whoever wants to start all the same is told what is gone.
    let (region, report) = TestRegion::open_or_fresh(memory).unwrap();
    assert_eq!(report.found, Found::OtherSchema(found));
    assert!(report.has_losses());
    assert_eq!(region.state(), &Table::default());
    let (_, report) = TestRegion::open(region.into_memory()).unwrap();
    assert!(!report.has_losses());
}

#[test]
fn an_export_is_read_by_the_version_before() {
    let (mut region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    for row in rows(20) {
        region.append(row.clone(), purpose(&row)).unwrap();
    }
    region.export(schema_hash::<List>()).unwrap();
    let state = region.state().clone();
    let copy = region.memory().survivor();
    let (old, report) = Region::<List, _>::open(copy).unwrap();
    assert_eq!(old.state(), &List::from(&state));
    assert_eq!((report.found, report.migrated_from), (Found::Intact, None));
    // The newer one goes on, and what the older one could not tell is not lost.
    region.append(Row::Put(1, vec![1]), Purpose::Grow).unwrap();
    let state = region.state().clone();
    let (region, report) = TestRegion::open(region.into_memory()).unwrap();
    assert_eq!(report.migrated_from, None);
    assert_eq!(region.state(), &state);
}

#[test]
fn an_export_can_be_taken_back() {
    let (mut region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    region.append(Row::Put(1, vec![1]), Purpose::Grow).unwrap();
    region.export(schema_hash::<List>()).unwrap();
    assert_eq!(schema_in(region.memory()), Some(schema_hash::<List>()));
    region.reclaim().unwrap();
    assert_eq!(schema_in(region.memory()), Some(schema_hash::<Table>()));
    region.export(schema_hash::<Table>()).unwrap();
    region.append(Row::Remove(1), Purpose::Shrink).unwrap();
    let (region, _) = TestRegion::open(region.into_memory()).unwrap();
    assert_eq!(region.state().changes, 2);
}

#[test]
fn an_export_that_cannot_be_is_refused_and_changes_nothing() {
    let (mut region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    region.append(Row::Put(1, vec![1]), Purpose::Grow).unwrap();
    let stores = region.memory().stores();
    let target = schema_hash::<OtherTable>();
    assert_eq!(region.export(target), Err(ExportError::Unknown { target }));
    // Its values cannot be told in keys alone.
    assert_eq!(
        region.export(schema_hash::<Keys>()),
        Err(ExportError::Refused)
    );
    assert_eq!(region.memory().stores(), stores);
    region.append(Row::Put(1, vec![]), Purpose::Grow).unwrap();
    region.export(schema_hash::<Keys>()).unwrap();
    let (keys, _) = Region::<Keys, _>::open(region.into_memory()).unwrap();
    assert_eq!(keys.state(), &Keys(vec![1]));
}
