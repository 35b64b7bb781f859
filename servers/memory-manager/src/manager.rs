//! All of memory: free frames, spaces and objects, kept in step.
//!
//! Invariants: every frame is free, or holds one page of one space, or belongs to one object, or
//! to the tables. A frame that was mapped becomes free only when the kernel has unmapped it or
//! its process is gone. Requests are checked before anything is changed; what is done about a
//! death between two steps stands in [`crate::journal`].

mod doubt;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod harm;
mod layout;
#[cfg(test)]
mod model;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod tests;

use alloc::rc::Rc;
use core::ops::Range;

use libipc::proto::memory::{MAX_OBJECT_PAGES, MemoryError, MemoryTotals, Protection, SpaceUsage};
use skink_abi::FaultMessage;

use crate::buddy::{Buddy, BuddyEntry};
use crate::journal::{Journal, ObjectRecord, Record, RequestName};
use crate::machine::{Copy, End, Life, Machine};
use crate::objects::{ASKED_PER_OBJECT, Object, Objects};
use crate::regions::{Backing, Region};
use crate::reserve::may_take;
use crate::residents::{Bucket, FrameList, ResidentEntry, Residents};
use crate::resolve::{Access, Refusal, Resolution, resolve};
use crate::spaces::{Era, Spaces, space_of_badge, space_of_pager};
use crate::{Frame, PAGE_BYTES};

/// Most regions of all spaces together: each may need a piece of the fixed heap.
pub const MAX_ALL_REGIONS: usize = 8 * 1024;
/// Most handles to images in private regions.
pub(crate) const MAX_IMAGES: usize = 2048;

/// The tables of frames, all zero, as long as [`Zones::numbers`](crate::zones::Zones::numbers) and
/// [`Residents::buckets_for`] say.
#[derive(Debug)]
pub struct Tables<'a> {
    /// For the free frames.
    pub buddy: &'a mut [BuddyEntry],
    /// For the pages in memory.
    pub residents: &'a mut [ResidentEntry],
    /// The index of the pages in memory.
    pub buckets: &'a mut [Bucket],
}

/// Pages to map for a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// First page in the space.
    pub page: u64,
    /// Frame behind it; those of the other pages follow.
    pub frame: Frame,
    /// Pages.
    pub pages: u64,
    /// How they may be used.
    pub protection: Protection,
    /// What is in the frames.
    pub content: Content,
}

/// What is in frames that are to be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Something of somebody else: to be zero-filled first.
    Foreign,
    /// What the page should hold, and it was not mapped before.
    New,
    /// What the page should hold, and it may be mapped already.
    Present,
}

/// All of memory.
pub struct Manager<'a, M: Machine> {
    pub(crate) machine: M,
    pub(crate) buddy: Buddy<'a>,
    pub(crate) residents: Residents<'a>,
    pub(crate) spaces: Spaces<M>,
    pub(crate) objects: Objects<M::Memory>,
    pub(crate) journal: Journal<M::Store>,
    /// The space that an earlier instance made and may not have answered for, and whether its
    /// sender was closed.
    pub(crate) unanswered: Option<(u32, bool)>,
    /// The era of all numbers of spaces.
    pub(crate) era: Era,
    pub(crate) total: u64,
    pub(crate) tables: u64,
    pub(crate) anonymous: u64,
    pub(crate) faults: u64,
    pub(crate) refused_faults: u64,
}

impl<'a, M: Machine> Manager<'a, M> {
    /// Returns the number of the space that a badge names, or `None` for a badge that an earlier
    /// instance gave out when its records were lost since, or somebody else.
    pub fn space_of_badge(&self, badge: u64) -> Option<u32> {
        space_of_badge(self.era, badge)
    }

    /// Returns the number of the space for whose faults the kernel uses a badge.
    #[inline]
    pub fn space_of_pager(&self, badge: u64) -> Option<u32> {
        space_of_pager(self.era, badge)
    }

