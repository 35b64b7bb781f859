//! State that outlives its server: a snapshot and a journal of typed records in a memory object
//! that `init` owns.
//!
//! A server describes its state as a [`State`]: a value and a type of records that change it.
//! [`Region::append`] first makes a record durable and then applies it, so what is in the region
//! is never behind what a client was told. After a crash [`Region::open`] reads the last snapshot
//! and replays the journal. Everything carries a CRC-32C; a single wrong bit is mended with
//! its help, what fails it otherwise is dropped, and the [`Report`] counts both.
//!
//! # Layout
//!
//! A header (magic, the active word, the [mark](Region::about_to)), then two halves of the same size. Each half holds a schema,
//! a snapshot and the journal that goes on from it; the active word says which half counts. When
//! its journal is full, or so long that a restart would take long, a new snapshot goes to the other half and one aligned store of the active
//! word makes it count. A record counts from the moment its header word is stored, which happens
//! last. So a server may die between any two stores and finds the old or the new state.
//!
//! The half that does not count holds exactly the state with which the other one started: when a
//! snapshot is damaged, that is what is replayed instead.
//!
//! # Versions
//!
//! A [schema](schema_hash) is a hash over a name and the whole layout of state and records. A
//! [`State`] names the version before it; what [`Region::open`] finds in the schema of that one, or
//! of one before it, is read with its code and made into the next, and so on. The new snapshot goes
//! to the other half like any other, so a migration happens or does not. [`Region::export`] goes
//! the other way. Both take time linear in the size of the region, and memory for two states and
//! one snapshot, which is at most half a region.

mod crc32c;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
#[cfg(any(test, feature = "fake"))]
pub mod golden;
mod half;
mod mark;
mod memory;
mod mend;
mod recover;
mod report;
mod schema;
mod shape;
mod suspect;

use alloc::vec;
use alloc::vec::Vec;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::encoding::EncodeError;
use crate::gate;
use crate::service::Trouble;
pub use crc32c::crc32c;
use half::{Half, Header, check_committed};
pub use memory::StateMemory;
#[cfg(bare)]
pub use memory::{MappedMemory, mapped, open_mapped};
pub use report::{ExportError, Found, Full, OpenError, Report};
pub use schema::{Earlier, NoPrevious, describe, known_schemas, reads, schema_hash};
pub use shape::Untraceable;
use suspect::Suspicions;

/// Marks an initialised region; the last byte is the version of the layout.
const MAGIC: u64 = u64::from_le_bytes(*b"SKSTATE\x04");
/// Where the magic lies.
const MAGIC_AT: usize = 0;
/// Where the active word lies: the epoch, its lowest bit the half.
const ACTIVE_AT: usize = 8;
/// Where the mark lies.
const MARK_AT: usize = 16;
/// Where the first half starts.
const HALVES_AT: usize = 64;
/// Room for a usual record.
const USUAL_BYTES: usize = 128;
/// Smallest region that can be used.
pub const MIN_REGION_BYTES: usize = 1024;

/// How a record is looked at before it counts. If it is not what it should be the server ends, and the
/// next one finds the state before the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// Not at all: where a lost record costs little, and each instruction counts.
    None,
    /// Whether its bytes are those of its value: about what it cost to encode it.
    Value,
    /// Besides as the next instance will read it, with its checksum and the end of the journal: some
    /// hundred instructions more, for a state that is worth nothing without any one of its records.
    Whole,
}

/// State that can be kept in a [`Region`].
pub trait State: Default + Serialize + DeserializeOwned {
    /// One change of the state.
    type Record: Serialize + DeserializeOwned;
    /// The version before this one, which is made into it where it is found; [`NoPrevious`] for
    /// the first.
    type Previous: Earlier<Self>;

    /// Names the state, and the version of what its values mean: `"vfs.1"`. The layout need not be
    /// told, since the hash of the schema is made of it too.
    const SCHEMA: &'static str;

    /// Makes the change. Must not fail whatever the record says: a damaged one before it may
    /// have been dropped.
    fn apply(&mut self, record: Self::Record);

    /// Says how a record is looked at between being written and counting.
    #[inline]
    fn look_at(_record: &Self::Record) -> Look {
        Look::Whole
    }

    /// Tells the state in the version before this one, for [`Region::export`]; `None` when it
    /// cannot be told there.
    fn downgrade(&self) -> Option<Self::Previous> {
        None
    }
}

/// Whether a record makes the state larger or smaller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// It may grow: refused when the reserve would be touched.
    Grow,
    /// It frees something: it may use the reserve, so that a full region can be emptied.
    Shrink,
}

