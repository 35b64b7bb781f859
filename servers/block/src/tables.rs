//! Who has which queue and which buffers: what the server must know after a restart.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use libipc::proto::block::BlockError;
use libsys::state::{Look, NoPrevious, State};
use serde::{Deserialize, Serialize};

/// Most queues: for each, ring and notification are kept in the vault.
pub const MAX_QUEUES: usize = 48;
/// Crashes over an entry after which it is not taken again.
pub const MAX_CRASHES: u8 = 2;
/// Most buffers of all queues: as many as a driver takes.
pub const MAX_BUFFERS: usize = 96;

/// A client's queue to a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Queue {
    /// Whose it is.
    pub badge: u64,
    /// The device's number.
    pub device: u32,
    /// Whether it is being closed: nothing of it starts any more.
    pub is_closing: bool,
}

impl Queue {
    /// Makes an open queue.
    pub const fn new(badge: u64, device: u32) -> Self {
        Queue {
            badge,
            device,
            is_closing: false,
        }
    }
}

/// A registered buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Buffer {
    /// The queue that may use it.
    pub queue: u32,
    /// Which memory object it is.
    pub identity: u64,
    /// Its size.
    pub bytes: u64,
    /// Whether it may be read into.
    pub is_writable: bool,
}

/// What was done for a device since boot, as in
/// [`Statistics`](libipc::proto::block::Statistics).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Requests of clients that were answered.
    pub requests: u64,
    /// Sectors read.
    pub sectors_read: u64,
    /// Sectors written.
    pub sectors_written: u64,
    /// Requests that were joined with another one.
    pub merged: u64,
    /// Requests that were refused or that the device failed.
    pub failed: u64,
}

/// One change of the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Record {
    /// A queue was opened.
    Opened(u32, Queue),
    /// A queue is going to be closed.
    Closing(u32),
    /// A queue is closed and its buffers are forgotten.
    Closed(u32),
    /// A buffer was registered.
    Registered(u32, Buffer),
    /// A buffer is forgotten.
    Unregistered(u32),
    /// So much was done for a device.
    Counted(u32, Totals),
    /// An instance begins.
    Started {
        /// How many instances have crashed since boot.
        crashes: u32,
        /// The queue and the key of the entry that the last one was about to take.
        interrupted: Option<(u32, u64)>,
    },
    /// An entry that was blamed for a crash was taken without one, or refused for good.
    Settled(u32, u64),
}

/// Queues and buffers by number. Numbers are not used again, so that a late request cannot reach
/// a buffer of somebody else.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tables {
    queues: BTreeMap<u32, Queue>,
    buffers: BTreeMap<u32, Buffer>,
    last_number: u32,
    totals: BTreeMap<u32, Totals>,
    crashes: u32,
    /// Entries of queues, by key, with the crashes that happened over them.
    blamed: BTreeMap<(u32, u64), u8>,
}

impl State for Tables {
    type Record = Record;
    type Previous = NoPrevious;
    const SCHEMA: &'static str = "block.tables";

    #[inline]
    fn look_at(_record: &Record) -> Look {
        // On the way of each request; the rings have what is to be done.
        Look::None
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Opened(id, queue) => {
                self.queues.insert(id, queue);
                self.last_number = self.last_number.max(id);
            }
            Record::Closing(id) => {
                if let Some(queue) = self.queues.get_mut(&id) {
                    queue.is_closing = true;
                }
            }
            Record::Closed(id) => {
                self.queues.remove(&id);
                self.buffers.retain(|_, buffer| buffer.queue != id);
                self.blamed.retain(|(queue, _), _| *queue != id);
            }
            Record::Registered(id, buffer) => {
                self.buffers.insert(id, buffer);
                self.last_number = self.last_number.max(id);
            }
            Record::Unregistered(id) => {
                self.buffers.remove(&id);
            }
            Record::Counted(device, totals) => {
                self.totals.insert(device, totals);
            }
            Record::Started {
                crashes,
                interrupted,
            } => {
                // Being ended from outside says nothing about an entry.
                let culprit = interrupted
                    .filter(|(queue, _)| crashes > self.crashes && self.queues.contains_key(queue));
                if let Some(entry) = culprit {
                    let count = self.blamed.entry(entry).or_default();
                    *count = count.saturating_add(1);
                }
                self.crashes = crashes;
            }
            Record::Settled(queue, key) => {
                self.blamed.remove(&(queue, key));
            }
        }
    }
}

