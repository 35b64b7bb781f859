//! Starts processes from program images.
//!
//! [`Spawn`] collects what the process shall be and have; it is started in one of two ways:
//! *pinned*, where every page is mapped before the first instruction, from frames that the
//! starter owns (`init` does so for services at level 3 and below), or *paged*, where the memory
//! manager brings pages on first touch. Either way a process that fails half-way leaves nothing
//! behind: it is ended before the error is returned.
//!
//! ```ignore
//! let child = Spawn::new("ls")
//!     .arguments(["/tmp"])
//!     .variable("cwd", "/")
//!     .handle("vfs", &session, Rights::CALL | Rights::DUPLICATE | Rights::TRANSFER)
//!     .watch(&notification)
//!     .start_paged(&image, &pager)?;
//! ```

mod paged;
mod pinned;
mod startup_pages;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use skink_abi::layout::{HEAP, HEAP_END, STACK_BYTES, STACK_TOP, STATE_REGION, THREAD_CONTROL};
use skink_abi::{MapFlags, MapItem, PAGE_SIZE, ProcessState, RawHandle, Rights, ThreadParams};

use crate::batch::Batch;
use crate::elf::{Elf, ElfError};
use crate::startup::Startup;
use crate::{Error, Handle, Kind, Memory, Notification, Process, System, process};

pub use paged::{Pager, PagerError, Space};
pub use pinned::{Pool, pinned_pages};

/// Kernel memory of a process that asks for no other amount, bytes: page tables for some ten
/// regions, a thread and a few dozen handles.
pub const DEFAULT_KERNEL_QUOTA: u64 = 256 * 1024;
/// Heap of a process that asks for no other size, bytes. Paged heaps cost only what is touched.
pub const DEFAULT_HEAP_BYTES: u64 = 16 * 1024 * 1024;
/// Stack of a process that asks for no other size, bytes.
pub const DEFAULT_STACK_BYTES: u64 = 256 * 1024;
/// Exit code of a process that was ended because it could not be started.
pub const NOT_STARTED: u64 = 126;

/// What the process may do with itself: all but hand its frames out.
const SELF_RIGHTS: Rights =
    Rights(Rights::MANAGE.0 | Rights::INSPECT.0 | Rights::DUPLICATE.0 | Rights::TRANSFER.0);
/// A thread starts as if called: the stack pointer is 8 short of a multiple of 16 (System V
/// ABI, AMD64, 3.2.2), and the zero there ends backtraces.
const FIRST_STACK: u64 = STACK_TOP - 8;

const PAGE: u64 = PAGE_SIZE as u64;

/// Why a process could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// The image is no program.
    Image(ElfError),
    /// The kernel refused, most likely for lack of kernel memory in the starter's quota.
    Kernel(Error),
    /// The memory manager refused or did not answer in time.
    Pager(PagerError),
    /// Heap or stack is larger than the room for it, or empty.
    BadSize,
    /// Name, arguments, variables and handles take more than the start-up pages have.
    StartupTooLong,
    /// The pool has fewer pages than the process needs.
    PoolTooSmall,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::Image(error) => write!(f, "bad image: {error}"),
            SpawnError::Kernel(error) => write!(f, "kernel: {error}"),
            SpawnError::Pager(error) => write!(f, "memory manager: {error}"),
            SpawnError::BadSize => f.write_str("bad heap or stack size"),
            SpawnError::StartupTooLong => f.write_str("arguments too long"),
            SpawnError::PoolTooSmall => f.write_str("not enough reserved memory"),
        }
    }
}

impl core::error::Error for SpawnError {}

impl From<ElfError> for SpawnError {
    fn from(error: ElfError) -> Self {
        SpawnError::Image(error)
    }
}

impl From<Error> for SpawnError {
    fn from(error: Error) -> Self {
        SpawnError::Kernel(error)
    }
}

impl From<PagerError> for SpawnError {
    fn from(error: PagerError) -> Self {
        SpawnError::Pager(error)
    }
}

/// A program image: its bytes, and where they lie in a memory object so that their pages can be
/// shared.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// The memory object that holds them, with the rights to read and execute.
    pub memory: &'a Handle<Memory>,
    /// First page within it; images start on a page.
    pub first_page: u64,
}