/// What becomes of a state of which records were lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Losses {
    /// The rest is kept.
    Drop,
    /// Nothing is kept.
    StartOver,
}

/// A state together with the memory that keeps it.
#[derive(Debug)]
pub struct Region<S: State, M: StateMemory> {
    memory: M,
    state: S,
    half: Half,
    /// Whether the half is in an older schema, so that nothing can be added to it.
    is_exported: bool,
    suspicions: Suspicions,
}

impl<S: State, M: StateMemory> Region<S, M> {
    /// Reads what the memory holds, or starts with the default state when it was never used. A
    /// state in an older schema is migrated, if there is a way.
    ///
    /// # Errors
    ///
    /// `Full` when the memory is too small, `UnknownSchema` when it holds another state.
    pub fn open(memory: M) -> Result<(Self, Report), OpenError> {
        Self::open_or(memory, Losses::Drop, refuse_unknown::<S>)
    }

    /// As [`Region::open`], for a state that is worth nothing if any record of it is missing: it
    /// is replaced by the default one then, so that no later start takes what is left for all of
    /// it. The report tells.
    ///
    /// # Errors
    ///
    /// As [`Region::open`].
    pub fn open_complete(memory: M) -> Result<(Self, Report), OpenError> {
        Self::open_or(memory, Losses::StartOver, refuse_unknown::<S>)
    }

    /// As [`Region::open`], but replaces an unknown state by the default one. The report tells.
    ///
    /// # Errors
    ///
    /// [`Full`] when the memory is too small.
    pub fn open_or_fresh(memory: M) -> Result<(Self, Report), Full> {
        Self::open_or(memory, Losses::Drop, |_| Ok(())).map_err(|_| Full)
    }

    fn open_or(
        memory: M,
        losses: Losses,
        on_unknown: impl FnOnce(u64) -> Result<(), OpenError>,
    ) -> Result<(Self, Report), OpenError> {
        if memory.bytes() < MIN_REGION_BYTES {
            return Err(OpenError::Full);
        }
        let mut report = Report::default();
        let half = counting_half(&memory, &mut report);
        let header = half.and_then(|half| half.header(&memory));
        let header = header.map(|(header, is_mended)| {
            report.mended += u32::from(is_mended);
            header
        });
        if let Some(Header { schema, .. }) = header
            && !reads::<S>(schema)
        {
            if gate::is_trial() {
                gate::fail(Trouble::UnknownSchema);
            }
            on_unknown(schema)?;
            report.found = Found::OtherSchema(schema);
        }
        let mut region = Region {
            half: half.unwrap_or_else(|| Half::first(memory.bytes())),
            state: S::default(),
            memory,
            is_exported: false,
            suspicions: Suspicions::default(),
        };
        match (half, report.found) {
            (None, _) => {
                gate::require_complete_state(&report);
                region.initialise()?;
            }
            (Some(half), Found::OtherSchema(_)) => region.compact(half.other())?,
            (Some(_), _) => region.recover(header, losses, &mut report)?,
        }
        if word(&region.memory, MAGIC_AT) != MAGIC {
            region.memory.commit(MAGIC_AT, MAGIC);
        }
        Ok((region, report))
    }

    /// Reads the half that counts, and writes a new snapshot where it must not stay as it is.
    fn recover(
        &mut self,
        header: Option<Header>,
        losses: Losses,
        report: &mut Report,
    ) -> Result<(), Full> {
        let memory = &self.memory;
        let state = if let Some(header) = header {
            let found = schema::Found {
                memory,
                half: &mut self.half,
                header,
                may_fall_back: true,
            };
            recover::recover(found, report)
        } else {
            // Nobody can tell how many records followed the snapshot; at least say that some may.
            report.found = Found::SnapshotDamaged;
            report.dropped += 1;
            recover::recover_previous(memory, &self.half, report)
        };
        let is_enough = losses == Losses::Drop || report.is_complete();
        let Some(state) = state.filter(|_| is_enough) else {
            *report = Report {
                found: Found::Lost,
                ..Report::default()
            };
            gate::require_complete_state(report);
            return self.start_over();
        };
        self.state = state;
        report.migrated_from = header
            .map(|header| header.schema)
            .filter(|&schema| schema != Self::schema());
        gate::require_complete_state(report);
        match report.found {
            // With a damaged snapshot the other half is the only good one: it is kept until the end.
            Found::SnapshotDamaged => self.compact(self.half.again()),
            // Damage must not be found again at the next start, nor written behind; and to the
            // journal of an older schema nothing can be added.
            _ if report.has_losses() || report.mended > 0 || report.migrated_from.is_some() => {
                self.compact(self.half.other())
            }
            _ => Ok(()),
        }
    }