    /// Resolves a page fault of a space: the mapping goes with the reply.
    ///
    /// # Errors
    ///
    /// The reason for which the process has to end.
    pub fn fault(&mut self, space: u32, fault: &FaultMessage) -> Result<Mapping, Refusal> {
        let mut has_reclaimed = false;
        loop {
            match self.try_fault(space, fault) {
                Ok(mapping) => {
                    self.faults += 1;
                    return Ok(mapping);
                }
                Err(Refusal::OutOfMemory) if !has_reclaimed => {
                    self.reclaim();
                    has_reclaimed = true;
                }
                Err(refusal) => {
                    self.check_refusal(space, fault, refusal);
                    self.refused_faults += 1;
                    return Err(refusal);
                }
            }
        }
    }

    #[inline]
    fn try_fault(&mut self, number: u32, fault: &FaultMessage) -> Result<Mapping, Refusal> {
        let space = self.spaces.live_mut(number).ok_or(Refusal::NoSpace)?;
        let page = fault.address / PAGE_BYTES;
        let region = space.regions.find_mut(page);
        let resolution = resolve(region.as_deref(), fault);
        let Some(region) = region else {
            return Err(Refusal::OutsideRegions);
        };
        assert!(region.range.holds(page), "a page of another region");
        let protection = region.protection;

        let spot = self.residents.spot(number, page);
        if let Some(frame) = self.residents.find_at(spot)
            && Access::of(fault).is_allowed(protection)
        {
            // Two threads touched it at once, or an old translation was still in use.
            return Ok(Mapping {
                page,
                frame,
                pages: 1,
                protection,
                content: Content::Present,
            });
        }
        let (frame, pages, content) = match resolution {
            Resolution::Refuse(refusal) => return Err(refusal),
            _ if is_scarce(self.total, &self.buddy, &space.frames) => {
                return Err(Refusal::OutOfMemory);
            }
            Resolution::Zeros(wanted) => {
                let (residents, buddy) = (&self.residents, &mut self.buddy);
                let (frame, pages) = allocate_absent(residents, buddy, number, page, wanted)
                    .ok_or(Refusal::OutOfMemory)?;
                (frame, pages, Content::Foreign)
            }
            Resolution::Copy { image_page, bytes } => {
                let frames = (&self.residents, &mut self.buddy);
                let part = (image_page, bytes);
                let frame = copy_page(&mut self.machine, frames, region, part)?;
                (frame, page..page + 1, Content::New)
            }
        };
        region.window.pages = pages.clone();
        let list = &mut space.frames;
        let count = pages.end - pages.start;
        if count == 1 {
            self.residents.insert_at(list, spot, frame);
        } else {
            let run = (pages.clone(), frame);
            bring_run(&mut self.residents, list, region, (number, page), run);
            space.prefetched += count - 1;
        }
        self.anonymous += count;
        space.faults += 1;
        Ok(Mapping {
            page: pages.start,
            frame,
            pages: count,
            protection,
            content,
        })
    }

    /// Tells what a space uses.
    ///
    /// # Errors
    ///
    /// `NoSpace`.
    pub fn usage(&mut self, number: u32) -> Result<SpaceUsage, MemoryError> {
        let (objects, object_pages) = self.objects.of_owner(number);
        let space = self.spaces.live_mut(number).ok_or(MemoryError::NoSpace)?;
        let regions = space.regions.all();
        let pages = |regions: &mut dyn Iterator<Item = &Region<Rc<M::Memory>>>| {
            regions.map(|region| region.range.pages()).sum()
        };
        let is_shared = |region: &&Region<Rc<M::Memory>>| matches!(region.backing, Backing::Shared);
        Ok(SpaceUsage {
            regions: regions.len() as u64,
            region_pages: pages(&mut regions.iter()),
            resident_pages: space.frames.count(),
            shared_pages: pages(&mut regions.iter().filter(is_shared)),
            objects: objects as u64,
            object_pages,
            faults: space.faults,
            prefetched_pages: space.prefetched,
        })
    }

