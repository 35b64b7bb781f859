//! One half of a state region: a snapshot and the journal that goes on from it.
//!
//! Words are little endian and aligned to 8 bytes. A half starts with three words: length in bytes
//! and checksum of the snapshot; the schema; the epoch and the checksum of the header. The snapshot
//! follows, filled up to whole words, then the records. Each is a header word, which has the number
//! of words behind it plus one and their checksum, and a payload that is filled up with zeros. A
//! header with the number 0 ends the journal; it has a checksum too. All checksums begin with epoch
//! and position, so what an earlier journal left behind is never taken for a part of this one.
//!
//! Records are encoded where they stay: until its header is stored nothing of a record counts.
//!
//! A checksum also tells which bit is wrong if only one is: what is read is [mended](super::mend)
//! where it can be.

mod check;

use alloc::borrow::Cow;
use core::ops::Range;

use serde::Serialize;

pub(super) use self::check::check_committed;
use super::crc32c::{crc32c_of_both, crc32c_of_word, crc32c_of_words};
use super::mend::{flipped_bit, with_bit_flipped};
use super::{HALVES_AT, Look, StateMemory, crc32c, word};
use crate::encoding::{EncodeError, encode, left_behind};

/// Bytes of a word.
const WORD: usize = 8;
/// Bytes before the snapshot.
const SNAPSHOT_HEADER_BYTES: usize = 24;
/// Bytes before the payload of a record, and of the word that ends the journal.
const RECORD_HEADER_BYTES: usize = 8;
/// The part of a half that only records that free something may use.
const RESERVE_DIVISOR: usize = 16;
/// Bytes of a journal that is not too long however small the snapshot is. A record of a server is
/// replayed in one to two microseconds, so that this is some 5 ms; and what a snapshot costs is
/// spread over thousands of records.
const SHORT_JOURNAL_BYTES: usize = 256 * 1024;
/// A room of so many bytes is enough for nearly all records: the compiler then knows that there is
/// room for all that stands before the first part of unknown length, and does not ask for each number.
/// Where less is left a record is encoded elsewhere, and moved.
const AMPLE_BYTES: usize = 256;
/// A record that reaches across a multiple of so many bytes is looked at.
const SAMPLED_EVERY_BYTES: usize = 512;
/// How much longer than its snapshot a journal may be: replaying takes not much longer than
/// reading the snapshot does, and records pay for snapshots in proportion.
const JOURNAL_PER_SNAPSHOT: usize = 2;

/// Where a half lies, in which epoch it was written, and how far its journal was read or written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half {
    /// Bytes of the whole region.
    region_bytes: usize,
    /// Where the half ends.
    end: usize,
    /// Counts the snapshots; its lowest bit says which half this is.
    epoch: u32,
    /// The checksum of the epoch, with which all others begin.
    seed: u32,
    /// Where the next record goes or is read.
    position: usize,
    /// The checksum of epoch and position, with which that of the record there begins.
    position_seed: u32,
    /// When records go behind this place, it is time for a snapshot.
    long_behind: usize,
}

/// A record as it was read.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Read<'a> {
    /// Its checksum is right, or made right: one bit was wrong.
    Good(Cow<'a, [u8]>),
    /// It is lost.
    Damaged,
}

/// The header of a half, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    /// In which schema snapshot and journal are.
    pub(super) schema: u64,
    /// Length of the snapshot and its checksum.
    snapshot: u64,
}

impl Half {
    /// Returns the half with which a new region starts.
    pub(super) fn first(region_bytes: usize) -> Half {
        Half::of_epoch(region_bytes, 2)
    }

    /// Returns the half that counts; `None` when the word that says so is damaged.
    pub(super) fn from_active_word(region_bytes: usize, active: u64) -> Option<Half> {
        let half = Half::of_epoch(region_bytes, active as u32);
        (half.active_word() == active).then_some(half)
    }

