//! The memory map: firmware regions in, `bootloader_api` regions out.
//!
//! Firmware maps may overlap, be unsorted and have odd bounds. The result is sorted, disjoint and
//! page aligned: memory that the firmware keeps wins over memory in use by the loader, which wins
//! over usable memory.

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use heapless::Vec;

use crate::{LoadError, PAGE, REACHABLE_END, Range};

/// Most regions in either direction; OVMF has about 130.
pub const MAX_REGIONS: usize = 256;

/// E820 type of memory that can be used.
const E820_USABLE: u32 = 1;

/// Regions as they are collected.
#[derive(Debug, Default)]
pub struct MemoryMap {
    regions: Vec<MemoryRegion, MAX_REGIONS>,
    usable_end: u64,
}

impl MemoryMap {
    /// Starts an empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a region of the firmware's map with its E820 type.
    ///
    /// # Errors
    /// [`LoadError::TooManyRegions`].
    pub fn add_firmware(&mut self, range: Range, e820_type: u32) -> Result<(), LoadError> {
        if e820_type == E820_USABLE {
            let mut range = range.shrunk_to_pages();
            // Frame 0 looks like a null pointer, and old firmware keeps its data there.
            range.start = range.start.max(PAGE);
            self.usable_end = self.usable_end.max(range.end);
            self.push(range, MemoryRegionKind::Usable)
        } else {
            self.push(
                range.grown_to_pages(),
                MemoryRegionKind::UnknownBios(e820_type),
            )
        }
    }

    /// Marks a range as in use by the loader.
    ///
    /// # Errors
    /// [`LoadError::TooManyRegions`].
    pub fn reserve(&mut self, range: Range) -> Result<(), LoadError> {
        self.push(range.grown_to_pages(), MemoryRegionKind::Bootloader)
    }

    /// Returns the first address after all usable memory.
    #[must_use]
    pub fn usable_end(&self) -> u64 {
        self.usable_end
    }

    /// Returns the largest usable range from 1 MiB up that the loader can reach.
    ///
    /// # Errors
    /// [`LoadError::OutOfMemory`] when there is none.
    pub fn largest_free(&self) -> Result<Range, LoadError> {
        const LOW_MEMORY_END: u64 = 1 << 20;
        self.resolve()?
            .iter()
            .filter(|region| region.kind == MemoryRegionKind::Usable)
            .map(|region| Range {
                start: region.start.max(LOW_MEMORY_END),
                end: region.end.min(REACHABLE_END),
            })
            .max_by_key(Range::len)
            .filter(|range| !range.is_empty())
            .ok_or(LoadError::OutOfMemory)
    }

    /// Returns the sorted, disjoint, page-aligned regions.
    ///
    /// # Errors
    /// [`LoadError::TooManyRegions`].
    pub fn resolve(&self) -> Result<Vec<MemoryRegion, MAX_REGIONS>, LoadError> {
        let mut bounds: Vec<u64, { 2 * MAX_REGIONS }> = Vec::new();
        for region in &self.regions {
            for bound in [region.start, region.end] {
                bounds.push(bound).map_err(|_| LoadError::TooManyRegions)?;
            }
        }
        bounds.sort_unstable();
        let mut resolved: Vec<MemoryRegion, MAX_REGIONS> = Vec::new();
        for pair in bounds.windows(2) {
            let &[start, end] = pair else { continue };
            let Some(kind) = self.kind_of(start).filter(|_| start < end) else {
                continue;
            };
            match resolved.last_mut() {
                Some(last) if last.end == start && last.kind == kind => last.end = end,
                _ => resolved
                    .push(MemoryRegion { start, end, kind })
                    .map_err(|_| LoadError::TooManyRegions)?,
            }
        }
        Ok(resolved)
    }

    fn kind_of(&self, address: u64) -> Option<MemoryRegionKind> {
        self.regions
            .iter()
            .filter(|region| (region.start..region.end).contains(&address))
            .map(|region| region.kind)
            .max_by_key(|kind| match kind {
                MemoryRegionKind::Usable => 0,
                MemoryRegionKind::Bootloader => 1,
                _ => 2,
            })
    }

