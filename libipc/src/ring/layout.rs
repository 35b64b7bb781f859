//! What lies where in the shared memory, and access to it.
//!
//! The tables of stamps are the truth: what is to be done, and what is done. The two queues say
//! in which slots there is news, so that nobody looks through the tables; each has a count that
//! its writer raises last. Whoever finds a count further on than a queue is long looks through
//! the tables once, and goes on from there. So a new instance of the server has no more to find
//! out than that.

use libsys::abi::PAGE_SIZE;
use libsys::mappings::Mapping;

use super::memory::{RingMemory, RingWord};

/// Most slots of a ring.
pub const MAX_SLOTS: usize = 1024;

/// Marks a ring, and its layout.
const MAGIC: u64 = u64::from_le_bytes(*b"SKRING02");

/// In the stamp of a submission: the client wants it cancelled.
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
/// The entries, then the tables and queues.
const AT_ENTRIES: usize = 40;

/// Words of an entry.
const ENTRY_WORDS: usize = 8;
/// Words of a slot: its entry, the stamp of its submission, stamp and result of its completion.
const SLOT_WORDS: usize = ENTRY_WORDS + 3;

/// Returns the length of the queue of submissions. No more of them can be unseen: the server sees
/// them in order, and a slot is used again only after that.
const fn queue_length(slots: usize) -> usize {
    slots.next_power_of_two()
}

/// Returns the length of the queue of completions. It is twice as long, because a client that
/// looks through all slots may find completions that the count it has read does not contain yet,
/// and use their slots again, before it comes past them in the queue.
const fn completion_queue_length(slots: usize) -> usize {
    2 * queue_length(slots)
}