    /// Tells what all of memory is used for.
    pub fn totals(&self) -> MemoryTotals {
        MemoryTotals {
            total: self.total,
            free: self.buddy.free_frames(),
            anonymous: self.anonymous,
            objects: self.objects.pages(),
            tables: self.tables,
            largest_free_run: self.buddy.largest_run(),
            spaces: self.spaces.count() as u64,
            object_count: self.objects.count() as u64,
            faults: self.faults,
            refused_faults: self.refused_faults,
        }
    }

    /// Returns whether the numbers of frames agree: each is free, or holds a page of one space, or
    /// belongs to one object or to the tables. If they do not, memory of the manager was damaged.
    pub fn is_sound(&self) -> bool {
        let MemoryTotals {
            total,
            free,
            anonymous,
            objects,
            tables,
            ..
        } = self.totals();
        let of_spaces: u64 = self.spaces.all().map(|space| space.frames.count()).sum();
        of_spaces == anonymous
            && self.objects.is_sound()
            && [free, anonymous, objects, tables].iter().sum::<u64>() == total
    }

    /// Makes a memory object. It counts for the caller's space; callers without one, such as `init`,
    /// share an account.
    ///
    /// # Errors
    ///
    /// `BadRange`, `LimitReached`, `NoMemory`, `NoKernelMemory`.
    ///
    /// # Panics
    ///
    /// As [`Manager::map_anonymous`].
    pub fn create_object(&mut self, by: RequestName, pages: u64) -> Result<M::Memory, MemoryError> {
        self.make_object(by, pages)
            .inspect_err(|error| self.check_no_object(pages, *error))
    }

    fn make_object(&mut self, by: RequestName, pages: u64) -> Result<M::Memory, MemoryError> {
        let owner = by.space(self.era).unwrap_or(0);
        self.check_owner(by, owner);
        // It is not kept who asked: if it was made and not given, it is unused.
        let _ = self.is_done(by);
        let count = u32::try_from(pages)
            .ok()
            .filter(|_| (1..=MAX_OBJECT_PAGES).contains(&pages));
        let count = count.ok_or(MemoryError::BadRange)?;
        self.sweep_objects(ASKED_PER_OBJECT);
        if self.objects.check_add(owner).is_err() {
            self.sweep_objects(usize::MAX);
            self.objects.check_add(owner)?;
        }
        let mut first = self.allocate_for(owner, count);
        if first.is_none() {
            self.reclaim();
            first = self.allocate_for(owner, count);
        }
        let first = first.ok_or(MemoryError::NoMemory)?;
        let object = Object {
            memory: (),
            first,
            pages: count,
            owner,
        };
        self.give_object(object)
            .inspect_err(|_| self.buddy.release(first, count))
    }

    /// Takes frames for an object of a space, unless they are among the last and it has much.
    fn allocate_for(&mut self, owner: u32, count: u32) -> Option<Frame> {
        let held = self.objects.of_owner(owner).1;
        let free = self.buddy.free_frames();
        // `init`, which is no space, asks for services.
        let is_allowed = owner == 0 || may_take(self.total, free, held, count.into());
        is_allowed.then(|| self.buddy.allocate(count))?
    }

    /// Makes the object of frames that were taken, and writes it down.
    fn give_object(&mut self, object: Object<()>) -> Result<M::Memory, MemoryError> {
        let Object {
            first,
            pages,
            owner,
            ..
        } = object;
        let (memory, given) = self.machine.make_object(first, pages)?;
        let record = ObjectRecord {
            memory: M::memory_handle(&memory),
            pages,
            owner,
        };
        self.journal.add(Record::ObjectMade {
            first,
            object: record,
        })?;
        self.objects.add(Object {
            memory,
            first,
            pages,
            owner,
        });
        self.check_object(first, record);
        Ok(given)
    }

