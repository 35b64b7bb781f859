//! A virtio block device (virtio 1.2, 5.2): set-up, requests, completions, reset.

use libipc::proto::block::IoError;
use serde::{Deserialize, Serialize};

use crate::queue::{Data, Header, MAX_SLOTS};
use crate::{Fault, Queue, Registers, SetupError, Transport};

/// Feature bits.
mod feature {
    /// The configuration names the longest segment.
    pub(super) const SIZE_MAX: u64 = 1 << 1;
    /// The device refuses writes.
    pub(super) const READ_ONLY: u64 = 1 << 5;
    /// The device has a write cache and can flush it.
    pub(super) const FLUSH: u64 = 1 << 9;
    /// The device is no legacy one.
    pub(super) const VERSION_1: u64 = 1 << 32;
    /// The device's accesses go through an IOMMU if there is one.
    pub(super) const ACCESS_PLATFORM: u64 = 1 << 33;
}

/// Features that are used when they are offered.
const WANTED: u64 =
    feature::SIZE_MAX | feature::READ_ONLY | feature::FLUSH | feature::ACCESS_PLATFORM;
/// Most sectors of one request: 1 MiB. Longer ones would only make others wait.
const MAX_SECTORS: u32 = 2048;
const SECTOR_BYTES: u32 = 512;

/// What the device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Sectors of 512 bytes.
    pub sectors: u64,
    /// Whether it refuses writes.
    pub is_read_only: bool,
    /// Whether it has a write cache that must be flushed.
    pub has_cache: bool,
    /// Most sectors of one request.
    pub max_sectors: u32,
    /// The features that both sides have, as bits.
    pub features: u64,
}

/// What a transfer does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// The device writes RAM.
    Read,
    /// The device reads RAM.
    Write,
    /// The device empties its write cache.
    Flush,
}

/// A request in terms of the device. The caller vouches for the physical range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// What it does.
    pub kind: Kind,
    /// First sector.
    pub sector: u64,
    /// Physical address of the data.
    pub physical: u64,
    /// Bytes of data.
    pub bytes: u32,
    /// For the caller: the buffer that the data is in.
    pub buffer: u32,
    /// For the caller: which request it is.
    pub token: u64,
}

/// What a device was told to do, read back from its queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// What it did.
    pub kind: Kind,
    /// First sector.
    pub sector: u64,
    /// Physical address of the data.
    pub physical: u64,
    /// Bytes of data.
    pub bytes: u32,
}

impl Told {
    /// Reads what lay in a slot; `None` if that is no request.
    #[inline(never)]
    fn read((header, data): (Header, Option<Data>)) -> Option<Told> {
        let (kind, data) = match (header.kind, data) {
            (0, Some(data)) if data.device_writes => (Kind::Read, data),
            (1, Some(data)) if !data.device_writes => (Kind::Write, data),
            (4, None) => {
                let (physical, bytes, device_writes) = (0, 0, false);
                let nothing = Data {
                    physical,
                    bytes,
                    device_writes,
                };
                (Kind::Flush, nothing)
            }
            _ => return None,
        };
        Some(Told {
            kind,
            sector: header.sector,
            physical: data.physical,
            bytes: data.bytes,
        })
    }
}

/// A transfer that is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// The transfer as it was submitted.
    pub transfer: Transfer,
    /// What the device was told; `None` if it was told nothing that makes sense, or was given up.
    pub told: Option<Told>,
    /// How it went.
    pub outcome: Result<(), IoError>,
}

/// A device that is set up.
#[derive(Debug)]
pub struct Device<R> {
    transport: Transport<R>,
    queue: Queue,
    /// Entry of the MSI-X table for the queue.
    vector: u16,
    geometry: Geometry,
    /// The transfers at the device, by slot: the driver's own copy, which no device can change.
    in_flight: [Option<Transfer>; MAX_SLOTS],
}

impl<R: Registers> Device<R> {
    /// Resets the device and sets it up.
    ///
    /// # Errors
    ///
    /// See [`SetupError`].
    pub fn new(transport: Transport<R>, queue: Queue, vector: u16) -> Result<Self, SetupError> {
        let geometry = Geometry {
            sectors: 0,
            is_read_only: false,
            has_cache: false,
            max_sectors: 0,
            features: 0,
        };
        let in_flight = [None; MAX_SLOTS];
        let mut device = Device {
            transport,
            queue,
            vector,
            geometry,
            in_flight,
        };
        device.set_up()?;
        Ok(device)
    }

    /// Returns what the device is.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Returns how many transfers can be at the device at once.
    pub fn depth(&self) -> usize {
        self.queue.slots()
    }

    /// Returns how many transfers are at the device.
    pub fn in_flight(&self) -> usize {
        self.in_flight.iter().flatten().count()
    }

