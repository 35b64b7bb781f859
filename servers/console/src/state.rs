//! The state region: plain words that are valid whenever the server is killed.
//!
//! Nothing here is a pointer and nothing needs a lock: each change is one store, or a row of
//! stores whose last one makes it count. Stores are `Release`, loads `Acquire`: a killed process
//! stops between two instructions, so the order of its own stores is all that matters.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Bytes of input that are kept.
pub const RING_BYTES: usize = 4096;
/// Writes that are remembered: more than can be unanswered at once, since they run one by one.
pub const WRITE_SLOTS: usize = 16;
/// Reads that are remembered, as above.
pub const READ_SLOTS: usize = 16;
/// Words that the state needs.
pub const WORDS: usize = FIRST_READ + READ_SLOTS * READ_WORDS;

/// The schema of the state, which marks a region that holds this layout.
pub const SCHEMA: u64 = libsys::state::layout_hash(
    "console.1",
    &[
        RING_BYTES as u64,
        FIRST_WRITE as u64,
        WRITE_SLOTS as u64,
        WRITE_WORDS as u64,
        READ_SLOTS as u64,
        READ_WORDS as u64,
    ],
);
const WRITE_WORDS: usize = 3;
const READ_WORDS: usize = 5;
const FIRST_WRITE: usize = 16;
const FIRST_READ: usize = FIRST_WRITE + WRITE_SLOTS * WRITE_WORDS;

/// A badge that no client has: marks slots that hold nothing.
pub const NOBODY: u64 = u64::MAX;
/// The badge under which the echo is written.
pub const ECHO: u64 = u64::MAX - 1;
/// First badge of the sessions that this server makes; `init` gives out lower ones.
pub const FIRST_SESSION: u64 = 1 << 32;

/// The words and the input ring.
#[derive(Clone, Copy, Debug)]
pub struct State<'a> {
    words: &'a [AtomicU64],
    ring: &'a [AtomicU8],
}

/// Whether the state of an earlier instance was there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nothing: the first start.
    Nothing,
    /// A valid state.
    State,
    /// A state that contradicts itself; it was thrown away.
    Damaged,
}

impl<'a> State<'a> {
    /// Opens the state, or begins with an empty one when there is none or it is damaged. `None`
    /// when the memory is too small.
    pub fn open(words: &'a [AtomicU64], ring: &'a [AtomicU8]) -> Option<(Self, Found)> {
        let state = State {
            words: words.get(..WORDS)?,
            ring: ring.get(..RING_BYTES)?,
        };
        let found = match state.words[0].load(Ordering::Acquire) {
            0 => Found::Nothing,
            SCHEMA if state.is_sound() => Found::State,
            _ => Found::Damaged,
        };
        if found != Found::State {
            state.clear();
        }
        Some((state, found))
    }

    fn is_sound(&self) -> bool {
        let (head, tail) = (self.head().load(Ordering::Acquire), self.tail().get());
        tail <= head
            && head - tail <= RING_BYTES as u64
            && self.echoed().get() <= head
            && self.checked().get() <= head
            && self.sessions().get() >= FIRST_SESSION
    }

    fn clear(&self) {
        self.words[0].store(0, Ordering::Release);
        for word in &self.words[1..] {
            word.store(0, Ordering::Release);
        }
        for slot in 0..WRITE_SLOTS {
            self.write_slot(slot).badge().set(NOBODY);
        }
        for slot in 0..READ_SLOTS {
            self.read_slot(slot).badge().set(NOBODY);
        }
        self.sessions().set(FIRST_SESSION);
        self.words[0].store(SCHEMA, Ordering::Release);
    }

