//! Replies as a part of a server's own state.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use libsys::state::{Purpose, Region, State, StateMemory};
use serde::{Deserialize, Serialize};

use super::ReplyJournal;

/// Most replies of one badge.
pub const MAX_REPLIES_PER_BADGE: usize = 4;
/// Most replies of all badges.
pub const MAX_REPLIES: usize = 1024;

/// The last replies of each client, to be kept in a [`State`]: then one record can hold both what
/// a request does and what it was answered, and a request that comes again is never run twice.
///
/// A stored reply is needed until its client has it. What that is nobody tells the server, so
/// replies are dropped when they cannot be needed any more:
///
/// - a client whose last sender was closed asks for nothing ([`Replies::forget`]);
/// - a thread has one call at a time: with its next one it shows that it has the reply. So the last
///   [`MAX_REPLIES_PER_BADGE`] are enough for as many threads that share a badge;
/// - of all badges the oldest go when there are more than [`MAX_REPLIES`]: more than a server has
///   requests under way.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Replies {
    /// By badge and sequence number, which grows from request to request of the endpoint.
    replies: BTreeMap<(u64, u64), Vec<u8>>,
}

impl Replies {
    /// Returns the reply of a request that was carried out before.
    pub fn get(&self, badge: u64, sequence: u64) -> Option<&[u8]> {
        self.replies.get(&(badge, sequence)).map(Vec::as_slice)
    }

    /// Adds the reply of a request, and drops what cannot be needed any more.
    pub fn insert(&mut self, badge: u64, sequence: u64, reply: Vec<u8>) {
        self.replies.insert((badge, sequence), reply);
        let own = || (badge, 0)..=(badge, u64::MAX);
        if self.replies.range(own()).count() > MAX_REPLIES_PER_BADGE {
            self.remove_first(own());
        }
        if self.replies.len() > MAX_REPLIES {
            let oldest = self.replies.keys().min_by_key(|(_, sequence)| *sequence);
            if let Some(oldest) = oldest.copied() {
                self.replies.remove(&oldest);
            }
        }
    }

    /// Drops the replies of a client that is gone.
    pub fn forget(&mut self, badge: u64) {
        while self.has_any(badge) {
            self.remove_first((badge, 0)..=(badge, u64::MAX));
        }
    }

    /// Returns whether there are replies of a client.
    pub fn has_any(&self, badge: u64) -> bool {
        let mut own = self.replies.range((badge, 0)..=(badge, u64::MAX));
        own.next().is_some()
    }

    fn remove_first(&mut self, range: core::ops::RangeInclusive<(u64, u64)>) {
        let first = self.replies.range(range).next().map(|(key, _)| *key);
        if let Some(first) = first {
            self.replies.remove(&first);
        }
    }
}

/// A state with [`Replies`] in it.
pub trait HasReplies: State {
    /// Returns the replies.
    fn replies(&self) -> &Replies;

    /// Makes the record that adds a reply and does nothing else.
    fn reply_record(badge: u64, sequence: u64, reply: Vec<u8>) -> Self::Record;

    /// Makes the record that forgets the replies of a badge.
    fn forget_record(badge: u64) -> Self::Record;
}

/// The journal of a server whose state has [`Replies`].
///
/// A method that must not be run twice appends one record with its effect and its reply; storing
/// the reply does nothing then. Of all others the reply is stored when they have run.
#[derive(Debug)]
pub struct RegionJournal<S: State, M: StateMemory> {
    region: Rc<RefCell<Region<S, M>>>,
}

impl<S: State, M: StateMemory> RegionJournal<S, M> {
    /// Makes the journal in a region, which the server uses too.
    pub fn new(region: Rc<RefCell<Region<S, M>>>) -> Self {
        RegionJournal { region }
    }

    fn append(&self, record: S::Record) {
        if self
            .region
            .borrow_mut()
            .append(record, Purpose::Shrink)
            .is_err()
        {
            // The reply goes out all the same; only a crash within the next few instructions could
            // bring the request back.
            log::error!("a reply was not kept: the state region is full");
        }
    }
}

impl<S: HasReplies, M: StateMemory> ReplyJournal for RegionJournal<S, M> {
    fn lookup(&self, badge: u64, sequence: u64) -> Option<Vec<u8>> {
        let region = self.region.borrow();
        let reply = region.state().replies().get(badge, sequence)?;
        Some(reply.to_vec())
    }

    fn store(&self, badge: u64, sequence: u64, reply: &[u8]) {
        if self.lookup(badge, sequence).is_none() {
            self.append(S::reply_record(badge, sequence, reply.to_vec()));
        }
    }

