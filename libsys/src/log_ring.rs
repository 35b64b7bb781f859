//! The log ring: how a service's lines get to the log server without a call.
//!
//! One page run of shared memory per service: a header of eight words, then records. The service
//! writes and raises `head`; the log server reads and raises `tail`. A record counts when `head`
//! has passed it, so a service that is killed while it writes leaves no half line. When there is
//! no room, lines are dropped and counted: logging never waits.
//!
//! The reader trusts nothing in the ring: it keeps its own position, checks each length against
//! what it copied, and throws away what makes no sense.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use skink_abi::layout::LOG_RING_BYTES;

/// Most bytes of the text of a record; longer ones are cut.
pub const MAX_TEXT: usize = 480;
/// Most bytes of the target of a record.
pub const MAX_TARGET: usize = 64;

/// Bytes of the header.
const HEADER_BYTES: usize = 64;
/// Bytes of records that fit.
const DATA_BYTES: usize = LOG_RING_BYTES as usize - HEADER_BYTES;
const MAGIC: u64 = u64::from_le_bytes(*b"SKINKLOG");
/// Bytes before the target of a record: length of it all, level, length of the target, length of
/// the text, time.
const RECORD_HEADER: usize = 16;
const HEAD: usize = 1;
const TAIL: usize = 2;
const DROPPED: usize = 3;

/// One line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// When it was written, ns since boot.
    pub time_ns: u64,
    /// [`log::Level`] as a number, 1 for errors to 5 for traces; a hostile writer may give others.
    pub level: u8,
    /// The module that wrote it.
    pub target: &'a [u8],
    /// The text.
    pub text: &'a [u8],
}

/// The writing side, over the shared memory itself.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    words: &'a [AtomicU64],
    data: &'a [AtomicU8],
}

impl<'a> Writer<'a> {
    /// Makes the writing side of a ring with 8 header words and [`LOG_RING_BYTES`] less 64 bytes
    /// of data. A ring that was written before goes on.
    pub fn new(words: &'a [AtomicU64], data: &'a [AtomicU8]) -> Option<Self> {
        if words.len() < HEADER_BYTES / 8 || data.len() < DATA_BYTES {
            return None;
        }
        let writer = Writer {
            words,
            data: &data[..DATA_BYTES],
        };
        if writer.words[0].load(Ordering::Acquire) != MAGIC {
            for word in &writer.words[1..] {
                word.store(0, Ordering::Release);
            }
            writer.words[0].store(MAGIC, Ordering::Release);
        }
        Some(writer)
    }

    /// Writes a record, or counts it as dropped when there is no room.
    pub fn push(&self, record: Record<'_>) {
        let target = &record.target[..record.target.len().min(MAX_TARGET)];
        let text = &record.text[..record.text.len().min(MAX_TEXT)];
        let bytes = (RECORD_HEADER + target.len() + text.len()).next_multiple_of(8);
        let head = self.words[HEAD].load(Ordering::Acquire);
        let used = head.wrapping_sub(self.words[TAIL].load(Ordering::Acquire));
        if used.saturating_add(bytes as u64) > DATA_BYTES as u64 {
            self.words[DROPPED].fetch_add(1, Ordering::AcqRel);
            return;
        }
        let mut header = [0; RECORD_HEADER];
        header[..4].copy_from_slice(&(bytes as u32).to_le_bytes());
        header[4] = record.level;
        header[5] = target.len() as u8;
        header[6..8].copy_from_slice(&(text.len() as u16).to_le_bytes());
        header[8..].copy_from_slice(&record.time_ns.to_le_bytes());
        let start = self.store(head, &header);
        let start = self.store(start, target);
        self.store(start, text);
        self.words[HEAD].store(head.wrapping_add(bytes as u64), Ordering::Release);
    }

    fn store(&self, position: u64, bytes: &[u8]) -> u64 {
        for (at, &byte) in bytes.iter().enumerate() {
            let place = position.wrapping_add(at as u64) % DATA_BYTES as u64;
            self.data[place as usize].store(byte, Ordering::Release);
        }
        position.wrapping_add(bytes.len() as u64)
    }
}

