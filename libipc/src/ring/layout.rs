//! What lies where in the shared memory, and access to it.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use libsys::abi::PAGE_SIZE;
use libsys::mappings::Mapping;

/// Most slots of a ring.
pub const MAX_SLOTS: usize = 1024;

/// Marks a ring, and its layout.
const MAGIC: u64 = u64::from_le_bytes(*b"SKRING01");

const AT_MAGIC: usize = 0;
const AT_SLOTS: usize = 8;
/// Words that the client writes, in a cache line of their own.
const AT_SUBMITTED: usize = 64;
/// Words that the server writes, in a cache line of their own.
const AT_COMPLETED: usize = 128;
/// Words that both write, in a cache line of their own: whether a side is awake.
const AT_SERVER_AWAKE: usize = 192;
const AT_CLIENT_AWAKE: usize = 200;
/// The tables: stamps of submissions, stamps of completions, results, entries.
const AT_TABLES: usize = 256;

const ENTRY_BYTES: usize = 64;
const SLOT_BYTES: usize = 3 * 8 + ENTRY_BYTES;

/// Returns the bytes of a ring with so many slots.
pub const fn bytes_for(slots: usize) -> usize {
    AT_TABLES + slots * SLOT_BYTES
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
pub(super) struct Shared {
    memory: Mapping,
    slots: usize,
}

impl Shared {
    /// Makes an empty ring.
    pub(super) fn create(memory: Mapping, slots: usize) -> Result<Shared, RingError> {
        check(&memory, slots)?;
        let shared = Shared { memory, slots };
        for at in (0..bytes_for(slots)).step_by(8) {
            shared.store(at, 0);
        }
        shared.store(AT_SLOTS, slots as u64);
        shared.store(AT_MAGIC, MAGIC);
        Ok(shared)
    }

    /// Takes a ring that the other side made.
    pub(super) fn attach(memory: Mapping) -> Result<Shared, RingError> {
        if memory.bytes() < AT_TABLES {
            return Err(RingError::TooSmall);
        }
        let mut shared = Shared { memory, slots: 0 };
        if shared.load(AT_MAGIC) != MAGIC {
            return Err(RingError::NoRing);
        }
        let slots = usize::try_from(shared.load(AT_SLOTS)).map_err(|_| RingError::BadSlotCount)?;
        check(&shared.memory, slots)?;
        shared.slots = slots;
        Ok(shared)
    }

    /// Returns the number of slots.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    pub(super) fn submitted_stamp(&self, slot: usize) -> u64 {
        self.load(self.table(0, slot))
    }

    pub(super) fn completed_stamp(&self, slot: usize) -> u64 {
        self.load(self.table(1, slot))
    }

    /// Returns the result of a slot whose completion was seen.
    pub(super) fn result(&self, slot: usize) -> i64 {
        self.load(self.table(2, slot)).cast_signed()
    }

    /// Copies the entry of a slot whose submission was seen.
    pub(super) fn entry(&self, slot: usize) -> Entry {
        let at = self.entry_at(slot);
        let word = |i: usize| self.load(at + 8 * i);
        let operation = word(1);
        Entry {
            user_data: word(0),
            opcode: operation as u32,
            flags: (operation >> 32) as u32,
            arguments: core::array::from_fn(|i| word(2 + i)),
        }
    }

    /// Submits an entry in a slot that is free.
    pub(super) fn submit(&self, slot: usize, entry: &Entry, stamp: u64) {
        let at = self.entry_at(slot);
        self.store(at, entry.user_data);
        self.store(
            at + 8,
            u64::from(entry.flags) << 32 | u64::from(entry.opcode),
        );
        for (i, argument) in entry.arguments.iter().enumerate() {
            self.store(at + 16 + 8 * i, *argument);
        }
        self.store(self.table(0, slot), stamp);
        self.raise(AT_SUBMITTED);
    }

    /// Completes the submission with this stamp.
    pub(super) fn complete(&self, slot: usize, result: i64, stamp: u64) {
        self.store(self.table(2, slot), result.cast_unsigned());
        self.store(self.table(1, slot), stamp);
        self.raise(AT_COMPLETED);
    }

    /// Makes the client look at all its slots.
    pub(super) fn hint_completions(&self) {
        self.raise(AT_COMPLETED);
    }

    /// Returns a word that changes with each submission.
    pub(super) fn submissions(&self) -> u64 {
        self.load(AT_SUBMITTED)
    }

    /// Returns a word that changes with each completion.
    pub(super) fn completions(&self) -> u64 {
        self.load(AT_COMPLETED)
    }

    /// Says that a side looks at the ring by itself.
    pub(super) fn set_awake(&self, side: Side) {
        self.store(awake_at(side), 1);
    }

    /// Says that a side is going to sleep. It must look at the ring once more after this.
    pub(super) fn set_asleep(&self, side: Side) {
        self.store(awake_at(side), 0);
        // What the other side published before it looked at the word is seen after this fence,
        // or it sees the word: one of the two.
        fence(Ordering::SeqCst);
    }

    /// Returns whether a side sleeps and takes it upon the caller to wake it.
    pub(super) fn claim_wake(&self, side: Side) -> bool {
        fence(Ordering::SeqCst);
        match self.word(awake_at(side)) {
            Some(word) => word.swap(1, Ordering::SeqCst) == 0,
            None => false,
        }
    }

    /// Counts up a word that only this side writes.
    fn raise(&self, at: usize) {
        self.store(at, self.load(at).wrapping_add(1));
    }

    fn table(&self, number: usize, slot: usize) -> usize {
        AT_TABLES + (number * self.slots + slot) * 8
    }

    fn entry_at(&self, slot: usize) -> usize {
        AT_TABLES + self.slots * 24 + slot * ENTRY_BYTES
    }

    fn load(&self, at: usize) -> u64 {
        self.word(at).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn store(&self, at: usize, value: u64) {
        if let Some(word) = self.word(at) {
            word.store(value, Ordering::Release);
        }
    }

    /// Returns a word; all that are asked for lie within, as was checked at the start.
    fn word(&self, at: usize) -> Option<&AtomicU64> {
        let word = self.memory.atomic_u64(at).ok();
        debug_assert!(word.is_some(), "offset {at:#x}");
        word
    }
}

fn awake_at(side: Side) -> usize {
    match side {
        Side::Client => AT_CLIENT_AWAKE,
        Side::Server => AT_SERVER_AWAKE,
    }
}

fn check(memory: &Mapping, slots: usize) -> Result<(), RingError> {
    if slots == 0 || slots > MAX_SLOTS {
        return Err(RingError::BadSlotCount);
    }
    if memory.bytes() < bytes_for(slots) {
        return Err(RingError::TooSmall);
    }
    Ok(())
}
