//! The table of [`Flights`] in the state region.

use alloc::vec::Vec;

use libsys::state::{Purpose, Region, StateMemory};

use crate::flights::{Asked, Flights, Record};

/// Keeps what is at the devices where the next instance finds it.
#[derive(Debug)]
pub struct FlightLog<M: StateMemory> {
    region: Region<Flights, M>,
}

impl<M: StateMemory> FlightLog<M> {
    /// Begins an instance of a driver that has crashed so often since boot.
    pub fn new(region: Region<Flights, M>, crashes: u32) -> Self {
        let mut log = FlightLog { region };
        log.append(Record::Started { crashes });
        log
    }

    /// Returns the table.
    pub fn flights(&self) -> &Flights {
        self.region.state()
    }

    /// Returns the region.
    pub fn region(&mut self) -> &mut Region<Flights, M> {
        &mut self.region
    }

    /// Notes what was negotiated with a device. Returns what an earlier instance got, if that was
    /// something else.
    pub fn negotiated(&mut self, disk: u32, features: u64) -> Option<u64> {
        let before = self.flights().features(disk);
        if before == Some(features) {
            return None;
        }
        self.append(Record::Features(disk, features));
        before
    }

    /// Notes that a disk has a new ring.
    pub fn has_new_ring(&mut self, disk: u32) {
        self.append(Record::Ring(disk));
    }

    /// Notes requests before anything is done with them.
    pub fn taken(&mut self, disk: u32, requests: Vec<(u64, Asked)>) {
        if !requests.is_empty() {
            self.append(Record::Taken(disk, requests));
        }
    }

    /// Notes that requests were answered.
    pub fn done(&mut self, disk: u32, keys: Vec<u64>) {
        if !keys.is_empty() {
            self.append(Record::Done(disk, keys));
        }
    }

    /// Notes that the ring of a disk holds nothing that was not taken.
    pub fn has_all(&mut self, disk: u32) {
        if self.flights().has_untaken(disk) {
            self.append(Record::Forgotten(disk));
        }
    }

    /// The table is bounded and so is the region: that it is full can only be a mistake in the
    /// manifest. Requests matter more than knowing about them.
    fn append(&mut self, record: Record) {
        if self.region.memory().is_volatile() {
            // Measured is a driver without the table.
            return;
        }
        if self.region.append(record, Purpose::Shrink).is_err() {
            log::error!("requests at the devices are not noted: the state region is too small");
        }
    }
}