impl Tables {
    /// Returns a number for a new queue.
    ///
    /// # Errors
    ///
    /// `TooMany`.
    pub fn queue_number(&self) -> Result<u32, BlockError> {
        if self.queues.len() >= MAX_QUEUES {
            return Err(BlockError::TooMany);
        }
        self.next_number()
    }

    /// Returns a number for a new buffer of a queue.
    ///
    /// # Errors
    ///
    /// `TooMany`.
    pub fn buffer_number(&self, queue: u32) -> Result<u32, BlockError> {
        let own = self
            .buffers
            .values()
            .filter(|buffer| buffer.queue == queue)
            .count();
        if self.buffers.len() >= MAX_BUFFERS || own >= libipc::proto::block::MAX_BUFFERS {
            return Err(BlockError::TooMany);
        }
        self.next_number()
    }

    /// Returns an open queue of the badge.
    ///
    /// # Errors
    ///
    /// `NoQueue` for one that is not open or not the badge's own.
    pub fn queue(&self, id: u32, badge: u64) -> Result<Queue, BlockError> {
        match self.queues.get(&id) {
            Some(queue) if queue.badge == badge && !queue.is_closing => Ok(*queue),
            _ => Err(BlockError::NoQueue),
        }
    }

    /// Lists all queues, those being closed included.
    pub fn queues(&self) -> impl Iterator<Item = (u32, Queue)> {
        self.queues.iter().map(|(id, queue)| (*id, *queue))
    }

    /// Returns how many devices there must be, going by the queues to them.
    pub fn devices(&self) -> usize {
        let devices = self.queues.values().map(|queue| queue.device);
        devices.max().map_or(0, |last| last as usize + 1)
    }

    /// Lists the numbers of the queues that a badge has to a device, or to all devices.
    pub fn queues_of(&self, badge: u64, device: Option<u32>) -> Vec<u32> {
        let is_meant = |queue: &Queue| {
            queue.badge == badge && device.is_none_or(|device| queue.device == device)
        };
        self.queues()
            .filter(|(_, queue)| is_meant(queue))
            .map(|(id, _)| id)
            .collect()
    }

    /// Returns a buffer of a queue.
    pub fn buffer(&self, id: u32, queue: u32) -> Option<Buffer> {
        self.buffers
            .get(&id)
            .filter(|buffer| buffer.queue == queue)
            .copied()
    }

    /// Returns the number under which a queue has registered an object, if it has.
    pub fn find_buffer(&self, queue: u32, identity: u64) -> Option<u32> {
        let is_meant = |buffer: &Buffer| buffer.queue == queue && buffer.identity == identity;
        self.buffers
            .iter()
            .find(|(_, buffer)| is_meant(buffer))
            .map(|(id, _)| *id)
    }

    /// Lists the numbers of a queue's buffers.
    pub fn buffers_of(&self, queue: u32) -> Vec<u32> {
        let own = self
            .buffers
            .iter()
            .filter(|(_, buffer)| buffer.queue == queue);
        own.map(|(id, _)| *id).collect()
    }

    /// Returns what was done for a device since boot.
    pub fn totals(&self, device: u32) -> Totals {
        self.totals.get(&device).copied().unwrap_or_default()
    }

    /// Returns how many crashes an entry of a queue is blamed for.
    pub fn blame(&self, queue: u32, key: u64) -> u8 {
        self.blamed.get(&(queue, key)).copied().unwrap_or_default()
    }

    /// Returns whether a buffer has this number, for a queue of the device.
    pub fn knows_buffer(&self, id: u32, device: u32) -> bool {
        let queue = self
            .buffers
            .get(&id)
            .and_then(|buffer| self.queues.get(&buffer.queue));
        queue.is_some_and(|queue| queue.device == device)
    }

    fn next_number(&self) -> Result<u32, BlockError> {
        self.last_number.checked_add(1).ok_or(BlockError::TooMany)
    }
}

#[cfg(test)]
mod tests {
    use libipc::proto::block::BlockError;
    use libsys::state::State;
    use proptest::prelude::*;

    use super::{Buffer, MAX_BUFFERS, MAX_QUEUES, Queue, Record, Tables, Totals};

