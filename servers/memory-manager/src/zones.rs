//! Numbers the frames of all RAM objects in one row.
//!
//! Each RAM object is a zone. A frame's number has the same alignment as its physical address up
//! to 2 MiB, so that runs aligned by number can be large pages; and between two zones at least
//! one number belongs to no frame, so that no run of free frames spans two zones.

use alloc::vec::Vec;

use crate::Frame;

/// Frame numbers and physical addresses agree modulo this many frames (2 MiB).
const ALIGNMENT: u64 = 512;

/// A run of physical memory, given by one RAM object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Zone {
    /// Number of its first frame.
    pub first: Frame,
    /// Its frames.
    pub frames: u32,
    /// Physical page of the first one.
    pub physical: u64,
}

/// Where the frames of the machine are.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    zones: Vec<Zone>,
    numbers: u64,
}

impl Zones {
    /// Numbers the frames of RAM objects, given by first physical page and length in pages.
    /// Objects behind the 16 TiB that can be numbered are left out.
    pub fn new(objects: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut zones = Zones::default();
        for (physical_page, pages) in objects {
            let first = zones.numbers + physical_page % ALIGNMENT;
            let end = first + pages;
            if end + ALIGNMENT >= u64::from(u32::MAX) {
                break;
            }
            zones.zones.push(Zone {
                first: first as Frame,
                frames: pages as u32,
                physical: physical_page,
            });
            zones.numbers = (end + 1).next_multiple_of(ALIGNMENT);
        }
        zones
    }

    /// Returns how many numbers are in use: tables of frames have this length.
    pub fn numbers(&self) -> usize {
        self.numbers as usize
    }

    /// Returns the zones in the order of the RAM objects.
    pub fn all(&self) -> &[Zone] {
        &self.zones
    }

    /// Returns how many frames there are.
    pub fn frames(&self) -> u64 {
        self.zones.iter().map(|zone| u64::from(zone.frames)).sum()
    }

    /// Returns the frame of a physical page, and up to how many frames from there on lie behind
    /// the pages that follow it; for a page outside of all zones how many follow it outside.
    pub fn frames_at(&self, physical_page: u64) -> (Option<Frame>, u64) {
        let mut next = u64::MAX;
        for zone in &self.zones {
            let end = zone.physical + u64::from(zone.frames);
            if (zone.physical..end).contains(&physical_page) {
                let frame = zone.first + (physical_page - zone.physical) as u32;
                return (Some(frame), end - physical_page);
            }
            if zone.physical > physical_page {
                next = next.min(zone.physical - physical_page);
            }
        }
        (None, next)
    }

    /// Returns the RAM object of a frame, as its index, and the page within it.
    pub fn locate(&self, frame: Frame) -> Option<(usize, u64)> {
        // There are few, and most of memory is in the last.
        let index = self.zones.iter().rposition(|zone| zone.first <= frame)?;
        let zone = self.zones[index];
        let page = frame - zone.first;
        (page < zone.frames).then_some((index, u64::from(page)))
    }
}

#[cfg(test)]
mod tests {
    use super::Zones;

    #[test]
    fn zones_keep_alignment_and_distance() {
        let zones = Zones::new([(0x101, 10), (0x200, 512), (0x10_0003, 5)]);
        assert_eq!(zones.frames(), 527);
        for (zone, physical) in zones.all().iter().zip([0x101_u32, 0x200, 0x10_0003]) {
            assert_eq!(zone.first % 512, physical % 512);
        }
        for pair in zones.all().windows(2) {
            assert!(pair[0].first + pair[0].frames < pair[1].first);
        }
        let last = zones.all()[2];
        assert!((last.first + last.frames) as usize <= zones.numbers());
    }

    #[test]
    fn locates_frames_and_nothing_else() {
        let zones = Zones::new([(1, 4), (512, 2)]);
        assert_eq!(zones.locate(0), None);
        assert_eq!(zones.locate(1), Some((0, 0)));
        assert_eq!(zones.locate(4), Some((0, 3)));
        assert_eq!(zones.locate(5), None);
        assert_eq!(zones.locate(512), Some((1, 0)));
        assert_eq!(zones.locate(514), None);
        assert_eq!(Zones::new([]).locate(0), None);
    }

    #[test]
    fn finds_the_frame_of_a_physical_page() {
        let zones = Zones::new([(0x200, 512), (1, 4)]);
        let frame = |zone: usize, page: u32| Some(zones.all()[zone].first + page);
        assert_eq!(zones.frames_at(0), (None, 1));
        assert_eq!(zones.frames_at(1), (frame(1, 0), 4));
        assert_eq!(zones.frames_at(4), (frame(1, 3), 1));
        assert_eq!(zones.frames_at(5), (None, 0x200 - 5));
        assert_eq!(zones.frames_at(0x210), (frame(0, 0x10), 512 - 0x10));
        assert_eq!(zones.frames_at(0x400), (None, u64::MAX));
    }
}
