//! Laying spaces out: what clients ask for regions.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::ops::Range;
use core::slice;

use libipc::proto::memory::{ImageSegment, MemoryError, Protection};
use skink_abi::MAX_BATCH;

use super::{Manager, doubt};
use crate::PAGE_BYTES;
use crate::journal::{Journal, Record, RegionRecord, RequestName, SpacePages};
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
    pub fn create_space(
        &mut self,
        by: RequestName,
        process: M::Process,
    ) -> Result<M::Sender, MemoryError> {
        self.make_space(by, process)
            .inspect_err(|error| self.check_no_space(*error))
    }

    fn make_space(
        &mut self,
        by: RequestName,
        process: M::Process,
    ) -> Result<M::Sender, MemoryError> {
        let is_done = self.is_done(by);
        let process_number = self.machine.process_number(&process)?;
        if let Some(number) = self.spaces.of_process(process_number) {
            self.check_registered(process_number);
            if !is_done {
                return Err(MemoryError::AlreadyRegistered);
            }
            return self.rename_space(number);
        }
        let number = self.take_number()?;
        let adopted = self.machine.adopt(&process, self.era, number);
        let adopted = adopted
            .inspect_err(|error| doubt::check_not_adopted(&self.machine, &process, *error))?;
        let sender = self.check_adopted(number, adopted);
        self.journal.add(Record::SpaceMade {
            space: number,
            process: M::process_handle(&process),
            process_number,
            by,
        })?;
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
        self.check_made(number, process_number);
        self.check_noted(by);
        Ok(sender)
    }

    /// Gives a space whose sender nobody got another number, and returns the sender for that one.
    /// News of the end of the first sender, which was closed with the earlier instance, do not
    /// mean it then.
    fn rename_space(&mut self, from: u32) -> Result<M::Sender, MemoryError> {
        let to = self.take_number()?;
        let space = self.spaces.live_mut(from).ok_or(MemoryError::ProcessDead)?;
        debug_assert!(
            space.regions.all().is_empty() && space.frames.count() == 0,
            "nobody could lay it out"
        );
        let process_number = space.process_number;
        let adopted = self.machine.adopt(&space.process, self.era, to)?;
        let sender = self.check_adopted(to, adopted);
        self.journal.add(Record::SpaceRenamed { from, to })?;
        if let Some(space) = self.spaces.remove(from) {
            self.spaces.insert(to, space);
        }
        self.unanswered = None;
        self.check_made(to, process_number);
        Ok(sender)
    }

    /// Takes a number for a space: whatever happens, no other one will have it.
    fn take_number(&mut self) -> Result<u32, MemoryError> {
        let number = self.spaces.take_number()?;
        self.check_new(number);
        self.journal.add(Record::NumberTaken(number))?;
        Ok(number)
    }

    /// As [`Manager::map_anonymous`], without second thoughts.
    pub(super) fn put_anonymous(
        &mut self,
        by: RequestName,
        address: u64,
        pages: u64,
        protection: Protection,
    ) -> Result<(), MemoryError> {
        let number = by.space(self.era)?;
        let range = PageRange::from_client(address, pages)?;
        if self.is_done(by) {
            return Ok(());
        }
        self.check_totals(0)?;
        let space = self.spaces.live_mut(number).ok_or(MemoryError::NoSpace)?;
        space.regions.check_insert(&range)?;
        let region = Region::new(range, protection, Backing::Anonymous);
        doubt::check_region(&region, (address, pages), protection);
        insert(&mut self.journal, by, number, space, region)
    }

    /// As [`Manager::map_image`], without second thoughts.
    pub(super) fn put_image(
        &mut self,
        by: RequestName,
        segment: &ImageSegment,
        memory: M::Memory,
    ) -> Result<(), MemoryError> {
        let number = by.space(self.era)?;
        let range = PageRange::from_client(segment.address, segment.pages)?;
        if self.is_done(by) {
            return Ok(());
        }
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
        let journal = &mut self.journal;
        let backing = if is_private {
            Backing::Private(PrivateImage {
                memory: Rc::new(memory),
                first_page: segment.page_offset,
                file_bytes: segment.file_bytes,
            })
        } else {
            journal.add(Record::MappingBegun(pages_of(number, &range)))?;
            self.machine
                .map_shared(&space.process, segment, &memory)
                .inspect_err(|_| {
                    // Were there no room, the next instance would unmap what is not mapped.
                    let _ = journal.change(Record::MappingEnded);
                })?;
            Backing::Shared
        };
        let region = Region::new(range, segment.protection, backing);
        let asked = (segment.address, segment.pages);
        doubt::check_region(&region, asked, segment.protection);
        insert(journal, by, number, space, region)
    }

    /// As [`Manager::unmap`], without second thoughts.
    pub(super) fn take_away(
        &mut self,
        by: RequestName,
        address: u64,
        pages: u64,
    ) -> Result<(), MemoryError> {
        let number = by.space(self.era)?;
        let range = PageRange::from_client(address, pages)?;
        if self.is_done(by) {
            return Ok(());
        }
        self.check_totals(0)?;
        let Manager {
            machine,
            buddy,
            residents,
            spaces,
            anonymous,
            journal,
            ..
        } = self;
        let space = spaces.live_mut(number).ok_or(MemoryError::NoSpace)?;
        space.regions.check_remove(&range)?;
        doubt::check_range(&range, (address, pages));

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
        doubt::check_range(&range, (address, pages));
        journal.change(Record::Removed {
            range: pages_of(number, &range),
            by,
        })?;
        space.regions.remove(&range);
        Ok(())
    }

    /// As [`Manager::protect`], without second thoughts.
    pub(super) fn allow(
        &mut self,
        by: RequestName,
        address: u64,
        pages: u64,
        protection: Protection,
    ) -> Result<(), MemoryError> {
        let number = by.space(self.era)?;
        let range = PageRange::from_client(address, pages)?;
        if self.is_done(by) {
            return Ok(());
        }
        self.check_totals(2)?;
        let Manager {
            machine,
            residents,
            spaces,
            journal,
            ..
        } = self;
        let space = spaces.live_mut(number).ok_or(MemoryError::NoSpace)?;
        space.regions.check_protect(&range, protection)?;
        doubt::check_range(&range, (address, pages));

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
        doubt::check_range(&range, (address, pages));
        journal.change(Record::Protected {
            range: pages_of(number, &range),
            protection,
            by,
        })?;
        space.regions.protect(&range, protection);
        Ok(())
    }
}

/// Writes a region down and puts it in; [`Regions::check_insert`] must have agreed.
fn insert<M: Machine>(
    journal: &mut Journal<M::Store>,
    by: RequestName,
    number: u32,
    space: &mut Space<M>,
    region: Region<Rc<M::Memory>>,
) -> Result<(), MemoryError> {
    journal.add(Record::Inserted {
        space: number,
        region: RegionRecord::of(&region, |image| M::memory_handle(image)),
        by,
    })?;
    space.regions.insert(region)
}

/// Names a range of a space.
fn pages_of(space: u32, range: &PageRange) -> SpacePages {
    SpacePages {
        space,
        first: range.first(),
        pages: range.pages(),
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
