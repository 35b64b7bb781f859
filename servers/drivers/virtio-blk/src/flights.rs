//! The requests at the devices, as they are kept in the state region: which request an earlier
//! instance had when it crashed.
//!
//! A request that was alone at the devices when its driver crashed, twice, is to blame: it is
//! poison, and must not be tried again. Of several nobody can tell which one it was: from then
//! on they are suspects, and tried one at a time until all are done or one of them is found alone.
//! Being ended from outside says nothing about a request.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use libsys::state::{Look, NoPrevious, State};
use serde::{Deserialize, Serialize};

use crate::Kind;

/// Crashes with a request alone at the devices that make it poison.
const MAX_CRASHES: u8 = 2;

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// What is done.
    pub kind: Kind,
    /// First sector.
    pub sector: u64,
    /// Number of sectors.
    pub sectors: u64,
}

/// A request that is not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Flight {
    /// What it asks for.
    pub asked: Asked,
    /// How often it was taken.
    pub attempts: u32,
    /// Crashes at which it was alone at the devices.
    pub crashes: u8,
    /// Whether it was at a device when the driver crashed.
    pub is_suspect: bool,
    /// Whether this instance has taken it.
    pub is_taken: bool,
}

/// A change of the table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Record {
    /// An instance begins; so often has the driver crashed since boot.
    Started {
        /// Instances that ended by a crash.
        crashes: u32,
    },
    /// These features were negotiated with the device of a disk.
    Features(u32, u64),
    /// A disk has a new ring: what was in the old one does not come again.
    Ring(u32),
    /// Requests of a disk, by their keys in its ring, go to the device.
    Taken(u32, Vec<(u64, Asked)>),
    /// Requests of a disk are answered.
    Done(u32, Vec<u64>),
    /// What this instance has not taken of a disk is not in its ring any more.
    Forgotten(u32),
}

/// The requests of all disks that are not answered, by disk and key in its ring.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Flights {
    flights: BTreeMap<(u32, u64), Flight>,
    features: BTreeMap<u32, u64>,
    crashes: u32,
}

impl State for Flights {
    type Record = Record;
    type Previous = NoPrevious;
    const SCHEMA: &'static str = "virtio-blk.flights";

    #[inline]
    fn look_at(_record: &Record) -> Look {
        // On the way of each request; the rings have what is to be done.
        Look::None
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Started { crashes } => {
                if crashes > self.crashes {
                    self.blame();
                }
                self.crashes = crashes;
                for flight in self.flights.values_mut() {
                    flight.is_taken = false;
                }
            }
            Record::Features(disk, features) => {
                self.features.insert(disk, features);
            }
            Record::Ring(disk) => self.flights.retain(|(of, _), _| *of != disk),
            Record::Taken(disk, requests) => {
                for (key, asked) in requests {
                    let flight = self.flights.entry((disk, key)).or_insert(Flight {
                        asked,
                        attempts: 0,
                        crashes: 0,
                        is_suspect: false,
                        is_taken: false,
                    });
                    flight.attempts = flight.attempts.saturating_add(1);
                    flight.is_taken = true;
                }
            }
            Record::Done(disk, keys) => {
                for key in keys {
                    self.flights.remove(&(disk, key));
                }
            }
            Record::Forgotten(disk) => {
                self.flights
                    .retain(|(of, _), flight| *of != disk || flight.is_taken);
            }
        }
    }
}

impl Flights {
    /// Marks what was at the devices when the driver crashed.
    fn blame(&mut self) {
        let is_alone = self.taken() == 1;
        for flight in self.flights.values_mut().filter(|flight| flight.is_taken) {
            flight.is_suspect = true;
            flight.crashes = flight.crashes.saturating_add(is_alone.into());
        }
    }

    /// Returns a request that is not answered.
    pub fn get(&self, disk: u32, key: u64) -> Option<&Flight> {
        self.flights.get(&(disk, key))
    }

    /// Returns whether a request must not be tried again.
    pub fn is_poison(&self, disk: u32, key: u64) -> bool {
        self.get(disk, key)
            .is_some_and(|flight| flight.crashes >= MAX_CRASHES)
    }

    /// Returns whether requests are tried one at a time.
    pub fn is_careful(&self) -> bool {
        self.flights.values().any(|flight| flight.is_suspect)
    }

    /// Returns how many more requests may be at the devices just now.
    pub fn room(&self) -> usize {
        if self.is_careful() {
            1_usize.saturating_sub(self.taken())
        } else {
            usize::MAX
        }
    }

    /// Returns whether there are requests of a disk that this instance has not taken.
    pub fn has_untaken(&self, disk: u32) -> bool {
        let mut own = self.flights.range((disk, 0)..=(disk, u64::MAX));
        own.any(|(_, flight)| !flight.is_taken)
    }

    /// Returns the features last negotiated with the device of a disk.
    pub fn features(&self, disk: u32) -> Option<u64> {
        self.features.get(&disk).copied()
    }

    /// Returns how many requests this instance has at the devices.
    fn taken(&self) -> usize {
        let flights = self.flights.values();
        flights.filter(|flight| flight.is_taken).count()
    }
}

#[cfg(test)]
mod tests {
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
}
