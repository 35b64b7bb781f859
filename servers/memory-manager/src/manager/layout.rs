//! Laying spaces out: what clients ask for regions.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::ops::Range;
use core::slice;

use libipc::proto::memory::{ImageSegment, MemoryError, Protection};
use skink_abi::MAX_BATCH;

use super::Manager;
use crate::PAGE_BYTES;
use crate::machine::Machine;
use crate::regions::{Backing, PageRange, PrivateImage, Region, Regions};
use crate::residents::{FrameList, Residents};
use crate::spaces::Space;

impl<M: Machine> Manager<'_, M> {
    /// Registers a process and returns the sender that names its space.
    ///
    /// # Errors
    ///
    /// `AlreadyRegistered`, `ProcessDead`, `MissingRight`, `BadHandle`, `LimitReached`,
    /// `NoMemory`, `NoKernelMemory`.
    pub fn create_space(&mut self, process: M::Process) -> Result<M::Sender, MemoryError> {
        let process_number = self.machine.process_number(&process)?;
        if self
            .spaces
            .all_mut()
            .any(|(_, space)| space.process_number == process_number)
        {
            return Err(MemoryError::AlreadyRegistered);
        }
        let number = self.spaces.next_number()?;
        let sender = self.machine.adopt(&process, number)?;
        let space = Space {
            process,
            process_number,
            regions: Regions::default(),
            frames: FrameList::default(),
            faults: 0,
            prefetched: 0,
            is_gone: false,
        };
        self.spaces.insert(number, space);
        Ok(sender)
    }

    /// Makes a region of zero-filled pages.
    ///
    /// # Errors
    ///
    /// `NoSpace`, `BadRange`, `Overlap`, `LimitReached`, `NoMemory`.
    pub fn map_anonymous(
        &mut self,
        number: u32,
        address: u64,
        pages: u64,
        protection: Protection,
    ) -> Result<(), MemoryError> {
        let range = PageRange::from_client(address, pages)?;
        self.check_totals(0)?;
        let space = self.spaces.live_mut(number).ok_or(MemoryError::NoSpace)?;
        space
            .regions
            .insert(Region::new(range, protection, Backing::Anonymous))
    }

    /// Makes a region of an image segment.
    ///
    /// # Errors
    ///
    /// `NoSpace`, `BadRange`, `Overlap`, `PastEnd`, `LimitReached`, `NoMemory`, and those of
    /// [`Machine::map_shared`].
    pub fn map_image(
        &mut self,
        number: u32,
        segment: &ImageSegment,
        memory: M::Memory,
    ) -> Result<(), MemoryError> {
        let range = PageRange::from_client(segment.address, segment.pages)?;
        let is_private = segment.protection == Protection::ReadWrite;
        self.check_totals(usize::from(is_private))?;
        let space = self.spaces.live_mut(number).ok_or(MemoryError::NoSpace)?;
        space.regions.check_insert(&range)?;

        let file_pages = segment.file_bytes.div_ceil(PAGE_BYTES);
        let needed = if is_private {
            file_pages
        } else {
            segment.pages
        };
        let end = segment
            .page_offset
            .checked_add(needed)
            .ok_or(MemoryError::PastEnd)?;
        if end > self.machine.readable_pages(&memory)? {
            return Err(MemoryError::PastEnd);
        }
        let backing = if is_private {
            Backing::Private(PrivateImage {
                memory: Rc::new(memory),
                first_page: segment.page_offset,
                file_bytes: segment.file_bytes,
            })
        } else {
            self.machine.map_shared(&space.process, segment, &memory)?;
            Backing::Shared
        };
        space
            .regions
            .insert(Region::new(range, segment.protection, backing))
    }

    /// Unmaps a range and frees its frames.
    ///
    /// # Errors
    ///
    /// `NoSpace`, `BadRange`, `NotMapped`, `SharedRegion`, `LimitReached`, `ProcessDead`.
    pub fn unmap(&mut self, number: u32, address: u64, pages: u64) -> Result<(), MemoryError> {
        let range = PageRange::from_client(address, pages)?;
        self.check_totals(0)?;
        let Manager {
            machine,
            buddy,
            residents,
            spaces,
            anonymous,
            ..
        } = self;
        let space = spaces.live_mut(number).ok_or(MemoryError::NoSpace)?;
        space.regions.check_remove(&range)?;

        for region in space.regions.all() {
            let Some(part) = region.range.intersect(&range) else {
                continue;
            };
            if matches!(region.backing, Backing::Shared) {
                let whole = part.first()..part.end();
                machine.unmap(&space.process, slice::from_ref(&whole))?;
                continue;
            }
            let mut at = part.first();
            loop {
                let runs = next_runs(residents, number, at, &part);
                let Some(last) = runs.last() else { break };
                at = last.end;
                machine.unmap(&space.process, &runs)?;
                for page in runs.into_iter().flatten() {
                    if let Some(frame) = residents.remove(&mut space.frames, number, page) {
                        buddy.release(frame, 1);
                        *anonymous -= 1;
                    }
                }
            }
        }
        space.regions.remove(&range);
        Ok(())
    }

    /// Changes how the pages of a range may be used.
    ///
    /// # Errors
    ///
    /// `NoSpace`, `BadRange`, `NotMapped`, `SharedRegion`, `LimitReached`, `MissingRight`,
    /// `ProcessDead`.
    pub fn protect(
        &mut self,
        number: u32,
        address: u64,
        pages: u64,
        protection: Protection,
    ) -> Result<(), MemoryError> {
        let range = PageRange::from_client(address, pages)?;
        self.check_totals(2)?;
        let Manager {
            machine,
            residents,
            spaces,
            ..
        } = self;
        let space = spaces.live_mut(number).ok_or(MemoryError::NoSpace)?;
        space.regions.check_protect(&range, protection)?;

        for region in space.regions.all() {
            let Some(part) = region.range.intersect(&range) else {
                continue;
            };
            if matches!(region.backing, Backing::Shared) {
                let whole = part.first()..part.end();
                machine.protect(&space.process, slice::from_ref(&whole), protection)?;
                continue;
            }
            let mut at = part.first();
            loop {
                let runs = next_runs(residents, number, at, &part);
                let Some(last) = runs.last() else { break };
                at = last.end;
                machine.protect(&space.process, &runs, protection)?;
            }
        }
        space.regions.protect(&range, protection);
        Ok(())
    }
}

/// Returns the first runs of pages at or behind `at`, within `range`, that are in memory: as many as
/// the kernel unmaps in one crossing. Looks pages up one by one: the index keeps neighbours in one
/// cache line.
fn next_runs(
    residents: &Residents<'_>,
    space: u32,
    mut at: u64,
    range: &PageRange,
) -> Vec<Range<u64>> {
    let is_there = |page: &u64| residents.find(space, *page).is_some();
    let runs = core::iter::from_fn(|| {
        let first = (at..range.end()).find(is_there)?;
        at = (first..range.end())
            .find(|page| !is_there(page))
            .unwrap_or(range.end());
        Some(first..at)
    });
    runs.take(MAX_BATCH).collect()
}