    /// Returns the newer one of the halves that have good headers.
    pub(super) fn newest<M: StateMemory>(memory: &M) -> Option<Half> {
        // Epochs may wrap around: the newer one is one ahead of the other.
        Half::readable(memory).reduce(|first, second| {
            let is_ahead = second.epoch.wrapping_sub(first.epoch) < 1 << 31;
            if is_ahead { second } else { first }
        })
    }

    /// Returns the half that counts when one bit of the word that says so is wrong.
    pub(super) fn from_mended_word<M: StateMemory>(memory: &M, active: u64) -> Option<Half> {
        Half::readable(memory).find(|half| (half.active_word() ^ active).is_power_of_two())
    }

    /// Returns the halves that have good headers.
    fn readable<M: StateMemory>(memory: &M) -> impl Iterator<Item = Half> {
        let halves = [0, 1].map(|parity| {
            let place = Half::of_epoch(memory.bytes(), parity).range().start;
            Half::of_epoch(memory.bytes(), word(memory, place + 16) as u32)
        });
        let good = halves
            .into_iter()
            .zip(0..)
            .filter(|(half, parity)| half.epoch & 1 == *parity && half.header(memory).is_some());
        good.map(|(half, _)| half)
    }

    fn of_epoch(region_bytes: usize, epoch: u32) -> Half {
        let bytes = half_bytes(region_bytes);
        Half {
            region_bytes,
            end: HALVES_AT + bytes * (1 + (epoch & 1) as usize),
            epoch,
            seed: crc32c(0, &epoch.to_le_bytes()),
            position: 0,
            position_seed: 0,
            long_behind: usize::MAX,
        }
    }

    /// Returns the word that makes this half count: the epoch and its checksum.
    pub(super) fn active_word(&self) -> u64 {
        u64::from(self.epoch) | u64::from(self.seed) << 32
    }

    /// Returns the half for the next snapshot.
    pub(super) fn other(&self) -> Half {
        Half::of_epoch(self.region_bytes, self.epoch.wrapping_add(1))
    }

    /// Returns this half for a new snapshot in place of a damaged one.
    pub(super) fn again(&self) -> Half {
        Half::of_epoch(self.region_bytes, self.epoch.wrapping_add(2))
    }

    /// Returns the half that counted before this one.
    pub(super) fn previous(&self) -> Half {
        Half::of_epoch(self.region_bytes, self.epoch.wrapping_sub(1))
    }

    fn range(&self) -> Range<usize> {
        self.end - half_bytes(self.region_bytes)..self.end
    }

    /// Returns how many bytes only records that free something may use.
    pub(super) fn reserve(&self) -> usize {
        self.range().len() / RESERVE_DIVISOR
    }

    /// Returns how long snapshot and journal are.
    pub(super) fn bytes_used(&self) -> usize {
        self.position.saturating_sub(self.range().start)
    }

    /// Returns whether the journal is so long that replaying it would take long.
    #[inline]
    pub(super) fn is_long(&self) -> bool {
        self.position > self.long_behind
    }

    /// Has nothing follow what is there.
    pub(super) fn close(&mut self) {
        self.long_behind = 0;
    }

    /// Has the journal go on to the end of the half: no snapshot would be shorter.
    pub(super) fn let_grow(&mut self) {
        self.long_behind = usize::MAX;
    }

    #[inline]
    fn move_to(&mut self, position: usize) {
        self.position = position;
        self.position_seed = crc32c_of_word(self.seed, position as u64);
    }

    /// Moves to the start of the journal behind a snapshot.
    fn rewind(&mut self, snapshot: usize) {
        self.move_to(journal_at(self.range().start, snapshot));
        self.long_behind = self.position + journal_limit(snapshot);
    }

    /// Returns whether a half can hold a snapshot and a record behind it.
    pub(super) fn would_hold(&self, snapshot: usize, record: usize) -> bool {
        let bytes = SNAPSHOT_HEADER_BYTES
            + snapshot.next_multiple_of(8)
            + record_bytes(record)
            + RECORD_HEADER_BYTES;
        bytes <= self.range().len()
    }

