//! Replies that outlive their server, for `#[exactly_once]` methods.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::RefCell;

/// Keeps the last reply of each client where a restarted server finds it.
///
/// A client has one call at a time per thread, so the last reply per badge is enough as long as
/// its threads do not share one badge.
///
/// The reply is stored after the method has run and before the client sees it. A server that
/// dies between its own effect and [`ReplyJournal::store`] runs the method again: where that
/// matters, the effect and the reply must go into the state region in one step, by a journal
/// that the server writes itself and whose `store` then does nothing.
///
/// No method of a journal may call another server: the reply lies in the IPC page meanwhile.
pub trait ReplyJournal {
    /// Returns the stored reply of this request, if it had completed.
    fn lookup(&self, badge: u64, sequence: u64) -> Option<Vec<u8>>;

    /// Stores a reply. Earlier ones of the badge may be forgotten.
    fn store(&self, badge: u64, sequence: u64, reply: &[u8]);

    /// Forgets a client whose last sender was closed.
    fn forget(&self, badge: u64);
}

/// A journal in memory, for tests: it outlives a dispatcher, not a process.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    replies: RefCell<BTreeMap<u64, (u64, Vec<u8>)>>,
}

impl ReplyJournal for MemoryJournal {
    fn lookup(&self, badge: u64, sequence: u64) -> Option<Vec<u8>> {
        let replies = self.replies.borrow();
        let (stored, reply) = replies.get(&badge)?;
        (*stored == sequence).then(|| reply.clone())
    }

    fn store(&self, badge: u64, sequence: u64, reply: &[u8]) {
        self.replies
            .borrow_mut()
            .insert(badge, (sequence, reply.to_vec()));
    }

    fn forget(&self, badge: u64) {
        self.replies.borrow_mut().remove(&badge);
    }
}
