//! Further threads of a process.

use alloc::boxed::Box;

use skink_abi::{MapFlags, PAGE_SIZE, Syscall, ThreadParams};

use crate::{Handle, Memory, Result, Thread, raw, startup};

/// Pages in front of the stack: control page, IPC page.
const CONTROL_PAGES: u64 = 2;
/// Addresses left free between them and the stack, so that an overflow faults.
const GUARD_BYTES: u64 = PAGE_SIZE as u64;
/// Fewest pages that a thread can do with.
const MIN_PAGES: u64 = CONTROL_PAGES + 1;

/// Where a thread lives: pages for its control page, its IPC page and its stack, in this order,
/// and the address at which they are mapped with one free page before the stack.
#[derive(Debug)]
pub struct ThreadPlace<'a> {
    /// The pages, with the rights to read and write. They stay mapped when the thread ends.
    pub memory: &'a Handle<Memory>,
    /// First page within the object.
    pub first_page: u64,
    /// Number of pages, stack included.
    pub pages: u64,
    /// First address: `pages + 1` pages from there on must be free.
    pub address: u64,
}

/// Starts a thread of this process that runs `work` and ends.
///
/// # Errors
///
/// `InvalidArgument` with less than three pages, and those of mapping and of thread creation.
pub fn spawn(
    place: &ThreadPlace<'_>,
    work: impl FnOnce() + Send + 'static,
) -> Result<Handle<Thread>> {
    if place.pages < MIN_PAGES {
        return Err(crate::Error::InvalidArgument);
    }
    let page = PAGE_SIZE as u64;
    let first_byte = place.first_page * page;
    place.memory.zero(first_byte, place.pages * page)?;
    // The first word of a control page is its own address.
    place
        .memory
        .write(first_byte, &place.address.to_le_bytes())?;
    let process = startup::process();
    let flags = MapFlags::READ | MapFlags::WRITE;
    process.map_one(
        place.address,
        place.memory,
        place.first_page,
        CONTROL_PAGES,
        flags,
    )?;
    let stack = place.address + CONTROL_PAGES * page + GUARD_BYTES;
    let stack_pages = place.pages - CONTROL_PAGES;
    process.map_one(
        stack,
        place.memory,
        place.first_page + CONTROL_PAGES,
        stack_pages,
        flags,
    )?;

    let work: Box<Work> = Box::new(Box::new(work));
    let argument = Box::into_raw(work);
    let result = process.start_thread(&ThreadParams {
        entry: run as *const () as u64,
        // As if called: 8 short of a multiple of 16, and a zero ends backtraces.
        stack: stack + stack_pages * page - 8,
        argument: argument as u64,
        control: place.address,
        control_memory: place.memory.raw().0,
        control_page: u32::try_from(place.first_page).map_err(|_| crate::Error::InvalidArgument)?,
    });
    if result.is_err() {
        // SAFETY: it came from `Box::into_raw` and no thread got it.
        drop(unsafe { Box::from_raw(argument) });
    }
    result
}

/// Lets other threads run that are ready on this CPU.
pub fn yield_now() {
    // It cannot fail: it has no arguments.
    let _ = raw::plain(Syscall::ThreadYield, []);
}

/// What a thread does. Boxed twice, so that a thin pointer to it fits into a register.
type Work = Box<dyn FnOnce() + Send>;

extern "C" fn run(work: *mut Work) -> ! {
    // SAFETY: `spawn` made the pointer with `Box::into_raw` and gave it to this thread alone.
    let work = unsafe { Box::from_raw(work) };
    work();
    crate::process::exit_thread()
}
