//! The way of requests from the rings of clients through the scheduler to the ring of the driver,
//! and of answers back.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use libipc::Failure;
use libipc::proto::block::{BlockEntry, IoError, Request};
use libipc::ring::{RingClient, RingError, SubmissionId};
use libipc::typed_ring::{TypedRingClient, TypedRingServer};
use libsys::mappings::Mapping;
use libsys::{Handle, Notification};

use crate::{Answer, BufferView, Origin, Scheduler, Tables};

/// Requests taken from one client's ring before the next client has its turn.
const BATCH: usize = 16;

/// The ring of a client's queue. It belongs to the client: what this server has not completed
/// when it dies, the next instance finds there.
#[derive(Debug)]
struct Client {
    ring: TypedRingServer<BlockEntry>,
    wake: Handle<Notification>,
    /// Submissions that are not completed, by the token of their request.
    submissions: BTreeMap<u64, SubmissionId>,
}

/// All rings of a device, and its scheduler between them.
#[derive(Debug)]
pub struct Exchange {
    scheduler: Scheduler,
    driver: TypedRingClient<BlockEntry>,
    clients: BTreeMap<u32, Client>,
    last_token: u64,
}

impl Exchange {
    /// Takes the ring to the driver.
    pub fn new(scheduler: Scheduler, driver: RingClient) -> Self {
        Exchange {
            scheduler,
            driver: TypedRingClient::new(driver),
            clients: BTreeMap::new(),
            last_token: 0,
        }
    }

    /// Returns the scheduler, for looking at it.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Takes the ring of a client's queue; what is not completed in it comes (again).
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub fn attach(
        &mut self,
        queue: u32,
        ring: Mapping,
        wake: Handle<Notification>,
    ) -> Result<(), RingError> {
        let ring = TypedRingServer::attach(ring)?;
        self.clients.insert(
            queue,
            Client {
                ring,
                wake,
                submissions: BTreeMap::new(),
            },
        );
        Ok(())
    }

    /// Drops the ring of a queue; what waits of it is forgotten. What the driver has of it goes
    /// on, see [`Scheduler::is_at_driver`].
    pub fn detach(&mut self, queue: u32) {
        self.clients.remove(&queue);
        self.scheduler.cancel(queue);
    }

    /// Takes the driver's answers and completes the requests that are done by that. Returns
    /// whether there were any.
    pub fn take_answers(&mut self) -> bool {
        let mut answers = Vec::new();
        let mut has_finished = false;
        while let Some(completion) = self.driver.next_completion() {
            has_finished = true;
            let outcome = completion.outcome.map_err(|failure| match failure {
                Failure::Server(error) => error,
                // What no driver writes.
                _ => IoError::Device,
            });
            if !self
                .scheduler
                .complete(completion.user_data, outcome, &mut answers)
            {
                log::warn!("a driver answered what it was not asked");
            }
        }
        for Answer { origin, outcome } in answers {
            // The client may have gone meanwhile.
            let Some(client) = self.clients.get_mut(&origin.queue) else {
                continue;
            };
            if let Some(id) = client.submissions.remove(&origin.token) {
                client.ring.complete(id, outcome);
            }
        }
        has_finished
    }

    /// Takes requests from the clients, in turn, and hands to the driver what it can take.
    pub fn take_requests(&mut self, tables: &Tables) {
        for (&queue, client) in &mut self.clients {
            for _ in 0..BATCH {
                if !self.scheduler.has_room() {
                    break;
                }
                let Some(submission) = client.ring.next_request() else {
                    break;
                };
                self.last_token += 1;
                let origin = Origin {
                    queue,
                    token: self.last_token,
                };
                let request = submission.request.into();
                match accept(&mut self.scheduler, tables, origin, &request) {
                    Ok(()) => {
                        client.submissions.insert(origin.token, submission.id);
                    }
                    Err(error) => client.ring.complete(submission.id, Err(error)),
                }
            }
        }
        while let Some((tag, request)) = self.scheduler.next_for_driver() {
            if self.driver.submit(tag, request.into()).is_err() {
                self.scheduler.put_back(tag);
                break;
            }
        }
    }

    /// Tells driver and clients of what is new for them, unless they look by themselves.
    pub fn flush(&mut self) {
        self.driver.flush();
        for client in self.clients.values_mut() {
            client.ring.flush(&client.wake);
        }
    }

    /// Asks all sides to notify. Returns whether there is nothing to do until then.
    #[must_use]
    pub fn prepare_wait(&mut self) -> bool {
        let mut may_wait = self.driver.prepare_wait();
        // Without room the driver's answers are what to wait for.
        if self.scheduler.has_room() {
            for client in self.clients.values_mut() {
                may_wait &= client.ring.prepare_wait();
            }
        }
        may_wait
    }
}

/// Gives a request of a client to the scheduler.
fn accept(
    scheduler: &mut Scheduler,
    tables: &Tables,
    origin: Origin,
    request: &Request,
) -> Result<(), IoError> {
    let buffer = tables.buffer(request.buffer.0, origin.queue);
    let view = buffer.map(|known| BufferView {
        bytes: known.bytes,
        is_writable: known.is_writable,
    });
    scheduler.submit(origin, request, view)
}

#[cfg(test)]
mod tests;