    fn opened(tables: &mut Tables, badge: u64, device: u32) -> u32 {
        let id = tables.queue_number().unwrap();
        tables.apply(Record::Opened(id, Queue::new(badge, device)));
        id
    }

    fn buffer(queue: u32, identity: u64) -> Buffer {
        Buffer {
            queue,
            identity,
            bytes: 4096,
            is_writable: true,
        }
    }

    #[test]
    fn a_client_reaches_its_own_queues_and_buffers_only() {
        let mut tables = Tables::default();
        let (ours, theirs) = (opened(&mut tables, 1, 0), opened(&mut tables, 2, 0));
        let id = tables.buffer_number(ours).unwrap();
        tables.apply(Record::Registered(id, buffer(ours, 77)));
        assert!(tables.queue(ours, 1).is_ok());
        assert_eq!(tables.queue(ours, 2), Err(BlockError::NoQueue));
        assert!(tables.buffer(id, ours).is_some());
        assert_eq!(tables.buffer(id, theirs), None);
        assert_eq!(tables.find_buffer(ours, 77), Some(id));
        assert_eq!(tables.find_buffer(theirs, 77), None);
        assert!(tables.knows_buffer(id, 0) && !tables.knows_buffer(id, 1));
        tables.apply(Record::Closing(ours));
        assert_eq!(tables.queue(ours, 1), Err(BlockError::NoQueue));
        assert_eq!(tables.queues_of(1, Some(0)), [ours]);
        tables.apply(Record::Closed(ours));
        assert!(tables.buffers_of(ours).is_empty() && tables.queues_of(1, None).is_empty());
        assert_ne!(tables.buffer_number(theirs).unwrap(), id);
    }

    #[test]
    fn an_entry_is_blamed_for_crashes_and_not_for_being_ended() {
        let mut tables = Tables::default();
        let queue = opened(&mut tables, 1, 0);
        let started = |tables: &mut Tables, crashes, interrupted| {
            tables.apply(Record::Started {
                crashes,
                interrupted,
            });
        };
        started(&mut tables, 0, Some((queue, 5)));
        assert_eq!(tables.blame(queue, 5), 0);
        started(&mut tables, 1, Some((queue, 5)));
        started(&mut tables, 1, Some((queue, 5)));
        started(&mut tables, 2, None);
        started(&mut tables, 3, Some((queue + 1, 5)));
        assert_eq!((tables.blame(queue, 5), tables.blame(queue + 1, 5)), (1, 0));
        started(&mut tables, 4, Some((queue, 5)));
        assert_eq!(tables.blame(queue, 5), 2);
        tables.apply(Record::Settled(queue, 5));
        assert_eq!(tables.blame(queue, 5), 0);
    }

    #[test]
    fn tables_are_bounded() {
        let mut tables = Tables::default();
        let queues: Vec<u32> = (0..MAX_QUEUES as u64)
            .map(|i| opened(&mut tables, i, 0))
            .collect();
        assert_eq!(tables.queue_number(), Err(BlockError::TooMany));
        let mut count = 0;
        for queue in queues {
            while let Ok(id) = tables.buffer_number(queue) {
                tables.apply(Record::Registered(id, buffer(queue, count)));
                count += 1;
            }
        }
        assert_eq!(count, MAX_BUFFERS as u64);
    }

    proptest! {
        #[test]
        fn any_records_can_be_applied(
            records in prop::collection::vec((0_u8..8, 0_u32..6, any::<u64>()), 0..60),
        ) {
            let mut tables = Tables::default();
            for (kind, id, number) in records {
                tables.apply(match kind {
                    0 => Record::Opened(id, Queue::new(number, 0)),
                    1 => Record::Closing(id),
                    2 => Record::Closed(id),
                    3 => Record::Registered(id, buffer(number as u32 % 6, number)),
                    4 => Record::Unregistered(id),
                    5 => Record::Counted(id, Totals { requests: number, ..Totals::default() }),
                    6 => {
                        let interrupted = Some((id, number));
                        Record::Started { crashes: number as u32, interrupted }
                    }
                    _ => Record::Settled(id, number),
                });
                prop_assert!(tables.queue_number().is_ok_and(|next| next > id || next > 0));
            }
        }
    }
}
