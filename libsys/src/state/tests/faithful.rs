//! A writer that is damaged: what it writes does not count, and it ends.

use std::ops::RangeBounds;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Row, Table, TestRegion};
use crate::state::fake::FakeMemory;
use crate::state::{MIN_REGION_BYTES, Purpose, Region, StateMemory};

/// What goes wrong with a store.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// This bit of what was changed in a room, counted from its last byte, is another one.
    Filled(usize),
    /// This bit of a committed word is another one.
    Committed(usize),
    /// A word is not committed.
    LeftOut,
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
