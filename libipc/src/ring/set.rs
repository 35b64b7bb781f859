//! Many rings, waited on in one place: the work of a turn grows with the rings that have news,
//! not with those that are there.
//!
//! Each ring has a notification bit, which its doorbell sets. A ring either is *ready*, which
//! means that it is looked at and its client rings no bell, or it sleeps, and its doorbell makes
//! it ready. With more rings than bits some share one and are looked at together.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use libsys::mappings::Mapping;
use libsys::{Handle, Notification};

use super::layout::Entry;
use super::memory::RingMemory;
use super::server::{RingServer, Submission, SubmissionId};

/// Submissions taken from one ring before the next one has its turn.
const BATCH: usize = 16;

/// The rings of a server, by key.
#[derive(Debug)]
pub struct RingSet<K, M = Mapping> {
    members: BTreeMap<K, Member<M>>,
    /// Rings that are looked at, in turn.
    ready: VecDeque<K>,
    /// How many submissions the first of them may still have taken.
    left: usize,
    /// Rings with completions of which the client may not know.
    unflushed: Vec<K>,
    by_bit: [Vec<K>; 64],
}

#[derive(Debug)]
struct Member<M> {
    ring: RingServer<M>,
    wake: Handle<Notification>,
    bit: u8,
    is_ready: bool,
    is_unflushed: bool,
}

impl<K: Copy + Ord, M: RingMemory> Default for RingSet<K, M> {
    fn default() -> Self {
        RingSet::new()
    }
}

impl<K: Copy + Ord, M: RingMemory> RingSet<K, M> {
    /// Makes an empty set.
    pub fn new() -> Self {
        RingSet {
            members: BTreeMap::new(),
            ready: VecDeque::new(),
            left: BATCH,
            unflushed: Vec::new(),
            by_bit: [const { Vec::new() }; 64],
        }
    }

    /// Adds a ring, in place of the earlier one with this key. Its doorbell sets `bit`, of 64;
    /// `wake` tells its client of completions.
    pub fn insert(&mut self, key: K, bit: u8, ring: RingServer<M>, wake: Handle<Notification>) {
        self.remove(key);
        let bit = bit & 63;
        let member = Member {
            ring,
            wake,
            bit,
            is_ready: true,
            is_unflushed: true,
        };
        self.members.insert(key, member);
        self.ready.push_back(key);
        self.unflushed.push(key);
        self.by_bit[usize::from(bit)].push(key);
    }

    /// Removes a ring. What was taken from it is not completed any more.
    pub fn remove(&mut self, key: K) {
        let Some(member) = self.members.remove(&key) else {
            return;
        };
        self.by_bit[usize::from(member.bit)].retain(|other| *other != key);
        self.ready.retain(|other| *other != key);
        self.unflushed.retain(|other| *other != key);
    }

    /// Tells that these notification bits came.
    pub fn raise(&mut self, bits: u64) {
        let mut left = bits;
        while left != 0 {
            let bit = left.trailing_zeros() as usize;
            left &= left - 1;
            for key in &self.by_bit[bit] {
                if let Some(member) = self.members.get_mut(key)
                    && !member.is_ready
                {
                    member.is_ready = true;
                    self.ready.push_back(*key);
                }
            }
        }
    }

    /// Takes the next submission of a ring that is ready, of each in turn. A ring that has none
    /// goes to sleep.
    pub fn next_request(&mut self) -> Option<(K, Submission)> {
        // A client that submits all the time keeps its ring ready, not this loop going.
        for _ in 0..=self.ready.len() {
            let key = *self.ready.front()?;
            let Some(member) = self.members.get_mut(&key) else {
                self.ready.pop_front();
                continue;
            };
            if self.left > 0
                && let Some(submission) = member.ring.next_request()
            {
                self.left -= 1;
                return Some((key, submission));
            }
            let has_had_its_turn = self.left == 0;
            self.left = BATCH;
            self.ready.pop_front();
            // Also of what was completed without being given out.
            member.ring.flush(&member.wake);
            if !has_had_its_turn && member.ring.prepare_wait() {
                member.is_ready = false;
            } else {
                self.ready.push_back(key);
            }
        }
        None
    }

    /// Copies the entry of a submission of a ring once more; see [`RingServer::entry`].
    pub fn entry(&self, key: K, id: &SubmissionId) -> Option<Entry> {
        self.members.get(&key)?.ring.entry(id)
    }

    /// Completes a submission of a ring. Tell the clients by [`RingSet::flush`], once for many.
    pub fn complete(&mut self, key: K, id: SubmissionId, result: i64) {
        let Some(member) = self.members.get_mut(&key) else {
            return;
        };
        member.ring.complete(id, result);
        if !member.is_unflushed {
            member.is_unflushed = true;
            self.unflushed.push(key);
        }
    }

    /// Tells clients of completions, unless they look by themselves.
    pub fn flush(&mut self) {
        for key in self.unflushed.drain(..) {
            if let Some(member) = self.members.get_mut(&key) {
                member.is_unflushed = false;
                member.ring.flush(&member.wake);
            }
        }
    }

    /// Returns whether all rings sleep: nothing is to be done before a bit comes. A server whose
    /// rings do not all sleep must look for bits too, now and then: a client can keep its own ring
    /// from sleeping for ever.
    pub fn is_asleep(&self) -> bool {
        self.ready.is_empty()
    }
}
