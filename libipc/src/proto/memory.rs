//! The memory manager: address spaces, anonymous memory and memory objects.
//!
//! A *space* is the memory manager's view of one process: a sorted list of regions, each of which
//! says how a range of pages is backed. Who starts a process registers it
//! ([`MemoryManager::space_create`]) and gets a sender whose badge names the space; through that
//! sender it lays the space out, and it hands a copy to the process itself as `memory`. All other
//! methods work on the space that the sender names, so no process can reach another one's memory.
//!
//! Pages come on first touch. What lies outside all regions is not memory: a touch ends the
//! process with a fault report. Room left free between regions is a guard.

use libsys::{Handle, Memory, Process, Sender};
use serde::{Deserialize, Serialize};

/// Badges with this bit are given out by the memory manager alone. A sender that somebody else
/// minted for it must not have it; such a sender names no space.
pub const SPACE_BADGE: u64 = 1 << 63;

/// First address that can belong to a region: what lies below catches null pointers.
pub const FIRST_ADDRESS: u64 = 0x1_0000;
/// Most pages of one region (16 GiB).
pub const MAX_REGION_PAGES: u64 = 1 << 22;
/// Most regions of one space.
pub const MAX_REGIONS: usize = 256;
/// Most objects made through one sender that still exist.
pub const MAX_OBJECTS: usize = 1024;
/// Most pages of one object (256 MiB).
pub const MAX_OBJECT_PAGES: u64 = 1 << 16;

/// How the pages of a region may be used. Writable and executable at once cannot be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Protection {
    /// Read only.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
}

/// A segment of a program image: which pages of a memory object appear where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageSegment {
    /// First address in the space, page aligned.
    pub address: u64,
    /// Pages of the segment.
    pub pages: u64,
    /// First page within the memory object.
    pub page_offset: u64,
    /// Bytes that come from the object, counted from that page. With [`Protection::ReadWrite`]
    /// the rest of the segment is zeros, from the next byte on; the other kinds are shared and
    /// show the object's own bytes, so they need no more pages than the object has.
    pub file_bytes: u64,
    /// How the pages may be used.
    pub protection: Protection,
}

/// What one space uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SpaceUsage {
    /// Regions.
    pub regions: u64,
    /// Pages in all regions, touched or not.
    pub region_pages: u64,
    /// Frames of its own that are in memory now.
    pub resident_pages: u64,
    /// Pages of regions that show an object's own pages.
    pub shared_pages: u64,
    /// Objects made through this sender that still exist.
    pub objects: u64,
    /// Pages of those objects.
    pub object_pages: u64,
    /// Page faults resolved since the memory manager was started last.
    pub faults: u64,
    /// Pages that were brought without a fault of their own since then.
    pub prefetched_pages: u64,
}

/// What all of memory is used for. Everything but counts is in pages of 4 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MemoryTotals {
    /// Pages that the memory manager owns.
    pub total: u64,
    /// Pages that nobody uses.
    pub free: u64,
    /// Pages that belong to one space alone.
    pub anonymous: u64,
    /// Pages of memory objects.
    pub objects: u64,
    /// Pages that hold the memory manager's own tables.
    pub tables: u64,
    /// Longest run of free pages that an object could get.
    pub largest_free_run: u64,
    /// Spaces.
    pub spaces: u64,
    /// Memory objects.
    pub object_count: u64,
    /// Page faults resolved since the memory manager was started last.
    pub faults: u64,
    /// Page faults refused since then: the process was ended for each.
    pub refused_faults: u64,
}

