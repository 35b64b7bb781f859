//! What the kernel knows of the manager's clients, compared with what is written down.
//!
//! The manager's process keeps its handles, so its table has the process of every space and every
//! object that was given out; and the page tables say which frames are in use. So each start
//! finds out whether the records can be all of it ([`Contradiction`]). If they cannot, or if there
//! are none, nobody can tell what any process may touch, and the manager starts over:
//!
//! 1. what is written down is forgotten;
//! 2. every process that has a space is ended, and waited for until nothing is mapped in it;
//! 3. objects that others still use are written down again: their frames stay taken, and what is
//!    in them stays as it is;
//! 4. a new [era](crate::spaces::Era) begins, so that senders for spaces of the old one, which their
//!    holders may still have, name none of the new ones. With this record it is done: a manager
//!    that dies before starts over once more.
//!
//! So no frame is ever given out that somebody can reach, and none is lost.

use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;
use core::ops::Range;

use libipc::proto::memory::MemoryError;

use crate::Frame;
use crate::journal::{ObjectRecord, OpenError, RawHandle, Record, Records};
use crate::machine::{End, Extent, Life, Machine, MappedRun, Target};
use crate::manager::Manager;
use crate::rebuild::Owned;
use crate::zones::Zones;

/// The account of objects of which nobody knows who asked for them: no space has this number.
const NOBODY: u32 = u32::MAX;

/// Why the records cannot be all that is to be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contradiction {
    /// There are none.
    NothingWritten,
    /// The process of this space is not there, or is another one.
    NoSuchProcess(u32),
    /// The object with this first frame is not there.
    NoSuchObject(Frame),
    /// The object with this first frame shares frames with another one, or with the tables.
    SharedFrames(Frame),
    /// The object with this first frame is used by others and not written down.
    UnknownObject(Frame),
    /// A process that is not written down has frames.
    UnknownProcess,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Contradiction::NothingWritten => f.write_str("nothing is written down"),
            Contradiction::NoSuchProcess(space) => write!(f, "space {space:#x} has no process"),
            Contradiction::NoSuchObject(first) => write!(f, "no object is at frame {first:#x}"),
            Contradiction::SharedFrames(first) => {
                write!(f, "the object at frame {first:#x} is in others' frames")
            }
            Contradiction::UnknownObject(first) => {
                write!(f, "the object at frame {first:#x} is not written down")
            }
            Contradiction::UnknownProcess => {
                f.write_str("a process that is not written down has frames")
            }
        }
    }
}

/// What came of starting over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartedOver {
    /// Why.
    pub why: Contradiction,
    /// Processes that were ended.
    pub ended: usize,
    /// Objects that others use.
    pub objects: usize,
}

impl StartedOver {
    /// Returns whether there was anybody to notice.
    pub fn has_losses(&self) -> bool {
        self.ended + self.objects > 0 || self.why != Contradiction::NothingWritten
    }
}

/// An object in frames of ours, as a handle in the manager's table names it.
struct Held {
    handle: RawHandle,
    frames: Range<Frame>,
    identity: u64,
    /// Whether others than the manager refer to it.
    is_used: bool,
}

/// What the manager's table has besides what was given at the start.
pub(crate) struct Inventory {
    processes: Vec<RawHandle>,
    /// What was cut out of an object comes behind it.
    objects: Vec<Held>,
}

impl Inventory {
    /// Takes stock of the table.
    pub(crate) fn take<M: Machine>(machine: &M, zones: &Zones) -> Self {
        let (mut processes, mut extents) = (Vec::new(), Vec::new());
        for (handle, target) in machine.others() {
            match target {
                Target::Process => processes.push(handle),
                Target::Memory(Some(extent)) => extents.push((handle, extent)),
                // What somebody maps of memory that is not ours.
                Target::Memory(None) => {}
            }
        }
        processes.sort_unstable();
        let mut objects = held(&extents, zones);
        objects.sort_unstable_by_key(|object| {
            let Range { start, end } = object.frames;
            (start, Reverse(end), object.identity)
        });
        Inventory { processes, objects }
    }

    /// Looks for the first reason not to believe the records.
    pub(crate) fn contradiction<M: Machine>(
        &self,
        machine: &mut M,
        records: &Records,
        zones: &Zones,
        tables: &Range<Frame>,
    ) -> Option<Contradiction> {
        if records.era().is_none() {
            return Some(Contradiction::NothingWritten);
        }
        let mut owned = alloc::vec![tables.clone()];
        for (&first, object) in records.objects() {
            let frames = first..first.saturating_add(object.pages);
            let is_there = |held: &Held| held.handle == object.memory && held.frames == frames;
            if !self.objects.iter().any(is_there) {
                return Some(Contradiction::NoSuchObject(first));
            }
            owned.push(frames);
        }
        let owned = match Owned::new(owned) {
            Ok(owned) => owned,
            Err(first) => return Some(Contradiction::SharedFrames(first)),
        };
        let unknown = self.objects.iter().find(|object| {
            let (is_owned, stop) = owned.span_at(object.frames.start);
            object.is_used && !(is_owned && object.frames.end <= stop)
        });
        if let Some(object) = unknown {
            return Some(Contradiction::UnknownObject(object.frames.start));
        }
        let mut known = Vec::with_capacity(records.spaces().len());
        for (&space, record) in records.spaces() {
            let number = with_process(machine, record.process, |machine, process| {
                machine.process_number(process)
            });
            if number != Ok(record.process_number) {
                return Some(Contradiction::NoSuchProcess(space));
            }
            known.push(record.process);
        }
        known.sort_unstable();
        let has_frames = self.processes.iter().any(|handle| {
            known.binary_search(handle).is_err() && has_frames(machine, *handle, zones, &owned)
        });
        has_frames.then_some(Contradiction::UnknownProcess)
    }