    /// Writes a snapshot with an empty journal. The caller has checked that it fits.
    pub(super) fn start<M: StateMemory>(&mut self, memory: &mut M, schema: u64, snapshot: &[u8]) {
        let start = self.range().start;
        memory.write(start + SNAPSHOT_HEADER_BYTES, snapshot);
        self.rewind(snapshot.len());
        memory.commit(self.position, self.end_marker());
        let header = Header {
            schema,
            snapshot: header(snapshot.len(), self.checksum(start, snapshot)),
        };
        memory.commit(start, header.snapshot);
        memory.commit(start + 8, header.schema);
        memory.commit(start + 16, self.header_check(header));
    }

    /// Reads the header and returns it with whether it had to be mended; `None` when it is damaged
    /// beyond that, or of another epoch.
    pub(super) fn header<M: StateMemory>(&self, memory: &M) -> Option<(Header, bool)> {
        let start = self.range().start;
        let words = [0, 8, 16].map(|at| word(memory, start + at));
        if let Some(header) = self.checked_header(words) {
            return Some((header, false));
        }
        // In the third word a single wrong bit leaves the others right.
        let [snapshot, schema, check] = words;
        let header = Header { schema, snapshot };
        if (self.header_check(header) ^ check).count_ones() == 1 {
            let words = [snapshot, schema, self.header_check(header)];
            return Some((self.checked_header(words)?, true));
        }
        let flipped = (0..128).map(|bit| match bit {
            0..64 => [snapshot ^ 1 << bit, schema, check],
            _ => [snapshot, schema ^ 1 << (bit - 64), check],
        });
        let mut mended = flipped.filter_map(|words| self.checked_header(words));
        mended.next().map(|header| (header, true))
    }

    /// Makes a header of its words, if they are right.
    fn checked_header(&self, [snapshot, schema, check]: [u64; 3]) -> Option<Header> {
        let Range { start, end } = self.range();
        let header = Header { schema, snapshot };
        let (bytes, _) = parts(snapshot);
        let is_good = check == self.header_check(header)
            && journal_at(start, bytes) + RECORD_HEADER_BYTES <= end;
        is_good.then_some(header)
    }

