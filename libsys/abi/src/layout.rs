//! Where things lie in the address space of a process.
//!
//! Everything that every process has lies in the first GiB, so that a small process needs few
//! page tables. `docs/reference/memory-map.md` draws it.

/// First address past user space. The page below it is never mapped, so that a `syscall` at the
/// very end cannot return to a non-canonical address (AMD64 APM vol. 3, SYSRET).
pub const USER_END: u64 = 0x0000_7fff_ffff_f000;
/// Where programs are linked.
pub const IMAGE_BASE: u64 = 0x0040_0000;
/// First byte past the room for the image.
pub const IMAGE_END: u64 = 0x1000_0000;
/// The start-up pages: [`StartupHeader`] and what follows it. Read only.
pub const STARTUP: u64 = 0x1000_0000;
/// Most bytes of start-up pages.
pub const STARTUP_BYTES: u64 = 64 * 1024;
/// The page that a service shares with `init`: heartbeat and counters.
pub const SERVICE_PAGE: u64 = 0x1010_0000;
/// The page by which every process tells the time ([`crate::TimePage`]). Read only. It shares its
/// page table with the start-up pages.
pub const TIME_PAGE: u64 = 0x1018_0000;
/// The log ring that a service shares with the log server.
pub const LOG_RING: u64 = 0x1020_0000;
/// Bytes of the log ring.
pub const LOG_RING_BYTES: u64 = 16 * 1024;
/// Top of the main thread's stack; it grows down, a guard page lies below it.
pub const STACK_TOP: u64 = 0x1800_0000;
/// Most bytes of the main thread's stack.
pub const STACK_BYTES: u64 = 1024 * 1024;
/// Control page of the main thread ([`crate::ThreadControl`]); its IPC page follows.
pub const THREAD_CONTROL: u64 = 0x1810_0000;
/// Start of the heap.
pub const HEAP: u64 = 0x2000_0000;
/// First byte past the room for the heap.
pub const HEAP_END: u64 = 0x4000_0000;
/// The state region of a service that has one: owned by `init`, outlives the process.
pub const STATE_REGION: u64 = 0x4000_0000;
/// First byte past the room for the state region.
pub const STATE_REGION_END: u64 = 0x8000_0000;
/// Where a process maps shared objects, further threads and the like, as it sees fit.
pub const MAPPINGS: u64 = 0x8000_0000;
/// First byte past [`MAPPINGS`].
pub const MAPPINGS_END: u64 = 0x70_0000_0000;

/// Marks a valid [`StartupHeader`].
pub const STARTUP_MAGIC: u64 = u64::from_le_bytes(*b"SKINKSTA");

/// What a process finds at [`STARTUP`], followed by `blob_bytes` of postcard with its name,
/// arguments and handles (`libsys::startup`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StartupHeader {
    /// [`STARTUP_MAGIC`].
    pub magic: u64,
    /// First byte of the heap, page aligned.
    pub heap_start: u64,
    /// Bytes of the heap: mapped, or resolved on demand by the pager.
    pub heap_bytes: u64,
    /// First byte of the state region, or 0.
    pub state_start: u64,
    /// Bytes of the state region.
    pub state_bytes: u64,
    /// Whether [`SERVICE_PAGE`] and [`LOG_RING`] are mapped (1) or not (0).
    pub has_service_page: u32,
    /// The process's own handle.
    pub process: u32,
    /// Bytes of postcard behind the header.
    pub blob_bytes: u32,
    /// How many times this process was started before in the same place, handles and state
    /// region kept. Only `init` is: 0 at boot.
    pub generation: u32,
}