/// Returns the bytes of a ring with so many slots.
pub const fn bytes_for(slots: usize) -> usize {
    let queues = queue_length(slots) + completion_queue_length(slots);
    (AT_ENTRIES + slots * SLOT_WORDS + queues) * 8
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

/// The shared memory of a ring of `slots` slots, of which it is known that they fit.
#[derive(Debug)]
pub(super) struct Shared<M = Mapping> {
    memory: M,
    slots: usize,
    /// Lengths of the queues less 1.
    submission_mask: usize,
    completion_mask: usize,
}

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
        let words = memory.words();
        let [Some(magic), Some(slots)] = [AT_MAGIC, AT_SLOTS].map(|at| words.get(at)) else {
            return Err(RingError::TooSmall);
        };
        if words.len() < AT_ENTRIES {
            return Err(RingError::TooSmall);
        }
        if magic.acquire() != MAGIC {
            return Err(RingError::NoRing);
        }
        let slots = usize::try_from(slots.read()).map_err(|_| RingError::BadSlotCount)?;
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
            submission_mask: queue_length(slots) - 1,
            completion_mask: completion_queue_length(slots) - 1,
        })
    }

    /// Returns the number of slots.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Returns whether the queue of submissions cannot have kept what came after `seen`.
    #[inline]
    pub(super) fn has_lost_submissions(&self, seen: u64, count: u64) -> bool {
        count.wrapping_sub(seen) > self.submission_mask as u64 + 1
    }

    /// Returns whether the queue of completions cannot have kept what came after `seen`.
    #[inline]
    pub(super) fn has_lost_completions(&self, seen: u64, count: u64) -> bool {
        count.wrapping_sub(seen) > self.completion_mask as u64 + 1
    }

    /// Returns the stamp of the submission in a slot, with the mark [`CANCEL`].
    #[inline]
    pub(super) fn submitted_stamp(&self, slot: usize) -> u64 {
        self.acquire(self.at_submitted(slot))
    }

    /// Returns the stamp of the last completion of a slot.
    #[inline]
    pub(super) fn completed_stamp(&self, slot: usize) -> u64 {
        self.acquire(self.at_completed(slot))
    }

    /// Returns the result of a slot whose completion was seen.
    #[inline]
    pub(super) fn result(&self, slot: usize) -> i64 {
        self.read(self.at_completed(slot) + 1).cast_signed()
    }

    /// Copies the entry of a slot whose submission was seen.
    #[inline]
    pub(super) fn entry(&self, slot: usize) -> Entry {
        let Some(words) = self.entry_words(slot) else {
            return Entry::default();
        };
        let operation = words[1].read();
        Entry {
            user_data: words[0].read(),
            opcode: operation as u32,
            flags: (operation >> 32) as u32,
            arguments: core::array::from_fn(|i| words[2 + i].read()),
        }
    }

    /// Submits an entry in a slot that is free. `stamp` counts the submissions.
    #[inline]
    pub(super) fn submit(&self, slot: usize, entry: &Entry, stamp: u64) {
        let Some(words) = self.entry_words(slot) else {
            return;
        };
        words[0].write(entry.user_data);
        words[1].write(u64::from(entry.flags) << 32 | u64::from(entry.opcode));
        for (word, argument) in words[2..].iter().zip(&entry.arguments) {
            word.write(*argument);
        }
        self.write(self.at_submission_queue(stamp), slot as u64);
        self.release(self.at_submitted(slot), stamp);
        self.release(AT_SUBMITTED, stamp);
    }

    /// Asks for the submission with this stamp to be cancelled.
    pub(super) fn cancel(&self, slot: usize, stamp: u64) {
        self.release(self.at_submitted(slot), stamp | CANCEL);
        self.release(AT_CANCELS, self.read(AT_CANCELS).wrapping_add(1));
    }

    /// Completes the submission with this stamp.
    #[inline]
    pub(super) fn complete(&self, slot: usize, result: i64, stamp: u64) {
        let at = self.at_completed(slot);
        self.write(at + 1, result.cast_unsigned());
        self.release(at, stamp);
        let count = self.read(AT_COMPLETED);
        self.write(self.at_completion_queue(count), slot as u64);
        self.release(AT_COMPLETED, count.wrapping_add(1));
    }

    /// Makes the client look through all its slots.
    pub(super) fn hint_completions(&self) {
        let beyond = self.completion_mask as u64 + 2;
        self.release(AT_COMPLETED, self.read(AT_COMPLETED).wrapping_add(beyond));
    }

    /// Returns the stamp of the last submission. It bears no mark, whatever the client wrote.
    #[inline]
    pub(super) fn submissions(&self) -> u64 {
        self.acquire(AT_SUBMITTED).min(CANCEL - 1)
    }

    /// Returns the slot of a submission, as the client says. It may be no slot.
    #[inline]
    pub(super) fn submission_slot(&self, stamp: u64) -> usize {
        self.read(self.at_submission_queue(stamp)) as usize
    }

    /// Returns a word that changes when something is to be cancelled.
    #[inline]
    pub(super) fn cancels(&self) -> u64 {
        self.acquire(AT_CANCELS)
    }

    /// Returns the number of completions.
    #[inline]
    pub(super) fn completions(&self) -> u64 {
        self.acquire(AT_COMPLETED)
    }

    /// Returns the slot of a completion, as the server says. It may be no slot.
    #[inline]
    pub(super) fn completion_slot(&self, number: u64) -> usize {
        self.read(self.at_completion_queue(number)) as usize
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
    fn entry_words(&self, slot: usize) -> Option<&[M::Word; ENTRY_WORDS]> {
        let words = self.memory.words().get(AT_ENTRIES + slot * ENTRY_WORDS..)?;
        words.first_chunk()
    }

    #[inline]
    fn at_completed(&self, slot: usize) -> usize {
        AT_ENTRIES + self.slots * ENTRY_WORDS + slot * 2
    }

    #[inline]
    fn at_submitted(&self, slot: usize) -> usize {
        AT_ENTRIES + self.slots * (ENTRY_WORDS + 2) + slot
    }

    #[inline]
    fn at_submission_queue(&self, stamp: u64) -> usize {
        AT_ENTRIES + self.slots * SLOT_WORDS + (stamp as usize & self.submission_mask)
    }

    #[inline]
    fn at_completion_queue(&self, number: u64) -> usize {
        let queues = AT_ENTRIES + self.slots * SLOT_WORDS;
        queues + self.submission_mask + 1 + (number as usize & self.completion_mask)
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

    /// Returns a word; all that are asked for lie within, as was checked at the start.
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
