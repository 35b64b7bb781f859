//! Which tasks want to run: one bit per task slot, set by wakers.
//!
//! Wakers are made once per slot and reused, so starting a task allocates none. A stale waker of
//! an earlier task in the slot only causes one poll too many.

use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Waker;

/// Most tasks at one time: one bit of [`ReadySet::summary`] per word.
pub(crate) const MAX_TASKS: usize = WORDS * 64;

const WORDS: usize = 64;

/// The slots that want to be polled.
#[derive(Debug)]
pub(crate) struct ReadySet {
    /// Bit `i` says that word `i` may have bits.
    summary: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl ReadySet {
    fn new() -> Self {
        ReadySet {
            summary: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; WORDS],
        }
    }

    fn insert(&self, slot: usize) {
        self.words[slot / 64].fetch_or(1 << (slot % 64), Ordering::Relaxed);
        self.summary.fetch_or(1 << (slot / 64), Ordering::Relaxed);
    }

    fn is_empty(&self) -> bool {
        self.summary.load(Ordering::Relaxed) == 0
    }

    /// Takes the first slot at or after `from`, going round.
    fn take(&self, from: usize) -> Option<usize> {
        let summary = self.summary.load(Ordering::Relaxed);
        if summary == 0 {
            return None;
        }
        // The first word once from `from` on, then all words in turn, it again as the last.
        for step in 0..=WORDS {
            let word = (from / 64 + step) % WORDS;
            if summary >> word & 1 == 0 {
                continue;
            }
            let bits = self.words[word].load(Ordering::Relaxed);
            let seen = if step == 0 {
                bits & (u64::MAX << (from % 64))
            } else {
                bits
            };
            if seen == 0 {
                continue;
            }
            let bit = seen.trailing_zeros() as usize;
            if self.words[word].fetch_and(!(1 << bit), Ordering::Relaxed) == 1 << bit {
                self.clear_summary(word);
            }
            return Some(word * 64 + bit);
        }
        None
    }

    /// Clears a word's bit in the summary, unless a slot in it was woken meanwhile.
    fn clear_summary(&self, word: usize) {
        self.summary.fetch_and(!(1 << word), Ordering::Relaxed);
        if self.words[word].load(Ordering::Relaxed) != 0 {
            self.summary.fetch_or(1 << word, Ordering::Relaxed);
        }
    }
}

/// Wakes one slot.
struct SlotWaker {
    slot: usize,
    ready: Arc<ReadySet>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.insert(self.slot);
    }
}

/// Task slots with their wakers.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
    /// Tasks that are in their slots, not being polled.
    parked: usize,
    ready: Arc<ReadySet>,
    cursor: usize,
}

#[derive(Debug)]
struct Slot<T> {
    task: Option<T>,
    waker: Waker,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        let ready = Arc::new(ReadySet::new());
        Slots {
            slots: Vec::new(),
            free: Vec::new(),
            parked: 0,
            ready,
            cursor: 0,
        }
    }

    /// Returns whether another task can be added.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.slots.len() < MAX_TASKS
    }

    /// Returns the slot that will be reserved next.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<usize> {
        if let Some(slot) = self.free.last() {
            return Some(*slot);
        }
        let slot = self.grow()?;
        self.free.push(slot);
        Some(slot)
    }

    /// Reserves a slot for a task that is polled at once and put there if it has to wait.
    #[inline]
    pub(crate) fn reserve(&mut self) -> Option<usize> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        self.grow()
    }

    /// Makes one more slot and reserves it.
    #[cold]
    fn grow(&mut self) -> Option<usize> {
        if self.slots.len() == MAX_TASKS {
            return None;
        }
        let slot = self.slots.len();
        let waker = Arc::new(SlotWaker {
            slot,
            ready: Arc::clone(&self.ready),
        });
        self.slots.push(Slot {
            task: None,
            waker: waker.into(),
        });
        Some(slot)
    }

    /// Returns the waker of a reserved slot.
    #[inline]
    pub(crate) fn waker(&self, slot: usize) -> &Waker {
        &self.slots[slot].waker
    }

    /// Puts a task into a reserved slot.
    #[inline]
    pub(crate) fn put(&mut self, slot: usize, task: T) {
        self.slots[slot].task = Some(task);
        self.parked += 1;
    }

    /// Takes the task out of a slot, for polling it.
    #[inline]
    pub(crate) fn take(&mut self, slot: usize) -> Option<T> {
        let task = self.slots[slot].task.take();
        self.parked -= usize::from(task.is_some());
        task
    }

    /// Goes over the tasks that are in their slots.
    pub(crate) fn tasks(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.task.as_ref())
    }

    /// Returns whether no task waits in a slot.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.parked == 0
    }

    /// Returns whether `is_meant` picks a task that waits in a slot.
    pub(crate) fn any(&self, is_meant: impl Fn(&T) -> bool) -> bool {
        let mut tasks = self.slots.iter().filter_map(|slot| slot.task.as_ref());
        tasks.any(is_meant)
    }

    /// Drops the tasks that `is_meant` picks.
    pub(crate) fn remove(&mut self, is_meant: impl Fn(&T) -> bool) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if slot.task.as_ref().is_some_and(&is_meant) {
                slot.task = None;
                self.parked -= 1;
                self.free.push(number);
            }
        }
    }

    /// Gives a reserved slot back.
    #[inline]
    pub(crate) fn release(&mut self, slot: usize) {
        self.free.push(slot);
    }

    /// Marks a slot as wanting to be polled.
    pub(crate) fn wake(&self, slot: usize) {
        self.ready.insert(slot);
    }

    /// Returns whether a task wants to be polled.
    #[inline]
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the next slot that wants to be polled, each in its turn. It may be free by now.
    pub(crate) fn next_ready(&mut self) -> Option<usize> {
        let slot = self.ready.take(self.cursor)?;
        self.cursor = (slot + 1) % MAX_TASKS;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_TASKS, Slots};

    #[test]
    fn ready_slots_come_in_turn() {
        let mut slots = Slots::<()>::new();
        for _ in 0..200 {
            slots.reserve().unwrap();
        }
        for slot in [3, 70, 199, 5] {
            slots.wake(slot);
        }
        assert_eq!(slots.next_ready(), Some(3));
        slots.wake(3);
        let order: Vec<_> = core::iter::from_fn(|| slots.next_ready()).collect();
        assert_eq!(order, [5, 70, 199, 3]);
        assert!(!slots.has_ready());
    }

    #[test]
    fn wakers_set_their_slot_once() {
        let mut slots = Slots::<()>::new();
        slots.reserve().unwrap();
        let slot = slots.reserve().unwrap();
        let waker = slots.waker(slot).clone();
        waker.wake_by_ref();
        waker.wake();
        assert_eq!(slots.next_ready(), Some(slot));
        assert_eq!(slots.next_ready(), None);
    }

    #[test]
    fn slots_end_and_come_back() {
        let mut slots = Slots::<()>::new();
        let all: Vec<_> = core::iter::from_fn(|| slots.reserve()).collect();
        assert_eq!(all.len(), MAX_TASKS);
        assert!(!slots.has_room());
        slots.release(7);
        assert!(slots.has_room());
        assert_eq!(slots.reserve(), Some(7));
        slots.wake(MAX_TASKS - 1);
        assert_eq!(slots.next_ready(), Some(MAX_TASKS - 1));
    }
}
