//! Which frame holds which page of which space: an inverted page table.
//!
//! One entry for each frame and a hash index over (space, page), both of fixed size, so bringing
//! a page in never allocates and looking one up costs the same for every size of space. The
//! frames of a space also form a list, for the day when it ends.

use core::ops::Range;

use crate::Frame;
use crate::link::Link;

/// Bits of a page number: user space has 2^47 bytes.
const PAGE_BITS: u32 = 36;
/// Most different space numbers.
pub const SPACE_NUMBERS: u32 = 1 << (64 - PAGE_BITS);
/// Neighbouring pages share a group of buckets, 64 bytes: one cache line.
const GROUP_BITS: u32 = 4;

/// What is kept for each frame. All zero means: holds no page.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ResidentEntry {
    key: u64,
    /// Next in the bucket.
    chain: Link,
    /// Neighbours in the list of the space.
    next: Link,
    previous: Link,
    reserved: u32,
}

/// The frames of one space.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameList {
    first: Link,
    count: u64,
}

impl FrameList {
    /// Returns how many frames the space has.
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// A bucket of the hash index: zero is the empty one.
#[derive(Clone, Copy, Debug, Default)]
#[repr(transparent)]
pub struct Bucket(Link);

/// Where a page is looked for and put.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    key: u64,
    bucket: usize,
}

/// Which frame holds which page.
#[derive(Debug)]
pub struct Residents<'a> {
    entries: &'a mut [ResidentEntry],
    buckets: &'a mut [Bucket],
}

impl<'a> Residents<'a> {
    /// Returns how many buckets serve a table of so many frames.
    pub fn buckets_for(frames: usize) -> usize {
        frames.next_power_of_two().max(1 << GROUP_BITS)
    }

    /// Starts with no page. Both tables must be all zero; `buckets` has the length that
    /// [`Residents::buckets_for`] tells.
    pub fn new(entries: &'a mut [ResidentEntry], buckets: &'a mut [Bucket]) -> Self {
        debug_assert_eq!(buckets.len(), Self::buckets_for(entries.len()));
        Residents { entries, buckets }
    }

    /// Returns where a page is to be looked for.
    #[inline]
    pub fn spot(&self, space: u32, page: u64) -> Spot {
        let key = key(space, page);
        let bucket = self.bucket(key);
        Spot { key, bucket }
    }

    /// Returns the frame that holds a page.
    pub fn find(&self, space: u32, page: u64) -> Option<Frame> {
        self.find_at(self.spot(space, page))
    }

    /// Returns the frame that holds the page of a spot.
    #[inline]
    pub fn find_at(&self, spot: Spot) -> Option<Frame> {
        let mut at = self.buckets[spot.bucket].0;
        while let Some(frame) = at.frame() {
            let entry = &self.entries[frame as usize];
            if entry.key == spot.key {
                return Some(frame);
            }
            at = entry.chain;
        }
        None
    }

    /// Returns the page that a frame holds, with its space.
    pub fn page_of(&self, frame: Frame) -> Option<(u32, u64)> {
        let key = self.entries.get(frame as usize)?.key;
        (key != 0).then_some(((key >> PAGE_BITS) as u32, key & ((1 << PAGE_BITS) - 1)))
    }

    /// Returns how many frames from `first` on hold nothing, without a look at `end` and behind.
    pub fn absent_from(&self, first: Frame, end: Frame) -> u32 {
        let entries = self.entries.get(first as usize..end as usize);
        let entries = entries.unwrap_or_default();
        let absent = entries.iter().position(|entry| entry.key != 0);
        absent.unwrap_or(entries.len()) as u32
    }

    /// Notes that a frame, which held nothing, holds a page that was not there.
    pub fn insert(&mut self, list: &mut FrameList, space: u32, page: u64, frame: Frame) {
        self.insert_at(list, self.spot(space, page), frame);
    }

    /// Looks whether a frame holds nothing, as one must that was free.
    ///
    /// # Panics
    ///
    /// When it holds a page: it would belong to two.
    #[inline]
    pub fn check_unused(&self, frame: Frame) {
        assert!(
            self.entries[frame as usize].key == 0,
            "a frame that was free holds a page"
        );
    }

