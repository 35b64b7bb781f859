//! The side that has work done.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::Waker;

use libsys::mappings::Mapping;
use libsys::{Handle, Notification, ipc};

use super::layout::{Entry, RingError, Shared, Side};
use super::memory::RingMemory;
use super::request::RequestDone;
use crate::events::Events;
use crate::sync::Signal;

/// Result of an entry that was cancelled: nothing of it was done. No server has another meaning
/// for it.
pub const CANCELLED: i64 = i64::MIN;

/// Result of an entry of a method that fails on restart: an earlier instance of the server had
/// it, and may have done it or not.
pub const RESTARTED: i64 = i64::MIN + 1;

/// All slots are in use: wait for completions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// The end of a submitted entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// As in the entry.
    pub user_data: u64,
    /// What the server says; both sides agree on the meaning by their interface, but for
    /// [`CANCELLED`] and [`RESTARTED`].
    pub result: i64,
}

/// What came of asking for an entry to be cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cancel {
    /// The server was asked. The completion tells: its result is [`CANCELLED`], or the entry was
    /// done, because it was too late or the server does not cancel what it has begun.
    Asked,
    /// Nothing with this `user_data` is in flight: too late, it is completed.
    TooLate,
}

/// The client's side of a ring. It is used either by [`RingClient::submit`] and
/// [`RingClient::next_completion`], or by [`RingClient::request`] with a task that runs
/// [`RingClient::pump`]; also by both.
#[derive(Debug)]
pub struct RingClient<M = Mapping> {
    shared: Shared<M>,
    doorbell: Option<Handle<Notification>>,
    state: RefCell<State>,
    pub(super) freed: Signal,
    /// Signalled when something is in flight again, if somebody waits for that.
    pub(super) busy: Signal,
}

#[derive(Debug)]
struct State {
    slots: Vec<Slot>,
    /// Who is woken when a slot is completed that a task has.
    wakers: Vec<Option<Waker>>,
    in_flight: usize,
    /// Completions that were looked at before somebody asked for them.
    completed: VecDeque<Completion>,
    /// The stamp of the last submission. They count up from 1, so none is used twice.
    last_stamp: u64,
    /// Completions that were looked at, and how many there were at the last look.
    seen: u64,
    count: u64,
    is_doorbell_due: bool,
    /// Whether a task waits for a slot.
    is_slot_wanted: bool,
    /// Whether a task waits for something to be in flight.
    is_guard_idle: bool,
}

#[derive(Debug)]
struct Slot {
    stamp: u64,
    user_data: u64,
    /// Of a slot that is [`Owner::Done`].
    result: i64,
    owner: Owner,
}

/// Who has a slot, and wants to know of its completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// Nobody: it is free.
    Free,
    /// Who asks for the next completion.
    Queue,
    /// A task.
    Task,
    /// A task that gave up: the slot is free once it is completed.
    GivenUp,
    /// A task that has not looked at the result yet.
    Done,
}

impl State {
    /// Finds the next free slot after this one.
    #[cold]
    fn free_slot_after(&self, number: usize) -> Option<usize> {
        let free = |slot: &Slot| slot.owner == Owner::Free;
        let (before, after) = self.slots.split_at_checked(number)?;
        match after.iter().position(free) {
            Some(further) => Some(number + further),
            None => before.iter().position(free),
        }
    }
}

impl<M: RingMemory> RingClient<M> {
    /// Makes a ring in this memory; see [`super::pages_for`]. What was in it is lost.
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub fn create(memory: M, slots: usize) -> Result<Self, RingError> {
        let shared = Shared::create(memory, slots)?;
        let fresh = |_| Slot {
            stamp: 0,
            user_data: 0,
            result: 0,
            owner: Owner::Free,
        };
        let state = State {
            slots: (0..shared.records()).map(fresh).collect(),
            wakers: (0..shared.records()).map(|_| None).collect(),
            in_flight: 0,
            completed: VecDeque::with_capacity(slots),
            last_stamp: 0,
            seen: 0,
            count: 0,
            is_doorbell_due: false,
            is_slot_wanted: false,
            is_guard_idle: false,
        };
        let state = RefCell::new(state);
        Ok(RingClient {
            shared,
            doorbell: None,
            state,
            freed: Signal::new(),
            busy: Signal::new(),
        })
    }

    /// Sets what [`RingClient::flush`] rings: the notification that the server gave.
    pub fn set_doorbell(&mut self, doorbell: Handle<Notification>) {
        self.doorbell = Some(doorbell);
    }

    /// Returns how many entries are submitted and not completed.
    #[inline]
    pub fn in_flight(&self) -> usize {
        self.state.borrow().in_flight
    }

    /// Returns whether nothing is in flight; [`RingClient::busy`] tells then when that changes.
    pub(super) fn is_idle(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        state.is_guard_idle = state.in_flight == 0;
        state.is_guard_idle
    }

    /// Returns the stamp of the last submission.
    pub(super) fn newest(&self) -> u64 {
        self.state.borrow().last_stamp
    }