    fn forget(&self, badge: u64) {
        if self.region.borrow().state().replies().has_any(badge) {
            self.append(S::forget_record(badge));
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::rc::Rc;
    use core::cell::RefCell;

    use libsys::state::fake::FakeMemory;
    use libsys::state::{NoPrevious, Purpose, Region, State};
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::{HasReplies, MAX_REPLIES, MAX_REPLIES_PER_BADGE, RegionJournal, Replies};
    use crate::server::ReplyJournal;

    /// A counter that is raised exactly once per request.
    #[derive(Debug, Default, Serialize, Deserialize)]
    struct Counter {
        value: u64,
        replies: Replies,
    }

    #[derive(Debug, Serialize, Deserialize)]
    enum Record {
        Raised { badge: u64, sequence: u64 },
        Replied(u64, u64, Vec<u8>),
        Forgotten(u64),
    }

    impl State for Counter {
        type Record = Record;
        type Previous = NoPrevious;
        const SCHEMA: &'static str = "test.counter";

        fn apply(&mut self, record: Record) {
            match record {
                Record::Raised { badge, sequence } => {
                    self.value += 1;
                    let reply = self.value.to_le_bytes().to_vec();
                    self.replies.insert(badge, sequence, reply);
                }
                Record::Replied(badge, sequence, reply) => {
                    self.replies.insert(badge, sequence, reply);
                }
                Record::Forgotten(badge) => self.replies.forget(badge),
            }
        }
    }

    impl HasReplies for Counter {
        fn replies(&self) -> &Replies {
            &self.replies
        }

        fn reply_record(badge: u64, sequence: u64, reply: Vec<u8>) -> Record {
            Record::Replied(badge, sequence, reply)
        }

        fn forget_record(badge: u64) -> Record {
            Record::Forgotten(badge)
        }
    }

    type CounterRegion = Region<Counter, FakeMemory>;

    fn open(memory: FakeMemory) -> Rc<RefCell<CounterRegion>> {
        Rc::new(RefCell::new(CounterRegion::open(memory).unwrap().0))
    }

    /// Answers a request that raises the counter, as a server does.
    fn raise(region: &Rc<RefCell<CounterRegion>>, badge: u64, sequence: u64) -> Vec<u8> {
        let journal = RegionJournal::new(Rc::clone(region));
        if let Some(reply) = journal.lookup(badge, sequence) {
            return reply;
        }
        let record = Record::Raised { badge, sequence };
        region.borrow_mut().append(record, Purpose::Grow).unwrap();
        let reply = region.borrow().state().value.to_le_bytes();
        journal.store(badge, sequence, &reply);
        reply.to_vec()
    }

    #[test]
    fn effect_and_reply_are_one_wherever_the_server_dies() {
        let region = open(FakeMemory::new(2048));
        raise(&region, 1, 1);
        let start = region.borrow().memory().survivor();
        for limit in 0..40 {
            let victim = open(start.survivor().dying_after(limit));
            raise(&victim, 1, 2);
            let survivor = victim.borrow().memory().survivor();
            // The request comes again, as long as its client has no reply; then others come.
            let next = open(survivor);
            assert_eq!(raise(&next, 1, 2), 2_u64.to_le_bytes());
            assert_eq!(raise(&next, 1, 2), 2_u64.to_le_bytes());
            assert_eq!(raise(&next, 2, 3), 3_u64.to_le_bytes());
        }
    }

    #[test]
    fn replies_of_plain_methods_are_kept_and_forgotten() {
        let region = open(FakeMemory::new(2048));
        let journal = RegionJournal::new(Rc::clone(&region));
        journal.store(7, 1, b"reply");
        assert_eq!(journal.lookup(7, 1).unwrap(), b"reply");
        journal.forget(8);
        journal.forget(7);
        assert_eq!(journal.lookup(7, 1), None);
    }

    #[test]
    fn the_oldest_go_first_and_one_client_costs_no_other_its_replies() {
        let mut replies = Replies::default();
        replies.insert(1, 1, vec![1]);
        for sequence in 2..100 {
            replies.insert(2, sequence, vec![]);
        }
        assert_eq!(replies.replies.len(), 1 + MAX_REPLIES_PER_BADGE);
        assert!(replies.get(1, 1).is_some() && replies.get(2, 95).is_none());
        assert!((96..100).all(|sequence| replies.get(2, sequence).is_some()));
        for badge in 100..100 + MAX_REPLIES as u64 {
            replies.insert(badge, badge, vec![]);
        }
        assert_eq!(replies.replies.len(), MAX_REPLIES);
        assert!(replies.get(1, 1).is_none() && replies.get(100, 100).is_some());
    }

    proptest! {
        #[test]
        fn the_last_reply_of_each_badge_is_there(
            requests in prop::collection::vec(0_u64..20, 1..200),
        ) {
            let mut replies = Replies::default();
            for (sequence, &badge) in (0..).zip(&requests) {
                replies.insert(badge, sequence, vec![badge as u8]);
                prop_assert!(replies.get(badge, sequence).is_some());
            }
            for badge in 0..20 {
                let last = requests.iter().rposition(|&other| other == badge);
                let found = last.is_none_or(|at| replies.get(badge, at as u64).is_some());
                prop_assert!(found);
                replies.forget(badge);
                prop_assert!(!replies.has_any(badge));
            }
            prop_assert!(replies.replies.is_empty());
        }
    }
}