    /// Bytes ever received; raised by the kernel.
    pub fn head(&self) -> &'a AtomicU64 {
        &self.words[1]
    }

    /// Bytes ever given to readers or thrown away.
    pub fn tail(&self) -> Word<'a> {
        Word(&self.words[2])
    }

    /// Bytes whose echo was written.
    pub fn echoed(&self) -> Word<'a> {
        Word(&self.words[3])
    }

    /// Bytes that were looked at for the interrupt key.
    pub fn checked(&self) -> Word<'a> {
        Word(&self.words[4])
    }

    /// 1 while input goes by line, 0 while it is raw.
    pub fn by_line(&self) -> Word<'a> {
        Word(&self.words[5])
    }

    /// The badge of the next session.
    pub fn sessions(&self) -> Word<'a> {
        Word(&self.words[6])
    }

    /// The write slot to use next.
    pub fn next_write(&self) -> Word<'a> {
        Word(&self.words[7])
    }

    /// The read slot to use next.
    pub fn next_read(&self) -> Word<'a> {
        Word(&self.words[8])
    }

    /// The input ring.
    pub fn ring(&self) -> &'a [AtomicU8] {
        self.ring
    }

    /// Returns what is remembered of a write.
    pub fn write_slot(&self, slot: usize) -> WriteSlot<'a> {
        let first = FIRST_WRITE + slot % WRITE_SLOTS * WRITE_WORDS;
        WriteSlot(&self.words[first..first + WRITE_WORDS])
    }

    /// Returns what is remembered of a read.
    pub fn read_slot(&self, slot: usize) -> ReadSlot<'a> {
        let first = FIRST_READ + slot % READ_SLOTS * READ_WORDS;
        ReadSlot(&self.words[first..first + READ_WORDS])
    }
}

/// One word of the state.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a>(&'a AtomicU64);

impl<'a> Word<'a> {
    /// Returns the value.
    pub fn get(self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Sets the value.
    pub fn set(self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    /// Returns the word itself, for the kernel to raise.
    pub fn atomic(self) -> &'a AtomicU64 {
        self.0
    }
}

/// What is remembered of a write. Valid when its badge is not [`NOBODY`], which is why the badge
/// is taken away before and stored after the rest changes.
#[derive(Clone, Copy, Debug)]
pub struct WriteSlot<'a>(&'a [AtomicU64]);

impl<'a> WriteSlot<'a> {
    /// Who writes.
    pub fn badge(self) -> Word<'a> {
        Word(&self.0[0])
    }

    /// Which of its requests.
    pub fn sequence(self) -> Word<'a> {
        Word(&self.0[1])
    }

    /// Bytes of it that the device took; raised by the kernel.
    pub fn done(self) -> Word<'a> {
        Word(&self.0[2])
    }
}

/// What is remembered of a read; valid as [`WriteSlot`] is.
#[derive(Clone, Copy, Debug)]
pub struct ReadSlot<'a>(&'a [AtomicU64]);

impl<'a> ReadSlot<'a> {
    /// Who reads.
    pub fn badge(self) -> Word<'a> {
        Word(&self.0[0])
    }

    /// Which of its requests.
    pub fn sequence(self) -> Word<'a> {
        Word(&self.0[1])
    }

    /// First byte it was given, in bytes ever received.
    pub fn from(self) -> Word<'a> {
        Word(&self.0[2])
    }

    /// Byte after the last one.
    pub fn to(self) -> Word<'a> {
        Word(&self.0[3])
    }

    /// 1 when the bytes were edited as a line.
    pub fn by_line(self) -> Word<'a> {
        Word(&self.0[4])
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, State};
    use crate::fake::Region;

    #[test]
    fn schema_changes_only_with_the_layout() {
        assert_eq!(super::SCHEMA, 0xbb44f153e9df6e61);
    }

    #[test]
    fn an_empty_region_is_set_up_and_found_again() {
        let region = Region::new();
        let (state, found) = State::open(&region.words, &region.ring).unwrap();
        assert_eq!(found, Found::Nothing);
        state.echoed().set(0);
        state.by_line().set(1);
        let (state, found) = State::open(&region.words, &region.ring).unwrap();
        assert_eq!((found, state.by_line().get()), (Found::State, 1));
    }

    #[test]
    fn a_state_that_contradicts_itself_is_thrown_away() {
        let region = Region::new();
        let (state, _) = State::open(&region.words, &region.ring).unwrap();
        state.tail().set(5);
        let (state, found) = State::open(&region.words, &region.ring).unwrap();
        assert_eq!((found, state.tail().get()), (Found::Damaged, 0));
        assert!(State::open(&region.words[..4], &region.ring).is_none());
    }
}
