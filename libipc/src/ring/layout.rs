//! What lies where in the shared memory, and access to it.
//!
//! The stamps in the records are the truth: what is to be done, and what is done. The two queues
//! say where there is news, so that nobody looks through all records; each has a count that its
//! writer raises last. Whoever cannot find something in a queue (it is further on than the queue
//! is long, or the place was used again) looks through the records once, and goes on from there.
//! So a new instance of the server has no more to find out than that.

use libsys::abi::PAGE_SIZE;
use libsys::mappings::Mapping;

use super::memory::{RingMemory, RingWord};

/// Most slots of a ring.
pub const MAX_SLOTS: usize = 1024;

/// Marks a ring, and its layout.
const MAGIC: u64 = u64::from_le_bytes(*b"SKRING02");

/// Mark in the stamp of a submission: the client wants it cancelled.
pub(super) const CANCEL: u64 = 1 << 63;

const AT_MAGIC: usize = 0;
const AT_SLOTS: usize = 1;
/// Words that the client writes, in a cache line of their own: the stamp of the last submission,
/// and how often something was to be cancelled.
const AT_SUBMITTED: usize = 8;
const AT_CANCELS: usize = 9;
/// Words that the server writes: how many completions there were, and the last stamp that was
/// taken.
const AT_COMPLETED: usize = 16;
const AT_TAKEN: usize = 17;
/// Words that both write: whether a side is awake.
const AT_SERVER_AWAKE: usize = 24;
const AT_CLIENT_AWAKE: usize = 32;
/// Words of what comes before the records.
const HEADER_WORDS: usize = 48;

/// Words of a record: a slot, and a place in each of the queues.
const RECORD_WORDS: usize = 16;
const HEADER_RECORDS: usize = HEADER_WORDS / RECORD_WORDS;
/// Words of an entry, at the start of the record, in a cache line of their own.
const ENTRY_WORDS: usize = 8;
/// The stamp of the submission.
const IN_SUBMITTED: usize = 8;
/// Stamp and result of the completion.
const IN_COMPLETED: usize = 9;
const IN_RESULT: usize = 10;
/// In the queue of submissions: the slot, where it is not the one that the stamp stands for.
const IN_SUBMISSION_QUEUE: usize = 11;
/// In the queue of completions: the number of the completion, and its slot.
const IN_COMPLETION_QUEUE: usize = 12;
/// Bits of a slot in there.
const SLOT_BITS: u32 = MAX_SLOTS.ilog2();

/// Returns how many records there are: a queue is a power of two long.
const fn records_for(slots: usize) -> usize {
    slots.next_power_of_two()
}

/// Returns the bytes of a ring with so many slots.
pub const fn bytes_for(slots: usize) -> usize {
    (HEADER_WORDS + records_for(slots) * RECORD_WORDS) * 8
}

/// Returns the pages of a ring with so many slots.
pub const fn pages_for(slots: usize) -> usize {
    bytes_for(slots).div_ceil(PAGE_SIZE)
}

/// Why memory cannot be a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingError {
    /// The memory is smaller than the ring. Remedy: see [`pages_for`].
    TooSmall,
    /// A ring has 1 to [`MAX_SLOTS`] slots.
    BadSlotCount,
    /// No ring was made in this memory, or one of another layout.
    NoRing,
}

impl core::fmt::Display for RingError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            RingError::TooSmall => "the memory is too small for the ring",
            RingError::BadSlotCount => "a ring has 1 to 1024 slots",
            RingError::NoRing => "there is no ring in the memory",
        })
    }
}

impl core::error::Error for RingError {}

/// What is to be done; both sides agree on the meaning by their interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// Comes back with the completion.
    pub user_data: u64,
    /// What to do.
    pub opcode: u32,
    /// How to do it.
    pub flags: u32,
    /// On what.
    pub arguments: [u64; 5],
}

/// Which of the two sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Client,
    Server,
}

/// The shared memory of a ring that has up to `slots` entries in flight, of which it is known that
/// it fits.
#[derive(Debug)]
pub(super) struct Shared<M = Mapping> {
    memory: M,
    slots: usize,
    /// The number of records less 1.
    mask: usize,
}

/// A slot and its place in the queues.
type Record<M> = [<M as RingMemory>::Word; RECORD_WORDS];