/// A range that is mapped into the process before it starts.
#[derive(Clone, Copy, Debug)]
pub struct Premapped<'a> {
    /// First address, page aligned.
    pub address: u64,
    /// The memory object.
    pub memory: &'a Handle<Memory>,
    /// First page within it.
    pub first_page: u64,
    /// Number of pages.
    pub pages: u64,
    /// How.
    pub flags: MapFlags,
}

/// A process that was started.
#[derive(Debug)]
pub struct Child {
    /// The process.
    pub process: Handle<Process>,
    /// Its number.
    pub id: u64,
    /// The handles that it was told of by name, under their numbers in its table. Who wants to
    /// revive it notes them.
    pub handles: Vec<(String, u32)>,
    /// Its handle to itself, in its table.
    pub own: RawHandle,
}

/// What a process shall be and have.
#[derive(Debug)]
pub struct Spawn<'a> {
    startup: Startup,
    grants: Vec<(String, RawHandle, Rights)>,
    items: Vec<MapItem>,
    watcher: Option<&'a Handle<Notification>>,
    revived: Option<&'a Handle<Process>>,
    urgent: Option<&'a Handle<System>>,
    own: RawHandle,
    heap_bytes: u64,
    stack_bytes: u64,
    state_bytes: u64,
    has_service_page: bool,
    kernel_quota: u64,
    // Handles are kept by number; the borrows make sure that they stay open.
    borrows: PhantomData<&'a ()>,
}

