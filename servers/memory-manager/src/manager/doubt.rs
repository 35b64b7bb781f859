//! Second thoughts, before an answer that would harm.
//!
//! What a space may touch is kept twice: in the tables by which faults are resolved, and in the
//! records. So before a request or a fault is refused, and after regions were changed, the manager
//! looks at the records, region by region instead of by searching. If they say otherwise its memory or
//! its program is damaged. It ends then, and the next instance, which makes its tables from the
//! records and the page tables, gets the request or the fault again.
//!
//! Faults that are resolved pay nothing for that.

use alloc::rc::Rc;
use core::fmt::Arguments;
use core::ops::Range;

use libipc::proto::memory::{
    FIRST_ADDRESS, ImageSegment, MAX_OBJECT_PAGES, MAX_OBJECTS, MAX_REGION_PAGES, MAX_REGIONS,
    MemoryError, Protection,
};
use skink_abi::FaultMessage;
use skink_abi::layout::USER_END;

use super::{MAX_ALL_REGIONS, MAX_IMAGES, Manager};
use crate::PAGE_BYTES;
use crate::journal::{ObjectRecord, RawHandle, RequestName, SpaceRecord};
use crate::machine::{Adopted, Life, Machine};
use crate::objects::MAX_ALL_OBJECTS;
use crate::regions::{Backing, PageRange, PrivateImage, Region};
use crate::resolve::Refusal;
use crate::spaces::{
    MAX_SPACES, client_badge, generation_of, slot_of, space_of_badge, space_of_pager,
};

/// Bits of a page-fault error code.
const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;
/// Of so many frames more than one is free: nobody is refused one.
const PLENTY_OF: u64 = 8;
/// And so many frames, on a small machine.
const PLENTY: u64 = 16;

/// What a client wants of a range of its space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wish {
    /// A region of zeros there.
    Zeros(Protection),
    /// A region of an image there.
    Image(ImageSegment),
    /// No region there.
    Nothing,
    /// To use what is there so.
    Use(Protection),
}

/// Ends this instance if a region is not what a client asked for: once it is written down the next one
/// takes it for done.
#[inline(never)]
pub(super) fn check_region<I>(region: &Region<I>, asked: (u64, u64), protection: Protection) {
    check_range(&region.range, asked);
    assert!(
        region.protection == protection,
        "a region is made otherwise than asked for"
    );
}

/// Ends this instance if a range is not that of the address and the number of pages that a client gave.
#[inline(never)]
pub(super) fn check_range(range: &PageRange, (address, pages): (u64, u64)) {
    let is_asked = range.first() * PAGE_BYTES == address && range.pages() == pages;
    assert!(is_asked, "a range is another one than was asked for");
}

