//! The tables of frames, in memory taken from RAM itself.

use core::ops::Range;

use libsys::abi::MAX_ZERO_PAGES;
use libsys::mappings::Reservation;
use libsys::{Handle, MapFlags, Memory, startup};
use memory_manager::buddy::BuddyEntry;
use memory_manager::manager::Tables;
use memory_manager::residents::{Bucket, ResidentEntry, Residents};
use memory_manager::zones::Zones;
use memory_manager::{Frame, PAGE_BYTES};

/// Types that tables hold: all zero is a valid value, and their alignment is below a page's.
trait Entry: Copy {}

impl Entry for BuddyEntry {}
impl Entry for ResidentEntry {}
impl Entry for Bucket {}

/// Maps the tables from the start of the largest RAM object, zero-filled. Returns the frames
/// that they take too.
///
/// # Errors
///
/// A sentence for people when there is not enough RAM, or the kernel refuses.
pub(crate) fn make(
    zones: &Zones,
    ram: &[Handle<Memory>],
) -> Result<(Tables<'static>, Range<Frame>), &'static str> {
    let frames = zones.numbers();
    let buckets = Residents::buckets_for(frames);
    let pages = pages_for::<BuddyEntry>(frames)
        + pages_for::<ResidentEntry>(frames)
        + pages_for::<Bucket>(buckets);

    let largest = zones
        .all()
        .iter()
        .zip(ram)
        .max_by_key(|(zone, _)| zone.frames);
    let (zone, memory) = largest.ok_or("no RAM was given to it")?;
    if pages >= u64::from(zone.frames) {
        return Err("no run of RAM is long enough for the tables of frames");
    }
    let place = Reservation::new(pages).map_err(|_| "no room for the tables of frames")?;
    let flags = MapFlags::READ | MapFlags::WRITE | MapFlags::ZERO;
    for first in (0..pages).step_by(MAX_ZERO_PAGES as usize) {
        let count = MAX_ZERO_PAGES.min(pages - first);
        startup::process()
            .map_one(
                place.address() + first * PAGE_BYTES,
                memory,
                first,
                count,
                flags,
            )
            .map_err(|_| "the kernel does not map the tables of frames")?;
    }

    let buddy_at = place.address();
    let residents_at = buddy_at + pages_for::<BuddyEntry>(frames) * PAGE_BYTES;
    let buckets_at = residents_at + pages_for::<ResidentEntry>(frames) * PAGE_BYTES;
    // They stay as long as the process.
    core::mem::forget(place);
    let tables = Tables {
        buddy: table(buddy_at, frames),
        residents: table(residents_at, frames),
        buckets: table(buckets_at, buckets),
    };
    Ok((tables, zone.first..zone.first + pages as Frame))
}

fn pages_for<T>(entries: usize) -> u64 {
    ((entries * size_of::<T>()) as u64).div_ceil(PAGE_BYTES)
}

/// Makes a table of memory that [`make`] has just mapped.
fn table<T: Entry>(address: u64, entries: usize) -> &'static mut [T] {
    let first = core::ptr::with_exposed_provenance_mut::<T>(address as usize);
    // SAFETY: `make` is the only caller. (1) It has mapped these pages writable and zero-filled,
    // which is a valid value of every `Entry`, and they stay mapped. (2) The frames are kept out
    // of the free ones, and each table is made once, so nothing else refers to them. (3) Pages
    // are aligned for every `Entry`.
    unsafe { core::slice::from_raw_parts_mut(first, entries) }
}
