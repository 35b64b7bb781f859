//! The side that does the work.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use libsys::mappings::Mapping;
use libsys::{Handle, Notification, ipc};

use super::client::CANCELLED;
use super::layout::{CANCEL, Entry, RingError, Shared, Side};
use super::memory::RingMemory;

/// A copy of what a client submitted.
#[derive(Debug)]
pub struct Submission {
    /// For [`RingServer::complete`].
    pub id: SubmissionId,
    /// What to do. Not checked: it is as the client wrote it.
    pub entry: Entry,
    /// Whether an earlier instance of this server had it. It may have done it or not.
    pub redelivered: bool,
}

/// The duty to complete a submission. It can be used once.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[must_use = "the client waits until this is completed"]
pub struct SubmissionId {
    slot: usize,
    stamp: u64,
}

impl SubmissionId {
    /// Returns what names the submission within its ring: to every instance of the server the
    /// same, and never another one's.
    pub fn key(&self) -> u64 {
        self.stamp
    }

    /// Returns the slot that the submission has until it is completed.
    pub fn slot(&self) -> usize {
        self.slot
    }
}

/// The server's side of a ring.
#[derive(Debug)]
pub struct RingServer<M = Mapping> {
    shared: Shared<M>,
    /// The stamps of what was given out and not completed, by slot; 0 where there is nothing.
    /// With the mark [`CANCEL`] once the server knows that it is to be cancelled.
    taken: Vec<u64>,
    /// Slots that were found by looking through all of them, with their stamps, oldest first.
    found: VecDeque<(u64, usize)>,
    /// The last stamp of which the queue was looked at, and the last one there.
    seen: u64,
    count: u64,
    /// Up to this stamp an earlier instance took what is not completed.
    earlier: u64,
    in_flight: usize,
    cancels: Cancels,
    is_waiting: bool,
    is_wake_due: bool,
    /// Whether the client has to be woken even if it seems to be awake: an earlier instance may
    /// have died between claiming that and doing it.
    is_wake_owed: bool,
}

/// How far the slots were looked through for entries to be cancelled.
#[derive(Debug)]
struct Cancels {
    /// The client's count at the last look.
    seen: u64,
    next_slot: usize,
    /// Whether the server asks for them at all.
    is_wanted: bool,
}

impl<M: RingMemory> RingServer<M> {
    /// Takes a ring that a client made, or that an earlier instance of this server had: what is
    /// not completed comes again. Call [`RingServer::flush`] soon: the earlier instance may have
    /// completed something and died before it told the client. The first flush always does.
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub fn attach(memory: M) -> Result<Self, RingError> {
        let shared = Shared::attach(memory)?;
        shared.set_awake(Side::Server);
        shared.hint_completions();
        let slots = shared.records();
        let mut server = RingServer {
            taken: vec![0; slots],
            found: VecDeque::new(),
            seen: 0,
            count: 0,
            earlier: shared.taken(),
            in_flight: 0,
            cancels: Cancels {
                seen: shared.cancels().wrapping_sub(1),
                next_slot: slots,
                is_wanted: false,
            },
            is_waiting: false,
            is_wake_due: true,
            is_wake_owed: true,
            shared,
        };
        server.count = server.shared.submissions();
        server.find_all();
        Ok(server)
    }

    /// Returns the number of entries that the client may have in flight.
    pub fn slots(&self) -> usize {
        self.shared.slots()
    }

    /// Returns how many submissions were given out and not completed.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Takes the next submission, in the order of the client's stamps.
    #[inline]
    pub fn next_request(&mut self) -> Option<Submission> {
        if self.is_waiting {
            self.is_waiting = false;
            self.shared.set_awake(Side::Server);
        }
        let (slot, stamp) = self.next_slot()?;
        self.in_flight += 1;
        let redelivered = stamp <= self.earlier;
        if !redelivered {
            // Before anything of it is done.
            self.shared.set_taken(stamp);
        }
        Some(Submission {
            id: SubmissionId { slot, stamp },
            entry: self.shared.entry(slot),
            redelivered,
        })
    }

    /// Takes the next slot with a submission, and its stamp.
    #[inline]
    fn next_slot(&mut self) -> Option<(usize, u64)> {
        if !self.found.is_empty() || (self.seen == self.count && self.look()) {
            let slot = self.next_found()?;
            return Some((slot, self.taken.get(slot)? & !CANCEL));
        }
        // As many turns as the queue is long, at most: the count is not read again here.
        while self.seen != self.count {
            self.seen += 1;
            let (stamp, home) = (self.seen, self.shared.home(self.seen));
            if let Some(taken) = self.taken.get_mut(home)
                && *taken == 0
                && self.shared.submitted_stamp(home) == stamp
            {
                *taken = stamp;
                return Some((home, stamp));
            }
            if let Some(slot) = self.search(stamp) {
                return Some((slot, stamp));
            }
        }
        None
    }

    /// Copies the entry of a submission that is not completed once more; `None` for one that this
    /// ring does not have. A client that keeps to the rules has not changed it meanwhile.
    pub fn entry(&self, id: &SubmissionId) -> Option<Entry> {
        let taken = self.taken.get(id.slot).copied()?;
        (taken & !CANCEL == id.stamp).then(|| self.shared.entry(id.slot))
    }

