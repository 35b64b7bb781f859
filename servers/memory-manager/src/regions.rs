//! What a space may touch: its regions, sorted and without overlap.
//!
//! A region knows how its pages are backed, not which of them are in memory (that is in
//! [`crate::residents`]). At most [`MAX_REGIONS`] regions, so a sorted list beats a tree.

use alloc::vec::Vec;
use core::ops::Range;

use libipc::proto::memory::{
    FIRST_ADDRESS, MAX_REGION_PAGES, MAX_REGIONS, MemoryError, Protection,
};
use skink_abi::layout::USER_END;

use crate::PAGE_BYTES;

/// A range of page numbers in user space, not empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageRange(Range<u64>);

impl PageRange {
    /// Checks a range that a client named.
    ///
    /// # Errors
    ///
    /// `BadRange` when it is misaligned, empty, too long, or not all in user space.
    pub fn from_client(address: u64, pages: u64) -> Result<PageRange, MemoryError> {
        let aligned = address.is_multiple_of(PAGE_BYTES);
        if !aligned || address < FIRST_ADDRESS || !(1..=MAX_REGION_PAGES).contains(&pages) {
            return Err(MemoryError::BadRange);
        }
        let end = pages
            .checked_mul(PAGE_BYTES)
            .and_then(|bytes| address.checked_add(bytes));
        if end.is_none_or(|end| end > USER_END) {
            return Err(MemoryError::BadRange);
        }
        let first = address / PAGE_BYTES;
        Ok(PageRange(first..first + pages))
    }

    /// Makes a range that [`PageRange::from_client`] has let pass before.
    pub(crate) fn from_pages(first: u64, pages: u64) -> Option<PageRange> {
        let end = first.checked_add(pages)?;
        (first < end).then_some(PageRange(first..end))
    }

    /// Returns the first page number.
    pub fn first(&self) -> u64 {
        self.0.start
    }

    /// Returns the page number behind the last.
    pub fn end(&self) -> u64 {
        self.0.end
    }

    /// Returns the number of pages.
    pub fn pages(&self) -> u64 {
        self.0.end - self.0.start
    }

    /// Returns whether the page is in the range.
    pub fn contains(&self, page: u64) -> bool {
        self.0.contains(&page)
    }

    /// As [`PageRange::contains`], in another way, so that the compiler asks again.
    #[inline]
    pub(crate) fn holds(&self, page: u64) -> bool {
        page.wrapping_sub(self.0.start) < self.pages()
    }

    /// Returns what lies in both ranges.
    pub fn intersect(&self, other: &PageRange) -> Option<PageRange> {
        let both = self.0.start.max(other.0.start)..self.0.end.min(other.0.end);
        (!both.is_empty()).then_some(PageRange(both))
    }

    fn covers(&self, other: &PageRange) -> bool {
        self.0.start <= other.0.start && other.0.end <= self.0.end
    }
}

/// A part of a memory object of which a region holds private copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateImage<I> {
    /// What names the object; a copy of it for each region that needs it.
    pub memory: I,
    /// Page of the object behind the first page of the region.
    pub first_page: u64,
    /// Bytes from there on that are copied; what is behind them is zero.
    pub file_bytes: u64,
}

impl<I> PrivateImage<I> {
    /// Returns the page of the object behind a page of the region, and how many bytes of it
    /// count; `None` when the page is all zeros.
    pub fn page(&self, index: u64) -> Option<(u64, u64)> {
        let bytes = self
            .file_bytes
            .saturating_sub(index * PAGE_BYTES)
            .min(PAGE_BYTES);
        (bytes > 0).then_some((self.first_page + index, bytes))
    }

    fn skip(&self, pages: u64) -> Self
    where
        I: Clone,
    {
        PrivateImage {
            memory: self.memory.clone(),
            first_page: self.first_page + pages,
            file_bytes: self.file_bytes.saturating_sub(pages * PAGE_BYTES),
        }
    }
}

/// How the pages of a region are backed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing<I> {
    /// Zero-filled frames on first touch.
    Anonymous,
    /// Private copies of an object's pages on first touch.
    Private(PrivateImage<I>),
    /// An object's own pages, mapped when the region was made.
    Shared,
}

/// The run of pages that was brought last into a region, to see touches in sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The pages.
    pub pages: Range<u64>,
}

/// A run of pages that are backed and protected alike.
#[derive(Debug)]
pub struct Region<I> {
    /// Where it lies.
    pub range: PageRange,
    /// How its pages may be used.
    pub protection: Protection,
    /// How they are backed.
    pub backing: Backing<I>,
    /// What was brought last.
    pub window: Window,
}

impl<I> Region<I> {
    /// Makes a region of which nothing was touched.
    pub fn new(range: PageRange, protection: Protection, backing: Backing<I>) -> Self {
        Region {
            range,
            protection,
            backing,
            window: Window::default(),
        }
    }