impl<M: Machine> Manager<'_, M> {
    /// Makes a region of zero-filled pages.
    ///
    /// # Errors
    ///
    /// `NoSpace`, `BadRange`, `Overlap`, `LimitReached`, `NoMemory`.
    ///
    /// # Panics
    ///
    /// When what was done is not what the records say: something is damaged. An error that they do
    /// not bear out has the next instance answer.
    pub fn map_anonymous(
        &mut self,
        by: RequestName,
        address: u64,
        pages: u64,
        protection: Protection,
    ) -> Result<(), MemoryError> {
        let result = self.put_anonymous(by, address, pages, protection);
        self.check(by, Wish::Zeros(protection), (address, pages), result)
    }

    /// Makes a region of an image segment.
    ///
    /// # Errors
    ///
    /// `NoSpace`, `BadRange`, `Overlap`, `PastEnd`, `LimitReached`, `NoMemory`, and those of
    /// [`Machine::map_shared`].
    ///
    /// # Panics
    ///
    /// As [`Manager::map_anonymous`].
    pub fn map_image(
        &mut self,
        by: RequestName,
        segment: &ImageSegment,
        memory: M::Memory,
    ) -> Result<(), MemoryError> {
        let result = self.put_image(by, segment, memory);
        self.check(
            by,
            Wish::Image(*segment),
            (segment.address, segment.pages),
            result,
        )
    }

    /// Unmaps a range and frees its frames.
    ///
    /// # Errors
    ///
    /// `NoSpace`, `BadRange`, `NotMapped`, `SharedRegion`, `LimitReached`, `ProcessDead`.
    ///
    /// # Panics
    ///
    /// As [`Manager::map_anonymous`].
    pub fn unmap(&mut self, by: RequestName, address: u64, pages: u64) -> Result<(), MemoryError> {
        let result = self.take_away(by, address, pages);
        self.check(by, Wish::Nothing, (address, pages), result)
    }

    /// Changes how the pages of a range may be used.
    ///
    /// # Errors
    ///
    /// `NoSpace`, `BadRange`, `NotMapped`, `SharedRegion`, `LimitReached`, `MissingRight`,
    /// `ProcessDead`.
    ///
    /// # Panics
    ///
    /// As [`Manager::map_anonymous`].
    pub fn protect(
        &mut self,
        by: RequestName,
        address: u64,
        pages: u64,
        protection: Protection,
    ) -> Result<(), MemoryError> {
        let result = self.allow(by, address, pages, protection);
        self.check(by, Wish::Use(protection), (address, pages), result)
    }

    /// Passes an answer on, if it agrees with the records.
    fn check(
        &self,
        by: RequestName,
        wish: Wish,
        (address, pages): (u64, u64),
        result: Result<(), MemoryError>,
    ) -> Result<(), MemoryError> {
        let number = by.badge as u32;
        let range = address / PAGE_BYTES..(address / PAGE_BYTES).saturating_add(pages);
        let agrees = match result {
            Ok(()) => {
                assert!(
                    self.has_come_about(number, wish, &range),
                    "{wish:?} of {range:?} has not come about"
                );
                self.check_noted(by);
                true
            }
            Err(MemoryError::NoSpace) => !self.is_live_badge(by.badge),
            Err(MemoryError::BadRange) => !is_possible(address, pages) || is_for_kernel(wish),
            Err(error) => self.is_in_the_way(number, wish, &range, error),
        };
        if !agrees {
            doubt(format_args!(
                "{wish:?} of {range:?}: {result:?} is no right answer"
            ));
        }
        result
    }

    /// Returns whether a range is now as it was wished for, and tables and records agree.
    #[inline(never)]
    fn has_come_about(&self, number: u32, wish: Wish, range: &Range<u64>) -> bool {
        let recorded = self.recorded(number);
        let Some((_, space)) = self.spaces.all_numbered().find(|(n, _)| *n == number) else {
            return false;
        };
        let agrees = |(own, written): (&Region<Rc<M::Memory>>, &Region<RawHandle>)| {
            own.range == written.range
                && own.protection == written.protection
                && kind(&own.backing) == kind(&written.backing)
                && image(own).map(|image| M::memory_handle(image)) == image(written).copied()
        };
        let own = space.regions.all();
        let is_one = |protection: Protection, wanted: Option<(u64, u64)>| {
            recorded.iter().any(|region| {
                region.range.first() == range.start
                    && region.range.end() == range.end
                    && region.protection == protection
                    && kind(&region.backing) == wanted
            })
        };
        let is_as_wished = match wish {
            Wish::Zeros(protection) => is_one(protection, Some((0, 0))),
            Wish::Image(segment) => is_one(segment.protection, shown(&segment)),
            Wish::Nothing => {
                let is_there = |page| self.residents.find(number, page).is_some();
                !touched(recorded, range).any(|_| true) && !range.clone().any(is_there)
            }
            Wish::Use(protection) => {
                is_covered(recorded, range)
                    && touched(recorded, range).all(|region| region.protection == protection)
            }
        };
        is_as_wished && own.len() == recorded.len() && own.iter().zip(recorded).all(agrees)
    }

    /// Returns whether the records say that a wish cannot come about for this reason.
    #[cold]
    fn is_in_the_way(
        &self,
        number: u32,
        wish: Wish,
        range: &Range<u64>,
        error: MemoryError,
    ) -> bool {
        let recorded = self.recorded(number);
        match (error, wish) {
            (MemoryError::Overlap, Wish::Zeros(_) | Wish::Image(_)) => {
                touched(recorded, range).next().is_some()
            }
            (MemoryError::NotMapped, Wish::Nothing) => touched(recorded, range).next().is_none(),
            (MemoryError::NotMapped, Wish::Use(_)) => !is_covered(recorded, range),
            (MemoryError::SharedRegion, Wish::Nothing | Wish::Use(_)) => {
                touched(recorded, range).any(|region| matches!(region.backing, Backing::Shared))
            }
            (MemoryError::LimitReached, _) => {
                let regions = || self.journal.records().spaces().values().map(|s| &s.regions);
                let images = regions().flat_map(|regions| regions.all());
                let images = images.filter(|r| matches!(r.backing, Backing::Private(_)));
                recorded.len() + 2 >= MAX_REGIONS
                    || regions().map(|r| r.all().len()).sum::<usize>() + 2 >= MAX_ALL_REGIONS
                    || images.count() >= MAX_IMAGES - 2
            }
            (MemoryError::NoMemory, _) => self.is_used_up(),
            // For zeros the kernel is not asked.
            (_, Wish::Zeros(_)) => false,
            (MemoryError::ProcessDead, _) => self.has_ended(number),
            (MemoryError::PastEnd | MemoryError::BadHandle | MemoryError::InTheWay, wish) => {
                is_for_kernel(wish)
            }
            // What only the kernel knows.
            (MemoryError::MissingRight | MemoryError::NoKernelMemory, _) => true,
            _ => false,
        }
    }

    /// Looks at the records before a fault is refused: if they say that it should be resolved, the next
    /// instance gets it.
    #[cold]
    #[inline(never)]
    pub(super) fn check_refusal(&self, number: u32, fault: &FaultMessage, refusal: Refusal) {
        let page = fault.address / PAGE_BYTES;
        let mut touched = touched(self.recorded(number), &(page..page + 1));
        let is_right = match refusal {
            Refusal::NoSpace => !self.is_live(number),
            Refusal::OutsideRegions => touched.next().is_none(),
            Refusal::Protection => touched.all(|region| {
                let is_allowed = match region.protection {
                    Protection::Read => fault.code & (WRITE | FETCH) == 0,
                    Protection::ReadWrite => fault.code & FETCH == 0,
                    Protection::ReadExecute => fault.code & WRITE == 0,
                };
                !is_allowed || matches!(region.backing, Backing::Shared)
            }),
            Refusal::ImageGone => !self.is_readable(number, page),
            Refusal::OutOfMemory => self.is_sound() && !self.may_have_one(number),
        };
        if !is_right {
            doubt(format_args!(
                "a fault of space {number:#x} in page {page:#x} is no reason to end it: {}",
                refusal.text()
            ));
        }
    }

    /// Looks whether an object should have been refused: if not, the next instance is asked.
    #[cold]
    pub(super) fn check_no_object(&self, pages: u64, error: MemoryError) {
        let is_right = match error {
            MemoryError::BadRange => pages == 0 || pages > MAX_OBJECT_PAGES,
            MemoryError::NoMemory => {
                let run = pages.next_power_of_two();
                self.is_sound() && !(self.has_plenty(pages) && self.buddy.largest_run() >= run)
            }
            // Some owner has many, or the manager has no handles left, which the kernel says.
            MemoryError::LimitReached => {
                let objects = self.journal.records().objects();
                objects.len() >= MAX_OBJECTS.min(MAX_ALL_OBJECTS)
            }
            error => error == MemoryError::NoKernelMemory,
        };
        if !is_right {
            doubt(format_args!(
                "an object of {pages} pages: {error:?} is no right answer"
            ));
        }
    }

    /// Looks whether a process should have been refused: if not, the next instance is asked.
    #[cold]
    pub(super) fn check_no_space(&self, error: MemoryError) {
        let is_right = match error {
            MemoryError::NoMemory => self.is_used_up(),
            // Of spaces, or of handles.
            MemoryError::LimitReached => {
                let records = self.journal.records();
                records.spaces().len() + records.objects().len() >= MAX_SPACES / 2
            }
            // Looked for in the records already, or by who asked the kernel.
            MemoryError::AlreadyRegistered | MemoryError::ProcessDead => true,
            // What only the kernel knows.
            MemoryError::MissingRight | MemoryError::BadHandle | MemoryError::NoKernelMemory => {
                true
            }
            _ => false,
        };
        if !is_right {
            doubt(format_args!("a space: {error:?} is no right answer"));
        }
    }

    /// Looks whether a number for a space was never given out.
    ///
    /// # Panics
    ///
    /// When it was, as far as anything is written down.
    #[inline(never)]
    pub(super) fn check_new(&self, number: u32) {
        let taken = self.journal.records().taken();
        let last = taken.get(slot_of(number)).copied().unwrap_or(0);
        assert!(
            generation_of(number) > last && slot_of(number) <= taken.len(),
            "the number {number:#x} was that of a space before"
        );
    }

    /// Looks whether the kernel will name a space by the number that was taken for it last, and
    /// returns its sender.
    ///
    /// # Panics
    ///
    /// When it will not.
    #[inline(never)]
    pub(super) fn check_adopted(&self, number: u32, adopted: Adopted<M::Sender>) -> M::Sender {
        let Adopted {
            sender,
            client_badge,
            pager_badge,
        } = adopted;
        let records = self.journal.records();
        let era = records.era().unwrap_or_default();
        let last = records.taken().get(slot_of(number)).copied();
        let is_right = last == Some(generation_of(number))
            && space_of_badge(era, client_badge) == Some(number)
            && space_of_pager(era, client_badge).is_none()
            && space_of_pager(era, pager_badge) == Some(number);
        assert!(is_right, "the senders of {number:#x} name something else");
        sender
    }

    /// Looks whether a process has become a space with nothing in it, and no other one, and the records
    /// say the same.
    ///
    /// # Panics
    ///
    /// When it has not.
    #[inline(never)]
    pub(super) fn check_made(&self, number: u32, process_number: u64) {
        let records = self.journal.records();
        let is_it = |space: &&SpaceRecord| space.process_number == process_number;
        let mut own = self.spaces.all_numbered();
        let is_made = own.find(|(n, _)| *n == number).is_some_and(|(_, space)| {
            let handle = M::process_handle(&space.process);
            let written = records.spaces().get(&number);
            written.filter(is_it).is_some_and(|written| {
                written.process == handle && written.regions.all().is_empty()
            }) && self.machine.process_number(&space.process) == Ok(process_number)
                && space.process_number == process_number
                && space.regions.all().is_empty()
        });
        assert!(
            is_made && records.spaces().values().filter(is_it).count() == 1,
            "the process is not the space {number:#x}"
        );
    }

    /// Looks whether a request that changed something is written down as the last one.
    ///
    /// # Panics
    ///
    /// When it is not: if it came again it would be carried out twice.
    #[inline(never)]
    pub(super) fn check_noted(&self, by: RequestName) {
        let last = self.journal.records().last();
        assert!(last == Some(by), "the last request is not written down");
    }

    /// Looks whether an object is for who asked for it.
    ///
    /// # Panics
    ///
    /// When it is for somebody else.
    #[inline(never)]
    pub(super) fn check_owner(&self, by: RequestName, owner: u32) {
        let era = self.journal.records().era().unwrap_or_default();
        let is_space = by.badge == client_badge(era, by.badge as u32);
        let asked = if is_space { by.badge as u32 } else { 0 };
        assert!(owner == asked, "an object for somebody else");
    }

    /// Looks whether the frames of a new object are its own, and the record is that of it.
    ///
    /// # Panics
    ///
    /// When somebody else has some of them, or they are not written down.
    #[inline(never)]
    pub(super) fn check_object(&self, first: u32, record: ObjectRecord) {
        let end = first + record.pages;
        let pages = record.pages;
        let written = self.journal.records().objects().get(&first);
        let newest = self.objects.newest().is_some_and(|object| {
            (object.first, object.pages, object.owner) == (first, pages, record.owner)
                && M::memory_handle(&object.memory) == record.memory
        });
        let is_own = written == Some(&record)
            && newest
            && self.objects.count_in(first..end) == 1
            && self.residents.absent_from(first, end) == pages
            && !(self.buddy.is_free(first) || self.buddy.is_free(end - 1))
            && self.is_sound();
        assert!(is_own, "the frames of an object are not its own");
    }

    /// Looks whether a process is registered.
    ///
    /// # Panics
    ///
    /// When it is not, though it was found to be or has just been registered.
    pub(super) fn check_registered(&self, process_number: u64) {
        let mut spaces = self.journal.records().spaces().values();
        assert!(
            spaces.any(|space| space.process_number == process_number),
            "the process is not registered"
        );
    }

    /// Returns the regions of a space that are written down.
    fn recorded(&self, number: u32) -> &[Region<RawHandle>] {
        let space = self.journal.records().spaces().get(&number);
        space.map_or(&[], |space| space.regions.all())
    }

    /// Returns whether a badge names a space whose process is not gone.
    fn is_live_badge(&self, badge: u64) -> bool {
        let number = badge as u32;
        let era = self.journal.records().era().unwrap_or_default();
        badge == client_badge(era, number) && self.is_live(number)
    }

    /// Returns whether a space is written down and its process is not gone.
    fn is_live(&self, number: u32) -> bool {
        let Some(written) = self.journal.records().spaces().get(&number) else {
            return false;
        };
        let mut spaces = self.spaces.all();
        let space = spaces.find(|space| space.process_number == written.process_number);
        space.is_none_or(|space| self.machine.life(&space.process) != Life::Gone)
    }

    /// Returns whether the process of a space has ended.
    fn has_ended(&self, number: u32) -> bool {
        let mut spaces = self.spaces.all_numbered();
        let space = spaces.find(|(n, _)| *n == number);
        space.is_none_or(|(_, space)| self.machine.has_ended(&space.process))
    }

    /// Returns whether the image behind a page can be read.
    fn is_readable(&self, number: u32, page: u64) -> bool {
        let mut spaces = self.spaces.all_numbered();
        let regions = spaces.find(|(n, _)| *n == number);
        let regions = regions.map_or(&[][..], |(_, space)| space.regions.all());
        let region = regions.iter().find(|region| region.range.contains(page));
        let Some(Region { range, backing, .. }) = region else {
            return false;
        };
        let Backing::Private(image) = backing else {
            return false;
        };
        let wanted = image.page(page - range.first());
        let readable = self.machine.readable_pages(&image.memory);
        wanted.is_some_and(|(wanted, _)| readable.is_ok_and(|pages| wanted < pages))
    }

    /// Returns whether so much is written down that heap or journal may have no room for more: both
    /// have room for all that the limits allow. The heap itself is no witness. It may be used up by a
    /// mistake of its own; the next instance has a new one.
    pub(super) fn is_used_up(&self) -> bool {
        let records = self.journal.records();
        let spaces = records.spaces();
        let regions: usize = spaces.values().map(|space| space.regions.all().len()).sum();
        spaces.len() >= MAX_SPACES / 2
            || regions >= MAX_ALL_REGIONS / 2
            || records.objects().len() >= MAX_ALL_OBJECTS / 2
    }

    /// Returns whether a frame is free, by what the others are used for, that a space may have: one of
    /// the last sixteenth only if it has less than a quarter of all.
    fn may_have_one(&self, number: u32) -> bool {
        let mut spaces = self.spaces.all_numbered();
        let held = spaces.find(|(n, _)| *n == number);
        let held = held.map_or(0, |(_, space)| space.frames.count());
        let free = self.total.saturating_sub(self.used());
        free > 0 && (free > self.total / 16 || held < self.total / 4)
    }

    fn used(&self) -> u64 {
        self.tables + self.anonymous + self.objects.pages()
    }

    /// Returns whether so many frames are free, by what the others are used for, that nobody is
    /// refused `wanted` of them.
    fn has_plenty(&self, wanted: u64) -> bool {
        self.total.saturating_sub(self.used()) > self.total / PLENTY_OF + PLENTY + wanted
    }
}

