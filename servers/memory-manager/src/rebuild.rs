//! How a manager that was started again finds out who has which frame.
//!
//! The journal names processes, regions and objects. Objects have the frames that it says. The
//! pages of a space are where the page tables of its process say: everything in its anonymous and
//! private regions that lies in a frame of ours, but not in an object's. All other frames are
//! free: one that was taken for a fault and not mapped yet too, since the fault comes again.
//!
//! A process that is being taken apart is looked at like one that runs: what is still mapped is
//! its own until it is gone.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::ops::Range;

use libipc::proto::memory::MemoryError;
use libsys::state::Report;

use crate::Frame;
use crate::buddy::Buddy;
use crate::inventory::{Inventory, StartedOver};
use crate::journal::{Journal, OpenError, RawHandle, Record, SpaceRecord};
use crate::machine::{End, Life, Machine, MappedRun};
use crate::manager::{Manager, Tables};
use crate::objects::{Object, Objects};
use crate::regions::{Backing, PrivateImage, Region, Regions};
use crate::residents::{FrameList, Residents};
use crate::spaces::{Era, Space, Spaces};
use crate::zones::Zones;

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// How the journal looked.
    pub journal: Report,
    /// What came of starting over, if that was needed.
    pub started_over: Option<StartedOver>,
    /// Spaces whose processes are gone.
    pub gone: usize,
    /// Pages that were mapped where no region is, and are not any more.
    pub stray: u64,
}

