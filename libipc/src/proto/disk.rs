//! The driver side of the block server: what every disk driver offers to it.
//!
//! The block server shares one ring per disk with the driver. Its entries are
//! [`BlockEntry`]s whose buffers were registered here; the driver finds the physical
//! addresses itself, and answers with the receipt of what it told the device. It keeps ring, wake-up
//! and buffers where they outlive it, so that after a restart it goes on with what is not completed.

use alloc::vec::Vec;

use libsys::{Handle, Memory, Notification};
use serde::{Deserialize, Serialize};

use super::block::{BlockEntry, BufferId};

/// A disk that the driver drives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DiskInfo {
    /// Sectors of 512 bytes; 0 for one that cannot be driven: all calls for it give `NoDisk`.
    pub sectors: u64,
    /// Whether the device refuses writes.
    pub is_read_only: bool,
    /// Most sectors of one request.
    pub max_sectors: u32,
    /// Requests that the device can work on at once.
    pub depth: u32,
}

/// Why the driver refused a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DiskError {
    /// No such disk.
    NoDisk,
    /// The ring cannot be used: too small, or its header is damaged.
    BadRing,
    /// The memory cannot be used: no RAM, or a right is lacking.
    BadBuffer,
    /// The driver's tables are full.
    TooMany,
    /// A kernel object could not be made or kept: see the log.
    Refused,
}

impl core::fmt::Display for DiskError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            DiskError::NoDisk => "no such disk",
            DiskError::BadRing => "the ring cannot be used",
            DiskError::BadBuffer => "the memory cannot be used as a buffer",
            DiskError::TooMany => "too many buffers",
            DiskError::Refused => "a kernel object could not be made or kept",
        })
    }
}

/// Disks, by one ring each.
#[crate::interface(version = 5, ring = BlockEntry)]
#[compared]
#[suspect(DiskError::BadRing | DiskError::Refused)]
pub trait Disk {
    /// Lists the disks; the position in the list is the disk's number.
    #[idempotent]
    #[ensures(crate::promises::disks)]
    fn disks() -> Result<Vec<DiskInfo>, DiskError>;

    /// Takes the ring of a disk and returns its doorbell. `wake` is notified when there are
    /// completions. A new ring takes the place of the earlier one, as if that was detached first;
    /// registered buffers stay.
    #[idempotent]
    fn attach(
        disk: u32,
        ring: Handle<Memory>,
        wake: Handle<Notification>,
    ) -> Result<Handle<Notification>, DiskError>;

    /// Drops the ring of a disk, once nothing of it is at the device any more. Only then may its
    /// memory be prepared for being attached again.
    #[idempotent]
    fn detach(disk: u32) -> Result<(), DiskError>;

    /// Registers memory (one contiguous object of RAM, with the right for DMA) as a buffer under
    /// a number that the caller chose, in place of an earlier buffer of that number.
    #[idempotent]
    fn register_buffer(
        disk: u32,
        buffer: BufferId,
        memory: Handle<Memory>,
    ) -> Result<(), DiskError>;

    /// Forgets a buffer, once nothing at the device uses it any more. An unknown number is fine.
    #[idempotent]
    fn unregister_buffer(disk: u32, buffer: BufferId) -> Result<(), DiskError>;

    /// Lists the numbers of the registered buffers.
    #[idempotent]
    fn buffers(disk: u32) -> Result<Vec<BufferId>, DiskError>;
}