    /// Completes a submission. Tell the client by [`RingServer::flush`], once for many.
    #[inline]
    pub fn complete(&mut self, id: SubmissionId, result: i64) {
        // An id of another ring may not fit here; each is given out once and used once.
        let Some(taken) = self.taken.get_mut(id.slot) else {
            return;
        };
        if *taken != id.stamp && *taken != id.stamp | CANCEL {
            return;
        }
        *taken = 0;
        self.in_flight -= 1;
        self.is_wake_due = true;
        self.shared.complete(id.slot, result, id.stamp);
    }

    /// Completes a submission of which nothing was done and nothing will be.
    pub fn complete_cancelled(&mut self, id: SubmissionId) {
        self.complete(id, CANCELLED);
    }

    /// Returns the key of a submission that was given out and that the client wants cancelled,
    /// each once. What was not given out yet is cancelled without further ado. A server that
    /// calls this once must do so whenever it is woken; one that never does completes everything
    /// as if nobody had wanted it cancelled.
    pub fn next_cancelled(&mut self) -> Option<u64> {
        self.cancels.is_wanted = true;
        if self.cancels.next_slot >= self.taken.len() {
            // What was found is marked when it is given out.
            if !self.found.is_empty() || !self.has_new_cancels() {
                return None;
            }
            self.cancels.seen = self.shared.cancels();
            self.cancels.next_slot = 0;
        }
        while let Some(taken) = self.taken.get_mut(self.cancels.next_slot) {
            let stamp = self.shared.submitted_stamp(self.cancels.next_slot);
            self.cancels.next_slot += 1;
            if *taken != 0 && stamp == *taken | CANCEL && *taken & CANCEL == 0 {
                *taken |= CANCEL;
                return Some(stamp & !CANCEL);
            }
        }
        None
    }

    /// Returns whether the client has to be notified of completions.
    #[inline]
    pub fn take_wake(&mut self) -> bool {
        if !core::mem::take(&mut self.is_wake_due) {
            return false;
        }
        let is_owed = core::mem::take(&mut self.is_wake_owed);
        self.shared.claim_wake(Side::Client) || is_owed
    }

    /// Tells the client of completions, unless it looks by itself.
    #[inline]
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
        self.is_waiting = !self.has_news();
        if !self.is_waiting {
            self.shared.set_awake(Side::Server);
        }
        self.is_waiting
    }

    /// Returns whether there is something to be taken.
    fn has_news(&mut self) -> bool {
        if !self.found.is_empty() || self.seen != self.count {
            return true;
        }
        let has_found = self.look();
        let has_cancels = self.cancels.is_wanted
            && (self.cancels.next_slot < self.taken.len() || self.has_new_cancels());
        has_found || self.seen != self.count || has_cancels
    }

    fn has_new_cancels(&self) -> bool {
        self.shared.cancels() != self.cancels.seen
    }

    /// Looks how many submissions there are. Returns whether some were found by looking through
    /// all slots, because the queue cannot have kept them all.
    #[inline]
    fn look(&mut self) -> bool {
        self.count = self.shared.submissions();
        if self.shared.is_lost(self.seen, self.count) {
            self.find_all();
        }
        !self.found.is_empty()
    }

    /// Finds what is submitted and not completed by looking through all slots. What is submitted
    /// meanwhile comes by the queue.
    #[cold]
    fn find_all(&mut self) {
        self.seen = self.count;
        for (slot, taken) in self.taken.iter().enumerate() {
            let stamp = self.shared.submitted_stamp(slot) & !CANCEL;
            let is_open = stamp != 0 && stamp != self.shared.completed_stamp(slot);
            if *taken == 0 && is_open && stamp <= self.count {
                self.found.push_back((stamp, slot));
            }
        }
        self.found.make_contiguous().sort_unstable();
    }

    #[cold]
    fn next_found(&mut self) -> Option<usize> {
        while let Some((stamp, slot)) = self.found.pop_front() {
            if self.claim(slot, stamp) {
                return Some(slot);
            }
        }
        None
    }

    /// Takes the submission with this stamp, which is not simply in its home.
    #[cold]
    fn search(&mut self, stamp: u64) -> Option<usize> {
        let home = self.shared.home(stamp);
        let slot = if self.shared.submitted_stamp(home) & !CANCEL == stamp {
            home
        } else {
            self.shared.submission_slot(stamp)
        };
        self.claim(slot, stamp).then_some(slot)
    }

    /// Takes what is in a slot. Returns whether that is the submission with this stamp, and is to
    /// be done.
    fn claim(&mut self, slot: usize, stamp: u64) -> bool {
        let Some(taken) = self.taken.get_mut(slot).filter(|taken| **taken == 0) else {
            return false;
        };
        let submitted = self.shared.submitted_stamp(slot);
        if submitted & !CANCEL != stamp {
            return false;
        }
        if submitted != stamp && stamp > self.earlier {
            // Nobody has begun it.
            self.shared.complete(slot, CANCELLED, stamp);
            self.is_wake_due = true;
            return false;
        }
        *taken = stamp;
        true
    }
}