/// Why the memory manager refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MemoryError {
    /// The sender names no space, or that space has ended. Remedy: use the sender that
    /// `space_create` gave.
    NoSpace,
    /// The process is registered already.
    AlreadyRegistered,
    /// The process has ended.
    ProcessDead,
    /// The process or memory handle lacks a right that is needed (`MANAGE` and `INSPECT` on a
    /// process; `READ`, and `EXECUTE` for code, on memory).
    MissingRight,
    /// A handle is invalid or names something else.
    BadHandle,
    /// The address is not page aligned, or the range is empty, too long or outside user space.
    BadRange,
    /// The range lies partly in a region already. Remedy: unmap that first.
    Overlap,
    /// A part of the range is in no region.
    NotMapped,
    /// Shared image regions change as a whole and never become writable.
    SharedRegion,
    /// The image range lies past the end of its memory object.
    PastEnd,
    /// No free memory, or no free run of that length.
    NoMemory,
    /// The kernel has no memory left for page tables within the quota of the process.
    NoKernelMemory,
    /// The caller has as many regions, objects or spaces as are allowed.
    LimitReached,
    /// Something that the memory manager does not know is mapped there.
    InTheWay,
}

impl MemoryError {
    /// Returns one sentence for people.
    pub const fn text(self) -> &'static str {
        match self {
            MemoryError::NoSpace => "the sender names no address space",
            MemoryError::AlreadyRegistered => "the process is registered already",
            MemoryError::ProcessDead => "the process has ended",
            MemoryError::MissingRight => "a handle lacks a needed right",
            MemoryError::BadHandle => "a handle is invalid",
            MemoryError::BadRange => "bad address range",
            MemoryError::Overlap => "the range is mapped already",
            MemoryError::NotMapped => "the range is not mapped",
            MemoryError::SharedRegion => "shared image regions change as a whole",
            MemoryError::PastEnd => "past the end of the memory object",
            MemoryError::NoMemory => "out of memory",
            MemoryError::NoKernelMemory => "kernel memory quota used up",
            MemoryError::LimitReached => "too many regions, objects or spaces",
            MemoryError::InTheWay => "something else is mapped there",
        }
    }
}

impl core::fmt::Display for MemoryError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for MemoryError {}

/// Owns the machine's RAM and resolves page faults.
#[crate::interface(version = 3)]
#[compared]
#[suspect(
    MemoryError::NoSpace
        | MemoryError::AlreadyRegistered
        | MemoryError::BadHandle
        | MemoryError::BadRange
        | MemoryError::Overlap
        | MemoryError::NotMapped
        | MemoryError::SharedRegion
        | MemoryError::PastEnd
        | MemoryError::InTheWay
)]
pub trait MemoryManager {
    /// Registers a process: its page faults are resolved here from now on. Returns the sender
    /// that names its space, for who lays it out and for the process itself. Needs `MANAGE` and
    /// `INSPECT` on the process. The space ends with the process; a process that has never run is
    /// ended when the last copy of the sender is closed.
    #[exactly_once]
    fn space_create(process: Handle<Process>) -> Result<Handle<Sender>, MemoryError>;

    /// Makes a region of zero-filled pages that come on first touch.
    #[exactly_once]
    fn map_anonymous(address: u64, pages: u64, protection: Protection) -> Result<(), MemoryError>;

    /// Makes a region of the pages of a memory object: read-only and executable ones are shared
    /// with the object and mapped at once, writable ones are private copies made on first touch.
    #[exactly_once]
    fn map_image(segment: ImageSegment, memory: Handle<Memory>) -> Result<(), MemoryError>;

    /// Unmaps a range and frees its frames. Parts of it may be unmapped already; regions that are
    /// shared must lie in it as a whole.
    #[exactly_once]
    fn unmap(address: u64, pages: u64) -> Result<(), MemoryError>;

    /// Changes how the pages of a range may be used; all of it must be mapped.
    #[exactly_once]
    fn protect(address: u64, pages: u64, protection: Protection) -> Result<(), MemoryError>;

    /// Makes a zero-filled, physically contiguous memory object with the rights to map, share
    /// and use it for DMA. Its frames are freed when the last handle and mapping are gone.
    #[exactly_once]
    fn create_object(pages: u64) -> Result<Handle<Memory>, MemoryError>;

    /// Tells what the caller's space uses.
    #[idempotent]
    fn usage() -> Result<SpaceUsage, MemoryError>;

    /// Tells what all of memory is used for.
    #[idempotent]
    #[ensures(crate::promises::totals)]
    fn totals() -> Result<MemoryTotals, MemoryError>;
}