    /// Takes the frames of some objects that nobody uses any more; asks for at most `limit`.
    pub fn sweep_objects(&mut self, limit: usize) {
        let Manager {
            machine,
            objects,
            buddy,
            journal,
            ..
        } = self;
        objects.sweep(
            limit,
            |memory| machine.is_used(memory),
            |object| {
                // There is room for what makes the records fewer. Were there none, the next
                // instance would find the object unused once more.
                let _ = journal.change(Record::ObjectGone(object.first));
                drop(object.memory);
                buddy.release(object.first, object.pages);
            },
        );
    }

    /// Takes all that can be taken without harm to anyone.
    #[cold]
    fn reclaim(&mut self) {
        self.sweep_objects(usize::MAX);
        self.note_deaths();
        while self.reap(usize::MAX) {}
    }

    /// Finds the spaces whose processes are gone. Returns whether there is something to reap.
    ///
    /// # Panics
    ///
    /// When one of them still has pages: its frames must not be taken.
    pub fn note_deaths(&mut self) -> bool {
        let mut found = false;
        for (_, space) in self.spaces.all_mut() {
            if !space.is_gone && self.machine.life(&space.process) == Life::Gone {
                doubt::check_gone(&self.machine, &space.process);
                space.is_gone = true;
            }
            found |= space.is_gone;
        }
        found
    }

    /// Takes back at most `limit` frames of a space whose process is gone, so that others need
    /// not wait long. Returns whether there is more to do.
    pub fn reap(&mut self, limit: usize) -> bool {
        let Manager {
            spaces,
            residents,
            buddy,
            anonymous,
            journal,
            ..
        } = self;
        let Some((number, space)) = spaces.all_mut().find(|(_, space)| space.is_gone) else {
            return false;
        };
        for _ in 0..limit {
            let Some(frame) = residents.pop(&mut space.frames) else {
                // As for an object: the next instance would find the process gone once more.
                let _ = journal.change(Record::SpaceGone(number));
                drop(spaces.remove(number));
                break;
            };
            buddy.release(frame, 1);
            *anonymous -= 1;
        }
        true
    }

    /// Deals with the news that the last copy of a space's sender was closed: nobody can start a
    /// process that was not started yet.
    pub fn sender_closed(&mut self, number: u32) {
        if let Some((unanswered, is_closed)) = &mut self.unanswered
            && *unanswered == number
        {
            // It may be the one that did not reach its client, who asks again.
            *is_closed = true;
            return;
        }
        let Manager {
            machine, spaces, ..
        } = self;
        if let Some(space) = spaces.live_mut(number)
            && machine.life(&space.process) == Life::Unstarted
        {
            machine.kill(&space.process, End::NeverStarted);
        }
    }

    /// Returns whether a request was done by an earlier instance, which did not answer it.
    ///
    /// Such a request comes before all others, so with any other one its client does not wait any
    /// more.
    fn is_done(&mut self, by: RequestName) -> bool {
        if self.journal.records().last() == Some(by) {
            return true;
        }
        if let Some((number, true)) = self.unanswered.take() {
            self.sender_closed(number);
        }
        false
    }

    /// Returns the kernel's side.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Checks that so many more regions may exist, `images` of them with a handle each.
    fn check_totals(&mut self, images: usize) -> Result<(), MemoryError> {
        let (mut regions, mut private) = (0, images);
        for (_, space) in self.spaces.all_mut() {
            regions += space.regions.all().len();
            let is_private =
                |region: &&Region<Rc<M::Memory>>| matches!(region.backing, Backing::Private(_));
            private += space.regions.all().iter().filter(is_private).count();
        }
        if regions + 2 > MAX_ALL_REGIONS || private > MAX_IMAGES {
            return Err(MemoryError::LimitReached);
        }
        Ok(())
    }
}

/// Returns whether a space that has these frames may not have one more.
#[inline]
fn is_scarce(total: u64, buddy: &Buddy<'_>, has: &FrameList) -> bool {
    !may_take(total, buddy.free_frames(), has.count(), 1)
}

