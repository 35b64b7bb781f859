//! The way of requests from the rings of clients through the scheduler to the ring of the driver,
//! and of answers back.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;

use libipc::Failure;
use libipc::proto::block::{BlockEntry, IoError, Request};
use libipc::ring::{RingClient, RingError, RingServer, RingSet, Submission, SubmissionId};
use libipc::typed_ring::{RingRequest, TypedRingClient, result_word, status_word};
use libsys::mappings::Mapping;
use libsys::state::{Full, Purpose, Region, StateMemory};
use libsys::{Handle, Notification};

use crate::{Answer, BufferView, MAX_CRASHES, Origin, Record, Scheduler, Tables};

/// Submissions of a client's queue that are not completed, by the token of their request. Its ring
/// belongs to the client: what this server has not completed when it dies, the next instance finds
/// there.
type Submissions = BTreeMap<u64, SubmissionId>;

/// Requests taken in one turn. A client can submit what is refused at once for ever; between two
/// turns the bells of the others are heard.
const TURN: usize = 256;

/// All rings of a device, and its scheduler between them.
#[derive(Debug)]
pub struct Exchange {
    scheduler: Scheduler,
    driver: TypedRingClient<BlockEntry>,
    rings: RingSet<u32>,
    clients: BTreeMap<u32, Submissions>,
    last_token: u64,
    /// Whether the driver has failed requests since that was asked for last.
    is_driver_doubtful: bool,
}

impl Exchange {
    /// Takes the ring to the driver.
    pub fn new(scheduler: Scheduler, driver: RingClient) -> Self {
        Exchange {
            scheduler,
            driver: TypedRingClient::new(driver),
            rings: RingSet::new(),
            clients: BTreeMap::new(),
            last_token: 0,
            is_driver_doubtful: false,
        }
    }

    /// Returns the scheduler, for looking at it.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Takes the ring of a client's queue; what is not completed in it comes (again). Its doorbell
    /// sets `bit`.
    ///
    /// # Errors
    ///
    /// See [`RingError`].
    pub fn attach(
        &mut self,
        queue: u32,
        bit: u8,
        ring: Mapping,
        wake: Handle<Notification>,
    ) -> Result<(), RingError> {
        let ring = RingServer::attach(ring)?;
        self.rings.insert(queue, bit, ring, wake);
        self.clients.insert(queue, Submissions::new());
        Ok(())
    }

    /// Returns whether the driver has failed requests since this was asked last.
    pub fn take_doubts(&mut self) -> bool {
        core::mem::take(&mut self.is_driver_doubtful)
    }

    /// Returns the ring to the driver, for watching it.
    pub fn driver_ring(&self) -> Rc<RingClient> {
        Rc::clone(self.driver.ring())
    }

    /// Tells that these notification bits came: the rings whose doorbells set them have news.
    pub fn raise(&mut self, bits: u64) {
        self.rings.raise(bits);
    }

    /// Drops the ring of a queue; what waits of it is forgotten. What the driver has of it goes
    /// on, see [`Scheduler::is_at_driver`].
    pub fn detach(&mut self, queue: u32) {
        self.rings.remove(queue);
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
            // What was accepted should not fail: the driver may be damaged.
            if outcome.is_err_and(|error| error != IoError::Crashed) {
                let is_attached = |queue| self.clients.contains_key(&queue);
                if self.scheduler.try_again(completion.user_data, is_attached) {
                    self.is_driver_doubtful = true;
                    continue;
                }
            }
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
            if let Some(id) = client.remove(&origin.token) {
                self.rings.complete(origin.queue, id, result_word(outcome));
            }
        }
        has_finished
    }

    /// Takes requests from the clients, in turn, and hands to the driver what it can take. The
    /// entry at work is noted in the state region; one over which the server has crashed again and
    /// again is refused unseen.
    pub fn take_requests<M: StateMemory>(&mut self, tables: &mut Region<Tables, M>) {
        for _ in 0..TURN {
            if !self.scheduler.has_room() {
                break;
            }
            let Some((queue, submission)) = self.rings.next_request() else {
                break;
            };
            let key = submission.id.key();
            let blame = tables.state().blame(queue, key);
            if blame >= MAX_CRASHES {
                log::error!("queue {queue}: entry {key} crashed the server {blame} times");
                self.scheduler.refuse();
                let refused = result_word::<(), _>(Err(IoError::Crashed));
                self.rings.complete(queue, submission.id, refused);
                settle(tables, queue, key);
                continue;
            }
            tables.about_to(queue, key);
            self.take(tables.state(), queue, submission);
            tables.is_done();
            if blame > 0 {
                settle(tables, queue, key);
            }
        }
        while let Some((tag, request)) = self.scheduler.next_for_driver() {
            if self.driver.submit(tag, request.into()).is_err() {
                self.scheduler.put_back(tag);
                break;
            }
        }
    }

    /// Takes a request of a client, or refuses it.
    fn take(&mut self, tables: &Tables, queue: u32, submission: Submission) {
        self.last_token += 1;
        let token = self.last_token;
        let origin = Origin { queue, token };
        let entry = &submission.entry;
        let refused = match BlockEntry::from_words(entry.opcode, entry.arguments) {
            Ok(request) => accept(&mut self.scheduler, tables, origin, &request.into())
                .map_err(|error| result_word::<(), _>(Err(error))),
            Err(status) => Err(status_word(status)),
        };
        match refused {
            Ok(()) => {
                let client = self.clients.entry(queue).or_default();
                client.insert(token, submission.id);
            }
            Err(result) => self.rings.complete(queue, submission.id, result),
        }
    }

    /// Tells driver and clients of what is new for them, unless they look by themselves.
    pub fn flush(&mut self) {
        self.driver.flush();
        self.rings.flush();
    }

    /// Asks all sides to notify. Returns whether there is nothing to do until then.
    #[must_use]
    pub fn prepare_wait(&mut self) -> bool {
        let may_wait = self.driver.prepare_wait();
        // Without room the driver's answers are what to wait for.
        may_wait && (self.rings.is_asleep() || !self.scheduler.has_room())
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

/// Begins an instance of a server that has crashed so often since boot.
///
/// # Errors
///
/// [`Full`].
pub fn begin<M: StateMemory>(tables: &mut Region<Tables, M>, crashes: u32) -> Result<(), Full> {
    let interrupted = tables.interrupted();
    let record = Record::Started {
        crashes,
        interrupted,
    };
    tables.append(record, Purpose::Shrink)?;
    tables.is_done();
    Ok(())
}

/// Forgets that an entry was blamed for a crash.
fn settle<M: StateMemory>(tables: &mut Region<Tables, M>, queue: u32, key: u64) {
    // In a full region the blame stays until the queue is closed: its keys are not used again.
    let _ = tables.append(Record::Settled(queue, key), Purpose::Shrink);
}

#[cfg(test)]
mod tests;
