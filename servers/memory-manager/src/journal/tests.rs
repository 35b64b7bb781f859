//! What is written down, and how much room it needs.

use libipc::proto::memory::{MAX_OBJECT_PAGES, MAX_REGIONS, Protection};
use libsys::state::State;

use super::{ObjectRecord, Record, Records, RegionRecord, RequestName, SpacePages};
use crate::manager::{MAX_ALL_REGIONS, MAX_IMAGES};
use crate::objects::MAX_ALL_OBJECTS;
use crate::regions::{Backing, PageRange, PrivateImage, Region};
use crate::spaces::MAX_SPACES;

/// Bytes of the state region that the manifest gives.
const STATE_BYTES: usize = 640 * 1024;

const BY: RequestName = RequestName {
    badge: u64::MAX,
    sequence: u64::MAX,
};

/// Makes a region far up with the longest numbers.
fn region(index: u64, backing: Backing<u32>) -> RegionRecord {
    let range = PageRange::from_pages((1 << 35) - 2 * (index + 1), 1).unwrap();
    let region = Region::new(range, Protection::ReadWrite, backing);
    RegionRecord::of(&region, |image| *image)
}

/// A part of an image with the longest numbers.
fn private() -> Backing<u32> {
    Backing::Private(PrivateImage {
        memory: u32::MAX,
        first_page: 1 << 35,
        file_bytes: 1 << 47,
    })
}

#[test]
fn everything_up_to_the_limits_fits_into_the_state_region() {
    let mut records = Records::default();
    let mut regions = 0;
    for slot in 0..MAX_SPACES as u32 {
        let space = u32::MAX >> 4 << 10 | slot;
        records.apply(Record::NumberTaken(space));
        records.apply(Record::SpaceMade {
            space,
            process: u32::MAX,
            process_number: u64::MAX,
            by: BY,
        });
        for index in 0..MAX_REGIONS as u64 {
            if regions < MAX_ALL_REGIONS {
                let is_private = regions < MAX_IMAGES;
                let backing = if is_private {
                    private()
                } else {
                    Backing::Anonymous
                };
                let region = region(index, backing);
                records.apply(Record::Inserted {
                    space,
                    region,
                    by: BY,
                });
                regions += 1;
            }
        }
    }
    for object in 0..MAX_ALL_OBJECTS as u32 {
        let first = u32::MAX - object * MAX_OBJECT_PAGES as u32;
        records.apply(Record::ObjectMade {
            first,
            object: ObjectRecord {
                memory: u32::MAX,
                pages: MAX_OBJECT_PAGES as u32,
                owner: u32::MAX,
            },
        });
    }
    records.apply(Record::MappingBegun(SpacePages {
        space: u32::MAX,
        first: u64::MAX,
        pages: u64::MAX,
    }));
    let regions: usize = records.spaces.values().map(|s| s.regions.all().len()).sum();
    assert_eq!(regions, MAX_ALL_REGIONS);
    assert_eq!(records.spaces.len(), MAX_SPACES);
    assert_eq!(records.objects.len(), MAX_ALL_OBJECTS);
    let snapshot = postcard::to_allocvec(&records).unwrap().len();
    // One half holds it, the reserve of a sixteenth, and some records.
    let half = STATE_BYTES / 2;
    assert!(
        snapshot + half / 16 + 4096 < half,
        "{snapshot} of {half} bytes"
    );
}

#[test]
fn what_was_written_is_read_back() {
    let mut records = Records::default();
    records.apply(Record::NumberTaken(0x401));
    records.apply(Record::SpaceMade {
        space: 0x401,
        process: 5,
        process_number: 9,
        by: BY,
    });
    for index in 0..3 {
        let backing = if index == 1 {
            private()
        } else {
            Backing::Anonymous
        };
        let region = region(index * 10, backing);
        records.apply(Record::Inserted {
            space: 0x401,
            region,
            by: BY,
        });
    }
    let bytes = postcard::to_allocvec(&records).unwrap();
    let read: Records = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(postcard::to_allocvec(&read).unwrap(), bytes);
    assert_eq!(read.handles(), [5, u32::MAX]);
    assert_eq!(read.taken(), [0, 1]);
}

#[test]
fn records_of_what_is_not_there_do_no_harm() {
    let mut records = Records::default();
    let range = SpacePages {
        space: 7,
        first: u64::MAX,
        pages: 5,
    };
    records.apply(Record::Removed { range, by: BY });
    records.apply(Record::Protected {
        range,
        protection: Protection::Read,
        by: BY,
    });
    records.apply(Record::SpaceRenamed { from: 1, to: 2 });
    records.apply(Record::NumberTaken(u32::MAX));
    records.apply(Record::SpaceGone(9));
    records.apply(Record::ObjectGone(9));
    assert!(records.spaces.is_empty() && records.objects.is_empty());
}