    /// Takes all completions, and returns the oldest stamp up to this one whose completion is missing.
    pub(super) fn oldest_missing(&self, newest: u64) -> Option<u64> {
        let state = &mut *self.state.borrow_mut();
        self.find_all(state);
        let in_flight = state
            .slots
            .iter()
            .filter(|slot| !matches!(slot.owner, Owner::Free | Owner::Done));
        let oldest = in_flight.map(|slot| slot.stamp).min()?;
        (oldest <= newest).then_some(oldest)
    }

    /// Returns whether a server has taken the entry with this stamp.
    pub(super) fn is_taken(&self, stamp: u64) -> bool {
        self.shared.taken() >= stamp
    }

    /// Returns whether so much was completed that every slot was used.
    pub(super) fn has_worked(&self) -> bool {
        let state = self.state.borrow();
        state.last_stamp > state.slots.len() as u64
    }

    /// Submits an entry. Tell the server by [`RingClient::flush`], once for many. Its completion
    /// comes from [`RingClient::next_completion`].
    ///
    /// # Errors
    ///
    /// [`Full`].
    #[inline]
    pub fn submit(&self, entry: &Entry) -> Result<(), Full> {
        self.submit_for(entry, Owner::Queue).map(|_| ())
    }

    /// Takes the next completion of what was submitted.
    #[inline]
    pub fn next_completion(&self) -> Option<Completion> {
        let state = &mut *self.state.borrow_mut();
        if !state.completed.is_empty() {
            return state.completed.pop_front();
        }
        if state.seen == state.count {
            self.look(state);
        }
        // As many turns as the queue is long, at most: the count is not read again here.
        while state.seen != state.count {
            if let Some(completion) = self.next_in_queue(state) {
                return Some(completion);
            }
        }
        state.completed.pop_front()
    }

    /// Asks for all entries in flight that have this `user_data` to be cancelled. Tell the server
    /// by [`RingClient::flush`]. Each is completed as any other.
    pub fn cancel(&self, user_data: u64) -> Cancel {
        let state = &mut *self.state.borrow_mut();
        self.collect(state);
        let mut answer = Cancel::TooLate;
        for (number, slot) in state.slots.iter().enumerate() {
            let is_in_flight = !matches!(slot.owner, Owner::Free | Owner::Done);
            if is_in_flight && slot.user_data == user_data {
                self.shared.cancel(number, slot.stamp);
                state.is_doorbell_due = true;
                answer = Cancel::Asked;
            }
        }
        answer
    }

    /// Submits an entry, when a slot is free, and waits for its result. `user_data` goes to the
    /// server as it is. Needs a task that runs [`RingClient::pump`].
    ///
    /// Dropping the future does not take the entry back: the server may still use the buffers
    /// that it names.
    pub async fn request(&self, entry: Entry) -> i64 {
        loop {
            match self.submit_for(&entry, Owner::Task) {
                Ok((slot, stamp)) => {
                    self.flush();
                    return RequestDone::new(self, slot, stamp).await;
                }
                Err(Full) => {
                    self.state.borrow_mut().is_slot_wanted = true;
                    self.freed.wait().await;
                }
            }
        }
    }

    /// Returns whether the doorbell has to be rung.
    #[inline]
    pub fn take_doorbell(&self) -> bool {
        let is_due = core::mem::take(&mut self.state.borrow_mut().is_doorbell_due);
        is_due && self.shared.claim_wake(Side::Server)
    }

    /// Tells the server of submissions, unless it looks by itself.
    #[inline]
    pub fn flush(&self) {
        if self.take_doorbell() {
            self.ring_doorbell();
        }
    }

    /// Rings, whether the server looks by itself or not.
    pub(super) fn ring_doorbell(&self) {
        if let Some(doorbell) = &self.doorbell
            && let Err(error) = ipc::notify(doorbell)
        {
            log::warn!("doorbell of a ring not rung: {error}");
        }
    }

    /// Asks the server to notify from now on. Returns whether the client may wait for that;
    /// otherwise there are completions already. Without this call no notification comes.
    #[must_use]
    pub fn prepare_wait(&self) -> bool {
        self.shared.set_asleep(Side::Client);
        let state = &mut *self.state.borrow_mut();
        self.collect(state);
        let may_wait = state.completed.is_empty();
        if !may_wait {
            self.shared.set_awake(Side::Client);
        }
        may_wait
    }

    /// Hands completions to the tasks that wait for them, until nobody else has the ring: spawn it
    /// once. `bit` is the notification bit that the server sets; several rings may share it.
    pub async fn pump(self: Rc<Self>, events: Events, bit: u8) {
        let mut woken = events.watch(bit);
        while Rc::strong_count(&self) > 1 {
            // What `submit` put into the queue is nobody's business here.
            self.shared.set_asleep(Side::Client);
            self.collect(&mut self.state.borrow_mut());
            woken.changed().await;
        }
    }

