//! The split virtqueue (virtio 1.2, 2.7), cut down to what block requests need.
//!
//! Each request takes a *slot*: three descriptors of its own (header, data, status), a header and
//! a status byte, all at fixed places. So there is no list of free descriptors that could be
//! damaged, and a used entry is right only if it names the first descriptor of a busy slot.
//!
//! The area holds, from its start: descriptors, available ring, used ring, headers, status bytes.
//! Once the device may see a request the driver never reads back what it wrote there: it does so
//! before, and keeps what it read.

use core::sync::atomic::{Ordering, fence};

use crate::transport::QueueAddresses;
use crate::{Registers, Window};

/// Bytes of memory that a queue needs.
pub const AREA_BYTES: usize = 16 * 1024;
/// Most entries used: the default of QEMU, and what the area has room for.
pub(crate) const MAX_SIZE: u16 = 256;
/// Most slots: more in flight gains nothing.
pub(crate) const MAX_SLOTS: usize = 64;

const DESCRIPTOR_BYTES: usize = 16;
const DESCRIPTORS_PER_SLOT: usize = 3;
const HEADER_BYTES: usize = 16;

/// Offsets in the area.
const DESCRIPTORS: usize = 0;
const AVAILABLE: usize = 4096;
const USED: usize = 8192;
const HEADERS: usize = 12 * 1024;
const STATUSES: usize = 14 * 1024;

/// Descriptor flags.
const NEXT: u16 = 1;
const DEVICE_WRITES: u16 = 2;
/// Flag of the used ring: the device does not want to be notified.
const NO_NOTIFY: u16 = 1;

/// What a status byte holds until the device writes it.
const STATUS_PENDING: u8 = 0xff;

/// How the device broke the rules of the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It says that more requests are done than there are.
    TooManyUsed,
    /// It says that a request is done that is not there.
    UnknownId,
    /// It says that it wrote more than there is room for.
    TooLong,
    /// It wrote no status, or one that does not exist.
    BadStatus,
    /// It says itself that it is broken.
    NeedsReset,
    /// It did nothing for too long.
    Stalled,
}

/// The header of a request (virtio 1.2, 5.2.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) kind: u32,
    pub(crate) sector: u64,
}

/// The data part of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Data {
    pub(crate) physical: u64,
    pub(crate) bytes: u32,
    pub(crate) device_writes: bool,
}

/// A piece of a request (virtio 1.2, 2.7.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Descriptor {
    physical: u64,
    bytes: u32,
    flags: u16,
    next: u16,
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Fault::TooManyUsed => "it finished more requests than it had",
            Fault::UnknownId => "it finished a request that it did not have",
            Fault::TooLong => "it wrote more than it was asked for",
            Fault::BadStatus => "it finished a request without a valid status",
            Fault::NeedsReset => "it asks to be reset",
            Fault::Stalled => "it does not go on",
        })
    }
}

/// A used slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct UsedSlot {
    pub(crate) slot: usize,
    /// The status byte: 0, 1 or 2.
    pub(crate) status: u8,
    /// Bytes that the device says it wrote, the status byte included.
    pub(crate) written: u32,
    /// What the device was told.
    pub(crate) told: (Header, Option<Data>),
}

/// A slot that the device has.
#[derive(Clone, Copy, Debug)]
struct Busy {
    /// Most bytes that the device may write.
    limit: u32,
    /// What lay in the slot before the device could see it.
    told: (Header, Option<Data>),
}

/// A queue in DMA memory.
#[derive(Debug)]
pub struct Queue {
    /// Memory, reached like registers because the device changes it.
    area: Window,
    physical: u64,
    size: u16,
    busy: [Option<Busy>; MAX_SLOTS],
    /// Index of the next available entry, as in the ring: it wraps at 2^16.
    next_available: u16,
    /// Index of the next used entry.
    next_used: u16,
}

impl Queue {
    /// Makes a queue in an area of at least [`AREA_BYTES`] at a physical address, or `None` when
    /// the area is too small.
    pub fn new(area: Window, physical: u64) -> Option<Self> {
        let fits = area.bytes() >= AREA_BYTES && physical.checked_add(AREA_BYTES as u64).is_some();
        fits.then_some(Queue {
            area,
            physical,
            size: 0,
            busy: [None; MAX_SLOTS],
            next_available: 0,
            next_used: 0,
        })
    }