    fn push(&mut self, range: Range, kind: MemoryRegionKind) -> Result<(), LoadError> {
        if range.start >= range.end {
            return Ok(());
        }
        let region = MemoryRegion {
            start: range.start,
            end: range.end,
            kind,
        };
        self.regions
            .push(region)
            .map_err(|_| LoadError::TooManyRegions)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, end: u64) -> Range {
        Range { start, end }
    }

    #[test]
    fn a_reservation_is_cut_out_of_usable_memory() {
        let mut map = MemoryMap::new();
        map.add_firmware(range(0, 0x9fc00), 1).expect("room");
        map.add_firmware(range(0x10_0000, 0x80_0000), 1)
            .expect("room");
        map.add_firmware(range(0x7f_0800, 0x7f_0900), 2)
            .expect("room");
        map.reserve(range(0x10_0000, 0x12_0001)).expect("room");
        let regions = map.resolve().expect("room");
        let expected = [
            (0x1000, 0x9_f000, MemoryRegionKind::Usable),
            (0x10_0000, 0x12_1000, MemoryRegionKind::Bootloader),
            (0x12_1000, 0x7f_0000, MemoryRegionKind::Usable),
            (0x7f_0000, 0x7f_1000, MemoryRegionKind::UnknownBios(2)),
            (0x7f_1000, 0x80_0000, MemoryRegionKind::Usable),
        ];
        let found: std::vec::Vec<_> = regions.iter().map(|r| (r.start, r.end, r.kind)).collect();
        assert_eq!(found, expected);
        assert_eq!(map.largest_free(), Ok(range(0x12_1000, 0x7f_0000)));
        assert_eq!(map.usable_end(), 0x80_0000);
    }

    #[test]
    fn an_empty_region_takes_no_page() {
        let mut map = MemoryMap::new();
        map.add_firmware(range(1, 1), 2).expect("room");
        map.reserve(range(0x1234, 0x1234)).expect("room");
        assert!(map.resolve().expect("room").is_empty());
    }

    #[test]
    fn memory_out_of_reach_is_not_chosen() {
        let mut map = MemoryMap::new();
        map.add_firmware(range(1 << 32, 1 << 34), 1).expect("room");
        assert_eq!(map.largest_free(), Err(LoadError::OutOfMemory));
    }

    proptest! {
        #[test]
        fn the_result_agrees_with_a_page_by_page_model(
            regions in prop::collection::vec((0u64..64 * 1024, 0u64..64 * 1024, 0u32..4), 0..12)
        ) {
            let mut map = MemoryMap::new();
            let mut model = [None; 20];
            for &(start, len, kind) in &regions {
                let range = Range::with_len(start, len);
                if kind == 0 { map.reserve(range) } else { map.add_firmware(range, kind) }.expect("room");
            }
            for (page, kind) in model.iter_mut().enumerate() {
                let whole = range(page as u64 * PAGE, (page as u64 + 1) * PAGE);
                let touches = |r: &Range| r.start < whole.end && whole.start < r.end && !r.is_empty();
                let covers = |r: &Range| r.start <= whole.start && whole.end <= r.end;
                let with = |wanted: fn(u32) -> bool| regions.iter()
                    .filter(move |r| wanted(r.2)).map(|r| Range::with_len(r.0, r.1));
                *kind = if with(|k| k > 1).any(|r| touches(&r)) {
                    Some(2)
                } else if with(|k| k == 0).any(|r| touches(&r)) {
                    Some(1)
                } else if page > 0 && with(|k| k == 1).any(|r| covers(&r)) {
                    Some(0)
                } else {
                    None
                };
            }
            let resolved = map.resolve().expect("room");
            prop_assert!(resolved.windows(2).all(|pair| pair[0].end <= pair[1].start));
            for (page, expected) in model.iter().enumerate() {
                let address = page as u64 * PAGE;
                let found = resolved.iter().find(|r| (r.start..r.end).contains(&address)).map(|r| match r.kind {
                    MemoryRegionKind::Usable => 0,
                    MemoryRegionKind::Bootloader => 1,
                    _ => 2,
                });
                prop_assert_eq!(found, *expected);
            }
        }
    }
}