    #[inline]
    fn submit_for(&self, entry: &Entry, owner: Owner) -> Result<(usize, u64), Full> {
        let state = &mut *self.state.borrow_mut();
        if state.in_flight >= self.shared.slots() {
            self.collect(state);
            if state.in_flight >= self.shared.slots() {
                return Err(Full);
            }
        }
        let stamp = state.last_stamp + 1;
        let home = self.shared.home(stamp);
        let number = match state.slots.get(home) {
            Some(slot) if slot.owner == Owner::Free => home,
            _ => {
                let number = state.free_slot_after(home).ok_or(Full)?;
                self.shared.send_elsewhere(stamp, number);
                number
            }
        };
        let slot = state.slots.get_mut(number).ok_or(Full)?;
        slot.stamp = stamp;
        slot.user_data = entry.user_data;
        slot.owner = owner;
        state.last_stamp = stamp;
        state.in_flight += 1;
        state.is_doorbell_due = true;
        if state.is_guard_idle {
            state.is_guard_idle = false;
            self.busy.notify();
        }
        self.shared.submit(number, entry, stamp);
        Ok((number, stamp))
    }

    /// Counts the completions, and looks at all slots if the queue cannot have kept them all.
    #[inline]
    fn look(&self, state: &mut State) {
        state.count = self.shared.completions();
        if self.shared.is_lost(state.seen, state.count) {
            self.find_all(state);
        }
    }

    /// Takes what is completed by looking at all slots. What is completed meanwhile comes by the
    /// queue.
    #[cold]
    fn find_all(&self, state: &mut State) {
        state.count = self.shared.completions();
        state.seen = state.count;
        for number in 0..state.slots.len() {
            if let Some(completion) = self.finish(state, number) {
                state.completed.push_back(completion);
            }
        }
    }

    /// Takes all completions: those for tasks are handed over, the others are kept.
    fn collect(&self, state: &mut State) {
        self.look(state);
        while state.seen != state.count {
            if let Some(completion) = self.next_in_queue(state) {
                state.completed.push_back(completion);
            }
        }
    }

    /// Takes the next completion in the queue, of which there is one.
    #[inline]
    fn next_in_queue(&self, state: &mut State) -> Option<Completion> {
        let number = self.shared.completion_slot(state.seen);
        state.seen = state.seen.wrapping_add(1);
        let Some(slot) = state.slots.get_mut(number) else {
            self.find_all(state);
            return None;
        };
        if slot.owner != Owner::Queue {
            return self.finish(state, number);
        }
        let result = self.shared.result(number, slot.stamp)?;
        slot.owner = Owner::Free;
        let user_data = slot.user_data;
        self.count_freed(state);
        Some(Completion { user_data, result })
    }

    /// Takes the completion of a slot, if it is completed and the slot is in flight. Returns it
    /// unless it is for a task.
    #[cold]
    fn finish(&self, state: &mut State, number: usize) -> Option<Completion> {
        let slot = state.slots.get_mut(number)?;
        let owner = slot.owner;
        if matches!(owner, Owner::Free | Owner::Done) {
            return None;
        }
        let result = self.shared.result(number, slot.stamp)?;
        let user_data = slot.user_data;
        if owner == Owner::Task {
            slot.result = result;
            slot.owner = Owner::Done;
            let waker = state.wakers.get_mut(number).and_then(Option::take);
            waker.into_iter().for_each(Waker::wake);
            return None;
        }
        slot.owner = Owner::Free;
        self.count_freed(state);
        (owner == Owner::Queue).then_some(Completion { user_data, result })
    }

    /// Notes that a slot became free.
    #[inline]
    fn count_freed(&self, state: &mut State) {
        state.in_flight -= 1;
        if state.is_slot_wanted {
            state.is_slot_wanted = false;
            self.freed.notify();
        }
    }

    /// Returns the result of a task's entry, if there is one, and frees its slot; otherwise the
    /// waker is woken when there is one.
    pub(super) fn take_result(&self, number: usize, stamp: u64, waker: &Waker) -> Option<i64> {
        let state = &mut *self.state.borrow_mut();
        self.collect(state);
        let slot = state.slots.get_mut(number)?;
        if slot.stamp != stamp {
            return None;
        }
        if slot.owner == Owner::Done {
            slot.owner = Owner::Free;
            let result = slot.result;
            self.count_freed(state);
            return Some(result);
        }
        if let Some(place) = state.wakers.get_mut(number) {
            *place = Some(waker.clone());
        }
        None
    }

    /// Leaves an entry whose result nobody wants any more.
    pub(super) fn give_up(&self, number: usize) {
        let state = &mut *self.state.borrow_mut();
        let Some(slot) = state.slots.get_mut(number) else {
            return;
        };
        if slot.owner == Owner::Task {
            slot.owner = Owner::GivenUp;
        } else {
            slot.owner = Owner::Free;
            self.count_freed(state);
        }
        if let Some(place) = state.wakers.get_mut(number) {
            *place = None;
        }
    }
}