impl<'a, M: Machine> Manager<'a, M> {
    /// Starts with what an earlier instance left in `store`, or, if there was none, with all
    /// frames free but those that hold the tables. The tables are made afresh each time, of the
    /// same frames.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(
        machine: M,
        zones: &Zones,
        tables: Tables<'a>,
        table_frames: Range<Frame>,
        store: M::Store,
    ) -> Result<(Self, Found), OpenError> {
        let (journal, report) = Journal::open(store)?;
        let mut manager = Manager {
            machine,
            buddy: Buddy::new(tables.buddy),
            residents: Residents::new(tables.residents, tables.buckets),
            spaces: Spaces::default(),
            objects: Objects::default(),
            unanswered: journal.records().last_made().map(|space| (space, false)),
            era: Era::default(),
            journal,
            total: zones.frames(),
            tables: u64::from(table_frames.end - table_frames.start),
            anonymous: 0,
            faults: 0,
            refused_faults: 0,
        };
        let mut found = Found {
            journal: report,
            started_over: None,
            gone: 0,
            stray: 0,
        };
        manager.restore(zones, table_frames, &mut found)?;
        Ok((manager, found))
    }

    fn restore(
        &mut self,
        zones: &Zones,
        table_frames: Range<Frame>,
        found: &mut Found,
    ) -> Result<(), OpenError> {
        let inventory = Inventory::take(&self.machine, zones);
        let records = self.journal.records();
        let why = inventory.contradiction(&mut self.machine, records, zones, &table_frames);
        if let Some(why) = why {
            found.started_over = Some(self.start_over(&inventory, why, zones)?);
        }
        self.era = self.journal.records().era().unwrap_or_default();
        self.machine.close_others(&self.journal.records().handles());
        self.finish_mapping();
        self.spaces
            .set_taken(self.journal.records().taken())
            .map_err(|_| OpenError::TooSmall)?;

        let owned = self.take_objects(table_frames)?;
        let numbers: Vec<u32> = self.journal.records().spaces().keys().copied().collect();
        for number in numbers {
            self.take_space(number, zones, &owned, found);
        }
        self.release_the_rest(zones, &owned);
        Ok(())
    }

    /// Unmaps what was being mapped when the earlier instance died: its client asks again.
    fn finish_mapping(&mut self) {
        let Some(pages) = self.journal.records().half_mapped() else {
            return;
        };
        if let Some(record) = self.journal.records().spaces().get(&pages.space)
            && let Ok(process) = self.machine.take_process(record.process)
        {
            let range = pages.first..pages.first + pages.pages;
            // An error means that the process ends, which unmaps it too.
            let _ = self.machine.unmap(&process, core::slice::from_ref(&range));
            self.machine.leave_process(process);
        }
        // There is room for what makes the records fewer.
        let _ = self.journal.change(Record::MappingEnded);
    }

    /// Takes the objects over, and returns which frames are theirs.
    fn take_objects(&mut self, table_frames: Range<Frame>) -> Result<Owned, OpenError> {
        let mut owned = alloc::vec![table_frames];
        for (&first, record) in self.journal.records().objects() {
            owned.push(first..first + record.pages);
            // Without a handle nobody can tell whether they are used: they stay taken.
            if let Ok(memory) = self.machine.take_memory(record.memory)
                && self.objects.reserve().is_ok()
            {
                self.objects.add(Object {
                    memory,
                    first,
                    pages: record.pages,
                    owner: record.owner,
                });
            }
        }
        // It was looked for what contradicts this.
        Owned::new(owned).map_err(|_| OpenError::OtherVersion)
    }

    /// Takes a space over with its frames, or forgets it if its process is gone.
    fn take_space(&mut self, number: u32, zones: &Zones, owned: &Owned, found: &mut Found) {
        let Some(record) = self.journal.records().spaces().get(&number) else {
            return;
        };
        let mut space = match adopt_space(&mut self.machine, record) {
            Ok(space) => space,
            Err(_) => {
                // It has no handle any more, so it is nobody's business here.
                let _ = self.journal.change(Record::SpaceGone(number));
                return;
            }
        };
        while self.machine.life(&space.process) != Life::Gone {
            match self.claim(number, &mut space, zones, owned) {
                Ok(stray) => {
                    found.stray += stray;
                    self.anonymous += space.frames.count();
                    self.spaces.insert(number, space);
                    return;
                }
                Err(_) => {
                    // It is just being taken apart.
                    while self.residents.pop(&mut space.frames).is_some() {}
                    self.machine.pause();
                }
            }
        }
        found.gone += 1;
        // Before its handles are closed: their numbers may then name something else.
        let _ = self.journal.change(Record::SpaceGone(number));
    }

    /// Finds the frames of a space, and unmaps what should not be mapped there. Returns how many
    /// pages those were.
    fn claim(
        &mut self,
        number: u32,
        space: &mut Space<M>,
        zones: &Zones,
        owned: &Owned,
    ) -> Result<u64, MemoryError> {
        let claim = Claim {
            residents: &mut self.residents,
            regions: &space.regions,
            frames: &mut space.frames,
            number,
            zones,
            owned,
            stray: Vec::new(),
        };
        let stray = claim.all(&self.machine, &space.process)?;
        for range in &stray {
            self.machine
                .unmap(&space.process, core::slice::from_ref(range))?;
        }
        Ok(stray.iter().map(|range| range.end - range.start).sum())
    }

    /// Makes all frames free that nobody has.
    fn release_the_rest(&mut self, zones: &Zones, owned: &Owned) {
        let Manager {
            buddy, residents, ..
        } = self;
        for zone in zones.all() {
            let end = zone.first + zone.frames;
            let mut at = zone.first;
            while at < end {
                let (is_owned, stop) = owned.span_at(at);
                let stop = stop.min(end);
                if !is_owned {
                    release_absent(buddy, residents, at..stop);
                }
                at = stop;
            }
        }
    }
}

/// Makes the frames of a range free that hold no page.
fn release_absent(buddy: &mut Buddy<'_>, residents: &Residents<'_>, frames: Range<Frame>) {
    let mut first = frames.start;
    while first < frames.end {
        let count = residents.absent_from(first, frames.end);
        buddy.release(first, count);
        first += count + 1;
    }
}

