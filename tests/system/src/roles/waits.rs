//! Programs whose threads wait for notifications.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libsys::abi::PAGE_SIZE;
use libsys::ipc::{self, Outgoing};
use libsys::thread::{self, ThreadPlace};
use libsys::{Error, Handle, Notification, Sender, startup, time};

use super::memory::REGION;
use super::{BAD_ROLE, Role, WRONG};
use crate::context::SOON;
use crate::wire::{self, NEVER};

/// How long the thread waits, ns: long enough for others to use what was closed.
const WAIT: u64 = 100 * time::MS;
/// How long threads set bits, ns: long enough that the host takes a CPU away from one of them just
/// then.
const STORM: u64 = 500 * time::MS;
/// What stands for a wait that goes on.
const WAITING: u64 = u64::MAX;

/// Lets a thread wait for a notification and closes its last handle meanwhile; reports that, and
/// sets the bits that come with the answer when the thread's time is over.
pub(super) fn close(role: &Role<'_>) -> Result<i32, i32> {
    const PAGES: u64 = 6;
    let report: Handle<Sender> = role.take("report")?;
    let memory = role.program.memory().map_err(|_| BAD_ROLE)?;
    let pages = memory.create_object(PAGES).map_err(|_| WRONG)?;
    let bits = Handle::<Notification>::create().map_err(|_| WRONG)?;
    let result = Arc::new(AtomicU64::new(WAITING));
    let place = ThreadPlace {
        memory: &pages,
        first_page: 0,
        pages: PAGES,
        address: REGION,
    };
    let (raw, told) = (bits.raw(), Arc::clone(&result));
    let wait = move || {
        let bits = Handle::<Notification>::from_raw(raw);
        let code = ipc::wait(&bits, time::after(WAIT))
            .err()
            .map_or(0, Error::code);
        // The other thread has closed it.
        let _ = bits.into_raw();
        told.store(code, Ordering::Release);
    };
    let _thread = thread::spawn(&place, wait).map_err(|_| WRONG)?;
    // This thread runs: the one that waits is the other.
    until(|| {
        startup::process()
            .info()
            .map_err(|_| WRONG)
            .map(|info| info.waiting == 1)
    })?;
    drop(bits);
    let mut answer = wire::call_with(&report, 0, &[], &Outgoing::NONE, NEVER).map_err(|_| WRONG)?;
    let other = answer.handles.take::<Notification>(0).ok_or(WRONG)?;
    until(|| Ok(result.load(Ordering::Acquire) != WAITING))?;
    if result.load(Ordering::Acquire) != Error::Timeout.code() {
        return Ok(WRONG);
    }
    ipc::notify(&other).map_err(|_| WRONG)?;
    Ok(0)
}

/// Waits for bits that so many threads set without a pause. Each wait must end with bits.
pub(super) fn wait_for_many(role: &Role<'_>) -> Result<i32, i32> {
    const PAGES: u64 = 6;
    let count = role.argument(0);
    let memory = role.program.memory().map_err(|_| BAD_ROLE)?;
    let pages = memory.create_object(count * PAGES).map_err(|_| WRONG)?;
    let bits = Handle::<Notification>::create().map_err(|_| WRONG)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for number in 0..count {
        let place = ThreadPlace {
            memory: &pages,
            first_page: number * PAGES,
            pages: PAGES,
            // One page more: the guard below the stack.
            address: REGION + number * (PAGES + 1) * PAGE_SIZE as u64,
        };
        let setter = bits.mint(1 << number).map_err(|_| WRONG)?;
        let is_over = Arc::clone(&is_over);
        let set = move || while !is_over.load(Ordering::Relaxed) && ipc::notify(&setter).is_ok() {};
        threads.push(thread::spawn(&place, set).map_err(|_| WRONG)?);
    }
    let end = time::after(STORM);
    let mut were_bits = true;
    while were_bits && time::now() < end {
        were_bits = ipc::wait(&bits, time::after(SOON)).map_err(|_| WRONG)? != 0;
    }
    is_over.store(true, Ordering::Relaxed);
    Ok(if were_bits { 0 } else { WRONG })
}

fn until(holds: impl Fn() -> Result<bool, i32>) -> Result<(), i32> {
    let deadline = time::after(SOON);
    while !holds()? {
        if time::now() > deadline {
            return Err(WRONG);
        }
        time::sleep(time::MS);
    }
    Ok(())
}
