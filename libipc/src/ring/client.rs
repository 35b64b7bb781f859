//! The side that has work done.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use libsys::mappings::Mapping;
use libsys::{Handle, Notification, ipc};

use super::layout::{Entry, RingError, Shared, Side};
use crate::events::Events;
use crate::sync::Signal;

/// All slots are in use: wait for completions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// The end of a submitted entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// As in the entry.
    pub user_data: u64,
    /// What the server says; both sides agree on the meaning by their interface.
    pub result: i64,
}

/// The client's side of a ring. It is used either by [`RingClient::submit`] and
/// [`RingClient::next_completion`], or by [`RingClient::request`] with a task that runs
/// [`RingClient::pump`]; also by both.
#[derive(Debug)]
pub struct RingClient {
    shared: Shared,
    doorbell: Option<Handle<Notification>>,
    state: RefCell<State>,
    freed: Signal,
}

#[derive(Debug)]
struct State {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Completions for [`RingClient::next_completion`].
    completed: VecDeque<Completion>,
    /// The stamp of the next submission: never 0, never used twice.
    next_stamp: u64,
    /// The server's count when the slots were last looked at.
    seen: u64,
    is_doorbell_due: bool,
}

#[derive(Debug)]
enum Slot {
    Free,
    InFlight {
        stamp: u64,
        user_data: u64,
        waiter: Waiter,
    },
    /// Completed, for a task that has not looked yet.
    Done {
        stamp: u64,
        result: i64,
    },
}

/// Who wants to know of a completion.
#[derive(Debug)]
enum Waiter {
    Queue,
    Task(Option<Waker>),
    /// A task that gave up.
    Nobody,
}

impl RingClient {
    /// Makes a ring in this memory; see [`super::pages_for`]. What was in it is lost.
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub fn create(memory: Mapping, slots: usize) -> Result<RingClient, RingError> {
        let shared = Shared::create(memory, slots)?;
        let state = State {
            slots: (0..slots).map(|_| Slot::Free).collect(),
            free: (0..slots).rev().collect(),
            completed: VecDeque::with_capacity(slots),
            next_stamp: 1,
            seen: shared.completions(),
            is_doorbell_due: false,
        };
        let state = RefCell::new(state);
        Ok(RingClient {
            shared,
            doorbell: None,
            state,
            freed: Signal::new(),
        })
    }

    /// Sets what [`RingClient::flush`] rings: the notification that the server gave.
    pub fn set_doorbell(&mut self, doorbell: Handle<Notification>) {
        self.doorbell = Some(doorbell);
    }

    /// Returns how many entries are submitted and not completed.
    pub fn in_flight(&self) -> usize {
        let state = self.state.borrow();
        state.slots.len() - state.free.len()
    }

    /// Submits an entry. Tell the server by [`RingClient::flush`], once for many. Its completion
    /// comes from [`RingClient::next_completion`].
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn submit(&self, entry: &Entry) -> Result<(), Full> {
        self.submit_for(entry, Waiter::Queue).map(|_| ())
    }

    /// Takes the next completion of what was submitted.
    pub fn next_completion(&self) -> Option<Completion> {
        if self.state.borrow().completed.is_empty() {
            self.collect();
        }
        self.state.borrow_mut().completed.pop_front()
    }

    /// Submits an entry, when a slot is free, and waits for its result. `user_data` goes to the
    /// server as it is. Needs a task that runs [`RingClient::pump`].
    ///
    /// Dropping the future does not take the entry back: the server may still use the buffers
    /// that it names.
    pub async fn request(&self, entry: Entry) -> i64 {
        loop {
            match self.submit_for(&entry, Waiter::Task(None)) {
                Ok((slot, stamp)) => {
                    self.flush();
                    return RequestDone {
                        ring: self,
                        slot,
                        stamp,
                        is_done: false,
                    }
                    .await;
                }
                Err(Full) => self.freed.wait().await,
            }
        }
    }

