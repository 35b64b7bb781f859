//! Block devices as the block server offers them.
//!
//! A client shares a ring ([`crate::typed_ring`]) and buffers with the server, and then talks
//! through the ring alone: each entry is a [`BlockEntry`]. Ring and buffers belong to the client; a
//! restarted server finds what was not completed and does it again, so a client only sees a pause.
//! A completion tells by its [`Receipt`] what was transferred: compare it with that of the request.

use alloc::string::String;
use alloc::vec::Vec;

use libsys::{Handle, Memory, Notification};
use serde::{Deserialize, Serialize};

use crate::typed_ring::Word;

pub use crate::receipt::Receipt;

/// Bytes in a sector: the unit of positions and lengths, whatever the device's own block size.
pub const SECTOR_BYTES: u64 = 512;

/// Most buffers that one queue may register.
pub const MAX_BUFFERS: usize = 64;

/// A device on offer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Its name: `disk0`, `disk1`, …
    pub name: String,
    /// Sectors it has.
    pub sectors: u64,
    /// Whether writing is refused.
    pub is_read_only: bool,
}

/// Names a queue of this client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct QueueId(pub u32);

/// Names a registered buffer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct BufferId(pub u32);

/// What was done for a device since boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Statistics {
    /// Requests of clients that were answered.
    pub requests: u64,
    /// Sectors read.
    pub sectors_read: u64,
    /// Sectors written.
    pub sectors_written: u64,
    /// Requests that were joined with another one on their way to the device.
    pub merged: u64,
    /// Requests that were refused or that the device failed.
    pub failed: u64,
    /// Requests at the device or on their way to it now.
    pub in_flight: u32,
    /// Requests that wait now.
    pub waiting: u32,
}

/// Why the block server refused a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BlockError {
    /// No such device.
    NoDevice,
    /// No such queue of this caller. Remedy: open one.
    NoQueue,
    /// No such buffer of this queue.
    NoBuffer,
    /// The ring cannot be used: too small, or its header is damaged.
    BadRing,
    /// The memory cannot be used for data: it lacks a right or is no RAM.
    BadBuffer,
    /// The server's tables are full. Remedy: close queues or buffers.
    TooMany,
    /// The driver of the device refused: see the log.
    Driver,
    /// A kernel object could not be made or kept: see the log.
    Refused,
}

impl core::fmt::Display for BlockError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            BlockError::NoDevice => "no such block device",
            BlockError::NoQueue => "no such queue of this caller",
            BlockError::NoBuffer => "no such buffer of this queue",
            BlockError::BadRing => "the ring cannot be used",
            BlockError::BadBuffer => "the memory cannot be used as a buffer",
            BlockError::TooMany => "too many queues or buffers",
            BlockError::Driver => "the driver refused",
            BlockError::Refused => "a kernel object could not be made or kept",
        })
    }
}

impl Word for BufferId {
    fn to_word(self) -> u64 {
        self.0.to_word()
    }

    fn from_word(word: u64) -> Option<Self> {
        Word::from_word(word).map(BufferId)
    }
}

/// What to do with a range of sectors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// Fill a part of a buffer from the device.
    Read,
    /// Write a part of a buffer to the device.
    Write,
    /// Make everything durable whose writing was completed before. No buffer, no range.
    Flush,
}

/// A [`BlockEntry`] in the form in which requests are split, joined and carried out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// The buffer that takes or gives the data.
    pub buffer: BufferId,
    /// First byte within the buffer, a multiple of [`SECTOR_BYTES`].
    pub offset: u64,
    /// First sector on the device.
    pub sector: u64,
    /// Number of sectors.
    pub sectors: u64,
}

impl Request {
    /// Makes the request to read sectors into a place of a buffer.
    pub const fn read(buffer: BufferId, offset: u64, sector: u64, sectors: u64) -> Self {
        Request {
            operation: Operation::Read,
            buffer,
            offset,
            sector,
            sectors,
        }
    }

    /// Makes the request to flush.
    pub const fn flush() -> Self {
        let buffer = BufferId(0);
        Request {
            operation: Operation::Flush,
            buffer,
            offset: 0,
            sector: 0,
            sectors: 0,
        }
    }

    /// Makes the request for a part of the sectors of this one, the first of them `from` sectors
    /// behind its first. The caller vouches for there being so many.
    #[must_use]
    pub const fn part(&self, from: u64, sectors: u64) -> Self {
        Request {
            offset: self.offset.wrapping_add(from.wrapping_mul(SECTOR_BYTES)),
            sector: self.sector.wrapping_add(from),
            sectors,
            ..*self
        }
    }
}