    /// Returns the part of the region that lies in `range`, which must be within it.
    fn part(&self, range: PageRange, protection: Protection) -> Self
    where
        I: Clone,
    {
        let backing = match &self.backing {
            Backing::Anonymous => Backing::Anonymous,
            Backing::Shared => Backing::Shared,
            Backing::Private(image) => {
                Backing::Private(image.skip(range.first() - self.range.first()))
            }
        };
        Region::new(range, protection, backing)
    }
}

/// The regions of one space, sorted by address.
#[derive(Debug)]
pub struct Regions<I> {
    list: Vec<Region<I>>,
    /// Where the region was that was found last. Faults mostly go on where the last one was.
    recent: usize,
}

impl<I> Default for Regions<I> {
    fn default() -> Self {
        Regions {
            list: Vec::new(),
            recent: 0,
        }
    }
}

impl<I: Clone> Regions<I> {
    /// Returns all regions in order.
    pub fn all(&self) -> &[Region<I>] {
        &self.list
    }

    /// Returns the region in which a page lies.
    #[inline]
    pub fn find_mut(&mut self, page: u64) -> Option<&mut Region<I>> {
        let is_recent = self
            .list
            .get(self.recent)
            .is_some_and(|region| region.range.contains(page));
        if is_recent {
            return self.list.get_mut(self.recent);
        }
        self.recent = self.first_behind(page);
        self.list
            .get_mut(self.recent)
            .filter(|region| region.range.contains(page))
    }

    /// Returns the region in which a page lies, if any, and the page up to which that is so.
    pub fn span_at(&self, page: u64) -> (Option<&Region<I>>, u64) {
        match self.list.get(self.first_behind(page)) {
            Some(region) if region.range.contains(page) => (Some(region), region.range.end()),
            Some(next) => (None, next.range.first()),
            None => (None, u64::MAX),
        }
    }

    /// Checks that a region could be put in.
    ///
    /// # Errors
    ///
    /// `Overlap`, `LimitReached`, `NoMemory`.
    pub fn check_insert(&mut self, range: &PageRange) -> Result<(), MemoryError> {
        let next = self.list.get(self.first_behind(range.first()));
        if next.is_some_and(|next| next.range.intersect(range).is_some()) {
            return Err(MemoryError::Overlap);
        }
        self.reserve(1)
    }

    /// Puts a region in.
    ///
    /// # Errors
    ///
    /// As [`Regions::check_insert`].
    pub fn insert(&mut self, region: Region<I>) -> Result<(), MemoryError> {
        self.check_insert(&region.range)?;
        let index = self.first_behind(region.range.first());
        self.list.insert(index, region);
        Ok(())
    }

    /// Checks that a range can be cut out.
    ///
    /// # Errors
    ///
    /// `NotMapped` when no region lies in it, `SharedRegion` when it cuts a shared one,
    /// `LimitReached`.
    pub fn check_remove(&mut self, range: &PageRange) -> Result<(), MemoryError> {
        let touched = self.touched(range);
        if touched.is_empty() {
            return Err(MemoryError::NotMapped);
        }
        self.check_shared(range, &touched)?;
        // Only a hole in the middle of one region makes one more.
        self.reserve(1)
    }

    /// Cuts a range out of the regions; [`Regions::check_remove`] must have agreed.
    pub fn remove(&mut self, range: &PageRange) {
        let touched = self.touched(range);
        let Some(ends) = self.ends(range, &touched) else {
            return;
        };
        self.list.splice(touched, ends.into_iter().flatten());
    }

    /// Checks that a range can be protected otherwise.
    ///
    /// # Errors
    ///
    /// `NotMapped` when a part of it is in no region, `SharedRegion` when it cuts a shared one
    /// or would make one writable, `LimitReached`.
    pub fn check_protect(
        &mut self,
        range: &PageRange,
        protection: Protection,
    ) -> Result<(), MemoryError> {
        let touched = self.touched(range);
        let regions = &self.list[touched.clone()];
        let covered: u64 = regions
            .iter()
            .filter_map(|r| r.range.intersect(range))
            .map(|r| r.pages())
            .sum();
        if covered != range.pages() {
            return Err(MemoryError::NotMapped);
        }
        let is_shared = |region: &Region<I>| matches!(region.backing, Backing::Shared);
        if protection == Protection::ReadWrite && regions.iter().any(is_shared) {
            return Err(MemoryError::SharedRegion);
        }
        self.check_shared(range, &touched)?;
        self.reserve(2)
    }

    /// Protects a range otherwise; [`Regions::check_protect`] must have agreed.
    pub fn protect(&mut self, range: &PageRange, protection: Protection) {
        let touched = self.touched(range);
        let Some([before, behind]) = self.ends(range, &touched) else {
            return;
        };
        let mut at = touched.start;
        if let Some(before) = before {
            self.list.insert(at, before);
            at += 1;
        }
        for index in at..at + touched.len() {
            let Some(part) = self.list[index].range.intersect(range) else {
                continue;
            };
            self.list[index] = self.list[index].part(part, protection);
        }
        if let Some(behind) = behind {
            self.list.insert(at + touched.len(), behind);
        }
    }

