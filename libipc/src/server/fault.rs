//! Page faults as a pager sees them.

use libsys::abi::{FaultMessage, MAX_MESSAGE_BYTES, MapItem};

/// A page fault of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The badge of the sender that was set as the process's pager.
    pub badge: u64,
    /// Counts the faults; the same when redelivered.
    pub sequence: u64,
    /// Whether an earlier instance of this server died holding the fault.
    pub redelivered: bool,
    /// What was touched.
    pub message: FaultMessage,
}

/// What becomes of a fault; the number is the label of the reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum FaultOutcome {
    /// The listed ranges are mapped and the thread tries again.
    Mapped = 0,
    /// The process is ended.
    Refused = 1,
}

/// Most ranges in the answer to one fault.
const MAX_ITEMS: usize = MAX_MESSAGE_BYTES / size_of::<MapItem>();

/// Ranges to map: the answer to a fault. Kept small, for it lives on the stack.
#[derive(Clone, Copy, Debug)]
pub struct MapItems {
    items: [MapItem; Self::CAPACITY],
    count: usize,
}

impl MapItems {
    /// Most ranges that fit.
    pub const CAPACITY: usize = 16;

    pub(crate) fn new() -> Self {
        const { assert!(Self::CAPACITY <= MAX_ITEMS) };
        let empty = MapItem {
            address: 0,
            page_offset: 0,
            pages: 0,
            memory: 0,
            flags: libsys::abi::MapFlags::READ,
        };
        MapItems {
            items: [empty; Self::CAPACITY],
            count: 0,
        }
    }

    /// Adds a range; returns whether there was room.
    #[must_use]
    pub fn push(&mut self, item: MapItem) -> bool {
        match self.items.get_mut(self.count) {
            Some(place) => {
                *place = item;
                self.count += 1;
                true
            }
            None => false,
        }
    }

    /// Returns the ranges.
    pub fn as_slice(&self) -> &[MapItem] {
        &self.items[..self.count]
    }

    pub(crate) fn clear(&mut self) {
        self.count = 0;
    }

    /// Writes the ranges as they lie in memory and returns how many bytes that took.
    pub(crate) fn write(&self, page: &mut [u8]) -> usize {
        let mut used = 0;
        for (item, place) in self.as_slice().iter().zip(page.as_chunks_mut::<32>().0) {
            place[0..8].copy_from_slice(&item.address.to_le_bytes());
            place[8..16].copy_from_slice(&item.page_offset.to_le_bytes());
            place[16..24].copy_from_slice(&item.pages.to_le_bytes());
            place[24..28].copy_from_slice(&item.memory.to_le_bytes());
            place[28..32].copy_from_slice(&item.flags.0.to_le_bytes());
            used += size_of::<MapItem>();
        }
        used
    }
}