impl<M: RingMemory> Shared<M> {
    /// Makes an empty ring.
    pub(super) fn create(memory: M, slots: usize) -> Result<Self, RingError> {
        let shared = Shared::new(memory, slots)?;
        for word in shared.memory.words().iter().take(bytes_for(slots) / 8) {
            word.write(0);
        }
        shared.write(AT_SLOTS, slots as u64);
        shared.release(AT_MAGIC, MAGIC);
        Ok(shared)
    }

    /// Takes a ring that the other side made.
    pub(super) fn attach(memory: M) -> Result<Self, RingError> {
        let Some(header) = memory.words().first_chunk::<HEADER_WORDS>() else {
            return Err(RingError::TooSmall);
        };
        if header[AT_MAGIC].acquire() != MAGIC {
            return Err(RingError::NoRing);
        }
        let slots = header[AT_SLOTS].read();
        let slots = usize::try_from(slots).map_err(|_| RingError::BadSlotCount)?;
        Shared::new(memory, slots)
    }

    fn new(memory: M, slots: usize) -> Result<Self, RingError> {
        if slots == 0 || slots > MAX_SLOTS {
            return Err(RingError::BadSlotCount);
        }
        if memory.words().len() < bytes_for(slots) / 8 {
            return Err(RingError::TooSmall);
        }
        Ok(Shared {
            memory,
            slots,
            mask: records_for(slots) - 1,
        })
    }

    /// Returns how many entries may be in flight.
    #[inline]
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Returns how many slots there are to choose from.
    #[inline]
    pub(super) fn records(&self) -> usize {
        self.mask + 1
    }

    /// Returns the slot that a stamp stands for: its submission is there if that was free.
    #[inline]
    pub(super) fn home(&self, stamp: u64) -> usize {
        stamp as usize & self.mask
    }

    /// Returns whether a queue cannot have kept what came after `seen`.
    #[inline]
    pub(super) fn is_lost(&self, seen: u64, count: u64) -> bool {
        count.wrapping_sub(seen) > self.mask as u64 + 1
    }

    /// Returns the stamp of the submission in a slot, with the mark [`CANCEL`].
    #[inline]
    pub(super) fn submitted_stamp(&self, slot: usize) -> u64 {
        self.record(slot)
            .map_or(0, |record| record[IN_SUBMITTED].acquire())
    }

    /// Returns the stamp of the last completion of a slot.
    #[inline]
    pub(super) fn completed_stamp(&self, slot: usize) -> u64 {
        self.record(slot)
            .map_or(0, |record| record[IN_COMPLETED].acquire())
    }

    /// Returns the result of a slot, if that has the completion with this stamp.
    #[inline]
    pub(super) fn result(&self, slot: usize, stamp: u64) -> Option<i64> {
        let record = self.record(slot)?;
        if record[IN_COMPLETED].acquire() != stamp {
            return None;
        }
        Some(record[IN_RESULT].read().cast_signed())
    }

    /// Copies the entry of a slot whose submission was seen.
    #[inline]
    pub(super) fn entry(&self, slot: usize) -> Entry {
        let Some(record) = self.record(slot) else {
            return Entry::default();
        };
        let operation = record[1].read();
        Entry {
            user_data: record[0].read(),
            opcode: operation as u32,
            flags: (operation >> 32) as u32,
            arguments: core::array::from_fn(|i| record[2 + i].read()),
        }
    }

    /// Says in which slot a submission will be that does not go to its home.
    pub(super) fn send_elsewhere(&self, stamp: u64, slot: usize) {
        if let Some(record) = self.record(self.home(stamp)) {
            record[IN_SUBMISSION_QUEUE].write(slot as u64);
        }
    }

    /// Submits an entry in a slot that is free: its home, or where it was sent. `stamp` counts the
    /// submissions.
    #[inline]
    pub(super) fn submit(&self, slot: usize, entry: &Entry, stamp: u64) {
        let Some(record) = self.record(slot) else {
            return;
        };
        record[0].write(entry.user_data);
        record[1].write(u64::from(entry.flags) << 32 | u64::from(entry.opcode));
        for (word, argument) in record[2..ENTRY_WORDS].iter().zip(&entry.arguments) {
            word.write(*argument);
        }
        record[IN_SUBMITTED].release(stamp);
        self.release(AT_SUBMITTED, stamp);
    }

    /// Asks for the submission with this stamp to be cancelled.
    pub(super) fn cancel(&self, slot: usize, stamp: u64) {
        if let Some(record) = self.record(slot) {
            record[IN_SUBMITTED].release(stamp | CANCEL);
        }
        self.release(AT_CANCELS, self.read(AT_CANCELS).wrapping_add(1));
    }