/// How the reader gets at the shared memory.
pub trait RingMemory {
    /// Copies bytes out of it; `false` when that fails.
    fn read(&self, offset: usize, buffer: &mut [u8]) -> bool;
    /// Copies bytes into it; `false` when that fails.
    fn write(&self, offset: usize, bytes: &[u8]) -> bool;
}

impl RingMemory for crate::Handle<crate::Memory> {
    fn read(&self, offset: usize, buffer: &mut [u8]) -> bool {
        crate::Handle::<crate::Memory>::read(self, offset as u64, buffer).is_ok()
    }

    fn write(&self, offset: usize, bytes: &[u8]) -> bool {
        crate::Handle::<crate::Memory>::write(self, offset as u64, bytes).is_ok()
    }
}

/// What a look into a ring found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Drained {
    /// Records that were given out.
    pub records: usize,
    /// Records that the writer dropped since boot, as it says itself.
    pub dropped: u64,
    /// Whether the ring made no sense and what was in it was thrown away.
    pub is_damaged: bool,
}

/// The reading side. It keeps its position itself; see [`Reader::position`].
#[derive(Debug, Default)]
pub struct Reader {
    position: u64,
    copy: Vec<u8>,
}

impl Reader {
    /// Makes a reader that goes on at a position (0 for a new ring).
    pub fn new(position: u64) -> Self {
        Reader {
            position,
            copy: Vec::new(),
        }
    }

    /// Returns the position: bytes ever read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Gives every new record and the position behind it to `sink`, then makes room for more.
    pub fn drain(
        &mut self,
        memory: &impl RingMemory,
        mut sink: impl FnMut(Record<'_>, u64),
    ) -> Drained {
        let mut header = [0; HEADER_BYTES];
        if !memory.read(0, &mut header) || word(&header, 0) != MAGIC {
            return Drained::default();
        }
        let mut drained = Drained {
            dropped: word(&header, DROPPED),
            ..Drained::default()
        };
        let head = word(&header, HEAD);
        if head == self.position {
            return drained;
        }
        let new = head.wrapping_sub(self.position);
        if new > DATA_BYTES as u64 || !self.copy_new(memory, new as usize) {
            drained.is_damaged = true;
        } else {
            let mut at = 0;
            while at < self.copy.len() {
                let Some((record, bytes)) = parse(&self.copy[at..]) else {
                    drained.is_damaged = true;
                    break;
                };
                at += bytes;
                drained.records += 1;
                sink(record, self.position.wrapping_add(at as u64));
            }
        }
        self.position = head;
        // A ring that cannot be written any more is its owner's loss alone.
        let _ = memory.write(TAIL * 8, &head.to_le_bytes());
        drained
    }

    /// Copies the new part of the ring, unwrapped.
    fn copy_new(&mut self, memory: &impl RingMemory, new: usize) -> bool {
        self.copy.resize(new, 0);
        let start = (self.position % DATA_BYTES as u64) as usize;
        let (first, second) = self.copy.split_at_mut(new.min(DATA_BYTES - start));
        memory.read(HEADER_BYTES + start, first)
            && (second.is_empty() || memory.read(HEADER_BYTES, second))
    }
}

fn word(header: &[u8; HEADER_BYTES], index: usize) -> u64 {
    u64::from_le_bytes(header.as_chunks::<8>().0[index])
}

/// Parses the record at the start of the bytes; `None` if there is none.
fn parse(bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let header: &[u8; RECORD_HEADER] = bytes.first_chunk()?;
    let [l0, l1, l2, l3, level, target_bytes, t0, t1, time @ ..] = *header;
    let total = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let target_end = RECORD_HEADER + usize::from(target_bytes);
    let text_end = target_end + usize::from(u16::from_le_bytes([t0, t1]));
    if text_end.next_multiple_of(8) != total || total > bytes.len() {
        return None;
    }
    let record = Record {
        time_ns: u64::from_le_bytes(time),
        level,
        target: &bytes[RECORD_HEADER..target_end],
        text: &bytes[target_end..text_end],
    };
    Some((record, total))
}

#[cfg(bare)]
mod guest {
    use core::fmt::Write as _;
    use core::sync::atomic::{AtomicU8, AtomicU64};

