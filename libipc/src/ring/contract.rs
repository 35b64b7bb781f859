//! What becomes of entries that an earlier instance of the server had: what the restart contract
//! of their method says.

use super::client::RESTARTED;
use super::memory::RingMemory;
use super::server::{RingServer, Submission, SubmissionId};
use crate::schema::Contract;

/// Results that outlive their server, for entries that are done exactly once.
///
/// One result per slot of a ring is enough: a slot is used again only when the client has the
/// earlier result. The result is stored after the work is done and before the client sees it. A
/// server that dies between the two does the work again: where that matters, effect and result
/// go into the state region in one step, and `store` then does nothing.
pub trait Results {
    /// Returns the result of the entry with this key, if it was done.
    fn lookup(&self, slot: usize, key: u64) -> Option<i64>;

    /// Stores the result of an entry, in place of the earlier one of the slot.
    fn store(&self, slot: usize, key: u64, result: i64);
}

/// Takes and completes the entries of a ring by the contracts of their methods.
#[derive(Debug)]
pub struct Contracts<F, R> {
    contract_of: F,
    results: R,
}

impl<F: Fn(u32) -> Contract, R: Results> Contracts<F, R> {
    /// `contract_of` tells the contract of an opcode; of an unknown one, any.
    pub fn new(contract_of: F, results: R) -> Self {
        Contracts {
            contract_of,
            results,
        }
    }

    /// Takes the next submission that is to be done. What an earlier instance had and is not to
    /// be done again is completed on the way.
    pub fn next_request<M: RingMemory>(&self, ring: &mut RingServer<M>) -> Option<Submission> {
        loop {
            let submission = ring.next_request()?;
            if !submission.redelivered {
                return Some(submission);
            }
            let id = submission.id;
            let result = match (self.contract_of)(submission.entry.opcode) {
                Contract::Idempotent => None,
                Contract::ExactlyOnce => self.results.lookup(id.slot(), id.key()),
                Contract::FailsOnRestart => Some(RESTARTED),
            };
            match result {
                Some(result) => ring.complete(id, result),
                None => return Some(Submission { id, ..submission }),
            }
        }
    }

    /// Completes a submission with this opcode.
    pub fn complete<M: RingMemory>(
        &self,
        ring: &mut RingServer<M>,
        opcode: u32,
        id: SubmissionId,
        result: i64,
    ) {
        if (self.contract_of)(opcode) == Contract::ExactlyOnce {
            self.results.store(id.slot(), id.key(), result);
        }
        ring.complete(id, result);
    }
}
