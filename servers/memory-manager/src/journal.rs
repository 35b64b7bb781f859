//! What outlives the manager's process: a journal of who has what, in its state region.
//!
//! Records name handles by their numbers, which stay valid because the kernel keeps the handle
//! table of a dead memory manager for the next one. Which frame holds which page is *not* here:
//! the page tables of the processes say so, and a page fault writes no record. [`crate::rebuild`]
//! puts both together again.
//!
//! # Which comes first
//!
//! A manager may die between any two steps. Its requests come again then, under the same name
//! (badge and sequence), and its clients must see each of them done once. Three rules give that:
//!
//! 1. The kernel's effects of a request come first, its record next, the manager's own tables
//!    last. Effects can be repeated, and what they made without a record is undone or closed.
//! 2. What takes something away (frames of the dead, handles) does so after its record.
//! 3. Requests are carried out one by one and each is answered before the next is taken, so at
//!    most one has a record and no answer: [`Records::last`] names it.
//!
//! | request | steps | died before its record | died behind its record |
//! |---|---|---|---|
//! | `space_create` | *number taken*; mint senders, watch, set pager; **space made** | number and senders are lost: senders are closed at the start, and news of them mean a number that no space has. It comes again and gets another number | it comes again, is the last one, and its space gets a new number and sender (*number taken*, mint, set pager, **renamed**). News of the first sender, closed at the start, may come before it: they count only when another request comes first, so that nobody waits for the answer any more |
//! | `map_anonymous`, private `map_image` | **region inserted** | nothing had happened; a handle to the image that came with it is closed at the start | it is the last one: answered with "done" |
//! | shared `map_image` | *mapping begun*; map; **region inserted** | what is mapped is unmapped at the start (**mapping ended**) | the last one: "done" |
//! | `unmap` | unmap, frames are free; **region removed** | the region is there, some of its pages may be zeros again; it comes again and goes on | the last one: "done" |
//! | `protect` | protect; **region protected** | pages allow what was asked for already; it comes again | the last one: "done" |
//! | `create_object` | slice, zero, duplicate; **object made** | both handles are closed at the start, the frames are free | it comes again and gets another object; the first is found unused and freed |
//! | object unused | **object gone**; close; frames are free | as before: found again | the handle is closed at the start |
//! | process gone | frames are free; **space gone**; close | found dead at the start | its handles are closed at the start |
//! | page fault | take frame, fill it; the reply maps it | the frame is mapped nowhere, so it is free; the fault comes again | no record; the page table has it |
//!
//! # When records are missing
//!
//! Nothing but the records says what a process may touch, so if one of them is lost nobody can tell
//! that of any process: all of them are forgotten ([`Journal::open`]). The region is then like a
//! new one, and [`crate::inventory`] finds out from the kernel what is there all the same.
//!
//! "At the start" is [`Manager::open`](crate::manager::Manager::open) of the next instance, before
//! any request is taken.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use libipc::proto::memory::{MemoryError, Protection};
use libsys::state::{
    self, Full, NoPrevious, Purpose, Region as StateRegion, Report, State, StateMemory,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Frame;
use crate::regions::{Backing, PageRange, PrivateImage, Region, Regions};
use crate::spaces::{Era, MAX_SPACES, generation_of, slot_of, space_of_badge};

/// Number of a handle in the manager's own table.
pub type RawHandle = u32;

/// Names a request: no other one has this name, and it keeps it when it is delivered again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RequestName {
    /// Badge of the sender.
    pub badge: u64,
    /// Its place among all requests of the endpoint.
    pub sequence: u64,
}

impl RequestName {
    /// Returns the space of this era that its sender names.
    ///
    /// # Errors
    ///
    /// `NoSpace`.
    pub fn space(self, era: Era) -> Result<u32, MemoryError> {
        space_of_badge(era, self.badge).ok_or(MemoryError::NoSpace)
    }
}