    use skink_abi::layout::LOG_RING;

    use super::{DATA_BYTES, HEADER_BYTES, MAX_TEXT, Record, Writer};

    /// Sends what is logged to the log ring of this service.
    struct RingLogger {
        ring: spin::Mutex<Option<Writer<'static>>>,
    }

    static LOGGER: RingLogger = RingLogger {
        ring: spin::Mutex::new(None),
    };

    /// Makes the `log` macros write to the log ring of this service, or to the kernel log (errors
    /// and warnings only) in a program that has no ring. Calling it again does nothing.
    pub fn init(level: log::LevelFilter) {
        if crate::startup::header().has_service_page == 1 {
            let start = LOG_RING as usize;
            let words = core::ptr::without_provenance::<AtomicU64>(start);
            let data = core::ptr::without_provenance::<AtomicU8>(start + HEADER_BYTES);
            // SAFETY: whoever started this service mapped the ring there, readable and writable,
            // for as long as the process lives; it is shared, hence atomics only.
            let words = unsafe { core::slice::from_raw_parts(words, HEADER_BYTES / 8) };
            // SAFETY: as above, the rest of the same mapping.
            let data = unsafe { core::slice::from_raw_parts(data, DATA_BYTES) };
            *LOGGER.ring.lock() = Writer::new(words, data);
        }
        // An error means that it was set before, which is what was wanted.
        let _ = log::set_logger(&LOGGER);
        log::set_max_level(level);
    }

    /// Text on its way into a record, cut at its capacity.
    struct Text {
        bytes: [u8; MAX_TEXT],
        used: usize,
    }

    impl core::fmt::Write for Text {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            let mut cut = text.len().min(self.bytes.len() - self.used);
            while !text.is_char_boundary(cut) {
                cut -= 1;
            }
            self.bytes[self.used..self.used + cut].copy_from_slice(&text.as_bytes()[..cut]);
            self.used += cut;
            Ok(())
        }
    }

    impl log::Log for RingLogger {
        fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            let mut text = Text {
                bytes: [0; MAX_TEXT],
                used: 0,
            };
            // `Text` never fails.
            let _ = text.write_fmt(*record.args());
            // The ring has one writer: while a version is on trial, that is the one that serves.
            let ring = match crate::gate::is_trial() {
                true => None,
                false => *self.ring.lock(),
            };
            match ring {
                Some(writer) => writer.push(Record {
                    time_ns: crate::time::now(),
                    level: record.level() as u8,
                    target: record.target().as_bytes(),
                    text: &text.bytes[..text.used],
                }),
                None if record.level() <= log::Level::Warn => {
                    let text = core::str::from_utf8(&text.bytes[..text.used]).unwrap_or_default();
                    crate::debug_log(text);
                }
                None => {}
            }
        }

        fn flush(&self) {}
    }
}

