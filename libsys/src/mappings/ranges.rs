//! Which addresses are free: a bump pointer and a sorted list of what was given back.

use alloc::vec::Vec;

use skink_abi::PAGE_SIZE;

/// Hands out ranges of pages between two addresses.
#[derive(Debug)]
pub struct Ranges {
    /// First address that was never handed out.
    next: u64,
    end: u64,
    /// Ranges given back: (address, pages), sorted, never adjacent to each other or to `next`.
    free: Vec<(u64, u64)>,
}

impl Ranges {
    /// Makes an allocator of the addresses from `start` to before `end`, both page aligned.
    pub const fn new(start: u64, end: u64) -> Self {
        Ranges {
            next: start,
            end,
            free: Vec::new(),
        }
    }

    /// Takes `pages` pages: the first range given back that is large enough, else new ones.
    pub fn take(&mut self, pages: u64) -> Option<u64> {
        let bytes = pages.checked_mul(PAGE_SIZE as u64)?;
        if let Some(index) = self.free.iter().position(|(_, free)| *free >= pages) {
            let (address, free) = self.free[index];
            if free == pages {
                self.free.remove(index);
            } else {
                self.free[index] = (address + bytes, free - pages);
            }
            return Some(address);
        }
        let address = self.next;
        let next = address.checked_add(bytes)?;
        if next > self.end {
            return None;
        }
        self.next = next;
        Some(address)
    }

    /// Gives a range back that [`Ranges::take`] handed out.
    pub fn give_back(&mut self, address: u64, pages: u64) {
        let (mut start, mut pages) = (address, pages);
        let index = self.free.partition_point(|(known, _)| *known < start);
        if let Some((next, more)) = self.free.get(index).copied()
            && end_of(start, pages) == next
        {
            pages += more;
            self.free.remove(index);
        }
        if let Some(before) = index.checked_sub(1)
            && end_of(self.free[before].0, self.free[before].1) == start
        {
            start = self.free[before].0;
            pages += self.free[before].1;
            self.free.remove(before);
        }
        if end_of(start, pages) == self.next {
            self.next = start;
            return;
        }
        let index = self.free.partition_point(|(known, _)| *known < start);
        self.free.insert(index, (start, pages));
    }
}

fn end_of(address: u64, pages: u64) -> u64 {
    address + pages * PAGE_SIZE as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Ranges;

    const START: u64 = 0x1000_0000;
    const PAGES: u64 = 64;

    proptest! {
        #[test]
        fn never_overlaps_and_comes_back_to_its_start(
            steps in prop::collection::vec((any::<bool>(), 1_u64..12, any::<prop::sample::Index>()), 1..200),
        ) {
            let end = START + PAGES * 4096;
            let mut ranges = Ranges::new(START, end);
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (take, pages, which) in steps {
                if take || taken.is_empty() {
                    let Some(address) = ranges.take(pages) else { continue };
                    prop_assert!(address >= START && address + pages * 4096 <= end);
                    for (other, more) in &taken {
                        prop_assert!(address + pages * 4096 <= *other || other + more * 4096 <= address);
                    }
                    taken.push((address, pages));
                } else {
                    let (address, pages) = taken.swap_remove(which.index(taken.len()));
                    ranges.give_back(address, pages);
                }
            }
            for (address, pages) in taken {
                ranges.give_back(address, pages);
            }
            prop_assert_eq!((ranges.next, ranges.free.len()), (START, 0));
            prop_assert_eq!(ranges.take(PAGES), Some(START));
        }
    }
}