    /// Empties the queue for a device that was just reset and offers `max_size` entries. Returns
    /// the size to use, or `None` when that is too small for one request.
    pub(crate) fn clear(&mut self, max_size: u16) -> Option<u16> {
        // Sizes are powers of two (virtio 1.2, 2.7).
        let size = max_size.min(MAX_SIZE);
        let size = if size.is_power_of_two() {
            size
        } else {
            size.next_power_of_two() / 2
        };
        for offset in (0..AREA_BYTES).step_by(4) {
            self.area.write_u32(offset, 0);
        }
        (self.next_available, self.next_used) = (0, 0);
        self.busy = [None; MAX_SLOTS];
        self.size = size;
        (self.slots() > 0).then_some(size)
    }

    /// Returns how many requests can be in the queue at once.
    pub(crate) fn slots(&self) -> usize {
        (usize::from(self.size) / DESCRIPTORS_PER_SLOT).min(MAX_SLOTS)
    }

    /// Returns where the device finds the parts of the queue.
    pub(crate) fn addresses(&self) -> QueueAddresses {
        QueueAddresses {
            descriptors: self.physical + DESCRIPTORS as u64,
            available: self.physical + AVAILABLE as u64,
            used: self.physical + USED as u64,
        }
    }

    /// Puts a request into a slot that is not busy and makes it available to the device.
    pub(crate) fn submit(&mut self, slot: usize, header: Header, data: Option<Data>) {
        let head = slot * DESCRIPTORS_PER_SLOT;
        let (header_at, status_at) = (HEADERS + slot * HEADER_BYTES, STATUSES + slot);
        self.area.write_u32(header_at, header.kind);
        self.area.write_u32(header_at + 4, 0);
        self.write_u64(header_at + 8, header.sector);
        self.area.write_u8(status_at, STATUS_PENDING);

        let header_physical = self.physical + header_at as u64;
        let after_header = if data.is_some() { head + 1 } else { head + 2 };
        self.describe(
            head,
            (header_physical, HEADER_BYTES as u32),
            NEXT,
            after_header,
        );
        if let Some(data) = data {
            let flags = if data.device_writes {
                NEXT | DEVICE_WRITES
            } else {
                NEXT
            };
            self.describe(head + 1, (data.physical, data.bytes), flags, head + 2);
        }
        self.describe(
            head + 2,
            (self.physical + status_at as u64, 1),
            DEVICE_WRITES,
            0,
        );

        let told = self.holds(slot, header, data);
        assert!(
            told.is_some(),
            "a request in the queue is not the one that was to be there"
        );

        let writable = data
            .filter(|data| data.device_writes)
            .map_or(0, |data| data.bytes);
        let limit = writable.saturating_add(1);
        self.busy[slot] = told.map(|told| Busy { limit, told });
        let entry = AVAILABLE + 4 + 2 * self.ring_place(self.next_available);
        self.area.write_u16(entry, head as u16);
        // The device may read the entry as soon as it sees the index.
        fence(Ordering::SeqCst);
        self.next_available = self.next_available.wrapping_add(1);
        self.area.write_u16(AVAILABLE + 2, self.next_available);
    }

    /// Returns what a slot holds if it is this request: a device that is told a wrong place reads or writes the
    /// memory of others. Apart from what wrote it, and before the device may see it.
    #[inline(never)]
    fn holds(
        &self,
        slot: usize,
        header: Header,
        data: Option<Data>,
    ) -> Option<(Header, Option<Data>)> {
        let head = slot * DESCRIPTORS_PER_SLOT;
        let (header_at, status_at) = (HEADERS + slot * HEADER_BYTES, STATUSES + slot);
        let status = Descriptor {
            physical: self.physical + status_at as u64,
            bytes: 1,
            flags: DEVICE_WRITES,
            next: 0,
        };
        let behind = [head + 2, head + 1][usize::from(data.is_some())];
        let second = data.map(|_| self.descriptor(head + 1));
        let is_data_right = data.is_none_or(|data| {
            let described = Descriptor {
                physical: data.physical,
                bytes: data.bytes,
                flags: [NEXT, NEXT | DEVICE_WRITES][usize::from(data.device_writes)],
                next: (head + 2) as u16,
            };
            second == Some(described)
        });
        let first = self.descriptor(head);
        let read = Header {
            kind: self.area.read_u32(header_at),
            sector: self.read_u64(header_at + 8),
        };
        let is_right = is_data_right
            && self.descriptor(head + 2) == status
            && first.physical == self.physical + header_at as u64
            && (first.bytes, first.flags) == (HEADER_BYTES as u32, NEXT)
            && usize::from(first.next) == behind
            && read == header
            && self.area.read_u8(status_at) == STATUS_PENDING;
        let told = second.map(|second| Data {
            physical: second.physical,
            bytes: second.bytes,
            device_writes: second.flags & DEVICE_WRITES != 0,
        });
        is_right.then_some((read, told))
    }

