//! Memory that a process finds mapped when it starts.

use core::sync::atomic::{AtomicU8, AtomicU64};

use crate::startup::{Startup, header};

/// Returns the state region of this service as `words` words, which can be changed atomically,
/// and the bytes behind them; `None` when there is no region or it is smaller. Do not use it
/// together with [`crate::state`].
pub fn state_atomics(words: usize) -> Option<(&'static [AtomicU64], &'static [AtomicU8])> {
    let header = header();
    let rest = (header.state_bytes as usize).checked_sub(words.checked_mul(8)?)?;
    if header.state_start == 0 {
        return None;
    }
    // At the gate of a swap the state comes only now.
    crate::gate::announce(0);
    let start = header.state_start as usize;
    let first = core::ptr::with_exposed_provenance::<AtomicU64>(start);
    let behind = core::ptr::with_exposed_provenance::<AtomicU8>(start + words * 8);
    // SAFETY: `init` maps the region there, page aligned, readable and writable, for as long as
    // the process lives; all access through this function is atomic.
    let words = unsafe { core::slice::from_raw_parts(first, words) };
    // SAFETY: as above, the rest of the same region.
    let rest = unsafe { core::slice::from_raw_parts(behind, rest) };
    Some((words, rest))
}

/// Returns the boot bundle, if this process was given it.
pub fn bundle(startup: &Startup) -> Option<&'static [u8]> {
    let number = |name| startup.variable(name)?.parse::<usize>().ok();
    let (address, bytes) = (number("bundle_address")?, number("bundle_bytes")?);
    let start = core::ptr::with_exposed_provenance::<u8>(address);
    // SAFETY: whoever set these variables mapped the bundle there, read only, for as long as the
    // process lives, and nobody has a handle with the right to write it.
    Some(unsafe { core::slice::from_raw_parts(start, bytes) })
}