impl<'a> Spawn<'a> {
    /// Describes a process with this name and nothing else.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Spawn {
            startup: Startup {
                name: name.to_string(),
                ..Startup::default()
            },
            grants: Vec::new(),
            items: Vec::new(),
            watcher: None,
            revived: None,
            urgent: None,
            own: RawHandle::NONE,
            heap_bytes: DEFAULT_HEAP_BYTES,
            stack_bytes: DEFAULT_STACK_BYTES,
            state_bytes: 0,
            has_service_page: false,
            kernel_quota: DEFAULT_KERNEL_QUOTA,
            borrows: PhantomData,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.startup
            .arguments
            .extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.startup
            .variables
            .push((name.to_string(), value.to_string()));
        self
    }

    /// Gives the process a copy of a handle under a name, with at most the given rights.
    #[must_use]
    pub fn handle<K: Kind>(mut self, name: &str, handle: &'a Handle<K>, rights: Rights) -> Self {
        self.grants.push((name.to_string(), handle.raw(), rights));
        self
    }

    /// Starts it in a dead process that kept its handles, or in one that has never had a thread, in
    /// place of a new one; `own` is its handle to itself in its table, or none for another one.
    /// Should starting fail, it is dead again with its handles.
    #[must_use]
    pub fn revive(mut self, process: &'a Handle<Process>, own: RawHandle) -> Self {
        (self.revived, self.own) = (Some(process), own);
        self
    }

    /// Tells the process of a handle that it has already, under a name.
    #[must_use]
    pub fn known(mut self, name: &str, handle: RawHandle) -> Self {
        self.startup.handles.push((name.to_string(), handle.0));
        self
    }

    /// Maps a range of a memory object before the process starts.
    #[must_use]
    pub fn map(mut self, range: Premapped<'a>) -> Self {
        self.items.push(MapItem {
            address: range.address,
            page_offset: range.first_page,
            pages: range.pages,
            memory: range.memory.raw().0,
            flags: range.flags,
        });
        self
    }

    /// Says that what is mapped at [`STATE_REGION`] is a state region of that many bytes.
    #[must_use]
    pub fn state_bytes(mut self, bytes: u64) -> Self {
        self.state_bytes = bytes;
        self
    }

    /// Says that a service page and a log ring are mapped.
    #[must_use]
    pub fn with_service_page(mut self) -> Self {
        self.has_service_page = true;
        self
    }

    /// Sets the size of the heap.
    #[must_use]
    pub fn heap_bytes(mut self, bytes: u64) -> Self {
        self.heap_bytes = bytes;
        self
    }

    /// Sets the size of the main thread's stack.
    #[must_use]
    pub fn stack_bytes(mut self, bytes: u64) -> Self {
        self.stack_bytes = bytes;
        self
    }

    /// Sets how much kernel memory the process may use, taken from the caller's own quota.
    #[must_use]
    pub fn kernel_quota(mut self, bytes: u64) -> Self {
        self.kernel_quota = bytes;
        self
    }

    /// Has the notification's bits set when the process ends.
    #[must_use]
    pub fn watch(mut self, notification: &'a Handle<Notification>) -> Self {
        self.watcher = Some(notification);
        self
    }

    /// Has its threads run before those of programs when they wake.
    #[must_use]
    pub fn urgent(mut self, system: &'a Handle<System>) -> Self {
        self.urgent = Some(system);
        self
    }

    fn check_sizes(&self) -> Result<(), SpawnError> {
        let fits = (1..=HEAP_END - HEAP).contains(&self.heap_bytes)
            && (1..=STACK_BYTES).contains(&self.stack_bytes);
        if fits {
            Ok(())
        } else {
            Err(SpawnError::BadSize)
        }
    }

    fn heap_pages(&self) -> u64 {
        self.heap_bytes.div_ceil(PAGE)
    }

    fn stack_pages(&self) -> u64 {
        self.stack_bytes.div_ceil(PAGE)
    }

    fn create(&self) -> Result<Unborn, SpawnError> {
        let process = match self.revived {
            Some(process) => {
                let copy = process.duplicate(Rights::ALL)?;
                match process.revive() {
                    Err(Error::StillAlive) if has_never_run(process)? => {}
                    result => result?,
                }
                copy
            }
            None => Handle::<Process>::create(&self.startup.name, self.kernel_quota)?,
        };
        let unborn = Unborn(Some(process));
        if let (Some(system), Unborn(Some(process))) = (self.urgent, &unborn) {
            system.set_urgent(process)?;
        }
        Ok(unborn)
    }

    /// Puts the handles into the process's table, its own too, and encodes the start-up pages,
    /// which tell it their numbers.
    fn startup_pages(&mut self, process: &Handle<Process>) -> Result<Vec<u8>, SpawnError> {
        let mut batch = Batch::with_capacity(self.grants.len() + 1);
        for (_, handle, rights) in &self.grants {
            batch.grant(process, *handle, *rights);
        }
        let own = match self.own {
            RawHandle::NONE => Some(batch.grant(process, process.raw(), SELF_RIGHTS)),
            _ => None,
        };
        let granted = batch.run();
        for (position, (name, ..)) in self.grants.drain(..).enumerate() {
            let number = granted.value(position)? as u32;
            self.startup.handles.push((name, number));
        }
        if let Some(own) = own {
            self.own = RawHandle(granted.value(own)? as u32);
        }
        startup_pages::encode(&self.startup, |header| {
            header.heap_start = HEAP;
            header.heap_bytes = self.heap_pages() * PAGE;
            header.state_start = if self.state_bytes > 0 {
                STATE_REGION
            } else {
                0
            };
            header.state_bytes = self.state_bytes;
            header.has_service_page = self.has_service_page.into();
            header.process = self.own.0;
        })
    }

    /// Lets a process run that has everything it needs.
    fn run(
        self,
        mut unborn: Unborn,
        elf: &Elf,
        control: (&Handle<Memory>, u64),
    ) -> Result<Child, SpawnError> {
        let process = unborn.process()?;
        let mut info = process::empty_info();
        let thread = ThreadParams {
            entry: elf.entry(),
            stack: FIRST_STACK,
            argument: 0,
            control: THREAD_CONTROL,
            control_memory: control.0.raw().0,
            control_page: u32::try_from(control.1).map_err(|_| SpawnError::PoolTooSmall)?,
        };
        let mut batch = Batch::with_capacity(3);
        if let Some(watcher) = self.watcher {
            batch.watch(process, watcher);
        }
        batch.info(process, &mut info);
        // The last: it does not run unless the others went well.
        batch.start_thread(process, &thread);
        batch.run().check()?;
        let process = unborn.0.take().ok_or(SpawnError::Kernel(Error::Dead))?;
        Ok(Child {
            process,
            id: info.id,
            handles: self.startup.handles,
            own: self.own,
        })
    }
}

fn has_never_run(process: &Handle<Process>) -> Result<bool, Error> {
    let info = process.info()?;
    Ok(info.state == ProcessState::Alive as u32 && info.threads == 0)
}

/// A process that does not run yet: ended when dropped.
struct Unborn(Option<Handle<Process>>);

impl Unborn {
    fn process(&self) -> Result<&Handle<Process>, SpawnError> {
        self.0.as_ref().ok_or(SpawnError::Kernel(Error::Dead))
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(process) = self.0.take() {
            // It is gone already, or it never ran and nobody waits for it.
            let _ = process.kill(NOT_STARTED);
        }
    }
}
