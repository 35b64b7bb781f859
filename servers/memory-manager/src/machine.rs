//! What the manager lets the kernel do: everything that is not policy.

use alloc::vec::Vec;
use core::ops::Range;

use libipc::proto::memory::{ImageSegment, MemoryError, Protection};

use libsys::state::StateMemory;

use crate::Frame;
use crate::journal::RawHandle;
use crate::spaces::Era;

/// How far the end of a process has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// It has no thread: it was not started yet.
    Unstarted,
    /// It runs, or is still being taken apart.
    Running,
    /// All of it is gone, page tables included.
    Gone,
}

/// A copy of image bytes to a frame; what is behind them in the frame becomes zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copy {
    /// Page of the image.
    pub image_page: u64,
    /// Bytes from the start of the page, 1 to 4096.
    pub bytes: u64,
    /// Where they go.
    pub frame: Frame,
}

/// Pages in a row that are mapped to frames in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MappedRun {
    /// The first page.
    pub page: u64,
    /// Physical page behind it.
    pub physical: u64,
    /// How many.
    pub pages: u64,
}

/// What a handle in the manager's table names, as far as it matters to the next instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A process.
    Process,
    /// Memory whose place may be known; `None` when it may not, so that it is somebody else's.
    Memory(Option<Extent>),
}

/// Where a memory object lies, and how many know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The same for all handles to the object, larger than that of what it was cut out of, and
    /// never used for another one.
    pub identity: u64,
    /// Its first physical page.
    pub physical: u64,
    /// Its pages.
    pub pages: u64,
    /// Handles and mappings that refer to it, and objects cut out of it; the manager's own handles
    /// included.
    pub references: u64,
}

/// A process whose pager this has become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Adopted<S> {
    /// The sender for its space.
    pub sender: S,
    /// The badge of that sender, as the kernel knows it.
    pub client_badge: u64,
    /// The badge with which its faults come, as the kernel knows it.
    pub pager_badge: u64,
}

/// Why a process is ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It was registered and then forgotten before it ran.
    NeverStarted,
    /// Nobody can tell any more what its memory is to be.
    Lost,
}

/// The kernel, as far as the manager needs it. A fake one stands in for it in tests.
///
/// Pages that are brought by a fault are not mapped here: they go with the reply.
pub trait Machine {
    /// A handle to a process; ends with its drop.
    type Process;
    /// A handle to a memory object; ends with its drop.
    type Memory;
    /// What a client gets that names its space.
    type Sender;
    /// The memory that outlives the manager.
    type Store: StateMemory;

    /// Returns the number of a handle, which stays valid when the manager is started again.
    fn process_handle(process: &Self::Process) -> RawHandle;

    /// As [`Machine::process_handle`].
    fn memory_handle(memory: &Self::Memory) -> RawHandle;

    /// Takes over a handle that an earlier instance had.
    ///
    /// # Errors
    ///
    /// `BadHandle` when there is none of that kind.
    fn take_process(&mut self, handle: RawHandle) -> Result<Self::Process, MemoryError>;

    /// Gives a process up that was taken over, so that it can be taken over again.
    fn leave_process(&self, process: Self::Process);

    /// As [`Machine::take_process`].
    ///
    /// # Errors
    ///
    /// `BadHandle`.
    fn take_memory(&mut self, handle: RawHandle) -> Result<Self::Memory, MemoryError>;

    /// Returns the handles to processes and memory in the manager's table, but for those of what was
    /// given at the start, also to an earlier instance: its own process and RAM.
    fn others(&self) -> Vec<(RawHandle, Target)>;

    /// Begins an era that no instance has begun before.
    fn begin_era(&self) -> Era;

    /// Closes all handles but those that were given at the start and `kept`, which is sorted.
    fn close_others(&mut self, kept: &[RawHandle]);

    /// Tells what is mapped in a process that is not gone, in order.
    ///
    /// # Errors
    ///
    /// Any: some of it may not have been told.
    fn mappings(
        &self,
        process: &Self::Process,
        tell: &mut dyn FnMut(MappedRun),
    ) -> Result<(), MemoryError>;

    /// Lets some time pass.
    fn pause(&self);

    /// Returns the number of the process: never used for another one.
    ///
    /// # Errors
    ///
    /// `MissingRight`, `BadHandle`.
    fn process_number(&self, process: &Self::Process) -> Result<u64, MemoryError>;

    /// Makes this the pager of the process, watches the process for its end, and makes the
    /// sender for the space, whose number is of this era.
    ///
    /// # Errors
    ///
    /// `MissingRight`, `BadHandle`, `ProcessDead`, `NoKernelMemory`.
    fn adopt(
        &mut self,
        process: &Self::Process,
        era: Era,
        space: u32,
    ) -> Result<Adopted<Self::Sender>, MemoryError>;

    /// Returns whether the process has ended, though all of it may not be gone yet.
    fn has_ended(&self, process: &Self::Process) -> bool;

    /// Tells how far the end of the process has got.
    fn life(&self, process: &Self::Process) -> Life;

    /// Ends a process.
    fn kill(&mut self, process: &Self::Process, end: End);

    /// Unmaps ranges of pages, on all processors.
    ///
    /// # Errors
    ///
    /// `ProcessDead`; the pages may still be mapped until it is gone.
    fn unmap(&mut self, process: &Self::Process, ranges: &[Range<u64>]) -> Result<(), MemoryError>;

    /// Protects ranges of mapped pages otherwise, on all processors.
    ///
    /// # Errors
    ///
    /// `ProcessDead`, `MissingRight`.
    fn protect(
        &mut self,
        process: &Self::Process,
        ranges: &[Range<u64>],
        protection: Protection,
    ) -> Result<(), MemoryError>;

    /// Maps an object's own pages.
    ///
    /// # Errors
    ///
    /// `MissingRight`, `PastEnd`, `InTheWay`, `NoKernelMemory`, `ProcessDead`.
    fn map_shared(
        &mut self,
        process: &Self::Process,
        segment: &ImageSegment,
        memory: &Self::Memory,
    ) -> Result<(), MemoryError>;

    /// Returns the number of pages of an object whose bytes can be copied out.
    ///
    /// # Errors
    ///
    /// `MissingRight`, `BadHandle`.
    fn readable_pages(&self, memory: &Self::Memory) -> Result<u64, MemoryError>;

    /// Copies bytes of an image to a frame that nobody has.
    ///
    /// # Errors
    ///
    /// Any, when the image can no longer be read.
    fn copy(&mut self, memory: &Self::Memory, copy: Copy) -> Result<(), MemoryError>;

    /// Makes a zero-filled memory object of frames that nobody has: the handle to keep and the
    /// one to give away.
    ///
    /// # Errors
    ///
    /// `NoKernelMemory`, `LimitReached`.
    fn make_object(
        &mut self,
        first: Frame,
        pages: u32,
    ) -> Result<(Self::Memory, Self::Memory), MemoryError>;

    /// Returns whether others than the manager still use an object.
    fn is_used(&self, memory: &Self::Memory) -> bool;
}