    fn descriptor(&self, index: usize) -> Descriptor {
        let at = DESCRIPTORS + index * DESCRIPTOR_BYTES;
        Descriptor {
            physical: self.read_u64(at),
            bytes: self.area.read_u32(at + 8),
            flags: self.area.read_u16(at + 12),
            next: self.area.read_u16(at + 14),
        }
    }

    fn read_u64(&self, at: usize) -> u64 {
        u64::from(self.area.read_u32(at + 4)) << u32::BITS | u64::from(self.area.read_u32(at))
    }

    /// Returns whether the device wants to be told about new requests.
    pub(crate) fn wants_notification(&self) -> bool {
        // The flag must be read after the index was written (virtio 1.2, 2.7.13.4.1).
        fence(Ordering::SeqCst);
        self.area.read_u16(USED) & NO_NOTIFY == 0
    }

    /// Takes the next request that the device has finished, if there is one. The slot is free
    /// again afterwards.
    pub(crate) fn next_used(&mut self) -> Result<Option<UsedSlot>, Fault> {
        let index = self.area.read_u16(USED + 2);
        let waiting = usize::from(index.wrapping_sub(self.next_used));
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > self.busy.iter().flatten().count() {
            return Err(Fault::TooManyUsed);
        }
        // What the index announces must be read after the index.
        fence(Ordering::SeqCst);
        let entry = USED + 4 + 8 * self.ring_place(self.next_used);
        let id = self.area.read_u32(entry) as usize;
        let written = self.area.read_u32(entry + 4);
        let slot = id / DESCRIPTORS_PER_SLOT;
        let known = self.busy.get(slot).copied().flatten();
        let Some(Busy { limit, told }) = known.filter(|_| id.is_multiple_of(DESCRIPTORS_PER_SLOT))
        else {
            return Err(Fault::UnknownId);
        };
        if written > limit {
            return Err(Fault::TooLong);
        }
        let status = self.area.read_u8(STATUSES + slot);
        if status > 2 {
            return Err(Fault::BadStatus);
        }
        self.next_used = self.next_used.wrapping_add(1);
        self.busy[slot] = None;
        Ok(Some(UsedSlot {
            slot,
            status,
            written,
            told,
        }))
    }

    fn ring_place(&self, index: u16) -> usize {
        // The size is a power of two once the queue is in use.
        usize::from(index & self.size.wrapping_sub(1))
    }

    fn describe(&self, index: usize, (physical, bytes): (u64, u32), flags: u16, next: usize) {
        let at = DESCRIPTORS + index * DESCRIPTOR_BYTES;
        self.write_u64(at, physical);
        self.area.write_u32(at + 8, bytes);
        self.area.write_u16(at + 12, flags);
        self.area.write_u16(at + 14, next as u16);
    }

    fn write_u64(&self, at: usize, value: u64) {
        self.area.write_u32(at, value as u32);
        self.area.write_u32(at + 4, (value >> 32) as u32);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use libsys::mappings::Mapping;

    use super::{AREA_BYTES, Data, Header, Queue};
    use crate::{Registers, Window};

    #[test]
    fn a_request_that_was_written_wrongly_is_noticed() {
        let mapping = Rc::new(Mapping::on_heap(AREA_BYTES));
        let window = || Window::new(Rc::clone(&mapping), 0, AREA_BYTES).unwrap();
        let mut queue = Queue::new(window(), 1 << 32).unwrap();
        queue.clear(256).unwrap();
        let header = Header {
            kind: 1,
            sector: 0x1_0000_0007,
        };
        let data = Data {
            physical: 0x1_2345_6000,
            bytes: 4096,
            device_writes: false,
        };
        let area = window();
        for (slot, data) in [(2, Some(data)), (3, None)] {
            queue.submit(slot, header, data);
            assert_eq!(queue.holds(slot, header, data), Some((header, data)));
            assert_eq!(queue.holds(slot + 2, header, data), None);
            let mut noticed = 0;
            for at in 0..AREA_BYTES {
                let byte = area.read_u8(at);
                area.write_u8(at, byte ^ 1);
                noticed += usize::from(queue.holds(slot, header, data).is_none());
                area.write_u8(at, byte);
            }
            // Two or three descriptors, the header but for the half that is reserved, the status.
            let descriptors = 2 + usize::from(data.is_some());
            assert_eq!(noticed, 16 * descriptors + 12 + 1);
        }
    }
}