    /// Moves to the start of the journal and returns the snapshot, if its checksum is right.
    pub(super) fn snapshot<'a, M: StateMemory>(
        &mut self,
        memory: &'a M,
        header: Header,
    ) -> Option<&'a [u8]> {
        let start = self.range().start;
        let (bytes, checksum) = parts(header.snapshot);
        self.rewind(bytes);
        let payload = memory.view(start + SNAPSHOT_HEADER_BYTES..).get(..bytes)?;
        (self.checksum(start, payload) == checksum).then_some(payload)
    }

    /// Returns the last word of a header.
    fn header_check(&self, header: Header) -> u64 {
        let Header { schema, snapshot } = header;
        let crc = self.checksum(self.range().start + 8, &snapshot.to_le_bytes());
        let crc = crc32c(crc, &schema.to_le_bytes());
        u64::from(self.epoch) | u64::from(crc) << 32
    }

    /// Returns the word that ends the journal at the present position.
    fn end_marker(&self) -> u64 {
        end_marker(self.position_seed)
    }

    /// Reads the next record and moves past it; `None` at the end. Counts in `mended` what had a
    /// wrong bit.
    pub(super) fn next_record<'a, M: StateMemory>(
        &mut self,
        memory: &'a M,
        mended: &mut u32,
    ) -> Option<Read<'a>> {
        let at = self.position;
        let end = self.range().end;
        if at + RECORD_HEADER_BYTES > end {
            return None;
        }
        let header = word(memory, at);
        let difference = header ^ self.end_marker();
        if difference == 0 {
            return None;
        }
        if let Some((payload, next)) = self.payload(memory, header) {
            self.move_to(next);
            return Some(Read::Good(Cow::Borrowed(payload)));
        }
        if difference.is_power_of_two() {
            *mended += 1;
            return None;
        }
        // A wrong bit in the length, in the checksum, or in the payload.
        let mut flipped = (0..64).map(|bit| header ^ 1 << bit);
        if let Some((payload, next)) = flipped.find_map(|header| self.payload(memory, header)) {
            self.move_to(next);
            *mended += 1;
            return Some(Read::Good(Cow::Borrowed(payload)));
        }
        let Some((bytes, next)) = self.extent(header) else {
            // The length itself is damaged: where the next one starts is unknown.
            self.move_to(end);
            return Some(Read::Damaged);
        };
        let payload = &memory.view(at + RECORD_HEADER_BYTES..)[..bytes];
        let (_, checksum) = parts(header);
        let difference = self.record_checksum(payload) ^ checksum;
        self.move_to(next);
        let Some(bit) = flipped_bit(payload, difference) else {
            return Some(Read::Damaged);
        };
        *mended += 1;
        Some(Read::Good(Cow::Owned(with_bit_flipped(payload, bit))))
    }

    /// Returns length of the payload of the record at the present position, and where the next one starts; `None` when a
    /// header cannot be right.
    fn extent(&self, header: u64) -> Option<(usize, usize)> {
        let bytes = WORD * parts(header).0.checked_sub(1)?;
        let next = self.position + record_bytes(bytes);
        (next + RECORD_HEADER_BYTES <= self.end).then_some((bytes, next))
    }

    /// Returns the payload of the record at the present position with this header, and where the next one starts, if the
    /// checksum is right.
    fn payload<'a, M: StateMemory>(&self, memory: &'a M, header: u64) -> Option<(&'a [u8], usize)> {
        let (bytes, next) = self.extent(header)?;
        let payload = memory.view(self.position + RECORD_HEADER_BYTES..);
        let payload = payload.get(..bytes)?;
        let (_, checksum) = parts(header);
        (self.record_checksum(payload) == checksum).then_some((payload, next))
    }

    /// Returns the checksum of the record at the present position with this payload, which is whole words.
    fn record_checksum(&self, payload: &[u8]) -> u32 {
        crc32c_of_words(self.position_seed, payload.as_chunks().0)
    }

    /// Writes a record behind the journal, and looks at it before it counts.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; the journal is then as before.
    #[inline]
    pub(super) fn append<M: StateMemory, T: Serialize>(
        &mut self,
        memory: &mut M,
        record: &T,
        look: Look,
    ) -> Result<(), EncodeError> {
        let (at, first_seed) = (self.position, self.position_seed);
        let place = at + RECORD_HEADER_BYTES;
        let seed = self.seed;
        let (next, next_seed, header) = memory.fill(place, self.end - place, |room| {
            match encode_words(record, room) {
                Ok(words) => {
                    let room: &mut [[u8; WORD]] = room.as_chunks_mut().0;
                    assert!(words < room.len(), "the end of the journal fits");
                    let next = place + WORD * words;
                    let (checksum, next_seed) =
                        crc32c_of_both((first_seed, &room[..words]), (seed, next as u64));
                    // Nothing reads it before the header is there, so any kind of store will do.
                    room[words] = end_marker(next_seed).to_le_bytes();
                    let header = header(words + 1, checksum);
                    (WORD * words + WORD, Ok((next, next_seed, header)))
                }
                Err(error) => (room.len(), Err(error)),
            }
        })?;
        let payload = match look {
            Look::None => None,
            Look::Value => Some(memory.view(place..next)),
            Look::Whole => Some(self.check_written(memory, header, next)),
        };
        // Zeros fill the last word up.
        let is_meant = |read| left_behind(record, read).is_some_and(|left| left < WORD);
        assert!(
            payload.is_none_or(is_meant),
            "a record would not be read as it was meant"
        );
        (self.position, self.position_seed) = (next, next_seed);
        memory.commit(at, header);
        if look == Look::Whole {
            check_committed(memory, at, header);
        }
        Ok(())
    }

    /// Returns where the next record goes.
    #[inline]
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Returns whether the last record, which is at a place, is one of those that are looked at: one of a
    /// dozen. To read each again would take half as long as to write it; and an instruction that goes
    /// wrong goes wrong for all of them.
    #[inline]
    pub(super) fn is_sampled(&self, at: usize) -> bool {
        (self.position ^ at) & SAMPLED_EVERY_BYTES != 0
    }

    /// Returns whether the last record, which is at a place, can be read, and the end of the journal
    /// behind it.
    pub(super) fn can_read_from<M: StateMemory>(mut self, memory: &M, at: usize) -> bool {
        let (end, mut mended) = (self.position, 0);
        self.move_to(at);
        let is_good = matches!(self.next_record(memory, &mut mended), Some(Read::Good(_)));
        let is_last = self.position == end && self.next_record(memory, &mut mended).is_none();
        is_good && is_last && mended == 0
    }

    /// Returns the checksum of a payload whose header is at `at`.
    fn checksum(&self, at: usize, payload: &[u8]) -> u32 {
        let seed = crc32c(self.seed, &(at as u64).to_le_bytes());
        if payload.is_empty() {
            return seed;
        }
        crc32c(seed, payload)
    }
}

