//! Which frames `init` keeps, and which go to the memory manager.
//!
//! RAM comes as a few objects of whole pages. What `init` needs for its pinned services, their
//! state and their devices is cut from the end of the smallest object with room for it, so that
//! large objects stay large; all the rest is given away.

use alloc::vec::Vec;

/// Part of a RAM object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Position of the object.
    pub object: usize,
    /// First page within it.
    pub first_page: u64,
    /// Number of pages; never 0.
    pub pages: u64,
}

/// RAM objects with what is still free at the start of each.
#[derive(Clone, Debug)]
pub struct Reserve {
    free: Vec<u64>,
}

impl Reserve {
    /// Starts with objects of these many pages, all free.
    pub fn new(pages: Vec<u64>) -> Self {
        Reserve { free: pages }
    }

    /// Returns the number of free pages.
    pub fn free_pages(&self) -> u64 {
        self.free.iter().sum()
    }

    /// Takes contiguous pages; `None` when no object has so many left, or for none.
    pub fn take(&mut self, pages: u64) -> Option<Part> {
        let (object, left) = self
            .free
            .iter_mut()
            .enumerate()
            .filter(|(_, left)| pages > 0 && **left >= pages)
            .min_by_key(|(_, left)| **left)?;
        *left -= pages;
        Some(Part {
            object,
            first_page: *left,
            pages,
        })
    }

    /// Returns what is left, one part for each object that is not used up.
    pub fn rest(&self) -> Vec<Part> {
        let parts = self
            .free
            .iter()
            .enumerate()
            .filter(|(_, pages)| **pages > 0);
        parts
            .map(|(object, &pages)| Part {
                object,
                first_page: 0,
                pages,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_from_the_smallest_object_that_has_room() {
        let mut reserve = Reserve::new(vec![100, 10, 50]);
        assert_eq!(
            reserve.take(5),
            Some(Part {
                object: 1,
                first_page: 5,
                pages: 5
            })
        );
        assert_eq!(
            reserve.take(20),
            Some(Part {
                object: 2,
                first_page: 30,
                pages: 20
            })
        );
        assert_eq!(reserve.take(101), None);
        assert_eq!(reserve.take(0), None);
        assert_eq!(reserve.free_pages(), 135);
    }

    proptest! {
        #[test]
        fn every_page_has_one_owner(
            objects in prop::collection::vec(0_u64..200, 0..6),
            needs in prop::collection::vec(0_u64..120, 0..20),
        ) {
            let mut reserve = Reserve::new(objects.clone());
            let mut parts: Vec<Part> = needs.iter().filter_map(|&pages| reserve.take(pages)).collect();
            parts.extend(reserve.rest());
            for (object, &pages) in objects.iter().enumerate() {
                let mut owners = vec![0; pages as usize];
                for part in parts.iter().filter(|part| part.object == object) {
                    for page in part.first_page..part.first_page + part.pages {
                        owners[page as usize] += 1;
                    }
                }
                prop_assert!(owners.iter().all(|&count| count == 1));
            }
        }
    }
}
