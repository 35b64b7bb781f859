//! The kernel's own frames: page tables, object arenas, handle pages.
//!
//! One piece of RAM is set aside at boot; the rest goes to Ring 3. What programs cause the kernel
//! to use is charged to their quotas (`process`), so one program cannot take another's share.

use spin::Mutex;

use skink_abi::{Error, PAGE_SIZE};

use crate::arch::x86_64::physical;

struct Pool {
    /// Frames never used yet.
    next: u64,
    end: u64,
    /// Frames given back: a list through their first words. 0 ends it.
    free: u64,
    total: u64,
    used: u64,
}

/// A leaf lock: nothing else is ever taken while it is held, so it needs no level.
static POOL: Mutex<Pool> = Mutex::new(Pool {
    next: 0,
    end: 0,
    free: 0,
    total: 0,
    used: 0,
});

/// Gives the pool its RAM; once, at boot.
///
/// # Safety
///
/// `bytes` bytes from `start`, both page aligned and not 0, are RAM that nothing else uses.
pub(crate) unsafe fn init(start: u64, bytes: u64) {
    let mut pool = POOL.lock();
    (pool.next, pool.end, pool.total) = (start, start + bytes, bytes);
}

/// Takes a frame full of zeros and returns its physical address.
///
/// # Errors
///
/// `NoMemory`.
pub(crate) fn allocate_zeroed() -> Result<u64, Error> {
    let frame = allocate()?;
    // SAFETY: a frame of the pool that nobody else has.
    unsafe { physical::zero(frame, PAGE_SIZE as u64) };
    Ok(frame)
}

fn allocate() -> Result<u64, Error> {
    let mut pool = POOL.lock();
    let frame = if pool.free != 0 {
        let frame = pool.free;
        // SAFETY: a free frame holds the address of the next one.
        pool.free = unsafe { physical::pointer::<u64>(frame).read() };
        frame
    } else if pool.next < pool.end {
        let frame = pool.next;
        pool.next += PAGE_SIZE as u64;
        frame
    } else {
        return Err(Error::NoMemory);
    };
    pool.used += PAGE_SIZE as u64;
    Ok(frame)
}

/// Gives a frame back.
///
/// # Safety
///
/// The frame came from this pool and nothing refers to it any more.
pub(crate) unsafe fn free(frame: u64) {
    let mut pool = POOL.lock();
    // SAFETY: by the caller's duty.
    unsafe { physical::pointer::<u64>(frame).write(pool.free) };
    pool.free = frame;
    pool.used -= PAGE_SIZE as u64;
}

/// Returns the bytes of the pool and those in use.
pub(crate) fn usage() -> (u64, u64) {
    let pool = POOL.lock();
    (pool.total, pool.used)
}