/// Encodes a value at the start of a room and fills it up with zeros to whole words. Returns how many
/// there are; the last word of the room is never one of them, but may be written to.
#[inline]
fn encode_words<T: Serialize>(value: &T, room: &mut [u8]) -> Result<usize, EncodeError> {
    let mut scratch = None;
    let place = if room.len() < AMPLE_BYTES {
        scratch_in(&mut scratch)
    } else {
        &mut *room
    };
    let most = place.len() - WORD;
    let bytes = encode(value, &mut place[..most])?;
    // One store, whose last bytes lie behind the last word.
    place[bytes..bytes + WORD].fill(0);
    let words = (bytes + (WORD - 1)) >> WORD.trailing_zeros();
    if let Some(scratch) = &scratch {
        move_to_room(scratch, room, words)?;
    }
    Ok(words)
}

#[cold]
#[inline(never)]
fn scratch_in(scratch: &mut Option<[u8; AMPLE_BYTES]>) -> &mut [u8; AMPLE_BYTES] {
    scratch.insert([0; AMPLE_BYTES])
}

/// Moves words to a room, the last word of which they must leave free.
#[cold]
#[inline(never)]
fn move_to_room(
    scratch: &[u8; AMPLE_BYTES],
    room: &mut [u8],
    words: usize,
) -> Result<(), EncodeError> {
    let needed = WORD * words;
    if needed + WORD > room.len() {
        return Err(EncodeError::NoRoom { needed });
    }
    room[..needed].copy_from_slice(&scratch[..needed]);
    Ok(())
}

/// Returns the size of a half.
fn half_bytes(region_bytes: usize) -> usize {
    (region_bytes - HALVES_AT) / 2 / WORD * WORD
}

/// Returns how long the journal behind a snapshot may be before it is time for another.
fn journal_limit(snapshot: usize) -> usize {
    (JOURNAL_PER_SNAPSHOT * snapshot).max(SHORT_JOURNAL_BYTES)
}

/// Returns where the journal starts behind a snapshot.
fn journal_at(start: usize, snapshot: usize) -> usize {
    start + SNAPSHOT_HEADER_BYTES + snapshot.next_multiple_of(8)
}

/// Returns the bytes that a record with this payload takes.
fn record_bytes(payload: usize) -> usize {
    RECORD_HEADER_BYTES + payload.next_multiple_of(8)
}

/// Returns the word that ends the journal where checksums begin with `seed`.
#[inline]
fn end_marker(seed: u32) -> u64 {
    // Far from a record without a payload, so that no wrong bit makes one out of the other.
    header(0, !seed)
}

/// Joins length and checksum. A length never reaches 2^32: no region is that large.
#[inline]
fn header(length: usize, checksum: u32) -> u64 {
    length as u64 | u64::from(checksum) << 32
}

/// Splits a header into length and checksum.
fn parts(header: u64) -> (usize, u32) {
    (header as u32 as usize, (header >> 32) as u32)
}
