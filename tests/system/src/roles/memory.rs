//! Programs that use memory.

use libipc::proto::memory::{MemoryManagerClient, Protection};
use libsys::abi::PAGE_SIZE;
use libsys::mappings::Mapping;
use libsys::{Error, Handle, MapFlags, Memory};

use super::{BAD_ROLE, Role, SURVIVED, WRONG};

/// Where these programs put their regions: free in every process.
pub(crate) const REGION: u64 = 0x60_0000_0000;
/// What the parent writes at the start of a shared object.
pub(crate) const SHARED_WORD: u64 = 0x5eed_0f11_feed_c0de;
/// Offset of the word that a child adds to a shared object.
pub(crate) const CHILD_WORD: u64 = PAGE_SIZE as u64 + 8;

const PAGE: u64 = PAGE_SIZE as u64;

fn client(role: &Role<'_>) -> Result<MemoryManagerClient, i32> {
    role.program.memory().map_err(|_| BAD_ROLE)
}

pub(super) fn region(role: &Role<'_>, pages: u64) -> Result<MemoryManagerClient, i32> {
    let memory = client(role)?;
    memory
        .map_anonymous(REGION, pages, Protection::ReadWrite)
        .map_err(|_| WRONG)?;
    Ok(memory)
}

pub(super) fn get(address: u64) -> u64 {
    let place = core::ptr::with_exposed_provenance::<u64>(address as usize);
    // SAFETY: the callers pass aligned addresses in a region that they have just made, which no
    // Rust object uses; where it is gone the process ends, which is what the test wants.
    unsafe { place.read_volatile() }
}

pub(super) fn put(address: u64, value: u64) {
    let place = core::ptr::with_exposed_provenance_mut::<u64>(address as usize);
    // SAFETY: as in `get`.
    unsafe { place.write_volatile(value) };
}

/// A word that differs from page to page.
pub(super) fn pattern(page: u64) -> u64 {
    (page + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Fills as many pages as the argument says with patterns and finds them again. Order 1 of the
/// second argument goes downwards, 2 jumps about.
pub(super) fn touch(role: &Role<'_>) -> Result<i32, i32> {
    let pages = role.argument(0);
    let memory = region(role, pages)?;
    let page_at = |step: u64| match role.argument(1) {
        1 => pages - 1 - step,
        // An odd factor and a power of two visit every page once.
        2 => step * 2_654_435_761 % pages,
        _ => step,
    };
    for step in 0..pages {
        let page = page_at(step);
        let address = REGION + page * PAGE;
        if get(address) != 0 || get(address + PAGE - 8) != 0 {
            return Ok(WRONG);
        }
        put(address, pattern(page));
        put(address + PAGE - 8, !pattern(page));
    }
    for page in 0..pages {
        let address = REGION + page * PAGE;
        if get(address) != pattern(page) || get(address + PAGE - 8) != !pattern(page) {
            return Ok(WRONG);
        }
    }
    let usage = memory.usage().map_err(|_| WRONG)?;
    Ok(if usage.resident_pages >= pages {
        0
    } else {
        WRONG
    })
}

/// Touches a page that it has unmapped.
pub(super) fn use_after_unmap(role: &Role<'_>) -> Result<i32, i32> {
    let memory = region(role, 8)?;
    for page in 0..8 {
        put(REGION + page * PAGE, 1);
    }
    memory.unmap(REGION + 3 * PAGE, 2).map_err(|_| WRONG)?;
    if get(REGION + 2 * PAGE) != 1 || get(REGION + 5 * PAGE) != 1 {
        return Ok(WRONG);
    }
    put(REGION + 3 * PAGE, 2);
    Ok(SURVIVED)
}

/// Writes to a page that it has protected.
pub(super) fn write_after_protect(role: &Role<'_>) -> Result<i32, i32> {
    let memory = region(role, 4)?;
    put(REGION, 1);
    memory
        .protect(REGION, 4, Protection::Read)
        .map_err(|_| WRONG)?;
    if get(REGION) != 1 || get(REGION + PAGE) != 0 {
        return Ok(WRONG);
    }
    put(REGION, 2);
    Ok(SURVIVED)
}

/// Reads what the parent wrote into a shared object; writes to it if it may, and must be refused
/// if it may not.
pub(super) fn share(role: &Role<'_>) -> Result<i32, i32> {
    let shared: Handle<Memory> = role.take("shared")?;
    let read = Mapping::map(&shared, MapFlags::READ).map_err(|_| WRONG)?;
    let mut word = [0; 8];
    read.read_bytes(0, &mut word).map_err(|_| WRONG)?;
    if u64::from_le_bytes(word) != SHARED_WORD {
        return Ok(WRONG);
    }
    let write = Mapping::map(&shared, MapFlags::READ | MapFlags::WRITE);
    if role.argument(0) == 0 {
        let is_refused = write.is_err_and(|error| error == Error::MissingRight)
            && shared.write(0, &word) == Err(Error::MissingRight);
        return Ok(if is_refused { 0 } else { WRONG });
    }
    let write = write.map_err(|_| WRONG)?;
    write
        .write_bytes(CHILD_WORD as usize, &(!SHARED_WORD).to_le_bytes())
        .map_err(|_| WRONG)?;
    Ok(0)
}
