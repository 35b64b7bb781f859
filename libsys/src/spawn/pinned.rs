//! Processes whose pages are all there from the start and stay.

use alloc::vec::Vec;

use skink_abi::layout::{HEAP, STACK_TOP, STARTUP, THREAD_CONTROL};
use skink_abi::{MapFlags, MapItem};

use super::{Child, Image, PAGE, Spawn, SpawnError};
use crate::elf::{Elf, Segment};
use crate::{Handle, Memory};

/// Pages kept for the start-up pages of a pinned process: services have few arguments.
const STARTUP_PAGES: u64 = 2;
/// The main thread's control page and IPC page.
const CONTROL_PAGES: u64 = 2;

const READ_WRITE: MapFlags = MapFlags(MapFlags::READ.0 | MapFlags::WRITE.0);
const ZEROED: MapFlags = MapFlags(READ_WRITE.0 | MapFlags::ZERO.0);

/// Frames for a pinned process. Nobody else may use them until the process is
/// [`skink_abi::ProcessState::Dead`].
#[derive(Debug)]
pub struct Pool {
    /// The frames, with the rights to read and write.
    pub memory: Handle<Memory>,
    /// How many pages.
    pub pages: u64,
}

/// Returns how many pages a pinned process takes from its pool.
pub fn pinned_pages(elf: &Elf, heap_bytes: u64, stack_bytes: u64) -> u64 {
    let data: u64 = elf
        .segments()
        .iter()
        .filter(|part| part.is_writable())
        .map(Segment::pages)
        .sum();
    CONTROL_PAGES + STARTUP_PAGES + stack_bytes.div_ceil(PAGE) + heap_bytes.div_ceil(PAGE) + data
}

/// Hands out the pages of a pool in order, and collects how they are mapped.
struct Layout<'a> {
    pool: &'a Pool,
    next: u64,
    items: Vec<MapItem>,
}

impl Layout<'_> {
    /// Maps the next pages of the pool and returns the first of them.
    fn take(&mut self, address: u64, pages: u64, flags: MapFlags) -> Result<u64, SpawnError> {
        let first = self.next;
        let end = first.checked_add(pages).ok_or(SpawnError::PoolTooSmall)?;
        if end > self.pool.pages {
            return Err(SpawnError::PoolTooSmall);
        }
        self.next = end;
        let memory = self.pool.memory.raw().0;
        if pages > 0 {
            self.items.push(MapItem {
                address,
                page_offset: first,
                pages,
                memory,
                flags,
            });
        }
        Ok(first)
    }

    /// Maps a segment: shared from the image, or copied to the pool when it is writable.
    fn segment(&mut self, image: &Image<'_>, segment: &Segment) -> Result<(), SpawnError> {
        if !segment.is_writable() {
            self.items.push(MapItem {
                address: segment.address,
                page_offset: image.first_page + segment.offset / PAGE,
                pages: segment.pages(),
                memory: image.memory.raw().0,
                flags: segment.flags,
            });
            return Ok(());
        }
        let copied_pages = segment.file_bytes.div_ceil(PAGE);
        let first = self.take(segment.address, copied_pages, READ_WRITE)?;
        // `Elf::parse` has checked that the range lies in the image.
        let start = segment.offset as usize;
        let bytes = &image.bytes[start..start + segment.file_bytes as usize];
        self.pool.memory.write(first * PAGE, bytes)?;
        let rest = copied_pages * PAGE - segment.file_bytes;
        self.pool
            .memory
            .zero(first * PAGE + segment.file_bytes, rest)?;
        let zero_pages = segment.pages() - copied_pages;
        self.take(segment.address + copied_pages * PAGE, zero_pages, ZEROED)?;
        Ok(())
    }
}

impl Spawn<'_> {
    /// Starts the process with all its pages mapped, from the frames of `pool`.
    ///
    /// # Errors
    ///
    /// See [`SpawnError`]; the process is ended then, and the pool is free again when all of it
    /// is gone.
    pub fn start_pinned(mut self, image: &Image<'_>, pool: &Pool) -> Result<Child, SpawnError> {
        self.check_sizes()?;
        let elf = Elf::parse(image.bytes)?;
        let unborn = self.create()?;
        let process = unborn.process()?;
        let mut layout = Layout {
            pool,
            next: 0,
            items: core::mem::take(&mut self.items),
        };
        let control = layout.take(THREAD_CONTROL, CONTROL_PAGES, READ_WRITE)?;
        pool.memory.zero(control * PAGE, CONTROL_PAGES * PAGE)?;
        // The first word of a control page is its own address.
        pool.memory
            .write(control * PAGE, &THREAD_CONTROL.to_le_bytes())?;
        let startup = layout.take(STARTUP, STARTUP_PAGES, MapFlags::READ)?;
        layout.take(
            STACK_TOP - self.stack_pages() * PAGE,
            self.stack_pages(),
            ZEROED,
        )?;
        layout.take(HEAP, self.heap_pages(), ZEROED)?;
        for segment in elf.segments() {
            layout.segment(image, segment)?;
        }
        process.map(&layout.items)?;
        let mut bytes = self.startup_pages(process)?;
        if bytes.len() as u64 > STARTUP_PAGES * PAGE {
            return Err(SpawnError::StartupTooLong);
        }
        // What an earlier process left there must not be seen.
        bytes.resize((STARTUP_PAGES * PAGE) as usize, 0);
        pool.memory.write(startup * PAGE, &bytes)?;
        self.run(unborn, &elf, (&pool.memory, control))
    }
}
