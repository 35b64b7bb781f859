//! The side that does the work.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use libsys::mappings::Mapping;
use libsys::{Handle, Notification, ipc};

use super::layout::{Entry, RingError, Shared, Side};

/// A copy of what a client submitted.
#[derive(Debug)]
pub struct Submission {
    /// For [`RingServer::complete`].
    pub id: SubmissionId,
    /// What to do. Not checked: it is as the client wrote it.
    pub entry: Entry,
}

/// The duty to complete a submission. It can be used once.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[must_use = "the client waits until this is completed"]
pub struct SubmissionId {
    slot: usize,
    stamp: u64,
}

/// The server's side of a ring.
#[derive(Debug)]
pub struct RingServer {
    shared: Shared,
    /// Slots whose submissions this instance found and has not completed.
    taken: Vec<bool>,
    /// Submissions found and not given out, with their stamps, oldest first.
    found: VecDeque<(u64, usize)>,
    /// The client's count when the slots were last looked at.
    seen: Option<u64>,
    in_flight: usize,
    is_waiting: bool,
    is_wake_due: bool,
}

impl RingServer {
    /// Takes a ring that a client made, or that an earlier instance of this server had: what is
    /// not completed comes again. Call [`RingServer::flush`] soon: the earlier instance may have
    /// completed something and died before it told the client.
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub fn attach(memory: Mapping) -> Result<RingServer, RingError> {
        let shared = Shared::attach(memory)?;
        shared.set_awake(Side::Server);
        shared.hint_completions();
        let slots = shared.slots();
        Ok(RingServer {
            shared,
            taken: vec![false; slots],
            found: VecDeque::with_capacity(slots),
            seen: None,
            in_flight: 0,
            is_waiting: false,
            is_wake_due: true,
        })
    }

    /// Returns the number of slots: the client never has more in flight.
    pub fn slots(&self) -> usize {
        self.shared.slots()
    }

    /// Returns how many submissions were given out and not completed.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Takes the next submission, in the order of the client's stamps.
    pub fn next_request(&mut self) -> Option<Submission> {
        if self.is_waiting {
            self.is_waiting = false;
            self.shared.set_awake(Side::Server);
        }
        if self.found.is_empty() {
            self.look();
        }
        let (stamp, slot) = self.found.pop_front()?;
        self.in_flight += 1;
        Some(Submission {
            id: SubmissionId { slot, stamp },
            entry: self.shared.entry(slot),
        })
    }

    /// Completes a submission. Tell the client by [`RingServer::flush`], once for many.
    pub fn complete(&mut self, id: SubmissionId, result: i64) {
        // An id of another ring would not fit here; each is given out once and used once.
        let Some(taken) = self.taken.get_mut(id.slot).filter(|taken| **taken) else {
            return;
        };
        *taken = false;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.shared.complete(id.slot, result, id.stamp);
        self.is_wake_due = true;
        // A client that does not keep to its side may have submitted there meanwhile.
        if self.shared.submitted_stamp(id.slot) != id.stamp {
            self.seen = None;
        }
    }

    /// Returns whether the client has to be notified of completions.
    pub fn take_wake(&mut self) -> bool {
        core::mem::take(&mut self.is_wake_due) && self.shared.claim_wake(Side::Client)
    }

    /// Tells the client of completions, unless it looks by itself.
    pub fn flush(&mut self, wake: &Handle<Notification>) {
        if self.take_wake()
            && let Err(error) = ipc::notify(wake)
        {
            log::warn!("client of a ring not woken: {error}");
        }
    }

    /// Asks the client to ring the doorbell from now on. Returns whether the server may wait for
    /// it; otherwise there is work already. Without this call no doorbell comes.
    #[must_use]
    pub fn prepare_wait(&mut self) -> bool {
        self.shared.set_asleep(Side::Server);
        self.look();
        self.is_waiting = self.found.is_empty();
        if !self.is_waiting {
            self.shared.set_awake(Side::Server);
        }
        self.is_waiting
    }

    /// Finds new submissions.
    fn look(&mut self) {
        let count = self.shared.submissions();
        if self.seen == Some(count) {
            return;
        }
        self.seen = Some(count);
        for (slot, taken) in self
            .taken
            .iter_mut()
            .enumerate()
            .filter(|(_, taken)| !**taken)
        {
            let stamp = self.shared.submitted_stamp(slot);
            if stamp != self.shared.completed_stamp(slot) {
                *taken = true;
                self.found.push_back((stamp, slot));
            }
        }
        self.found.make_contiguous().sort_unstable();
    }
}