/// A region as it is written down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RegionRecord {
    first: u64,
    pages: u64,
    protection: Protection,
    backing: BackingRecord,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum BackingRecord {
    Anonymous,
    Private {
        image: RawHandle,
        first_page: u64,
        file_bytes: u64,
    },
    Shared,
}

impl RegionRecord {
    /// Writes a region down.
    pub fn of<I>(region: &Region<I>, handle: impl Fn(&I) -> RawHandle) -> Self {
        RegionRecord {
            first: region.range.first(),
            pages: region.range.pages(),
            protection: region.protection,
            backing: match &region.backing {
                Backing::Anonymous => BackingRecord::Anonymous,
                Backing::Shared => BackingRecord::Shared,
                Backing::Private(image) => BackingRecord::Private {
                    image: handle(&image.memory),
                    first_page: image.first_page,
                    file_bytes: image.file_bytes,
                },
            },
        }
    }

    /// Makes the region again; `None` for one that never was.
    fn region(&self) -> Option<Region<RawHandle>> {
        let range = PageRange::from_pages(self.first, self.pages)?;
        let backing = match self.backing {
            BackingRecord::Anonymous => Backing::Anonymous,
            BackingRecord::Shared => Backing::Shared,
            BackingRecord::Private {
                image,
                first_page,
                file_bytes,
            } => Backing::Private(PrivateImage {
                memory: image,
                first_page,
                file_bytes,
            }),
        };
        Some(Region::new(range, self.protection, backing))
    }
}

impl Serialize for Regions<RawHandle> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = |region| RegionRecord::of(region, |image| *image);
        serializer.collect_seq(self.all().iter().map(record))
    }
}

impl<'de> Deserialize<'de> for Regions<RawHandle> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let records = Vec::<RegionRecord>::deserialize(deserializer)?;
        let mut regions = Regions::default();
        for region in records.iter().filter_map(RegionRecord::region) {
            regions
                .insert(region)
                .map_err(|error| serde::de::Error::custom(error.text()))?;
        }
        Ok(regions)
    }
}

/// A space as it is written down.
#[derive(Debug, Serialize, Deserialize)]
pub struct SpaceRecord {
    /// The process.
    pub process: RawHandle,
    /// Its number.
    pub process_number: u64,
    /// What it may touch. Without images that nobody needs any more.
    pub regions: Regions<RawHandle>,
}

/// An object as it is written down; its first frame is its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ObjectRecord {
    /// The manager's own handle.
    pub memory: RawHandle,
    /// Its frames.
    pub pages: u32,
    /// The space that asked for it, or 0.
    pub owner: u32,
}

/// Pages of a space, first and count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SpacePages {
    /// The space.
    pub space: u32,
    /// The first page.
    pub first: u64,
    /// How many.
    pub pages: u64,
}

/// A change of [`Records`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Record {
    /// A number is or was that of a space: no other space will have it.
    NumberTaken(u32),
    /// A process was registered.
    SpaceMade {
        /// The number of its space.
        space: u32,
        /// The process.
        process: RawHandle,
        /// Its number.
        process_number: u64,
        /// The request.
        by: RequestName,
    },
    /// A space has another number.
    SpaceRenamed {
        /// Before.
        from: u32,
        /// Now.
        to: u32,
    },
    /// The process of a space is gone.
    SpaceGone(u32),
    /// An object's own pages are being mapped.
    MappingBegun(SpacePages),
    /// They are not mapped after all.
    MappingEnded,
    /// A region was put in; if it was being mapped, it is mapped now.
    Inserted {
        /// The space.
        space: u32,
        /// The region.
        region: RegionRecord,
        /// The request.
        by: RequestName,
    },
    /// A range was cut out of the regions.
    Removed {
        /// The range.
        range: SpacePages,
        /// The request.
        by: RequestName,
    },
    /// A range was protected otherwise.
    Protected {
        /// The range.
        range: SpacePages,
        /// How its pages may be used now.
        protection: Protection,
        /// The request.
        by: RequestName,
    },
    /// An object was made.
    ObjectMade {
        /// Its first frame.
        first: Frame,
        /// The rest.
        object: ObjectRecord,
    },
    /// Nobody uses the object with this first frame.
    ObjectGone(Frame),
    /// All that is in use was found: from now on numbers of spaces are of this era.
    Begun(Era),
}

