//! Whether the next instance will read what was just written.
//!
//! A record that cannot be read is worse than none: it, and what follows it, is lost, for a server
//! of which no record may be missing everything. So the writer reads what it has written in the way
//! of a reader, before it counts. If it cannot, it is the writer that is damaged, or its memory. It
//! ends, and the next instance finds the state before the record.
//!
//! Nothing here is inlined: what the compiler knows of what it has just stored must not stand in for
//! reading it.

use super::{
    Half, Header, RECORD_HEADER_BYTES, WORD, crc32c_of_word, crc32c_of_words, end_marker, parts,
};
use crate::state::{StateMemory, word};

impl Half {
    /// Looks whether the record that was written at the present position, where the journal must end,
    /// will be read with this header, and the end of the journal at `next` behind it. Returns
    /// its payload.
    ///
    /// # Panics
    ///
    /// When it will not.
    #[inline(never)]
    pub(super) fn check_written<'a, M: StateMemory>(
        &self,
        memory: &'a M,
        header: u64,
        next: usize,
    ) -> &'a [u8] {
        let written = memory.view(self.position..next + WORD);
        let [end, payload @ .., behind] = written.as_chunks::<WORD>().0 else {
            unreadable();
        };
        let (length, checksum) = parts(header);
        let seed_behind = crc32c_of_word(self.seed, next as u64);
        let is_readable = u64::from_le_bytes(*end) == self.end_marker()
            && u64::from_le_bytes(*behind) == end_marker(seed_behind)
            && payload.len() + 1 == length
            && next + RECORD_HEADER_BYTES <= self.end
            && crc32c_of_words(self.position_seed, payload) == checksum;
        if !is_readable {
            unreadable();
        }
        payload.as_flattened()
    }

    /// Looks whether the snapshot that was written to this half will be read, with an empty journal
    /// behind it.
    ///
    /// # Panics
    ///
    /// When it will not.
    #[inline(never)]
    pub(in crate::state) fn check_started<M: StateMemory>(
        &self,
        memory: &M,
        schema: u64,
        snapshot: &[u8],
    ) {
        let mut half = Half::of_epoch(self.region_bytes, self.epoch);
        let header = half.header(memory);
        let is_there = header.is_some_and(|(header @ Header { schema: found, .. }, is_mended)| {
            !is_mended && found == schema && half.snapshot(memory, header) == Some(snapshot)
        });
        if !is_there
            || half.position != self.position
            || word(memory, half.position) != half.end_marker()
        {
            unreadable();
        }
    }
}

/// Looks whether a word that was committed is there.
///
/// # Panics
///
/// When it is not.
#[inline(never)]
pub(in crate::state) fn check_committed<M: StateMemory>(memory: &M, at: usize, value: u64) {
    if word(memory, at) != value {
        unreadable();
    }
}

#[cold]
fn unreadable() -> ! {
    panic!("what was written to the state region cannot be read")
}