    /// Returns the index of the first region that ends behind the page.
    fn first_behind(&self, page: u64) -> usize {
        self.list
            .partition_point(|region| region.range.end() <= page)
    }

    /// Returns the indices of the regions that lie in the range at least partly.
    fn touched(&self, range: &PageRange) -> Range<usize> {
        let end = self
            .list
            .partition_point(|region| region.range.first() < range.end());
        self.first_behind(range.first()).min(end)..end
    }

    /// Returns the parts of the first and last touched regions that stick out of the range; none when
    /// no region is touched, as when a record is missing that had made it.
    fn ends(&self, range: &PageRange, touched: &Range<usize>) -> Option<[Option<Region<I>>; 2]> {
        let (first, last) = match self.list.get(touched.clone())? {
            [] => return None,
            [only] => (only, only),
            [first, .., last] => (first, last),
        };
        let stick_out = |region: &Region<I>, pages: Range<u64>| {
            (!pages.is_empty()).then(|| region.part(PageRange(pages), region.protection))
        };
        Some([
            stick_out(first, first.range.first()..range.first()),
            stick_out(last, range.end()..last.range.end()),
        ])
    }

    /// Shared regions can only be dealt with as a whole: the kernel keeps track of their mappings.
    fn check_shared(&self, range: &PageRange, touched: &Range<usize>) -> Result<(), MemoryError> {
        let cut = |region: &Region<I>| {
            matches!(region.backing, Backing::Shared) && !range.covers(&region.range)
        };
        if self.list[touched.clone()].iter().any(cut) {
            return Err(MemoryError::SharedRegion);
        }
        Ok(())
    }

    fn reserve(&mut self, more: usize) -> Result<(), MemoryError> {
        if self.list.len() + more > MAX_REGIONS {
            return Err(MemoryError::LimitReached);
        }
        self.list
            .try_reserve(more)
            .map_err(|_| MemoryError::NoMemory)
    }
}

#[cfg(test)]
mod tests {
    use super::{Backing, PageRange, Region, Regions};
    use libipc::proto::memory::{MemoryError, Protection};

    fn range(first: u64, pages: u64) -> PageRange {
        PageRange::from_client(first * 4096, pages).unwrap()
    }

    #[test]
    fn bad_ranges_are_refused() {
        for (address, pages) in [
            (0x1_0001, 1),
            (0x1_0000, 0),
            (0, 1),
            (0xf000, 1),
            (0x1_0000, u64::MAX),
            (!0xfff, 1),
            (0x7fff_ffff_e000, 2),
            (0xffff_8000_0000_0000, 1),
        ] {
            let result = PageRange::from_client(address, pages);
            assert_eq!(result, Err(MemoryError::BadRange), "{address:#x} {pages}");
        }
        assert!(PageRange::from_client(0x7fff_ffff_e000, 1).is_ok());
    }

    #[test]
    fn a_hole_splits_an_image_at_the_right_page() {
        let image = super::PrivateImage {
            memory: (),
            first_page: 7,
            file_bytes: 9000,
        };
        let mut regions = Regions::default();
        let backing = Backing::Private(image);
        regions
            .insert(Region::new(range(100, 10), Protection::ReadWrite, backing))
            .unwrap();
        regions.check_remove(&range(101, 1)).unwrap();
        regions.remove(&range(101, 1));
        assert!(regions.find_mut(101).is_none());
        let Backing::Private(rest) = &regions.find_mut(102).unwrap().backing else {
            panic!("backing changed")
        };
        assert_eq!(rest.page(0), Some((9, 9000 - 8192)));
        assert_eq!(rest.page(1), None);
    }

    /// The record that made a region may be lost, and the one that takes it away not.
    #[test]
    fn where_no_region_is_nothing_is_changed() {
        let mut regions = Regions::default();
        let region = Region::new(
            range(100, 10),
            Protection::ReadWrite,
            Backing::<()>::Anonymous,
        );
        regions.insert(region).unwrap();
        for away in [range(50, 10), range(99, 1), range(110, 1)] {
            regions.remove(&away);
            regions.protect(&away, Protection::Read);
        }
        assert_eq!(regions.all().len(), 1);
        assert_eq!(regions.all()[0].range, range(100, 10));
    }

    #[test]
    fn shared_regions_are_not_cut() {
        let mut regions: Regions<()> = Regions::default();
        regions
            .insert(Region::new(range(50, 4), Protection::Read, Backing::Shared))
            .unwrap();
        assert_eq!(
            regions.check_remove(&range(50, 2)),
            Err(MemoryError::SharedRegion)
        );
        let writable = regions.check_protect(&range(50, 4), Protection::ReadWrite);
        assert_eq!(writable, Err(MemoryError::SharedRegion));
        assert_eq!(regions.check_remove(&range(49, 6)), Ok(()));
    }
}
