//! Page faults and mappings.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use bench::{Benchmark, Plan};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use nix::unistd::ftruncate;
use skink_program::Failed;

use crate::{Entry, failed};

const PAGE: usize = 4096;
/// As in Skink: faults are dearer than messages, and each batch takes 4 MiB.
const FAULTS: Plan = Plan {
    iterations: 1000,
    batches: 9,
};
/// Pages that are mapped in one call.
const BATCH: usize = 512;
const MAPPINGS: Plan = Plan {
    iterations: 8,
    batches: 9,
};
const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

pub(crate) const BENCHMARKS: &[Entry] = &[
    Entry {
        name: "fault_anon_4K",
        about: "first write to a page",
        plan: FAULTS,
        make: || Ok(Box::new(Touch::default())),
    },
    Entry {
        name: "mmap_512_per_page",
        about: "mapping 512 pages that exist, in one call, per page",
        plan: MAPPINGS,
        make: MapMany::make,
    },
];

fn size(bytes: usize) -> Result<NonZeroUsize, Failed> {
    NonZeroUsize::new(bytes).ok_or_else(|| Failed::new("nothing to map"))
}

/// A range of addresses, unmapped when dropped.
struct Range {
    start: NonNull<c_void>,
    bytes: usize,
}

impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by whoever made this value, and it is used no more.
        let result = unsafe { munmap(self.start, self.bytes) };
        // It fails only for addresses that are no range.
        let _ = result;
    }
}

/// Writes to pages for the first time.
#[derive(Default)]
struct Touch {
    range: Option<Range>,
    touched: usize,
}

impl Benchmark for Touch {
    fn prepare(&mut self, iterations: u32) -> Result<(), Failed> {
        self.range = None;
        self.touched = 0;
        let bytes = iterations as usize * PAGE;
        // SAFETY: the kernel chooses addresses that nothing else uses.
        let start = unsafe {
            mmap_anonymous(None, size(bytes)?, READ_WRITE, MapFlags::MAP_PRIVATE)
                .map_err(failed("mmap"))?
        };
        let range = self.range.insert(Range { start, bytes });
        // Otherwise one fault could bring many pages.
        // SAFETY: the range was mapped right above.
        unsafe { madvise(range.start, range.bytes, MmapAdvise::MADV_NOHUGEPAGE) }
            .map_err(failed("madvise"))
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        let Some(range) = &self.range else {
            return Err(Failed::new("nothing is mapped"));
        };
        let first = range.start.cast::<u8>();
        for _ in 0..iterations {
            // SAFETY: `prepare` has mapped a page for each repetition of the batch.
            unsafe { first.add(self.touched * PAGE).write_volatile(1) };
            self.touched += 1;
        }
        Ok(())
    }
}

/// Maps pages of a file in memory.
struct MapMany {
    file: OwnedFd,
    ranges: Vec<Range>,
}

impl MapMany {
    fn make() -> Result<Box<dyn Benchmark>, Failed> {
        let file = memfd_create(c"pages", MFdFlags::empty()).map_err(failed("memfd_create"))?;
        ftruncate(&file, (BATCH * PAGE) as i64).map_err(failed("ftruncate"))?;
        let many = MapMany {
            file,
            ranges: Vec::with_capacity(MAPPINGS.iterations as usize),
        };
        // Brings the pages into being.
        let range = many.map()?;
        // SAFETY: the range was mapped right above, writable, and is not used otherwise.
        unsafe { range.start.cast::<u8>().write_bytes(1, range.bytes) };
        drop(range);
        Ok(Box::new(many))
    }

    fn map(&self) -> Result<Range, Failed> {
        let bytes = BATCH * PAGE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
        // SAFETY: the kernel chooses addresses that nothing else uses.
        let start = unsafe { mmap(None, size(bytes)?, READ_WRITE, flags, &self.file, 0) };
        let start = start.map_err(failed("mmap"))?;
        Ok(Range { start, bytes })
    }
}

impl Benchmark for MapMany {
    fn prepare(&mut self, _iterations: u32) -> Result<(), Failed> {
        self.ranges.clear();
        Ok(())
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            let range = self.map()?;
            self.ranges.push(range);
        }
        Ok(())
    }

    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        self.ranges.clear();
        Ok(u64::from(iterations) * BATCH as u64)
    }
}
