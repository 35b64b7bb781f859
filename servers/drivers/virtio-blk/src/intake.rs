//! The way of requests from a ring to a disk, and of answers back.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use libipc::proto::block::BlockEntry;
use libipc::ring::{RingError, SubmissionId};
use libipc::typed_ring::TypedRingServer;
use libsys::mappings::Mapping;
use libsys::{Handle, Notification};

use crate::{Accepted, Disk, Done, Registers};

/// The ring of the block server. It belongs to that one: what this driver has not completed when
/// it dies, the next instance finds there.
#[derive(Debug)]
pub struct Intake {
    ring: TypedRingServer<BlockEntry>,
    /// Submissions at the device, by the token of their request.
    submissions: BTreeMap<u64, SubmissionId>,
}

impl Intake {
    /// Takes a ring; what is not completed in it comes (again).
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub fn attach(ring: Mapping) -> Result<Self, RingError> {
        Ok(Intake {
            ring: TypedRingServer::attach(ring)?,
            submissions: BTreeMap::new(),
        })
    }

    /// Completes what the disk has finished.
    pub fn answer(&mut self, done: &mut Vec<Done>) {
        for Done { token, outcome } in done.drain(..) {
            // Those of an earlier ring have no submission here.
            if let Some(id) = self.submissions.remove(&token) {
                self.ring.complete(id, outcome);
            }
        }
    }

    /// Hands requests to the disk as long as it has room.
    pub fn take_requests<R: Registers>(&mut self, disk: &mut Disk<R>, now_ns: u64) {
        let mut has_new = false;
        while disk.has_room()
            && let Some(submission) = self.ring.next_request()
        {
            let token = disk.new_token();
            match disk.accept(token, &submission.request.into(), now_ns) {
                Ok(Accepted::Started) => {
                    self.submissions.insert(token, submission.id);
                    has_new = true;
                }
                Ok(Accepted::Finished) => self.ring.complete(submission.id, Ok(())),
                Err(error) => self.ring.complete(submission.id, Err(error)),
            }
        }
        if has_new {
            disk.kick();
        }
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

#[cfg(test)]
mod tests;
