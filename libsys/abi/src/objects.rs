//! Structures that are passed by address, all `repr(C)` and made of whole words.

/// Most bytes of a process name.
pub const NAME_BYTES: usize = 32;

/// How a range is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct MapFlags(pub u32);

impl MapFlags {
    /// Readable. Always implied.
    pub const READ: MapFlags = MapFlags(1);
    /// Writable. Never together with [`MapFlags::EXECUTE`].
    pub const WRITE: MapFlags = MapFlags(2);
    /// Executable.
    pub const EXECUTE: MapFlags = MapFlags(4);
    /// Fill the frames with zeros first (needs the right to write).
    pub const ZERO: MapFlags = MapFlags(8);
    /// Replace what is mapped there instead of failing. If the call fails for want of page tables,
    /// what it had replaced by then is unmapped.
    pub const REPLACE: MapFlags = MapFlags(16);

    /// Returns whether all flags in `other` are here.
    pub const fn contains(self, other: MapFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl core::ops::BitOr for MapFlags {
    type Output = MapFlags;

    fn bitor(self, other: MapFlags) -> MapFlags {
        MapFlags(self.0 | other.0)
    }
}

/// One range of a `memory_map` call or of the reply to a page fault: 32 bytes, so that two fit
/// into the registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct MapItem {
    /// First address in the target space, page aligned.
    pub address: u64,
    /// First page within the memory object.
    pub page_offset: u64,
    /// Number of pages.
    pub pages: u64,
    /// The memory object, a handle of the calling process.
    pub memory: u32,
    /// How to map it.
    pub flags: MapFlags,
}

/// Pages of a process that are mapped in a row to frames in a row, all in the same way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct PageRun {
    /// First address.
    pub address: u64,
    /// Physical address of the first frame.
    pub physical: u64,
    /// Number of pages.
    pub pages: u64,
    /// How they may be used now.
    pub flags: MapFlags,
    /// How they could be used: what the memory handle allowed.
    pub limit: MapFlags,
}

impl PageRun {
    /// Returns whether `next` goes on where this run ends, in the same way.
    pub const fn continues(&self, next: &PageRun) -> bool {
        let bytes = self.pages * crate::PAGE_SIZE as u64;
        next.address == self.address + bytes
            && next.physical == self.physical + bytes
            && next.flags.0 == self.flags.0
            && next.limit.0 == self.limit.0
    }
}

/// One call of a `batch`, as it lies in the IPC page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct BatchEntry {
    /// Number of the call ([`crate::Syscall`]).
    pub call: u64,
    /// Its arguments. If the call succeeds, the first two hold its results afterwards.
    pub arguments: [u64; 6],
}

/// What a memory object is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct MemoryInfo {
    /// Pages in the object.
    pub pages: u64,
    /// Physical address of the first page, or `u64::MAX` without the right to know it.
    pub physical: u64,
    /// Handles and mappings that refer to it, this handle included.
    pub references: u64,
    /// A number that no other object has or will have: two handles with the same identity name
    /// the same object.
    pub identity: u64,
    /// 1 for RAM, 0 for device registers.
    pub is_ram: u64,
}

/// What a handle names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct HandleInfo {
    /// [`crate::ObjectKind`] as a number.
    pub kind: u32,
    /// [`crate::Rights`].
    pub rights: u32,
    /// Badge of a sender, bits of a notification handle; of a reply, 1 while its caller waits.
    pub badge: u64,
}

/// How to start a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct ThreadParams {
    /// First instruction.
    pub entry: u64,
    /// First stack pointer.
    pub stack: u64,
    /// First argument (`rdi`).
    pub argument: u64,
    /// Address of the thread's control page; its IPC page follows. Both must be mapped there.
    pub control: u64,
    /// Memory object that holds the two pages, a handle of the calling process.
    pub control_memory: u32,
    /// First of the two pages within the object.
    pub control_page: u32,
}

/// Whether a process runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum ProcessState {
    /// It can run.
    Alive = 0,
    /// It has ended; its threads may still be stopping.
    Dying = 1,
    /// Its threads, handles and page tables are gone: its frames can be used again.
    Dead = 2,
}

/// Why a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum ExitReason {
    /// It has not.
    None = 0,
    /// By itself: `code` is its exit code.
    Exited = 1,
    /// By another process: `code` is what that one gave.
    Killed = 2,
    /// By a fault: `code` is the exception vector, `address` the instruction, `fault_address`
    /// what it touched.
    Fault = 3,
}

/// What counts as reaching a place in a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum WatchKind {
    /// Nothing: no place is watched.
    None = 0,
    /// The instruction there is about to be executed.
    Execution = 1,
    /// The byte there was read or written.
    Access = 2,
}

impl WatchKind {
    /// Returns the kind with this number.
    pub const fn from_number(number: u64) -> Option<WatchKind> {
        match number {
            0 => Some(WatchKind::None),
            1 => Some(WatchKind::Execution),
            2 => Some(WatchKind::Access),
            _ => None,
        }
    }
}