/// All that was written down.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Records {
    /// For each slot the generation whose number was taken last.
    taken: Vec<u32>,
    spaces: BTreeMap<u32, SpaceRecord>,
    objects: BTreeMap<Frame, ObjectRecord>,
    half_mapped: Option<SpacePages>,
    last: Option<RequestName>,
    last_made: Option<u32>,
    era: Option<Era>,
}

impl Records {
    /// Returns the era of all numbers of spaces; `None` while nobody has found out what is in use.
    pub fn era(&self) -> Option<Era> {
        self.era
    }

    /// Returns for each slot of a space the generation whose number was taken last.
    pub fn taken(&self) -> &[u32] {
        &self.taken
    }

    /// Returns the spaces by number.
    pub fn spaces(&self) -> &BTreeMap<u32, SpaceRecord> {
        &self.spaces
    }

    /// Returns the objects by first frame.
    pub fn objects(&self) -> &BTreeMap<Frame, ObjectRecord> {
        &self.objects
    }

    /// Returns where an object's pages were being mapped when the writer died.
    pub fn half_mapped(&self) -> Option<SpacePages> {
        self.half_mapped
    }

    /// Returns the request that wrote the last record of a request. Only it can have a record and
    /// no answer; if it comes again, it is done.
    pub fn last(&self) -> Option<RequestName> {
        self.last
    }

    /// Returns the space that this request made, if it did.
    pub fn last_made(&self) -> Option<u32> {
        self.last_made
    }

    /// Returns the handles that are needed, sorted.
    pub fn handles(&self) -> Vec<RawHandle> {
        let images = |space: &SpaceRecord| -> Vec<RawHandle> {
            let regions = space.regions.all().iter();
            let image = |region: &Region<RawHandle>| match &region.backing {
                Backing::Private(image) => Some(image.memory),
                Backing::Anonymous | Backing::Shared => None,
            };
            regions.filter_map(image).collect()
        };
        let mut handles: Vec<RawHandle> = self.spaces.values().flat_map(images).collect();
        handles.extend(self.spaces.values().map(|space| space.process));
        handles.extend(self.objects.values().map(|object| object.memory));
        handles.sort_unstable();
        handles.dedup();
        handles
    }

    fn regions_mut(&mut self, space: u32) -> Option<&mut Regions<RawHandle>> {
        self.spaces.get_mut(&space).map(|space| &mut space.regions)
    }

    fn take_number(&mut self, number: u32) {
        let slot = slot_of(number);
        if self.taken.len() <= slot {
            self.taken.resize((slot + 1).min(MAX_SPACES), 0);
        }
        if let Some(taken) = self.taken.get_mut(slot) {
            *taken = generation_of(number).max(*taken);
        }
    }

    fn done(&mut self, by: RequestName) {
        self.last = Some(by);
        self.last_made = None;
    }

    fn insert(&mut self, space: u32, region: &RegionRecord) {
        self.half_mapped = None;
        let Some(regions) = self.regions_mut(space) else {
            return;
        };
        if let Some(region) = region.region() {
            // It was checked before it was written: it lies over no other one.
            let _ = regions.insert(region);
        }
    }
}

impl State for Records {
    type Record = Record;
    type Previous = NoPrevious;

    const SCHEMA: &'static str = "memory-manager.2";

