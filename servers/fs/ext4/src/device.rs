//! What the core asks of the block device below.

use core::future::Future;

use crate::error::Result;

/// Bytes of a sector: the unit of all reads.
pub const SECTOR_BYTES: u64 = 512;

/// Most bytes of one data read: large enough that the cost of a request does not matter, small
/// enough that several fit into the device's buffer.
pub const MAX_READ_BYTES: u64 = 128 * 1024;

/// A block device, read only.
///
/// Metadata and data have separate room, so that a read of metadata always gets through while
/// data reads hold all of theirs.
pub trait BlockReader {
    /// The bytes of a finished data read. Dropping it gives its room back.
    type Data: AsRef<[u8]>;

    /// A data read on its way. Dropping it gives the result up.
    type Pending: Future<Output = Result<Self::Data>> + Unpin;

    /// Returns the size of the device in bytes.
    fn bytes(&self) -> u64;

    /// Reads metadata into `buffer`, at most 64 KiB; offset and length are whole sectors.
    ///
    /// # Errors
    ///
    /// `Device`.
    fn read_metadata(&self, offset: u64, buffer: &mut [u8]) -> impl Future<Output = Result<()>>;

    /// Starts a data read of at most [`MAX_READ_BYTES`], whole sectors, unless there is no room
    /// for it now. It is on its way when this returns.
    fn try_start(&self, offset: u64, bytes: u64) -> Option<Self::Pending>;

    /// Starts a data read as soon as there is room. The caller must not hold reads of its own
    /// while it waits: else two of them could wait for each other.
    fn start(&self, offset: u64, bytes: u64) -> impl Future<Output = Self::Pending>;
}

/// Takes the bytes of a file as they arrive. Offsets count from the first byte asked for, each
/// byte is given once, in order.
pub trait Sink {
    /// Takes bytes.
    ///
    /// # Errors
    ///
    /// `Sink` when they cannot be stored.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()>;

    /// Takes a run of zeros.
    ///
    /// # Errors
    ///
    /// As [`Sink::write`].
    fn zero(&mut self, at: u64, bytes: u64) -> Result<()>;
}