impl From<BlockEntry> for Request {
    fn from(entry: BlockEntry) -> Request {
        let (operation, buffer, offset, sector, sectors) = match entry {
            BlockEntry::Read {
                buffer,
                offset,
                sector,
                sectors,
            } => (Operation::Read, buffer, offset, sector, sectors),
            BlockEntry::Write {
                buffer,
                offset,
                sector,
                sectors,
            } => (Operation::Write, buffer, offset, sector, sectors),
            BlockEntry::Flush => return Request::flush(),
        };
        Request {
            operation,
            buffer,
            offset,
            sector,
            sectors,
        }
    }
}

impl From<Request> for BlockEntry {
    fn from(request: Request) -> BlockEntry {
        let Request {
            operation,
            buffer,
            offset,
            sector,
            sectors,
        } = request;
        match operation {
            Operation::Read => BlockEntry::Read {
                buffer,
                offset,
                sector,
                sectors,
            },
            Operation::Write => BlockEntry::Write {
                buffer,
                offset,
                sector,
                sectors,
            },
            Operation::Flush => BlockEntry::Flush,
        }
    }
}

/// Why a request in a ring failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum IoError {
    /// The request makes no sense: misaligned offset, no sectors.
    Invalid,
    /// The range goes past the end of the device.
    OutOfRange,
    /// The buffer is not registered, or the range goes past its end.
    BadBuffer,
    /// The device or the buffer cannot be written.
    ReadOnly,
    /// The device failed the request. Remedy: none here; the data may be lost.
    Device,
    /// The device is gone or does not answer any more.
    Gone,
    /// A server or driver crashed twice while it had this request and no other. It is not tried
    /// again. Remedy: none here; whoever sees it has found a bug in that program.
    Crashed,
}

impl core::fmt::Display for IoError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            IoError::Invalid => "not a valid request",
            IoError::OutOfRange => "past the end of the device",
            IoError::BadBuffer => "no such buffer, or past its end",
            IoError::ReadOnly => "cannot be written",
            IoError::Device => "the device failed the request",
            IoError::Gone => "the device does not answer",
            IoError::Crashed => "the request crashes the block layer",
        })
    }
}

/// Block devices, by queues of requests.
#[crate::interface(version = 5)]
#[compared]
#[suspect(BlockError::NoQueue | BlockError::Driver | BlockError::Refused)]
pub trait Block {
    /// Lists the devices; the position in the list is the device's number.
    #[idempotent]
    fn devices() -> Result<Vec<DeviceInfo>, BlockError>;

    /// Opens this caller's queue to a device and returns it with its doorbell. `wake` is notified
    /// when there are completions. A caller has one queue per device: opening it again, as a
    /// restarted client does, waits for what is at the device, then drops the earlier ring and
    /// its buffers.
    #[idempotent]
    fn open(
        device: u32,
        ring: Handle<Memory>,
        wake: Handle<Notification>,
    ) -> Result<(QueueId, Handle<Notification>), BlockError>;

    /// Registers memory (one contiguous object of RAM, with the rights to read and for DMA, and
    /// to write if anything is to be read into it) as a buffer. The same object gets the same
    /// number again.
    #[idempotent]
    fn register_buffer(queue: QueueId, memory: Handle<Memory>) -> Result<BufferId, BlockError>;

    /// Forgets a buffer, once nothing at the device uses it any more.
    #[idempotent]
    fn unregister_buffer(queue: QueueId, buffer: BufferId) -> Result<(), BlockError>;

    /// Closes a queue, once nothing of it is at the device any more.
    #[idempotent]
    fn close(queue: QueueId) -> Result<(), BlockError>;

    /// Tells what was done for a device.
    #[idempotent]
    fn statistics(device: u32) -> Result<Statistics, BlockError>;

    /// Fills a part of a buffer from the device. `offset` is the first byte within the buffer, a
    /// multiple of [`SECTOR_BYTES`]. The answer is the [`Receipt`] of what was transferred: one
    /// that is not [`Receipt::of`] the request says that the request was not done.
    #[ring]
    fn read(buffer: BufferId, offset: u64, sector: u64, sectors: u64) -> Result<Receipt, IoError>;

    /// Writes a part of a buffer to the device, as `read` reads it.
    #[ring]
    fn write(buffer: BufferId, offset: u64, sector: u64, sectors: u64) -> Result<Receipt, IoError>;

    /// Makes everything durable whose writing was completed before.
    #[ring]
    fn flush() -> Result<Receipt, IoError>;
}

#[cfg(test)]
mod tests {
    use super::{BlockEntry, BufferId, Operation, Request};

    #[test]
    fn requests_round_trip_through_entries() {
        for operation in [Operation::Read, Operation::Write] {
            let request = Request {
                operation,
                buffer: BufferId(u32::MAX),
                offset: 1,
                sector: u64::MAX,
                sectors: 3,
            };
            assert_eq!(Request::from(BlockEntry::from(request)), request);
        }
        let flush = Request::from(BlockEntry::from(Request::flush()));
        assert_eq!(flush, Request::flush());
    }
}