    /// Ends every process that can have frames, and waits until nothing is mapped in it. Returns
    /// how many of them had not ended before.
    fn end_processes<M: Machine>(&self, machine: &mut M) -> usize {
        let handles = self.processes.iter();
        let ended = handles.filter(|&&handle| {
            let ended = with_process(machine, handle, |machine, process| {
                // Without the right to manage it, nobody could ever make a space of it.
                if machine.mappings(process, &mut |_| {}) == Err(MemoryError::MissingRight) {
                    return Ok(false);
                }
                let has_run = machine.life(process) != Life::Gone;
                machine.kill(process, End::Lost);
                while machine.life(process) != Life::Gone {
                    machine.pause();
                }
                Ok(has_run)
            });
            ended == Ok(true)
        });
        ended.count()
    }

    /// Returns the objects that others use, but for what was cut out of one of them.
    fn used_objects(&self) -> impl Iterator<Item = &Held> {
        let mut end = 0;
        self.objects.iter().filter(move |object| {
            let is_whole = object.is_used && object.frames.end > end;
            if is_whole {
                end = object.frames.end;
            }
            is_whole
        })
    }
}

impl<M: Machine> Manager<'_, M> {
    /// Starts over with what others still have.
    ///
    /// # Errors
    ///
    /// `TooSmall`.
    pub(crate) fn start_over(
        &mut self,
        inventory: &Inventory,
        why: Contradiction,
        zones: &Zones,
    ) -> Result<StartedOver, OpenError> {
        self.journal.start_over()?;
        self.unanswered = None;
        let ended = inventory.end_processes(&mut self.machine);
        // What the ended had of objects is gone by now.
        let inventory = Inventory::take(&self.machine, zones);
        let mut objects = 0;
        for object in inventory.used_objects() {
            let Range { start, end } = object.frames;
            let record = Record::ObjectMade {
                first: start,
                object: ObjectRecord {
                    memory: object.handle,
                    pages: end - start,
                    owner: NOBODY,
                },
            };
            self.journal.add(record).map_err(|_| OpenError::TooSmall)?;
            objects += 1;
        }
        let era = Record::Begun(self.machine.begin_era());
        self.journal.add(era).map_err(|_| OpenError::TooSmall)?;
        Ok(StartedOver {
            why,
            ended,
            objects,
        })
    }
}

/// Finds the objects in frames of ours.
fn held(extents: &[(RawHandle, Extent)], zones: &Zones) -> Vec<Held> {
    let mut identities: Vec<u64> = extents.iter().map(|(_, extent)| extent.identity).collect();
    identities.sort_unstable();
    let object = |(handle, extent): &(RawHandle, Extent)| {
        let (first, in_zone) = zones.frames_at(extent.physical);
        let first = first.filter(|_| extent.pages <= in_zone)?;
        let before = identities.partition_point(|identity| *identity < extent.identity);
        let end = identities.partition_point(|identity| *identity <= extent.identity);
        Some(Held {
            handle: *handle,
            frames: first..first + extent.pages as Frame,
            identity: extent.identity,
            is_used: extent.references > (end - before) as u64,
        })
    };
    extents.iter().filter_map(object).collect()
}

/// Lends a process of the table.
fn with_process<M: Machine, R>(
    machine: &mut M,
    handle: RawHandle,
    f: impl FnOnce(&mut M, &M::Process) -> Result<R, MemoryError>,
) -> Result<R, MemoryError> {
    let process = machine.take_process(handle)?;
    let result = f(machine, &process);
    machine.leave_process(process);
    result
}

/// Returns whether something is mapped in a process that lies in a frame of ours which is neither
/// an object's nor one of the tables.
fn has_frames<M: Machine>(
    machine: &mut M,
    handle: RawHandle,
    zones: &Zones,
    owned: &Owned,
) -> bool {
    let looked = with_process(machine, handle, |machine, process| {
        loop {
            let mut found = false;
            let told = machine.mappings(process, &mut |run| {
                found |= is_in_frames(run, zones, owned);
            });
            match told {
                Ok(()) => return Ok(found),
                // As above: it cannot have a space.
                Err(MemoryError::MissingRight) => return Ok(false),
                Err(_) if machine.life(process) == Life::Gone => return Ok(false),
                // It is just being taken apart.
                Err(_) => machine.pause(),
            }
        }
    });
    looked == Ok(true)
}

fn is_in_frames(run: MappedRun, zones: &Zones, owned: &Owned) -> bool {
    let mut done = 0;
    while done < run.pages {
        let (frame, mut count) = zones.frames_at(run.physical + done);
        if let Some(frame) = frame {
            let (is_owned, stop) = owned.span_at(frame);
            if !is_owned {
                return true;
            }
            count = count.min(u64::from(stop - frame));
        }
        done = done.saturating_add(count);
    }
    false
}
