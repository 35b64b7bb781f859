//! State that outlives its server: a snapshot and a journal of typed records in a memory object
//! that `init` owns.
//!
//! A server describes its state as a [`State`]: a value and a type of records that change it.
//! [`Region::append`] first makes a record durable and then applies it, so what is in the region
//! is never behind what a client was told. After a crash [`Region::open`] reads the last snapshot
//! and replays the journal. Everything carries a CRC-32C; what fails it is dropped, counted in
//! the [`Report`], and never trusted.
//!
//! # Layout
//!
//! A header (magic, schema, the active word), then two halves of the same size. Each half holds
//! a snapshot and the journal that goes on from it; the active word says which half counts. When
//! its journal is full, a new snapshot goes to the other half and one aligned store of the active
//! word makes it count. A record counts from the moment its header word is stored, which happens
//! last. So a server may die between any two stores and finds the old or the new state.
//!
//! The half that does not count holds exactly the state with which the other one started: when a
//! snapshot is damaged, that is what is replayed instead.

mod crc32c;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod half;
mod memory;

use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crc32c::crc32c;
use half::Half;
pub use memory::StateMemory;
#[cfg(bare)]
pub use memory::{MappedMemory, mapped};

/// Marks an initialised region; the last byte is the version of the layout.
const MAGIC: u64 = u64::from_le_bytes(*b"SKSTATE\x01");
/// Where the magic lies.
const MAGIC_AT: usize = 0;
/// Where the hash of the schema lies.
const SCHEMA_AT: usize = 8;
/// Where the active word lies: the epoch, its lowest bit the half.
const ACTIVE_AT: usize = 16;
/// Where the first half starts.
const HALVES_AT: usize = 64;
/// Smallest region that can be used.
pub const MIN_REGION_BYTES: usize = 1024;

/// State that can be kept in a [`Region`].
pub trait State: Default + Serialize + DeserializeOwned {
    /// One change of the state.
    type Record: Serialize + DeserializeOwned;

    /// Names the types and their version, such as `"vfs.1"`. Change it with every change of the
    /// state or the record that postcard cannot read.
    const SCHEMA: &'static str;

    /// Makes the change. Must not fail whatever the record says: a damaged one before it may
    /// have been dropped.
    fn apply(&mut self, record: Self::Record);
}

/// Whether a record makes the state larger or smaller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// It may grow: refused when the reserve would be touched.
    Grow,
    /// It frees something: it may use the reserve, so that a full region can be emptied.
    Shrink,
}

/// What [`Region::open`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// How the region looked.
    pub found: Found,
    /// Records replayed.
    pub replayed: u32,
    /// Records dropped because they were damaged.
    pub dropped: u32,
}

impl Report {
    /// Returns whether anything was lost.
    pub fn has_losses(&self) -> bool {
        self.dropped > 0 || !matches!(self.found, Found::Fresh | Found::Intact)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = match self.found {
            Found::Fresh => "fresh",
            Found::Intact => "intact",
            Found::SnapshotDamaged => "snapshot damaged, older one replayed",
            Found::Lost => "damaged beyond repair, starting empty",
            Found::OtherSchema => "written by another version, starting empty",
        };
        write!(
            f,
            "{found}; {} records replayed, {} dropped",
            self.replayed, self.dropped
        )
    }
}

/// How a region looked when it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Found {
    /// Never used.
    #[default]
    Fresh,
    /// Used, and its snapshot good.
    Intact,
    /// The snapshot was damaged; the one before it and its journal gave the same state.
    SnapshotDamaged,
    /// Damaged so that nothing could be read.
    Lost,
    /// It holds the state of another schema.
    OtherSchema,
}

/// The region has no room for the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("state region is full")
    }
}

impl core::error::Error for Full {}

/// A state together with the memory that keeps it.
#[derive(Debug)]
pub struct Region<S: State, M: StateMemory> {
    memory: M,
    state: S,
    half: Half,
}

impl<S: State, M: StateMemory> Region<S, M> {
    /// Reads what the memory holds, or starts with the default state.
    ///
    /// # Errors
    ///
    /// [`Full`] when the memory is too small even for the default state.
    pub fn open(memory: M) -> Result<(Self, Report), Full> {
        if memory.bytes() < MIN_REGION_BYTES {
            return Err(Full);
        }
        let mut report = Report::default();
        let (state, half) = match (word(&memory, MAGIC_AT), word(&memory, SCHEMA_AT)) {
            (0, _) => (S::default(), None),
            (MAGIC, schema) if schema == schema_hash::<S>() => recover(&memory, &mut report),
            (MAGIC, _) => {
                report.found = Found::OtherSchema;
                (S::default(), None)
            }
            _ => {
                report.found = Found::Lost;
                (S::default(), None)
            }
        };
        crate::gate::require_complete_state(&report);
        let is_clean = report.dropped == 0 && report.found == Found::Intact;
        let mut region = Region {
            half: half.unwrap_or_else(|| Half::first(memory.bytes())),
            memory,
            state,
        };
        match half {
            // Damage must not be found again at the next start, nor written behind. With a damaged
            // snapshot the other half is the only good one: it is kept until the end.
            Some(half) if report.found == Found::SnapshotDamaged => {
                region.compact(half.again())?;
            }
            Some(half) if !is_clean => region.compact(half.other())?,
            Some(_) => {}
            None => region.initialise()?,
        }
        Ok((region, report))
    }