    /// Notes that frames in a row, which held nothing, hold pages in a row that were not there.
    ///
    /// # Panics
    ///
    /// As [`Residents::insert_at`], when one of the pages is there already (the kernel would not map it
    /// a second time), and when they are not found afterwards.
    #[inline(never)]
    pub fn insert_run(
        &mut self,
        list: &mut FrameList,
        space: u32,
        pages: Range<u64>,
        first: Frame,
    ) {
        let mut spot = self.spot(space, pages.start);
        let (count, last) = (list.count, pages.end - 1);
        let expected = Some(first + (last - pages.start) as Frame);
        let expected_count = count + (pages.end - pages.start);
        let is_absent = |page| self.find(space, page).is_none();
        assert!(
            pages.clone().all(is_absent),
            "pages that are there were to be brought"
        );
        for (page, frame) in pages.zip(first..) {
            if page.is_multiple_of(1 << GROUP_BITS) {
                spot = self.spot(space, page);
            }
            self.insert_at(list, spot, frame);
            // Within a group the buckets are neighbours as the pages are.
            spot = Spot {
                key: spot.key + 1,
                bucket: spot.bucket + 1,
            };
        }
        let is_found = self.find(space, last) == expected && list.count == expected_count;
        assert!(is_found, "pages that were brought are not found");
    }

    /// Notes that a frame, which held nothing, holds the page of a spot, which was not there.
    ///
    /// # Panics
    ///
    /// When the frame holds a page.
    #[inline]
    pub fn insert_at(&mut self, list: &mut FrameList, spot: Spot, frame: Frame) {
        let Spot { key, bucket } = spot;
        debug_assert!(self.find_at(spot).is_none());
        self.check_unused(frame);
        if let Some(next) = list.first.frame() {
            self.entries[next as usize].previous = Link::to(frame);
        }
        self.entries[frame as usize] = ResidentEntry {
            key,
            chain: self.buckets[bucket].0,
            next: list.first,
            previous: Link::NONE,
            reserved: 0,
        };
        self.buckets[bucket].0 = Link::to(frame);
        list.first = Link::to(frame);
        list.count += 1;
    }

    /// Forgets the page and returns the frame that held it.
    pub fn remove(&mut self, list: &mut FrameList, space: u32, page: u64) -> Option<Frame> {
        let frame = self.find(space, page)?;
        self.forget(list, frame);
        Some(frame)
    }

    /// Forgets one page of the list and returns the frame that held it.
    pub fn pop(&mut self, list: &mut FrameList) -> Option<Frame> {
        let frame = list.first.frame()?;
        self.forget(list, frame);
        Some(frame)
    }

    fn forget(&mut self, list: &mut FrameList, frame: Frame) {
        let entry = core::mem::take(&mut self.entries[frame as usize]);
        match entry.previous.frame() {
            Some(previous) => self.entries[previous as usize].next = entry.next,
            None => list.first = entry.next,
        }
        if let Some(next) = entry.next.frame() {
            self.entries[next as usize].previous = entry.previous;
        }
        list.count -= 1;

        let bucket = self.bucket(entry.key);
        if self.buckets[bucket].0 == Link::to(frame) {
            self.buckets[bucket].0 = entry.chain;
            return;
        }
        let mut at = self.buckets[bucket].0;
        while let Some(other) = at.frame() {
            let other = &mut self.entries[other as usize];
            if other.chain == Link::to(frame) {
                other.chain = entry.chain;
                return;
            }
            at = other.chain;
        }
    }

    #[inline]
    fn bucket(&self, key: u64) -> usize {
        // Fibonacci hashing of the group; the low bits pick the bucket within it.
        let group = (key >> GROUP_BITS).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let low = key & ((1 << GROUP_BITS) - 1);
        (group << GROUP_BITS | low) as usize & (self.buckets.len() - 1)
    }
}

/// Space numbers start at 1, so no key is 0.
fn key(space: u32, page: u64) -> u64 {
    u64::from(space) << PAGE_BITS | page
}

#[cfg(test)]
mod tests {
    use super::{Bucket, FrameList, ResidentEntry, Residents};

    #[test]
    fn finds_what_was_put_in_and_forgets_it() {
        let mut entries = [ResidentEntry::default(); 8];
        let mut buckets = [Bucket::default(); 16];
        let mut residents = Residents::new(&mut entries, &mut buckets);
        let (mut one, mut two) = (FrameList::default(), FrameList::default());
        residents.insert(&mut one, 1, 100, 3);
        residents.insert(&mut two, 2, 100, 4);
        residents.insert(&mut one, 1, 101, 5);
        assert_eq!(residents.find(1, 100), Some(3));
        assert_eq!(residents.find(2, 100), Some(4));
        assert_eq!(residents.page_of(5), Some((1, 101)));
        assert_eq!(residents.remove(&mut one, 1, 100), Some(3));
        assert_eq!(residents.find(1, 100), None);
        assert_eq!((one.count(), two.count()), (1, 1));
        assert_eq!(residents.pop(&mut one), Some(5));
        assert_eq!(residents.pop(&mut one), None);
    }
}
