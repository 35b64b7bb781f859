//! A writer that is damaged: what it writes does not count, and it ends.

use std::ops::RangeBounds;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use super::{Row, Table, TestRegion};
use crate::state::fake::FakeMemory;
use crate::state::{Look, MIN_REGION_BYTES, NoPrevious, Purpose, Region, State, StateMemory};

/// What goes wrong with a store.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// This bit of what was changed in a room, counted from its last byte, is another one.
    Filled(usize),
    /// This bit of a committed word is another one.
    Committed(usize),
    /// A word is not committed.
    LeftOut,
    /// The checksums of records of so many words are wrong.
    Records(u32),
}

/// Memory whose stores go wrong when told so.
struct Faulty {
    inner: FakeMemory,
    fault: Option<Fault>,
}

impl StateMemory for Faulty {
    fn bytes(&self) -> usize {
        self.inner.bytes()
    }

    fn view(&self, range: impl RangeBounds<usize>) -> &[u8] {
        self.inner.view(range)
    }

    fn fill<R>(&mut self, at: usize, room: usize, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        let fault = self.fault;
        self.inner.fill(at, room, |place| {
            let (bytes, result) = f(place);
            if let Some(Fault::Filled(bit)) = fault
                && bit / 8 < bytes
            {
                place[bytes - 1 - bit / 8] ^= 1 << (bit % 8);
            }
            (bytes, result)
        })
    }

    fn commit(&mut self, at: usize, value: u64) {
        match self.fault {
            Some(Fault::LeftOut) => {}
            Some(Fault::Records(words)) if value as u32 == words + 1 => {
                self.inner.commit(at, value ^ 0b11 << 40);
            }
            Some(Fault::Committed(bit)) => self.inner.commit(at, value ^ 1 << bit),
            _ => self.inner.commit(at, value),
        }
    }
}

fn row(key: u8) -> Row {
    Row::Put(key, vec![key; 20])
}

/// Lets a region with one row be changed by a writer with a fault: it must end, and the next one must
/// find one of the states without losses.
fn ends(fault: Fault, change: impl Fn(&mut Region<Table, Faulty>), allowed: &[&Table]) {
    let inner = FakeMemory::new(MIN_REGION_BYTES);
    let memory = Faulty { inner, fault: None };
    let (mut region, _) = Region::<Table, _>::open(memory).unwrap();
    region.append(row(1), Purpose::Grow).unwrap();
    region.memory.fault = Some(fault);
    let result = catch_unwind(AssertUnwindSafe(|| change(&mut region)));
    assert!(result.is_err(), "{fault:?} was not noticed");
    let survivor = region.into_memory().inner.survivor();
    let (next, report) = TestRegion::open(survivor).unwrap();
    assert!(!report.has_losses(), "{fault:?}: {report}");
    assert!(allowed.contains(&next.state()), "{fault:?}");
}

fn table(keys: &[u8]) -> Table {
    let rows = keys.iter().map(|&key| (key, vec![key; 20])).collect();
    Table {
        rows,
        changes: keys.len() as u32,
    }
}

#[test]
fn a_record_that_cannot_be_read_does_not_count() {
    let append = |region: &mut Region<Table, Faulty>| {
        let _ = region.append(row(2), Purpose::Grow);
    };
    // Its bytes and the word that ends the journal.
    for bit in 0..8 * 28 {
        ends(Fault::Filled(bit), append, &[&table(&[1])]);
    }
    // One wrong bit in its header is mended by the next one.
    for bit in 0..64 {
        ends(Fault::Committed(bit), append, &[&table(&[1, 2])]);
    }
    ends(Fault::LeftOut, append, &[&table(&[1])]);
}

#[test]
fn a_snapshot_that_cannot_be_read_does_not_count() {
    let compact = |region: &mut Region<Table, Faulty>| {
        region.compact(region.half.other()).unwrap();
    };
    for bit in 0..64 {
        ends(Fault::Filled(bit), compact, &[&table(&[1])]);
        ends(Fault::Committed(bit), compact, &[&table(&[1])]);
    }
    ends(Fault::LeftOut, compact, &[&table(&[1])]);
}

#[test]
fn nothing_is_written_where_the_journal_does_not_end() {
    let (mut region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
    region.append(row(1), Purpose::Grow).unwrap();
    let (before, _) = TestRegion::open(region.memory.survivor()).unwrap();
    region.append(row(2), Purpose::Grow).unwrap();
    // As if the writer had forgotten the last record.
    region.half = before.half;
    let result = catch_unwind(AssertUnwindSafe(|| region.append(row(3), Purpose::Grow)));
    assert!(result.is_err());
}

/// A state whose records are not looked at one by one.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Sum(u64);

impl State for Sum {
    type Record = [u64; 3];
    type Previous = NoPrevious;
    const SCHEMA: &'static str = "test.sum";

    fn look_at(_record: &[u64; 3]) -> Look {
        Look::None
    }

    fn apply(&mut self, record: [u64; 3]) {
        self.0 += record[0];
    }
}

#[test]
fn records_that_cannot_be_read_are_found_before_long_and_the_state_is_kept() {
    let inner = FakeMemory::new(MIN_REGION_BYTES);
    let memory = Faulty { inner, fault: None };
    let (mut region, _) = Region::<Sum, _>::open(memory).unwrap();
    // One byte and twice ten: three words.
    let record = [1, u64::MAX, u64::MAX];
    let mut appended = 0;
    let mut append = |region: &mut Region<Sum, Faulty>| {
        appended += 1;
        let append = AssertUnwindSafe(|| region.append(record, Purpose::Grow));
        (appended, catch_unwind(append))
    };
    for _ in 0..5 {
        append(&mut region).1.unwrap().unwrap();
    }
    region.memory.fault = Some(Fault::Records(3));
    let count = loop {
        let (count, result) = append(&mut region);
        assert!(count <= 5 + 512 / 32, "it was not noticed");
        if result.is_err() {
            break count;
        }
    };
    let survivor = region.into_memory().inner.survivor();
    let (next, report) = Region::<Sum, _>::open(survivor).unwrap();
    assert!(!report.has_losses(), "{report}");
    assert_eq!(next.state().0, count);
}