/// Takes the handles of a space over.
fn adopt_space<M: Machine>(machine: &mut M, record: &SpaceRecord) -> Result<Space<M>, MemoryError> {
    let process = machine.take_process(record.process)?;
    let mut images: BTreeMap<RawHandle, Rc<M::Memory>> = BTreeMap::new();
    let mut regions = Regions::default();
    for region in record.regions.all() {
        let backing = match &region.backing {
            Backing::Anonymous => Backing::Anonymous,
            Backing::Shared => Backing::Shared,
            Backing::Private(image) => {
                let Some(memory) = images.get(&image.memory).cloned().or_else(|| {
                    let memory = Rc::new(machine.take_memory(image.memory).ok()?);
                    images.insert(image.memory, Rc::clone(&memory));
                    Some(memory)
                }) else {
                    // It cannot go on without what it has not read yet.
                    machine.kill(&process, End::Lost);
                    continue;
                };
                Backing::Private(PrivateImage {
                    memory,
                    first_page: image.first_page,
                    file_bytes: image.file_bytes,
                })
            }
        };
        regions.insert(Region::new(
            region.range.clone(),
            region.protection,
            backing,
        ))?;
    }
    Ok(Space {
        process,
        process_number: record.process_number,
        regions,
        frames: FrameList::default(),
        faults: 0,
        prefetched: 0,
        is_gone: false,
    })
}

/// Ranges of frames that hold tables or belong to objects, sorted.
pub(crate) struct Owned(Vec<Range<Frame>>);

impl Owned {
    /// Sorts the ranges; if two of them overlap, it returns where the second one starts.
    pub(crate) fn new(mut ranges: Vec<Range<Frame>>) -> Result<Self, Frame> {
        ranges.sort_unstable_by_key(|range| range.start);
        let overlap = ranges
            .windows(2)
            .find(|pair| pair[1].start < pair[0].end || pair[1].is_empty());
        match overlap {
            Some(pair) => Err(pair[1].start),
            None => Ok(Owned(ranges)),
        }
    }

    /// Returns whether a frame is among them, and up to which frame that is so.
    pub(crate) fn span_at(&self, frame: Frame) -> (bool, Frame) {
        let next = self.0.partition_point(|range| range.end <= frame);
        match self.0.get(next) {
            Some(range) if range.start <= frame => (true, range.end),
            Some(range) => (false, range.start),
            None => (false, Frame::MAX),
        }
    }
}

/// Finds the frames of one space.
struct Claim<'c, 'a, M: Machine> {
    residents: &'c mut Residents<'a>,
    regions: &'c Regions<Rc<M::Memory>>,
    frames: &'c mut FrameList,
    number: u32,
    zones: &'c Zones,
    owned: &'c Owned,
    /// Pages in frames of ours that are none of the space's.
    stray: Vec<Range<u64>>,
}

impl<M: Machine> Claim<'_, '_, M> {
    /// Claims what is mapped, and returns what should not be.
    fn all(mut self, machine: &M, process: &M::Process) -> Result<Vec<Range<u64>>, MemoryError> {
        machine.mappings(process, &mut |run| self.run(run))?;
        Ok(self.stray)
    }

    /// Looks at a run piece by piece: each lies in one region or none, in one zone or none, and is
    /// an object's or not.
    fn run(&mut self, run: MappedRun) {
        let mut done = 0;
        while done < run.pages {
            let page = run.page + done;
            let (region, region_end) = self.regions.span_at(page);
            let (frame, count) = self.zones.frames_at(run.physical + done);
            let mut count = count.min(run.pages - done).min(region_end - page);
            if let Some(frame) = frame {
                let (is_owned, stop) = self.owned.span_at(frame);
                count = count.min(u64::from(stop - frame));
                let is_private =
                    region.is_some_and(|region| !matches!(region.backing, Backing::Shared));
                match (is_owned, is_private) {
                    (true, _) => {}
                    (false, true) => self.claim(page..page + count, frame),
                    (false, false) => self.stray.push(page..page + count),
                }
            }
            done += count;
        }
    }

    fn claim(&mut self, pages: Range<u64>, first: Frame) {
        for (page, frame) in pages.zip(first..) {
            // A frame that another page has already can only be there by mistake.
            if self.residents.page_of(frame).is_none() {
                self.residents.insert(self.frames, self.number, page, frame);
            } else {
                self.stray.push(page..page + 1);
            }
        }
    }
}