    /// Completes the submission with this stamp.
    #[inline]
    pub(super) fn complete(&self, slot: usize, result: i64, stamp: u64) {
        if let Some(record) = self.record(slot) {
            record[IN_RESULT].write(result.cast_unsigned());
            record[IN_COMPLETED].release(stamp);
        }
        let number = self.read(AT_COMPLETED);
        if let Some(record) = self.record(self.home(number)) {
            record[IN_COMPLETION_QUEUE].write(number << SLOT_BITS | slot as u64);
        }
        self.release(AT_COMPLETED, number.wrapping_add(1));
    }

    /// Makes the client look through all its slots.
    pub(super) fn hint_completions(&self) {
        let lost = self.mask as u64 + 2;
        self.release(AT_COMPLETED, self.read(AT_COMPLETED).wrapping_add(lost));
    }

    /// Returns the stamp of the last submission. It bears no mark, whatever the client wrote.
    #[inline]
    pub(super) fn submissions(&self) -> u64 {
        self.acquire(AT_SUBMITTED).min(CANCEL - 1)
    }

    /// Returns the slot of a submission that is not in its home, as the client says. It may be no
    /// slot.
    pub(super) fn submission_slot(&self, stamp: u64) -> usize {
        self.record(self.home(stamp))
            .map_or(0, |record| record[IN_SUBMISSION_QUEUE].read() as usize)
    }

    /// Returns a word that changes when something is to be cancelled.
    pub(super) fn cancels(&self) -> u64 {
        self.acquire(AT_CANCELS)
    }

    /// Returns the number of completions.
    #[inline]
    pub(super) fn completions(&self) -> u64 {
        self.acquire(AT_COMPLETED)
    }

    /// Returns the slot of a completion, as the server says; no slot if its place in the queue was
    /// used again.
    #[inline]
    pub(super) fn completion_slot(&self, number: u64) -> usize {
        let Some(record) = self.record(self.home(number)) else {
            return usize::MAX;
        };
        (record[IN_COMPLETION_QUEUE].read() ^ number << SLOT_BITS) as usize
    }

    /// Returns the last stamp that a server took.
    pub(super) fn taken(&self) -> u64 {
        self.read(AT_TAKEN)
    }

    /// Keeps the last stamp that was taken for the next instance of the server.
    #[inline]
    pub(super) fn set_taken(&self, stamp: u64) {
        self.release(AT_TAKEN, stamp);
    }

    /// Says that a side looks at the ring by itself.
    #[inline]
    pub(super) fn set_awake(&self, side: Side) {
        self.swap(at_awake(side), 1);
    }

    /// Says that a side is going to sleep. It must look at the ring once more after this.
    #[inline]
    pub(super) fn set_asleep(&self, side: Side) {
        self.swap(at_awake(side), 0);
        // What the other side published before it looked at the word is seen after this fence,
        // or it sees the word: one of the two.
        M::Word::fence();
    }

    /// Returns whether a side sleeps and takes it upon the caller to wake it.
    #[inline]
    pub(super) fn claim_wake(&self, side: Side) -> bool {
        M::Word::fence();
        let at = at_awake(side);
        self.read(at) == 0 && self.swap(at, 1) == 0
    }

    #[inline]
    fn record(&self, slot: usize) -> Option<&Record<M>> {
        let (records, _) = self.memory.words().as_chunks();
        records.get(HEADER_RECORDS + slot)
    }

    #[inline]
    fn read(&self, at: usize) -> u64 {
        self.word(at).map_or(0, RingWord::read)
    }

    #[inline]
    fn acquire(&self, at: usize) -> u64 {
        self.word(at).map_or(0, RingWord::acquire)
    }

    #[inline]
    fn write(&self, at: usize, value: u64) {
        if let Some(word) = self.word(at) {
            word.write(value);
        }
    }

    #[inline]
    fn release(&self, at: usize, value: u64) {
        if let Some(word) = self.word(at) {
            word.release(value);
        }
    }

    #[inline]
    fn swap(&self, at: usize, value: u64) -> u64 {
        self.word(at).map_or(1, |word| word.swap(value))
    }

    /// Returns a word of the header; all that are asked for lie within, as was checked at the
    /// start.
    #[inline]
    fn word(&self, at: usize) -> Option<&M::Word> {
        self.memory.words().get(at)
    }
}

#[inline]
fn at_awake(side: Side) -> usize {
    match side {
        Side::Client => AT_CLIENT_AWAKE,
        Side::Server => AT_SERVER_AWAKE,
    }
}
