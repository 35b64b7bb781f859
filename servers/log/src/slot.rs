//! The lines of one service: a ring of records over atomic memory.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Bytes of lines that are kept for a service.
pub(crate) const SLOT_BYTES: usize = 16 * 1024;
/// Words that describe a slot.
pub(crate) const SLOT_WORDS: usize = 8;
/// Most bytes of a service's name.
const NAME_BYTES: usize = 32;

/// Bytes before the target of a line: length of it all, level, lengths of target and text, time,
/// source position, number.
const LINE_HEADER: usize = 32;

const STARTED: usize = 0;
const NAME: usize = 1;
const BEGIN: usize = 5;
const END: usize = 6;

/// A line as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// When it was written, ns since boot.
    pub time_ns: u64,
    /// [`log::Level`] as a number; anything else counts as a trace.
    pub level: u8,
    /// The module that wrote it.
    pub target: Vec<u8>,
    /// The text.
    pub text: Vec<u8>,
    /// Position in the service's own ring behind the line.
    pub source: u64,
    /// Counts the lines of the service from 1; lines that were dropped are counted too.
    pub number: u64,
}

/// The place where the lines of one service are kept.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    words: &'a [AtomicU64],
    data: &'a [AtomicU8],
}

impl<'a> Slot<'a> {
    pub(crate) fn new(words: &'a [AtomicU64], data: &'a [AtomicU8]) -> Self {
        Slot { words, data }
    }

    /// Returns the name of the service, or `None` when the slot is free or damaged.
    pub fn name(&self) -> Option<Vec<u8>> {
        let length = self.get(STARTED) as usize;
        if length == 0 || length > NAME_BYTES || !self.is_sound() {
            return None;
        }
        let mut name = Vec::with_capacity(NAME_BYTES);
        for word in 0..NAME_BYTES / 8 {
            name.extend_from_slice(&self.get(NAME + word).to_le_bytes());
        }
        name.truncate(length);
        Some(name)
    }

    fn is_sound(&self) -> bool {
        let (begin, end) = (self.get(BEGIN), self.get(END));
        begin <= end && end - begin <= SLOT_BYTES as u64
    }

    /// Takes the slot for a service; the lines of an earlier owner are gone.
    pub(crate) fn start(&self, name: &[u8]) {
        let name = &name[..name.len().min(NAME_BYTES)];
        self.set(STARTED, 0);
        for word in 0..NAME_BYTES / 8 {
            let mut bytes = [0; 8];
            for (place, &byte) in bytes.iter_mut().zip(name.iter().skip(word * 8)) {
                *place = byte;
            }
            self.set(NAME + word, u64::from_le_bytes(bytes));
        }
        self.set(BEGIN, 0);
        self.set(END, 0);
        self.set(STARTED, name.len() as u64);
    }

    /// Keeps a line; the oldest ones make room.
    pub fn push(&self, line: &Line) {
        let target = &line.target[..line.target.len().min(255)];
        let text = &line.text[..line.text.len().min(4000)];
        let bytes = LINE_HEADER + target.len() + text.len();
        let end = self.get(END);
        let mut begin = self.get(BEGIN);
        while end + bytes as u64 - begin > SLOT_BYTES as u64 {
            begin = self.line_at(begin).map_or(end, |(_, next)| next);
            self.set(BEGIN, begin);
        }
        let mut header = [0; LINE_HEADER];
        header[..4].copy_from_slice(&(bytes as u32).to_le_bytes());
        header[4] = line.level;
        header[5] = target.len() as u8;
        header[6..8].copy_from_slice(&(text.len() as u16).to_le_bytes());
        header[8..16].copy_from_slice(&line.time_ns.to_le_bytes());
        header[16..24].copy_from_slice(&line.source.to_le_bytes());
        header[24..].copy_from_slice(&line.number.to_le_bytes());
        let bytes_of_line = header.iter().chain(target).chain(text);
        let mut at = end;
        for &byte in bytes_of_line {
            self.data[(at % SLOT_BYTES as u64) as usize].store(byte, Ordering::Release);
            at += 1;
        }
        self.set(END, at);
    }

    /// Iterates over the lines, oldest first. Ends early at a damaged one.
    pub fn lines(&self) -> impl Iterator<Item = Line> + use<'a> {
        let slot = *self;
        let mut at = slot.get(BEGIN);
        core::iter::from_fn(move || {
            let (line, next) = slot.line_at(at)?;
            at = next;
            Some(line)
        })
    }

    /// Returns the last line.
    pub fn last(&self) -> Option<Line> {
        self.lines().last()
    }

    fn line_at(&self, at: u64) -> Option<(Line, u64)> {
        let left = self.get(END).checked_sub(at)? as usize;
        if left < LINE_HEADER {
            return None;
        }
        let header: [u8; LINE_HEADER] = core::array::from_fn(|i| self.byte(at + i as u64));
        let word = |index: usize| u64::from_le_bytes(header.as_chunks::<8>().0[index]);
        let total = (word(0) & 0xffff_ffff) as usize;
        let target_bytes = usize::from(header[5]);
        let text_bytes = usize::from(u16::from_le_bytes([header[6], header[7]]));
        if total != LINE_HEADER + target_bytes + text_bytes || total > left {
            return None;
        }
        let bytes = |from: usize, count: usize| -> Vec<u8> {
            (from..from + count)
                .map(|i| self.byte(at + i as u64))
                .collect()
        };
        let line = Line {
            time_ns: word(1),
            level: header[4],
            target: bytes(LINE_HEADER, target_bytes),
            text: bytes(LINE_HEADER + target_bytes, text_bytes),
            source: word(2),
            number: word(3),
        };
        Some((line, at + total as u64))
    }

    fn byte(&self, at: u64) -> u8 {
        self.data[(at % SLOT_BYTES as u64) as usize].load(Ordering::Acquire)
    }

    fn get(&self, word: usize) -> u64 {
        self.words[word].load(Ordering::Acquire)
    }

    fn set(&self, word: usize, value: u64) {
        self.words[word].store(value, Ordering::Release);
    }
}
