//! The requests at the devices, and how many there were.

use alloc::collections::BTreeMap;
use core::ops::Deref;

use libsys::state::State;
use serde::{Deserialize, Serialize};

#[path = "../../../../servers/drivers/virtio-blk/src/flights.rs"]
mod version_1;

pub(crate) use version_1::Record;
pub use version_1::{Asked, Flight};

/// What was asked of a disk since this version knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Count {
    /// Requests taken, those that were taken again included.
    pub taken: u64,
    /// Requests answered.
    pub done: u64,
}

/// The table of version 1, behind what is new.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Flights {
    counts: BTreeMap<u32, Count>,
    flights: version_1::Flights,
}

impl Deref for Flights {
    type Target = version_1::Flights;

    fn deref(&self) -> &version_1::Flights {
        &self.flights
    }
}

impl State for Flights {
    type Record = Record;
    type Previous = version_1::Flights;
    const SCHEMA: &'static str = "virtio-blk.flights";

    fn apply(&mut self, record: Record) {
        match &record {
            Record::Taken(disk, requests) => {
                self.counts.entry(*disk).or_default().taken += requests.len() as u64;
            }
            Record::Done(disk, keys) => {
                self.counts.entry(*disk).or_default().done += keys.len() as u64;
            }
            _ => {}
        }
        self.flights.apply(record);
    }

    fn downgrade(&self) -> Option<version_1::Flights> {
        Some(self.flights.clone())
    }
}

impl From<version_1::Flights> for Flights {
    fn from(flights: version_1::Flights) -> Self {
        Flights {
            counts: BTreeMap::new(),
            flights,
        }
    }
}

impl Flights {
    /// Returns how much was asked of a disk.
    pub fn count(&self, disk: u32) -> Count {
        self.counts.get(&disk).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use libsys::state::fake::FakeMemory;
    use libsys::state::{Purpose, Region, schema_hash};

    use super::{Asked, Count, Flights, Record, version_1};
    use crate::Kind;

    #[test]
    fn version_1_is_migrated_and_gets_its_state_back() {
        let (kind, sector, sectors) = (Kind::Read, 7, 8);
        let asked = Asked {
            kind,
            sector,
            sectors,
        };
        let (mut old, _) =
            Region::<version_1::Flights, _>::open(FakeMemory::new(64 * 1024)).unwrap();
        for record in [
            Record::Taken(0, vec![(1, asked)]),
            Record::Started { crashes: 1 },
            Record::Taken(0, vec![(1, asked)]),
        ] {
            old.append(record, Purpose::Grow).unwrap();
        }
        let (mut new, report) = Region::<Flights, _>::open(old.into_memory()).unwrap();
        assert_eq!(
            report.migrated_from,
            Some(schema_hash::<version_1::Flights>())
        );
        new.append(Record::Started { crashes: 2 }, Purpose::Shrink)
            .unwrap();
        assert!(new.state().is_poison(0, 1));
        new.append(Record::Done(0, vec![1]), Purpose::Shrink)
            .unwrap();
        new.append(Record::Taken(0, vec![(2, asked)]), Purpose::Grow)
            .unwrap();
        assert_eq!(new.state().count(0), Count { taken: 1, done: 1 });
        new.export(schema_hash::<version_1::Flights>()).unwrap();
        let (old, report) = Region::<version_1::Flights, _>::open(new.into_memory()).unwrap();
        assert!(!report.has_losses());
        assert!(old.state().get(0, 1).is_none());
        assert_eq!(old.state().get(0, 2).unwrap().attempts, 1);
    }
}