    /// Hands a transfer to the device; [`Device::kick`] tells it. Returns false, and does
    /// nothing, when the device has as many as it can take.
    pub fn submit(&mut self, transfer: Transfer) -> bool {
        let slots = self.queue.slots();
        let Some(slot) = self.in_flight[..slots].iter().position(Option::is_none) else {
            return false;
        };
        let (kind, data) = match transfer.kind {
            Kind::Read => (0, Some(true)),
            Kind::Write => (1, Some(false)),
            Kind::Flush => (4, None),
        };
        let Transfer {
            physical, bytes, ..
        } = transfer;
        let data = data.map(|device_writes| Data {
            physical,
            bytes,
            device_writes,
        });
        self.in_flight[slot] = Some(transfer);
        self.queue.submit(
            slot,
            Header {
                kind,
                sector: transfer.sector,
            },
            data,
        );
        true
    }

    /// Tells the device about new transfers, unless it looks by itself.
    pub fn kick(&self) {
        if self.queue.wants_notification() {
            self.transport.notify();
        }
    }

    /// Takes the next transfer that is done.
    ///
    /// # Errors
    ///
    /// A [`Fault`] when the device broke the rules; only [`Device::restart`] helps then.
    pub fn next_completion(&mut self) -> Result<Option<Completion>, Fault> {
        let Some(used) = self.queue.next_used()? else {
            return Ok(None);
        };
        // The queue only names slots that were submitted and not completed.
        let transfer = self.in_flight[used.slot].take().ok_or(Fault::UnknownId)?;
        let expected = if transfer.kind == Kind::Read {
            transfer.bytes
        } else {
            0
        };
        let outcome = match used.status {
            // Only what the device says it wrote is there (virtio 1.2, 2.7.8.2).
            0 if used.written < expected => Err(IoError::Device),
            0 => Ok(()),
            _ => Err(IoError::Device),
        };
        let told = Told::read(used.told);
        Ok(Some(Completion {
            transfer,
            told,
            outcome,
        }))
    }

    /// Returns whether the device says that it is broken, or is no longer there.
    pub fn needs_reset(&self) -> bool {
        self.transport.needs_reset()
    }

    /// Resets the device, sets it up again and hands it all unfinished transfers once more, in
    /// an order of its own.
    ///
    /// # Errors
    ///
    /// See [`SetupError`]; the transfers are still there for [`Device::abandon`].
    pub fn restart(&mut self) -> Result<(), SetupError> {
        let mut unfinished = self.in_flight;
        let result = self.set_up();
        if result.is_err() || unfinished.iter().flatten().count() > self.queue.slots() {
            self.in_flight = unfinished;
            return result.and(Err(SetupError::Queue));
        }
        self.in_flight = [None; MAX_SLOTS];
        for transfer in unfinished.iter_mut().filter_map(Option::take) {
            // There is room for all of them, as was just checked.
            self.submit(transfer);
        }
        self.kick();
        Ok(())
    }

    /// Resets a device that is given up. Returns whether it obeyed: one that did not may still
    /// touch RAM.
    pub fn silence(&self) -> bool {
        self.transport.reset().is_ok()
    }

    /// Takes all transfers away from a device that is given up.
    pub fn abandon(&mut self) -> impl Iterator<Item = Transfer> {
        core::mem::replace(&mut self.in_flight, [None; MAX_SLOTS])
            .into_iter()
            .flatten()
    }

    fn set_up(&mut self) -> Result<(), SetupError> {
        self.transport.reset()?;
        let features = self.transport.negotiate(feature::VERSION_1, WANTED)?;
        self.geometry = self.read_geometry(features)?;
        let offered = self.transport.max_queue_size();
        let size = self.queue.clear(offered).ok_or(SetupError::Queue)?;
        self.transport
            .start(size, self.queue.addresses(), self.vector)
    }

    fn read_geometry(&self, features: u64) -> Result<Geometry, SetupError> {
        let (low, high, size_max) = self
            .transport
            .read_config(|config| (config.read_u32(0), config.read_u32(4), config.read_u32(8)))?;
        let longest = if features & feature::SIZE_MAX == 0 {
            u32::MAX
        } else {
            size_max
        };
        let max_sectors = (longest / SECTOR_BYTES).min(MAX_SECTORS);
        if max_sectors == 0 {
            return Err(SetupError::Queue);
        }
        Ok(Geometry {
            sectors: u64::from(low) | u64::from(high) << 32,
            is_read_only: features & feature::READ_ONLY != 0,
            has_cache: features & feature::FLUSH != 0,
            max_sectors,
            features,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Data, Header, Kind, Told};

    #[test]
    fn a_header_that_does_not_fit_its_data_is_no_request() {
        let data = |device_writes| {
            Some(Data {
                physical: 4096,
                bytes: 512,
                device_writes,
            })
        };
        let read = |kind, data| Told::read((Header { kind, sector: 7 }, data));
        let told = read(0, data(true)).unwrap();
        assert_eq!((told.kind, told.sector), (Kind::Read, 7));
        assert_eq!((told.physical, told.bytes), (4096, 512));
        assert_eq!(read(1, data(false)).unwrap().kind, Kind::Write);
        assert_eq!(read(4, None).unwrap().kind, Kind::Flush);
        for (kind, data) in [(0, data(false)), (0, None), (1, data(true)), (1, None)] {
            assert_eq!(read(kind, data), None);
        }
        assert_eq!(read(4, data(true)), None);
        assert_eq!(read(2, data(true)), None);
    }
}
