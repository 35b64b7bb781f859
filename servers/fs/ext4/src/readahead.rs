//! Reading ahead: who reads a file from front to back finds the next bytes on their way.

use alloc::collections::VecDeque;
use core::ops::Range;

use crate::device::{BlockReader, MAX_READ_BYTES};

/// First window of a stream: one data read.
const FIRST_WINDOW: u64 = MAX_READ_BYTES;
/// Largest window. It starts in the middle of a data read, so it takes one entry more.
const LAST_WINDOW: u64 = MAX_READ_BYTES * (MAX_ENTRIES as u64 - 1);
/// Data reads kept ahead at most. The device must have room for more, so that reads which
/// somebody waits for always find some.
pub(crate) const MAX_ENTRIES: usize = 8;
/// Streams remembered at most.
const MAX_STREAMS: usize = 16;

/// Notices sequential readers. Pure: says what to read, and reads nothing.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// The most recently used is last.
    recent: VecDeque<Stream>,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    inode: u32,
    /// Where the next read starts if it is sequential.
    next: u64,
    /// How far ahead to be.
    window: u64,
    /// First byte that was not read ahead yet.
    ahead: u64,
}

impl Streams {
    /// Takes note of a read and returns the range of the file to read ahead, empty for none.
    ///
    /// A read from the start, or from where an earlier one ended, is taken for sequential. The
    /// window doubles with each, and is filled up again once half of it is used. Tell how far
    /// that went with [`Streams::advance`].
    pub(crate) fn note(&mut self, inode: u32, read: Range<u64>) -> Range<u64> {
        let known = self
            .recent
            .iter()
            .position(|stream| stream.inode == inode && stream.next == read.start)
            .and_then(|position| self.recent.remove(position));
        let mut stream = match known {
            Some(stream) => Stream {
                window: (stream.window * 2).clamp(FIRST_WINDOW, LAST_WINDOW),
                ahead: stream.ahead.max(read.end),
                ..stream
            },
            None => {
                let window = if read.start == 0 { FIRST_WINDOW } else { 0 };
                Stream {
                    inode,
                    next: 0,
                    window,
                    ahead: read.end,
                }
            }
        };
        stream.next = read.end;
        let target = read.end.saturating_add(stream.window);
        let is_low = stream.ahead - read.end <= stream.window / 2;
        let wanted = if is_low {
            stream.ahead..target.max(stream.ahead)
        } else {
            0..0
        };
        self.recent.push_back(stream);
        if self.recent.len() > MAX_STREAMS {
            self.recent.pop_front();
        }
        wanted
    }

    /// Takes note that the stream whose last read ended at `next` was read ahead up to `ahead`.
    pub(crate) fn advance(&mut self, inode: u32, next: u64, ahead: u64) {
        let stream = self.recent.iter_mut().rev();
        for stream in stream.filter(|stream| stream.inode == inode && stream.next == next) {
            stream.ahead = stream.ahead.max(ahead);
        }
    }
}

/// A data read that nobody waits for yet, or what it left over.
pub(crate) struct Ahead<R: BlockReader> {
    /// The file that it is for.
    pub(crate) inode: u32,
    /// Where in the file it starts.
    pub(crate) at: u64,
    /// First byte on the device.
    pub(crate) offset: u64,
    /// Number of bytes.
    pub(crate) bytes: u64,
    pub(crate) state: AheadState<R>,
}

pub(crate) enum AheadState<R: BlockReader> {
    Pending(R::Pending),
    Ready(R::Data),
}

/// What is read ahead for all files of a volume.
pub(crate) struct ReadAhead<R: BlockReader> {
    pub(crate) streams: Streams,
    /// The oldest is first.
    entries: VecDeque<Ahead<R>>,
}

impl<R: BlockReader> ReadAhead<R> {
    pub(crate) fn new() -> Self {
        ReadAhead {
            streams: Streams::default(),
            entries: VecDeque::new(),
        }
    }

    /// Returns how many bytes from a place on the device are here or on their way.
    pub(crate) fn covered(&self, offset: u64) -> u64 {
        self.position(offset)
            .and_then(|position| self.entries.get(position))
            .map_or(0, |entry| entry.offset + entry.bytes - offset)
    }

    /// Takes the read that covers a place on the device.
    pub(crate) fn take(&mut self, offset: u64) -> Option<Ahead<R>> {
        self.position(offset)
            .and_then(|position| self.entries.remove(position))
    }

    /// Keeps a read, in place of one that `inode`'s reader, who is within `window` of its file,
    /// does not need. Without such a one, the read is given up.
    pub(crate) fn keep(&mut self, window: &Range<u64>, entry: Ahead<R>) {
        if self.make_room(entry.inode, window) {
            self.entries.push_back(entry);
        }
    }

    /// Makes sure that there is room for a read, and returns whether there is.
    pub(crate) fn make_room(&mut self, inode: u32, window: &Range<u64>) -> bool {
        if self.entries.len() < MAX_ENTRIES {
            return true;
        }
        let is_needed = |entry: &Ahead<R>| entry.inode == inode && window.contains(&entry.at);
        let useless = self.entries.iter().position(|entry| !is_needed(entry));
        useless
            .and_then(|position| self.entries.remove(position))
            .is_some()
    }

    fn position(&self, offset: u64) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| (entry.offset..entry.offset + entry.bytes).contains(&offset))
    }
}

#[cfg(test)]
mod tests {
    use super::{FIRST_WINDOW, LAST_WINDOW, Streams};

    const READ: u64 = 4096;

    #[test]
    fn a_sequential_reader_is_always_ahead_and_each_byte_is_asked_for_once() {
        let mut streams = Streams::default();
        let mut ahead = READ;
        for index in 0..2000 {
            let wanted = streams.note(7, index * READ..(index + 1) * READ);
            if !wanted.is_empty() {
                assert_eq!(wanted.start, ahead);
                ahead = wanted.end;
                streams.advance(7, (index + 1) * READ, ahead);
            }
            assert!(ahead >= (index + 1) * READ + FIRST_WINDOW / 2);
            assert!(ahead <= (index + 1) * READ + LAST_WINDOW);
        }
    }

    #[test]
    fn random_reads_are_not_followed() {
        let mut streams = Streams::default();
        for index in [90, 5, 33, 71, 12, 50] {
            assert!(streams.note(7, index * READ..(index + 1) * READ).is_empty());
        }
    }

    #[test]
    fn two_readers_of_one_file_are_told_apart() {
        let mut streams = Streams::default();
        assert!(streams.note(7, 1 << 30..(1 << 30) + READ).is_empty());
        assert!(!streams.note(7, 0..READ).is_empty());
        assert!(
            !streams
                .note(7, (1 << 30) + READ..(1 << 30) + 2 * READ)
                .is_empty()
        );
    }

    proptest::proptest! {
        #[test]
        fn what_is_wanted_lies_behind_the_read_and_within_the_window(
            reads in proptest::collection::vec((0u32..3, 0u64..1 << 22, 1u64..1 << 21), 1..100),
        ) {
            let mut streams = Streams::default();
            for (inode, start, bytes) in reads {
                let wanted = streams.note(inode, start..start + bytes);
                if !wanted.is_empty() {
                    proptest::prop_assert!(wanted.start >= start + bytes);
                    proptest::prop_assert!(wanted.end <= start + bytes + LAST_WINDOW);
                }
            }
        }
    }
}