    /// Returns whether the doorbell has to be rung.
    pub fn take_doorbell(&self) -> bool {
        let is_due = core::mem::take(&mut self.state.borrow_mut().is_doorbell_due);
        is_due && self.shared.claim_wake(Side::Server)
    }

    /// Tells the server of submissions, unless it looks by itself.
    pub fn flush(&self) {
        if self.take_doorbell()
            && let Some(doorbell) = &self.doorbell
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
        self.collect();
        let may_wait = self.state.borrow().completed.is_empty();
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
            self.collect();
            // What `submit` put into the queue is nobody's business here.
            self.shared.set_asleep(Side::Client);
            if self.shared.completions() == self.state.borrow().seen {
                woken.changed().await;
            }
        }
    }

    fn submit_for(&self, entry: &Entry, waiter: Waiter) -> Result<(usize, u64), Full> {
        let mut state = self.state.borrow_mut();
        if state.free.is_empty() {
            drop(state);
            self.collect();
            state = self.state.borrow_mut();
        }
        let slot = state.free.pop().ok_or(Full)?;
        let stamp = state.next_stamp;
        state.next_stamp += 1;
        state.slots[slot] = Slot::InFlight {
            stamp,
            user_data: entry.user_data,
            waiter,
        };
        state.is_doorbell_due = true;
        self.shared.submit(slot, entry, stamp);
        Ok((slot, stamp))
    }

    /// Looks for completions.
    fn collect(&self) {
        let mut state = self.state.borrow_mut();
        let count = self.shared.completions();
        if state.seen == count {
            return;
        }
        state.seen = count;
        let State {
            slots,
            free,
            completed,
            ..
        } = &mut *state;
        let mut has_freed = false;
        for (number, slot) in slots.iter_mut().enumerate() {
            let Slot::InFlight {
                stamp,
                user_data,
                waiter,
            } = slot
            else {
                continue;
            };
            if self.shared.completed_stamp(number) != *stamp {
                continue;
            }
            let (stamp, user_data) = (*stamp, *user_data);
            let result = self.shared.result(number);
            let waiter = core::mem::replace(waiter, Waiter::Nobody);
            *slot = Slot::Free;
            match waiter {
                Waiter::Queue => completed.push_back(Completion { user_data, result }),
                Waiter::Nobody => {}
                Waiter::Task(waker) => {
                    *slot = Slot::Done { stamp, result };
                    waker.into_iter().for_each(Waker::wake);
                    continue;
                }
            }
            free.push(number);
            has_freed = true;
        }
        drop(state);
        if has_freed {
            self.freed.notify();
        }
    }
}

/// Waits for the completion of one entry.
#[derive(Debug)]
pub struct RequestDone<'a> {
    ring: &'a RingClient,
    slot: usize,
    stamp: u64,
    is_done: bool,
}

impl Future for RequestDone<'_> {
    type Output = i64;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<i64> {
        self.ring.collect();
        let mut state = self.ring.state.borrow_mut();
        match &mut state.slots[self.slot] {
            Slot::Done { stamp, result } if *stamp == self.stamp => {
                let result = *result;
                state.slots[self.slot] = Slot::Free;
                state.free.push(self.slot);
                drop(state);
                self.is_done = true;
                self.ring.freed.notify();
                Poll::Ready(result)
            }
            Slot::InFlight { waiter, .. } => {
                *waiter = Waiter::Task(Some(context.waker().clone()));
                Poll::Pending
            }
            // The slot is this future's until it is done; it is not polled after that.
            _ => Poll::Pending,
        }
    }
}

impl Drop for RequestDone<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut state = self.ring.state.borrow_mut();
        match &mut state.slots[self.slot] {
            Slot::InFlight { waiter, .. } => *waiter = Waiter::Nobody,
            slot => {
                *slot = Slot::Free;
                state.free.push(self.slot);
                drop(state);
                self.ring.freed.notify();
            }
        }
    }
}
