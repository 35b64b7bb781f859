//! The way of requests from a ring to a disk, and of answers back.
//!
//! An answer has the receipt of what the device was told, which is compared with the entry.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use libipc::proto::block::{BlockEntry, IoError, Operation, Receipt, Request};
use libipc::ring::{RingError, SubmissionId};
use libipc::typed_ring::{TypedRingServer, TypedSubmission};
use libsys::mappings::Mapping;
use libsys::state::StateMemory;
use libsys::{Handle, Notification};

use crate::{Accepted, Asked, Disk, Done, FlightLog, Kind, Registers};

/// The ring of the block server. It belongs to that one: what this driver has not completed when
/// it dies, the next instance finds there.
#[derive(Debug)]
pub struct Intake {
    /// Number of the disk.
    disk: u32,
    ring: TypedRingServer<BlockEntry>,
    /// Submissions at the device, by the token of their request.
    submissions: BTreeMap<u64, SubmissionId>,
}

impl Intake {
    /// Takes the ring of a disk; what is not completed in it comes (again).
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub fn attach(disk: u32, ring: Mapping) -> Result<Self, RingError> {
        Ok(Intake {
            disk,
            ring: TypedRingServer::attach(ring)?,
            submissions: BTreeMap::new(),
        })
    }

    /// Returns whether what the disk has finished is what was asked for: each entry is read once more.
    /// The block server judges by itself; but who finds this out first need not trouble others.
    #[inline(never)]
    pub fn was_asked(&self, done: &[Done]) -> bool {
        done.iter().all(|Done { token, outcome }| {
            // Those of an earlier ring have no submission here.
            let (Ok(receipt), Some(id)) = (outcome, self.submissions.get(token)) else {
                return true;
            };
            let entry = self.ring.request(id);
            entry.is_some_and(|entry| Receipt::of(&entry.into()) == *receipt)
        })
    }

    /// Completes what the disk has finished.
    pub fn answer<M: StateMemory>(&mut self, done: &mut Vec<Done>, log: &mut FlightLog<M>) {
        // Those of an earlier ring have no submission here.
        let answers = done.drain(..).filter_map(|Done { token, outcome }| {
            let id = self.submissions.remove(&token)?;
            Some((id, outcome))
        });
        let answers: Vec<_> = answers.collect();
        let keys = answers.iter().map(|(id, _)| id.key());
        // First: a crash after the answer must not be blamed on the request.
        log.done(self.disk, keys.collect());
        for (id, outcome) in answers {
            self.ring.complete(id, outcome);
        }
    }

    /// Hands requests to the disk as long as it has room, and as the log lets it.
    pub fn take_requests<R: Registers, M: StateMemory>(
        &mut self,
        disk: &mut Disk<R>,
        log: &mut FlightLog<M>,
        now_ns: u64,
    ) {
        let batch = self.take_batch(disk.room(), log);
        let requests = batch
            .iter()
            .map(|submission| (submission.id.key(), asked(&submission.request.into())));
        log.taken(self.disk, requests.collect());
        let (mut has_new, mut answered) = (false, Vec::new());
        for submission in batch {
            let token = disk.new_token();
            let outcome = match disk.accept(token, &submission.request.into(), now_ns) {
                Ok(Accepted::Started) => {
                    self.submissions.insert(token, submission.id);
                    has_new = true;
                    continue;
                }
                Ok(Accepted::Finished) => Ok(Receipt::of(&Request::flush())),
                Err(error) => Err(error),
            };
            answered.push(submission.id.key());
            self.ring.complete(submission.id, outcome);
        }
        log.done(self.disk, answered);
        if has_new {
            disk.kick();
        }
    }

    /// Takes what is to be tried next. What has crashed the driver often enough fails here.
    fn take_batch<M: StateMemory>(
        &mut self,
        room: usize,
        log: &mut FlightLog<M>,
    ) -> Vec<TypedSubmission<BlockEntry>> {
        let (mut batch, mut poison) = (Vec::new(), Vec::new());
        let room = room.min(log.flights().room());
        let has_all = loop {
            if batch.len() == room {
                break false;
            }
            let Some(submission) = self.ring.next_request() else {
                break true;
            };
            let key = submission.id.key();
            if log.flights().is_poison(self.disk, key) {
                log::error!(
                    "disk {}: request {key} crashed the driver twice: {:?}",
                    self.disk,
                    submission.request
                );
                poison.push(key);
                self.ring.complete(submission.id, Err(IoError::Crashed));
            } else {
                batch.push(submission);
            }
        };
        log.done(self.disk, poison);
        if has_all && batch.is_empty() {
            log.has_all(self.disk);
        }
        batch
    }

    /// Tells the block server of completions, unless it looks by itself.
    pub fn flush(&mut self, wake: &Handle<Notification>) {
        self.ring.flush(wake);
    }

    /// Asks for a doorbell; see [`TypedRingServer::prepare_wait`].
    #[must_use]
    pub fn prepare_wait(&mut self) -> bool {
        self.ring.prepare_wait()
    }
}

/// Returns what the log says about a request.
fn asked(request: &Request) -> Asked {
    let kind = match request.operation {
        Operation::Read => Kind::Read,
        Operation::Write => Kind::Write,
        Operation::Flush => Kind::Flush,
    };
    Asked {
        kind,
        sector: request.sector,
        sectors: request.sectors,
    }
}

#[cfg(test)]
mod tests;