/// What happens when a process answers a request the next time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum AtAnswer {
    /// The answer is delivered.
    Deliver = 0,
    /// The process ends, and its answer with it: the request goes back to its endpoint.
    End = 1,
    /// The answer is lost, and the process goes on as if it had been delivered. The request goes back
    /// to its endpoint: the process, most likely, gets once more what it has answered. Answers to page
    /// faults and those with handles are delivered; it is the next other one.
    Lose = 2,
}

impl AtAnswer {
    /// Returns what has this number.
    pub const fn from_number(number: u64) -> Option<AtAnswer> {
        match number {
            0 => Some(AtAnswer::Deliver),
            1 => Some(AtAnswer::End),
            2 => Some(AtAnswer::Lose),
            _ => None,
        }
    }
}

/// What a process is and does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct ProcessInfo {
    /// Its number: never used again.
    pub id: u64,
    /// [`ProcessState`] as a number.
    pub state: u32,
    /// [`ExitReason`] as a number.
    pub reason: u32,
    /// See [`ExitReason`].
    pub code: u64,
    /// Instruction that faulted.
    pub address: u64,
    /// Address that was touched.
    pub fault_address: u64,
    /// Time its threads ran, ns, work done for them by servers included.
    pub cpu_ns: u64,
    /// Time it ran for its callers, ns.
    pub served_ns: u64,
    /// Page faults resolved by its pager.
    pub faults: u64,
    /// Calls it made.
    pub calls: u64,
    /// Threads it has.
    pub threads: u32,
    /// Handles it holds.
    pub handles: u32,
    /// Kernel memory it has in use, bytes.
    pub kernel_bytes: u64,
    /// Kernel memory it may use, bytes.
    pub kernel_quota: u64,
    /// Pages mapped in its space.
    pub mapped_pages: u64,
    /// Threads of it that wait for the answer to a call.
    pub calling: u16,
    /// Threads of it that wait for a message.
    pub receiving: u16,
    /// Threads of it that wait for bits of a notification.
    pub waiting: u16,
    /// Threads of it that wait for nothing but a time.
    pub sleeping: u16,
    /// Requests and page faults that it has the duty to answer.
    pub duties: u64,
    /// Name, filled up with zeros.
    pub name: [u8; NAME_BYTES],
}

/// What the machine is and what the kernel counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct SystemInfo {
    /// CPUs that run.
    pub cpus: u64,
    /// Bytes of RAM that the firmware reported.
    pub ram_bytes: u64,
    /// Physical address of the PCI Express configuration space (ACPI MCFG), or 0.
    pub ecam: u64,
    /// First bus in it.
    pub ecam_first_bus: u64,
    /// Last bus in it.
    pub ecam_last_bus: u64,
    /// Time stamp counter ticks per millisecond.
    pub tsc_per_ms: u64,
    /// Nanoseconds from the first instruction of the kernel to now.
    pub uptime_ns: u64,
}

/// What the kernel counted since boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct KernelStats {
    /// Bytes in the kernel's pool.
    pub pool_bytes: u64,
    /// Bytes of it in use.
    pub pool_used: u64,
    /// Switches between threads.
    pub switches: u64,
    /// Interrupts taken.
    pub interrupts: u64,
    /// System calls.
    pub syscalls: u64,
    /// Requests put back because their server died.
    pub redelivered: u64,
    /// Requests failed because they crashed their server too often.
    pub poisoned: u64,
    /// Longest stretch with interrupts off seen, in time stamp counter ticks.
    pub longest_entry_ticks: u64,
    /// Nanoseconds that CPUs were idle, summed.
    pub idle_ns: u64,
    /// Handles in use, of all processes.
    pub handles: u64,
    /// Processes, dead ones to which somebody has a handle included.
    pub processes: u64,
    /// Threads.
    pub threads: u64,
    /// Endpoints.
    pub endpoints: u64,
    /// Senders.
    pub senders: u64,
    /// Notifications.
    pub notifications: u64,
    /// Memory objects.
    pub memories: u64,
    /// Tracked mappings.
    pub mappings: u64,
    /// Interrupt objects.
    pub interrupt_objects: u64,
}

/// [`PortStream::direction`] for reading; 0 writes.
pub const PORT_STREAM_READ: u32 = 1;

/// A run of bytes to or from one port, each byte only while a status port says so.
///
/// The kernel raises the word at `progress` with each byte in the same uninterrupted call, so a
/// program that is killed at any moment leaves an exact count of what the device has had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct PortStream {
    /// Port of the data register.
    pub data_port: u16,
    /// Port of the status register.
    pub status_port: u16,
    /// Go on while `status & ready_mask != 0` (checked before each burst).
    pub ready_mask: u8,
    /// Bytes per burst: the depth of the device's FIFO (1 to 64).
    pub burst: u8,
    /// Zero.
    pub reserved: u16,
    /// 0 to write, [`PORT_STREAM_READ`] to read.
    pub direction: u32,
    /// Bytes in the buffer, at most 4096.
    pub bytes: u32,
    /// Address of the buffer.
    pub buffer: u64,
    /// Address of a `u64` to which the kernel adds the number of bytes done, or 0.
    pub progress: u64,
}