#[cfg(bare)]
pub use guest::init;

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::{
        DATA_BYTES, HEADER_BYTES, MAX_TARGET, MAX_TEXT, Reader, Record, RingMemory, Writer,
    };

    struct Shared {
        words: Vec<AtomicU64>,
        data: Vec<AtomicU8>,
    }

    impl Shared {
        fn new() -> Self {
            Shared {
                words: (0..HEADER_BYTES / 8).map(|_| AtomicU64::new(0)).collect(),
                data: (0..DATA_BYTES).map(|_| AtomicU8::new(0)).collect(),
            }
        }

        fn byte(&self, at: usize) -> u8 {
            match at.checked_sub(HEADER_BYTES) {
                Some(at) => self.data[at].load(Ordering::Relaxed),
                None => self.words[at / 8].load(Ordering::Relaxed).to_le_bytes()[at % 8],
            }
        }
    }

    impl RingMemory for Shared {
        fn read(&self, offset: usize, buffer: &mut [u8]) -> bool {
            if offset + buffer.len() > HEADER_BYTES + DATA_BYTES {
                return false;
            }
            for (at, byte) in buffer.iter_mut().enumerate() {
                *byte = self.byte(offset + at);
            }
            true
        }

        fn write(&self, offset: usize, bytes: &[u8]) -> bool {
            let value = u64::from_le_bytes(bytes.try_into().unwrap());
            self.words[offset / 8].store(value, Ordering::Relaxed);
            true
        }
    }

    fn record<'a>(time_ns: u64, target: &'a [u8], text: &'a [u8]) -> Record<'a> {
        Record {
            time_ns,
            level: 3,
            target,
            text,
        }
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let shared = Shared::new();
        let writer = Writer::new(&shared.words, &shared.data).unwrap();
        writer.push(record(1, b"vfs", b"mounted /"));
        writer.push(record(2, b"", b""));
        let mut got = Vec::new();
        let mut reader = Reader::default();
        let drained = reader.drain(&shared, |record, _| {
            got.push((record.time_ns, record.target.to_vec(), record.text.to_vec()));
        });
        assert_eq!((drained.records, drained.is_damaged), (2, false));
        assert_eq!(
            got,
            [
                (1, b"vfs".to_vec(), b"mounted /".to_vec()),
                (2, vec![], vec![])
            ]
        );
        assert_eq!(
            reader
                .drain(&shared, |_, _| panic!("nothing is new"))
                .records,
            0
        );
    }

    #[test]
    fn a_full_ring_drops_and_counts_then_goes_on() {
        let shared = Shared::new();
        let writer = Writer::new(&shared.words, &shared.data).unwrap();
        for time in 0..1000 {
            writer.push(record(time, b"t", &[b'x'; 100]));
        }
        let mut reader = Reader::default();
        let drained = reader.drain(&shared, |_, _| {});
        assert_eq!(drained.records as u64 + drained.dropped, 1000);
        writer.push(record(5, b"t", b"again"));
        assert_eq!(reader.drain(&shared, |_, _| {}).records, 1);
    }

    #[test]
    fn a_ring_outlives_its_writer_and_its_reader() {
        let shared = Shared::new();
        Writer::new(&shared.words, &shared.data)
            .unwrap()
            .push(record(1, b"a", b"one"));
        Writer::new(&shared.words, &shared.data)
            .unwrap()
            .push(record(2, b"a", b"two"));
        let mut positions = Vec::new();
        Reader::new(0).drain(&shared, |_, behind| positions.push(behind));
        let mut times = Vec::new();
        Reader::new(positions[0]).drain(&shared, |record, _| times.push(record.time_ns));
        assert_eq!(times, [2]);
    }

    proptest! {
        #[test]
        fn any_lines_round_trip(
            lines in proptest::collection::vec(
                (any::<u64>(), proptest::collection::vec(any::<u8>(), 0..MAX_TARGET),
                 proptest::collection::vec(any::<u8>(), 0..MAX_TEXT)), 1..200),
        ) {
            let shared = Shared::new();
            let writer = Writer::new(&shared.words, &shared.data).unwrap();
            let mut reader = Reader::default();
            for (time, target, text) in &lines {
                writer.push(record(*time, target, text));
                let drained = reader.drain(&shared, |got, _| {
                    assert_eq!(got, record(*time, target, text));
                });
                prop_assert_eq!((drained.records, drained.dropped), (1, 0));
            }
        }

        #[test]
        fn a_hostile_writer_cannot_harm_the_reader(
            words in proptest::collection::vec(any::<u64>(), 8),
            near in 0..40_000_u64,
            bytes in proptest::collection::vec(any::<u8>(), 1..600),
        ) {
            let shared = Shared::new();
            let writer = Writer::new(&shared.words, &shared.data).unwrap();
            writer.push(record(1, b"t", b"text"));
            for (place, word) in shared.words[1..].iter().zip(words) {
                place.store(word, Ordering::Relaxed);
            }
            shared.words[1].store(near, Ordering::Relaxed);
            for (place, byte) in shared.data.iter().zip(bytes.iter().cycle()) {
                place.store(*byte, Ordering::Relaxed);
            }
            let mut reader = Reader::default();
            reader.drain(&shared, |record, _| assert!(record.text.len() <= DATA_BYTES));
            reader.drain(&shared, |_, _| panic!("nothing is new"));
        }
    }
}