    /// Returns the state.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// Returns the memory, for servers that keep bulk data beside their state.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Gives up the region and returns its memory.
    pub fn into_memory(self) -> M {
        self.memory
    }

    /// Makes a record durable, then applies it to the state.
    ///
    /// # Errors
    ///
    /// [`Full`]; the state is then as before.
    pub fn append(&mut self, record: S::Record, purpose: Purpose) -> Result<(), Full> {
        let payload = encode(&record)?;
        if !self.half.can_hold(payload.len()) {
            self.make_room(payload.len(), purpose)?;
        }
        self.half.append(&mut self.memory, &payload);
        self.state.apply(record);
        Ok(())
    }

    /// Compacts, if that makes enough room for a record.
    fn make_room(&mut self, record_bytes: usize, purpose: Purpose) -> Result<(), Full> {
        let snapshot = encode(&self.state)?;
        let reserve = match purpose {
            Purpose::Grow => self.half.reserve(),
            Purpose::Shrink => 0,
        };
        if !self.half.would_hold(snapshot.len(), record_bytes + reserve) {
            return Err(Full);
        }
        self.switch_to(self.half.other(), &snapshot);
        Ok(())
    }

    /// Writes a snapshot of the state to a half and makes that one count.
    fn compact(&mut self, half: Half) -> Result<(), Full> {
        let snapshot = encode(&self.state)?;
        if !half.would_hold(snapshot.len(), 0) {
            return Err(Full);
        }
        self.switch_to(half, &snapshot);
        Ok(())
    }

    fn switch_to(&mut self, mut half: Half, snapshot: &[u8]) {
        half.start(&mut self.memory, snapshot);
        self.memory.commit(ACTIVE_AT, half.active_word());
        self.half = half;
    }

    /// Writes a region from nothing; it counts only when all of it is there.
    fn initialise(&mut self) -> Result<(), Full> {
        let snapshot = encode(&self.state)?;
        let mut half = Half::first(self.memory.bytes());
        if !half.would_hold(snapshot.len(), 0) {
            return Err(Full);
        }
        self.memory.commit(MAGIC_AT, 0);
        half.start(&mut self.memory, &snapshot);
        // Nothing of an earlier schema may look like the half before this one.
        half.other().invalidate(&mut self.memory);
        self.memory.commit(SCHEMA_AT, schema_hash::<S>());
        self.memory.commit(ACTIVE_AT, half.active_word());
        self.memory.commit(MAGIC_AT, MAGIC);
        self.half = half;
        Ok(())
    }
}

/// Reads the state from an initialised region. Without a half, nothing could be read.
fn recover<S: State, M: StateMemory>(memory: &M, report: &mut Report) -> (S, Option<Half>) {
    let mut half = Half::from_active_word(memory.bytes(), word(memory, ACTIVE_AT));
    let snapshot = half.read_snapshot(memory);
    if let Some(mut state) = snapshot
        .payload
        .and_then(|bytes| postcard::from_bytes(bytes).ok())
    {
        report.found = Found::Intact;
        replay::<S, M>(memory, &mut half, &mut state, report);
        return (state, Some(half));
    }
    let mut older = half.previous();
    let older_snapshot = older.read_snapshot(memory);
    let older_state = older_snapshot
        .payload
        .and_then(|bytes| postcard::from_bytes(bytes).ok());
    let Some(mut state) = older_state else {
        report.found = Found::Lost;
        return (S::default(), None);
    };
    report.found = Found::SnapshotDamaged;
    replay::<S, M>(memory, &mut older, &mut state, report);
    if snapshot.has_journal {
        replay::<S, M>(memory, &mut half, &mut state, report);
    } else {
        // Nobody can tell how many records followed the snapshot; at least say that some may.
        report.dropped += 1;
    }
    (state, Some(half))
}

/// Applies the journal of a half and leaves the half at its end.
fn replay<S: State, M: StateMemory>(
    memory: &M,
    half: &mut Half,
    state: &mut S,
    report: &mut Report,
) {
    while let Some(record) = half.next_record(memory) {
        match record.and_then(|bytes| postcard::from_bytes(bytes).ok()) {
            Some(record) => {
                state.apply(record);
                report.replayed += 1;
            }
            None => report.dropped += 1,
        }
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Full> {
    // Encoding into a vector fails only for values of unknown length, which no state has.
    postcard::to_allocvec(value).map_err(|_| Full)
}

fn word<M: StateMemory>(memory: &M, at: usize) -> u64 {
    memory
        .view(at..at + 8)
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Returns the FNV-1a hash of the name of a schema.
fn schema_hash<S: State>() -> u64 {
    S::SCHEMA.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
