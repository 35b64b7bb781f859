//! Block devices as the block server offers them.
//!
//! A client shares a ring ([`crate::ring`]) and buffers with the server, and then talks through
//! the ring alone: each entry is a [`Request`], each completion an outcome
//! ([`outcome_of`]). Ring and buffers belong to the client; a restarted server finds what was
//! not completed and does it again, so a client only sees a pause.

use alloc::string::String;
use alloc::vec::Vec;

use libsys::{Handle, Memory, Notification};
use serde::{Deserialize, Serialize};

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

/// What was done for a device since the server started.
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

/// What to do with a range of sectors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum Operation {
    /// Fill a part of a buffer from the device.
    Read = 1,
    /// Write a part of a buffer to the device.
    Write = 2,
    /// Make everything durable whose writing was completed before. No buffer, no range.
    Flush = 3,
}

impl Operation {
    /// Returns the operation with this number.
    pub const fn from_number(number: u32) -> Option<Operation> {
        match number {
            1 => Some(Operation::Read),
            2 => Some(Operation::Write),
            3 => Some(Operation::Flush),
            _ => None,
        }
    }
}

/// One entry of a ring, to the block server and from there to a driver.
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

    /// Returns opcode and arguments of the ring entry.
    pub const fn to_words(self) -> (u32, [u64; 5]) {
        let buffer = self.buffer.0 as u64;
        (
            self.operation as u32,
            [buffer, self.offset, self.sector, self.sectors, 0],
        )
    }

    /// Reads a request from opcode and arguments of a ring entry. Nothing is checked but the
    /// operation and the width of the buffer's number.
    pub const fn from_words(opcode: u32, words: [u64; 5]) -> Option<Self> {
        let Some(operation) = Operation::from_number(opcode) else {
            return None;
        };
        let [buffer, offset, sector, sectors, _] = words;
        if buffer > u32::MAX as u64 {
            return None;
        }
        Some(Request {
            operation,
            buffer: BufferId(buffer as u32),
            offset,
            sector,
            sectors,
        })
    }
}

/// Why a request failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i64)]
pub enum IoError {
    /// The entry is no request: unknown operation, misaligned offset, no sectors.
    Invalid = 1,
    /// The range goes past the end of the device.
    OutOfRange = 2,
    /// The buffer is not registered, or the range goes past its end.
    BadBuffer = 3,
    /// The device or the buffer cannot be written.
    ReadOnly = 4,
    /// The device failed the request. Remedy: none here; the data may be lost.
    Device = 5,
    /// The device is gone or does not answer any more.
    Gone = 6,
}

impl IoError {
    /// Returns the error with this number.
    pub const fn from_number(number: i64) -> Option<IoError> {
        match number {
            1 => Some(IoError::Invalid),
            2 => Some(IoError::OutOfRange),
            3 => Some(IoError::BadBuffer),
            4 => Some(IoError::ReadOnly),
            5 => Some(IoError::Device),
            6 => Some(IoError::Gone),
            _ => None,
        }
    }
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
        })
    }
}

/// Returns the result word of a completion: 0, or the error's number negated.
pub const fn result_word(outcome: Result<(), IoError>) -> i64 {
    match outcome {
        Ok(()) => 0,
        Err(error) => -(error as i64),
    }
}

/// Reads the result word of a completion. What no server writes counts as a failed device.
pub const fn outcome_of(result: i64) -> Result<(), IoError> {
    if result == 0 {
        return Ok(());
    }
    match result.checked_neg() {
        Some(number) => match IoError::from_number(number) {
            Some(error) => Err(error),
            None => Err(IoError::Device),
        },
        None => Err(IoError::Device),
    }
}

/// Block devices, by queues of requests.
#[crate::interface(version = 2)]
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
}

#[cfg(test)]
mod tests {
    use super::{BufferId, IoError, Operation, Request, outcome_of, result_word};

    #[test]
    fn requests_round_trip_through_entries() {
        for operation in [Operation::Read, Operation::Write, Operation::Flush] {
            let buffer = BufferId(u32::MAX);
            let request = Request {
                operation,
                buffer,
                offset: 1,
                sector: u64::MAX,
                sectors: 3,
            };
            let (opcode, words) = request.to_words();
            assert_eq!(Request::from_words(opcode, words), Some(request));
        }
        assert_eq!(Request::from_words(0, [0; 5]), None);
        assert_eq!(Request::from_words(1, [1 << 32, 0, 0, 0, 0]), None);
    }

    #[test]
    fn outcomes_round_trip_and_nonsense_is_a_failure() {
        for number in 1..=6 {
            let error = IoError::from_number(number).unwrap();
            assert_eq!(outcome_of(result_word(Err(error))), Err(error));
        }
        assert_eq!(outcome_of(result_word(Ok(()))), Ok(()));
        for nonsense in [1, 17, -7, i64::MIN, i64::MAX] {
            assert_eq!(outcome_of(nonsense), Err(IoError::Device));
        }
    }
}