/// Has the next instance answer, if `init` lets it: what clients can bring about must not be a crash.
#[cold]
fn doubt(why: Arguments<'_>) {
    log::error!("{why}");
    libipc::doubt_oneself("memory");
}

/// Looks whether a process that cannot be adopted has ended, if that is why.
#[cold]
pub(super) fn check_not_adopted<M: Machine>(machine: &M, process: &M::Process, error: MemoryError) {
    if error == MemoryError::ProcessDead && !machine.has_ended(process) {
        doubt(format_args!("a process that lives is taken for dead"));
    }
}

/// Looks whether nothing is mapped in a process that is said to be gone. The kernel tells nothing of one
/// that is.
///
/// # Panics
///
/// When something is.
#[cold]
pub(super) fn check_gone<M: Machine>(machine: &M, process: &M::Process) {
    let mut is_mapped = false;
    let _ = machine.mappings(process, &mut |_| is_mapped = true);
    assert!(!is_mapped, "a process that is said to be gone has pages");
}

/// Returns the regions that lie at least partly in a range.
fn touched<'a>(
    regions: &'a [Region<RawHandle>],
    range: &Range<u64>,
) -> impl Iterator<Item = &'a Region<RawHandle>> + use<'a> {
    let Range { start, end } = *range;
    regions
        .iter()
        .filter(move |region| region.range.first() < end && start < region.range.end())
}