    /// Replaces the state by the default one, for good: it happens or does not, like any snapshot.
    ///
    /// # Errors
    ///
    /// [`Full`] when the region is too small for a snapshot; it was not when it was opened.
    pub fn start_over(&mut self) -> Result<(), Full> {
        self.state = S::default();
        self.half = Half::first(self.memory.bytes());
        self.is_exported = false;
        self.initialise()
    }

    /// Returns the schema in which this program writes.
    pub fn schema() -> u64 {
        schema_hash::<S>()
    }

    /// Rewrites the region as a snapshot in its own schema or an older one, for a program that
    /// knows no newer one. The state stays as it is: a record that is appended later, or
    /// [`Region::reclaim`], writes it in its own schema again.
    ///
    /// # Errors
    ///
    /// See [`ExportError`]; the region is then as before.
    pub fn export(&mut self, target: u64) -> Result<(), ExportError> {
        let snapshot = schema::encode_as(&self.state, target)?;
        let half = self.half.other();
        if !half.would_hold(snapshot.len(), 0) {
            return Err(ExportError::Full);
        }
        self.switch_to(half, target, &snapshot);
        self.is_exported = target != Self::schema();
        if self.is_exported {
            self.half.close();
        }
        Ok(())
    }

    /// Undoes an export.
    ///
    /// # Errors
    ///
    /// [`Full`] when the region is too small for a snapshot; it was not when it was opened.
    pub fn reclaim(&mut self) -> Result<(), Full> {
        if self.is_exported {
            self.compact(self.half.other())?;
        }
        Ok(())
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

    /// Returns what is another number after each record that was made durable: for who looks whether one
    /// was.
    #[inline]
    pub fn mark(&self) -> usize {
        self.half.position()
    }

    /// Makes a record durable, then applies it to the state.
    ///
    /// # Errors
    ///
    /// [`Full`]; the state is then as before.
    pub fn append(&mut self, record: S::Record, purpose: Purpose) -> Result<(), Full> {
        if !self.memory.is_volatile() {
            // An exported one is closed.
            if self.half.is_long() {
                self.get_ready()?;
            }
            let look = S::look_at(&record);
            let at = self.half.position();
            if let Err(error) = self.half.append(&mut self.memory, &record, look) {
                return self.append_in_other_half(record, purpose, error);
            }
            self.state.apply(record);
            if self.half.is_sampled(at) {
                self.check_sample(at);
            }
            return Ok(());
        }
        self.state.apply(record);
        Ok(())
    }

    /// Appends a record for which there was no room. Here and above no loop and no second call that
    /// encodes records: so the compiler puts all of that into one function for each state.
    #[cold]
    #[inline(never)]
    fn append_in_other_half(
        &mut self,
        record: S::Record,
        purpose: Purpose,
        error: EncodeError,
    ) -> Result<(), Full> {
        let EncodeError::NoRoom { needed } = error else {
            return Err(Full);
        };
        // After this it fits.
        self.make_room(needed, purpose)?;
        self.append(record, purpose)
    }

    /// Looks whether the next instance will be able to read the record that was appended at a place.
    ///
    /// # Panics
    ///
    /// When it will not, nor, it must be feared, those before it. Other code has written the state down
    /// anew by then, for the next instance.
    #[cold]
    #[inline(never)]
    fn check_sample(&mut self, at: usize) {
        if !self.half.can_read_from(&self.memory, at) {
            let is_kept = self.shorten().is_ok();
            panic!("a record cannot be read; written down anew: {is_kept}");
        }
    }

    /// Writes a new snapshot before a record, where there should be one.
    #[cold]
    fn get_ready(&mut self) -> Result<(), Full> {
        self.reclaim()?;
        if self.half.is_long() {
            self.shorten()?;
        }
        Ok(())
    }

    /// Compacts, if that makes enough room for a record.
    #[cold]
    fn make_room(&mut self, record_bytes: usize, purpose: Purpose) -> Result<(), Full> {
        let snapshot = self.encode_snapshot()?;
        let reserve = match purpose {
            Purpose::Grow => self.half.reserve(),
            Purpose::Shrink => 0,
        };
        if !self.half.would_hold(snapshot.len(), record_bytes + reserve) {
            return Err(Full);
        }
        self.switch_to(self.half.other(), Self::schema(), &snapshot);
        Ok(())
    }

    /// Compacts, so that the next instance need not replay a long journal.
    fn shorten(&mut self) -> Result<(), Full> {
        let snapshot = self.encode_snapshot()?;
        let half = self.half.other();
        // A state that takes most of its region is compacted when there is no room otherwise.
        if half.would_hold(snapshot.len(), half.reserve()) {
            self.switch_to(half, Self::schema(), &snapshot);
        } else {
            self.half.let_grow();
        }
        Ok(())
    }

    /// Encodes the state, which is seldom longer than what it grew from.
    fn encode_snapshot(&self) -> Result<Vec<u8>, Full> {
        encode_with_room(&self.state, self.half.bytes_used())
    }

    /// Writes a snapshot of the state to a half and makes that one count.
    fn compact(&mut self, half: Half) -> Result<(), Full> {
        let snapshot = encode(&self.state)?;
        if !half.would_hold(snapshot.len(), 0) {
            return Err(Full);
        }
        self.switch_to(half, Self::schema(), &snapshot);
        self.is_exported = false;
        Ok(())
    }

    fn switch_to(&mut self, mut half: Half, schema: u64, snapshot: &[u8]) {
        half.start(&mut self.memory, schema, snapshot);
        half.check_started(&self.memory, schema, snapshot);
        self.memory.commit(ACTIVE_AT, half.active_word());
        check_committed(&self.memory, ACTIVE_AT, half.active_word());
        self.half = half;
    }

    /// Writes a region from nothing; it counts only when all of it is there.
    fn initialise(&mut self) -> Result<(), Full> {
        let snapshot = encode(&self.state)?;
        let half = Half::first(self.memory.bytes());
        if !half.would_hold(snapshot.len(), 0) {
            return Err(Full);
        }
        self.memory.commit(MAGIC_AT, 0);
        // The half before this one must hold its beginning from the first day on, and nothing of
        // an earlier life.
        let mut before = half.previous();
        before.start(&mut self.memory, Self::schema(), &snapshot);
        self.switch_to(half, Self::schema(), &snapshot);
        self.memory.commit(MAGIC_AT, MAGIC);
        Ok(())
    }
}

/// Has a region with an unknown state stay as it is.
fn refuse_unknown<S: State>(found: u64) -> Result<(), OpenError> {
    Err(OpenError::UnknownSchema {
        found,
        known: schema_hash::<S>(),
    })
}

/// Returns the schema of the state in a region; `None` when it was never used or is damaged where
/// that is told.
pub fn schema_in<M: StateMemory>(memory: &M) -> Option<u64> {
    if memory.bytes() < MIN_REGION_BYTES {
        return None;
    }
    let half = counting_half(memory, &mut Report::default())?;
    let (header, _) = half.header(memory)?;
    Some(header.schema)
}

/// Returns the schema of a state that is no [`Region`] but plain words: a hash of its name and of the
/// numbers that its layout is made of.
pub const fn layout_hash(name: &str, numbers: &[u64]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < name.len() {
        hash = (hash ^ name.as_bytes()[i] as u64).wrapping_mul(PRIME);
        i += 1;
    }
    i = 0;
    while i < numbers.len() {
        hash = (hash ^ numbers[i]).wrapping_mul(PRIME);
        hash ^= hash >> 32;
        i += 1;
    }
    hash
}

/// Returns the half that counts. Without one the region was never used, or is lost: the report
/// tells.
fn counting_half<M: StateMemory>(memory: &M, report: &mut Report) -> Option<Half> {
    match word(memory, MAGIC_AT) {
        0 => return None,
        MAGIC => {}
        magic if (magic ^ MAGIC).is_power_of_two() => report.mended += 1,
        _ => {
            report.found = Found::Lost;
            return None;
        }
    }
    let active = word(memory, ACTIVE_AT);
    if let Some(half) = Half::from_active_word(memory.bytes(), active) {
        report.found = Found::Intact;
        return Some(half);
    }
    if let Some(half) = Half::from_mended_word(memory, active) {
        report.found = Found::Intact;
        report.mended += 1;
        return Some(half);
    }
    let newest = Half::newest(memory);
    report.found = match newest {
        Some(_) => Found::PointerDamaged,
        None => Found::Lost,
    };
    newest
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Full> {
    encode_with_room(value, USUAL_BYTES)
}

/// Encodes a value, first trying whether so much room is enough.
fn encode_with_room<T: Serialize>(value: &T, room: usize) -> Result<Vec<u8>, Full> {
    let mut encoded = vec![0; room.max(USUAL_BYTES)];
    loop {
        match crate::encoding::encode(value, &mut encoded) {
            Ok(bytes) => {
                encoded.truncate(bytes);
                return Ok(encoded);
            }
            Err(EncodeError::NoRoom { needed }) => encoded.resize(needed, 0),
            // Only values of unknown length, which no state has.
            Err(EncodeError::Unsupported) => return Err(Full),
        }
    }
}

fn word<M: StateMemory>(memory: &M, at: usize) -> u64 {
    memory
        .view(at..at + 8)
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests;