/// Takes a frame and copies a page of the region's image to it. Not inlined, as what else is rare:
/// the usual way would have to keep its values out of registers.
#[inline(never)]
fn copy_page<M: Machine>(
    machine: &mut M,
    (residents, buddy): (&Residents<'_>, &mut Buddy<'_>),
    region: &Region<Rc<M::Memory>>,
    (image_page, bytes): (u64, u64),
) -> Result<Frame, Refusal> {
    let Backing::Private(image) = &region.backing else {
        return Err(Refusal::ImageGone);
    };
    let frame = buddy.allocate(1).ok_or(Refusal::OutOfMemory)?;
    residents.check_unused(frame);
    let copy = Copy {
        image_page,
        bytes,
        frame,
    };
    if machine.copy(&image.memory, copy).is_err() {
        buddy.release(frame, 1);
        return Err(Refusal::ImageGone);
    }
    Ok(frame)
}

/// Looks whether pages are of a region, and the one among them that was touched.
///
/// # Panics
///
/// When they are not.
#[inline]
fn check_run<I>(region: &Region<I>, page: u64, pages: &Range<u64>) {
    let is_within = region.range.first() <= pages.start && pages.end <= region.range.end();
    assert!(
        is_within && pages.contains(&page),
        "pages that nobody asked for"
    );
}

/// Notes that a run of pages around the one that was touched is in frames in a row. Apart from the
/// touch of a single page, which is the usual way.
///
/// # Panics
///
/// When they are not of the region, or not around the page, or when it is not there afterwards.
#[inline(never)]
fn bring_run<I>(
    residents: &mut Residents<'_>,
    list: &mut FrameList,
    region: &Region<I>,
    (number, page): (u32, u64),
    (pages, frame): (Range<u64>, Frame),
) {
    check_run(region, page, &pages);
    let touched = frame + (page - pages.start) as Frame;
    residents.insert_run(list, number, pages, frame);
    let is_brought = residents.page_of(touched) == Some((number, page));
    assert!(is_brought, "the page that was touched was not brought");
}

/// Allocates frames for `page` and those around it that are wanted and not in memory, or for fewer.
#[inline]
fn allocate_absent(
    residents: &Residents<'_>,
    buddy: &mut Buddy<'_>,
    space: u32,
    page: u64,
    wanted: Range<u64>,
) -> Option<(Frame, Range<u64>)> {
    if wanted.end - wanted.start == 1 {
        return buddy.allocate_one().map(|frame| (frame, wanted));
    }
    allocate_run(residents, buddy, space, page, wanted)
}

/// Allocates frames in a row for `page` and those around it that are wanted and not in memory.
#[inline(never)]
fn allocate_run(
    residents: &Residents<'_>,
    buddy: &mut Buddy<'_>,
    space: u32,
    page: u64,
    wanted: Range<u64>,
) -> Option<(Frame, Range<u64>)> {
    let absent = absent_around(residents, space, page, wanted);
    allocate_around(buddy, page, absent)
}

/// Shrinks `wanted` to the run of pages around `page` that are not in memory.
fn absent_around(
    residents: &Residents<'_>,
    space: u32,
    page: u64,
    wanted: Range<u64>,
) -> Range<u64> {
    let is_absent = |page: &u64| residents.find(space, *page).is_none();
    let behind = (page + 1..wanted.end).take_while(is_absent).count() as u64;
    let before = (wanted.start..page).rev().take_while(is_absent).count() as u64;
    page - before..page + 1 + behind
}

/// Allocates frames in a row for `pages`, or for fewer of them around `page`.
fn allocate_around(
    buddy: &mut Buddy<'_>,
    page: u64,
    pages: Range<u64>,
) -> Option<(Frame, Range<u64>)> {
    let mut count = pages.end - pages.start;
    while count > 0 {
        if let Some(frame) = buddy.allocate(count as u32) {
            let first = page.min(pages.end - count).max(pages.start);
            return Some((frame, first..first + count));
        }
        count /= 2;
    }
    None
}