/// Returns whether each page of a range lies in a region.
fn is_covered(regions: &[Region<RawHandle>], range: &Range<u64>) -> bool {
    let mut at = range.start;
    // Sorted.
    for region in touched(regions, range) {
        if region.range.first() > at {
            return false;
        }
        at = region.range.end();
    }
    at >= range.end
}

/// Returns whether a client may name such a range.
fn is_possible(address: u64, pages: u64) -> bool {
    address.is_multiple_of(PAGE_BYTES)
        && address >= FIRST_ADDRESS
        && pages > 0
        && pages <= MAX_REGION_PAGES
        && address / PAGE_BYTES <= USER_END / PAGE_BYTES - pages
}

/// Returns whether the kernel, too, may say that the range is bad.
fn is_for_kernel(wish: Wish) -> bool {
    matches!(wish, Wish::Image(_))
}

/// Returns the image behind a region.
fn image<I>(region: &Region<I>) -> Option<&I> {
    match &region.backing {
        Backing::Private(PrivateImage { memory, .. }) => Some(memory),
        Backing::Anonymous | Backing::Shared => None,
    }
}

/// Returns how the pages of a segment are backed, but for the image.
fn shown(segment: &ImageSegment) -> Option<(u64, u64)> {
    let is_private = segment.protection == Protection::ReadWrite;
    is_private.then_some((segment.page_offset, segment.file_bytes))
}

/// Returns how pages are backed, but for the image.
fn kind<I>(backing: &Backing<I>) -> Option<(u64, u64)> {
    match backing {
        Backing::Anonymous => Some((0, 0)),
        Backing::Private(image) => Some((image.first_page, image.file_bytes)),
        Backing::Shared => None,
    }
}
