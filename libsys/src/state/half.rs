//! One half of a state region: a snapshot and the journal that goes on from it.
//!
//! Words are little endian and aligned to 8 bytes. A half starts with two words: length and
//! checksum of the snapshot, then the checksum of the first word. The snapshot follows, then the
//! records, each a header word (length plus one, checksum) and its payload, both filled up to 8
//! bytes. A header of 0 ends the journal. All checksums begin with epoch and position, so what an
//! earlier journal left behind is never taken for a record of this one.

use core::ops::Range;

use super::{HALVES_AT, StateMemory, crc32c, word};

/// Bytes before the snapshot.
const SNAPSHOT_HEADER_BYTES: usize = 16;
/// Bytes before the payload of a record, and of the word that ends the journal.
const RECORD_HEADER_BYTES: usize = 8;
/// The part of a half that only records that free something may use.
const RESERVE_DIVISOR: usize = 16;

/// Where a half lies, in which epoch it was written, and how far its journal was read or written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half {
    /// Bytes of the whole region.
    region_bytes: usize,
    /// Counts the snapshots; its lowest bit says which half this is.
    epoch: u64,
    /// Where the next record goes or is read.
    position: usize,
}

/// What stands in the place of a snapshot.
pub(super) struct Snapshot<'a> {
    /// The bytes, if their checksum is right.
    pub(super) payload: Option<&'a [u8]>,
    /// Whether the place of the journal is known.
    pub(super) has_journal: bool,
}

impl Half {
    /// Returns the half with which a new region starts.
    pub(super) fn first(region_bytes: usize) -> Half {
        Half {
            region_bytes,
            epoch: 2,
            position: 0,
        }
    }

    /// Returns the half that counts.
    pub(super) fn from_active_word(region_bytes: usize, active: u64) -> Half {
        Half {
            region_bytes,
            epoch: active,
            position: 0,
        }
    }

    /// Returns the word that makes this half count.
    pub(super) fn active_word(&self) -> u64 {
        self.epoch
    }

    /// Returns the half for the next snapshot.
    pub(super) fn other(&self) -> Half {
        Half {
            epoch: self.epoch.wrapping_add(1),
            position: 0,
            ..*self
        }
    }

    /// Returns this half for a new snapshot in place of a damaged one.
    pub(super) fn again(&self) -> Half {
        Half {
            epoch: self.epoch.wrapping_add(2),
            position: 0,
            ..*self
        }
    }

    /// Returns the half that counted before this one.
    pub(super) fn previous(&self) -> Half {
        Half {
            epoch: self.epoch.wrapping_sub(1),
            position: 0,
            ..*self
        }
    }

    fn range(&self) -> Range<usize> {
        let bytes = (self.region_bytes - HALVES_AT) / 2 / 8 * 8;
        let start = HALVES_AT + (self.epoch & 1) as usize * bytes;
        start..start + bytes
    }

    /// Returns how many bytes only records that free something may use.
    pub(super) fn reserve(&self) -> usize {
        self.range().len() / RESERVE_DIVISOR
    }

    /// Returns whether a record with a payload of `bytes` fits behind the journal.
    pub(super) fn can_hold(&self, bytes: usize) -> bool {
        // The word that ends the journal must fit too.
        self.position + record_bytes(bytes) + RECORD_HEADER_BYTES <= self.range().end
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
    pub(super) fn start<M: StateMemory>(&mut self, memory: &mut M, snapshot: &[u8]) {
        let start = self.range().start;
        memory.write(start + SNAPSHOT_HEADER_BYTES, snapshot);
        let header = header(snapshot.len(), self.checksum(start, snapshot));
        memory.commit(start, header);
        memory.commit(
            start + 8,
            self.checksum(start + 8, &header.to_le_bytes()).into(),
        );
        self.position = start + SNAPSHOT_HEADER_BYTES + snapshot.len().next_multiple_of(8);
        memory.commit(self.position, 0);
    }

    /// Makes sure that nothing here passes for a snapshot.
    pub(super) fn invalidate<M: StateMemory>(&self, memory: &mut M) {
        let start = self.range().start;
        memory.commit(start, 0);
        memory.commit(start + 8, 0);
    }

    /// Reads the snapshot and moves to the start of the journal.
    pub(super) fn read_snapshot<'a, M: StateMemory>(&mut self, memory: &'a M) -> Snapshot<'a> {
        let Range { start, end } = self.range();
        self.position = end;
        let header = word(memory, start);
        let is_header_good =
            word(memory, start + 8) == self.checksum(start + 8, &header.to_le_bytes()).into();
        let (bytes, checksum) = parts(header);
        let journal = bytes
            .checked_next_multiple_of(8)
            .map(|bytes| start + SNAPSHOT_HEADER_BYTES + bytes);
        let Some(journal) = journal.filter(|&journal| is_header_good && journal + 8 <= end) else {
            return Snapshot {
                payload: None,
                has_journal: false,
            };
        };
        self.position = journal;
        let payload = memory.view(start + SNAPSHOT_HEADER_BYTES..).get(..bytes);
        let payload = payload.filter(|payload| self.checksum(start, payload) == checksum);
        Snapshot {
            payload,
            has_journal: true,
        }
    }

    /// Reads the next record and moves past it: `None` at the end, `Some(None)` for a damaged
    /// one.
    pub(super) fn next_record<'a, M: StateMemory>(
        &mut self,
        memory: &'a M,
    ) -> Option<Option<&'a [u8]>> {
        let at = self.position;
        let end = self.range().end;
        let header = if at + RECORD_HEADER_BYTES <= end {
            word(memory, at)
        } else {
            0
        };
        if header == 0 {
            return None;
        }
        let (length, checksum) = parts(header);
        let next = length
            .checked_sub(1)
            .map(|bytes| (bytes, at + record_bytes(bytes)));
        let Some((bytes, next)) = next.filter(|(_, next)| next + RECORD_HEADER_BYTES <= end) else {
            // The length itself is damaged: where the next one starts is unknown.
            self.position = end;
            return Some(None);
        };
        self.position = next;
        let payload = memory.view(at + RECORD_HEADER_BYTES..).get(..bytes);
        Some(payload.filter(|payload| self.checksum(at, payload) == checksum))
    }

    /// Writes a record behind the journal. The caller has checked that it fits.
    pub(super) fn append<M: StateMemory>(&mut self, memory: &mut M, payload: &[u8]) {
        let at = self.position;
        let next = at + record_bytes(payload.len());
        memory.write(at + RECORD_HEADER_BYTES, payload);
        memory.commit(next, 0);
        memory.commit(at, header(payload.len() + 1, self.checksum(at, payload)));
        self.position = next;
    }

    /// Returns the checksum of a payload whose header is at `at`.
    fn checksum(&self, at: usize, payload: &[u8]) -> u32 {
        let crc = crc32c(0, &self.epoch.to_le_bytes());
        crc32c(crc32c(crc, &(at as u64).to_le_bytes()), payload)
    }
}

/// Returns the bytes that a record with this payload takes.
fn record_bytes(payload: usize) -> usize {
    RECORD_HEADER_BYTES + payload.next_multiple_of(8)
}

/// Joins length and checksum. A length never reaches 2^32: no region is that large.
fn header(length: usize, checksum: u32) -> u64 {
    length as u64 | u64::from(checksum) << 32
}

/// Splits a header into length and checksum.
fn parts(header: u64) -> (usize, u32) {
    (header as u32 as usize, (header >> 32) as u32)
}