    fn apply(&mut self, record: Record) {
        match record {
            Record::NumberTaken(number) => self.take_number(number),
            Record::SpaceMade {
                space,
                process,
                process_number,
                by,
            } => {
                let made = SpaceRecord {
                    process,
                    process_number,
                    regions: Regions::default(),
                };
                self.spaces.insert(space, made);
                self.done(by);
                self.last_made = Some(space);
            }
            Record::SpaceRenamed { from, to } => {
                if let Some(space) = self.spaces.remove(&from) {
                    self.spaces.insert(to, space);
                }
                self.last_made = Some(to);
            }
            Record::SpaceGone(space) => {
                self.spaces.remove(&space);
            }
            Record::MappingBegun(pages) => self.half_mapped = Some(pages),
            Record::MappingEnded => self.half_mapped = None,
            Record::Inserted { space, region, by } => {
                self.insert(space, &region);
                self.done(by);
            }
            Record::Removed { range, by } => {
                let pages = PageRange::from_pages(range.first, range.pages);
                if let (Some(regions), Some(pages)) = (self.regions_mut(range.space), pages) {
                    regions.remove(&pages);
                }
                self.done(by);
            }
            Record::Protected {
                range,
                protection,
                by,
            } => {
                let pages = PageRange::from_pages(range.first, range.pages);
                if let (Some(regions), Some(pages)) = (self.regions_mut(range.space), pages) {
                    regions.protect(&pages, protection);
                }
                self.done(by);
            }
            Record::ObjectMade { first, object } => {
                self.objects.insert(first, object);
            }
            Record::ObjectGone(first) => {
                self.objects.remove(&first);
            }
            Record::Begun(era) => self.era = Some(era),
        }
    }
}

/// Why the journal cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// Its memory is too small.
    TooSmall,
    /// Another version wrote it, which this one cannot read.
    OtherVersion,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::TooSmall => f.write_str("the state region is too small"),
            OpenError::OtherVersion => f.write_str("another version wrote the state region"),
        }
    }
}

impl core::error::Error for OpenError {}

impl From<state::OpenError> for OpenError {
    fn from(error: state::OpenError) -> Self {
        match error {
            state::OpenError::Full => OpenError::TooSmall,
            state::OpenError::UnknownSchema { .. } => OpenError::OtherVersion,
        }
    }
}

/// The records in the memory that keeps them.
#[derive(Debug)]
pub struct Journal<S: StateMemory>(StateRegion<Records, S>);

impl<S: StateMemory> Journal<S> {
    /// Reads what an earlier manager wrote, or begins; also when any of it is lost.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(memory: S) -> Result<(Self, Report), OpenError> {
        let (region, report) = StateRegion::open_complete(memory)?;
        Ok((Journal(region), report))
    }

    /// Forgets everything: what is written down is not true.
    ///
    /// # Errors
    ///
    /// `TooSmall`.
    pub fn start_over(&mut self) -> Result<(), OpenError> {
        self.0.start_over().map_err(|Full| OpenError::TooSmall)
    }

    /// Returns what was written.
    pub fn records(&self) -> &Records {
        self.0.state()
    }

    /// Writes that something was made.
    ///
    /// # Errors
    ///
    /// `NoMemory` when there is no room, which needs a state region smaller than the limits of
    /// spaces, regions and objects call for.
    pub fn add(&mut self, record: Record) -> Result<(), MemoryError> {
        self.0
            .append(record, Purpose::Grow)
            .map_err(|Full| MemoryError::NoMemory)
    }

    /// Writes that something was changed or is gone: this has room when additions have none.
    ///
    /// # Errors
    ///
    /// As [`Journal::add`].
    pub fn change(&mut self, record: Record) -> Result<(), MemoryError> {
        self.0
            .append(record, Purpose::Shrink)
            .map_err(|Full| MemoryError::NoMemory)
    }

    /// Gives the memory back.
    pub fn into_memory(self) -> S {
        self.0.into_memory()
    }
}

#[cfg(test)]
mod tests;
