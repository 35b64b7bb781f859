//! The way of requests from the rings of clients through the scheduler to the ring of the driver,
//! and of answers back.
//!
//! An answer has the receipt of what was transferred. It is compared twice on its way: the driver's
//! with what the clients asked for, and a client's with its entry, which is read once more for that.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;

use libipc::Failure;
use libipc::proto::block::{BlockEntry, IoError, Receipt, Request};
use libipc::ring::{Entry, RingClient, RingError, RingServer, RingSet, Submission, SubmissionId};
use libipc::typed_ring::{RingRequest, TypedRingClient, result_word, status_word};
use libsys::mappings::Mapping;
use libsys::state::{Full, Purpose, Region, StateMemory};
use libsys::{Handle, Notification};

use crate::{Answer, BufferView, MAX_CRASHES, Origin, Record, Scheduler, Tables};

/// Submissions of a client's queue that are not completed, by the token of their request. Its ring
/// belongs to the client: what this server has not completed when it dies, the next instance finds
/// there.
type Submissions = BTreeMap<u64, Taken>;

/// A submission that was given to the scheduler.
#[derive(Debug)]
struct Taken {
    id: SubmissionId,
    turn: Turn,
}

/// How often a submission was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    First,
    /// Something else was done for it before.
    Again,
}

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
    /// Submissions for which something else was done: they are taken again.
    mistaken: Vec<(u32, Submission)>,
    doubts: Doubts,
}

/// What was found that should not be, since it was asked for last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Doubts {
    /// Whether the driver failed requests, or did something else.
    pub driver: bool,
    /// Whether this server did something else than a client asked for; also a client that changes
    /// its entries can bring that about.
    pub this_side: bool,
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
            mistaken: Vec::new(),
            doubts: Doubts::default(),
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

    /// Returns what was found since this was asked last.
    pub fn take_doubts(&mut self) -> Doubts {
        core::mem::take(&mut self.doubts)
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
        self.mistaken.retain(|(of, _)| *of != queue);
        self.scheduler.cancel(queue);
    }

    /// Takes the driver's answers and completes the requests that are done by that. Returns
    /// whether there were any.
    pub fn take_answers(&mut self) -> bool {
        let mut answers = Vec::new();
        let mut has_finished = false;
        while let Some(completion) = self.driver.next_completion() {
            has_finished = true;
            let outcome = match completion.outcome {
                Ok(receipt) if self.scheduler.was_asked(completion.user_data, receipt) => {
                    Ok(receipt)
                }
                Err(Failure::Server(error)) => Err(error),
                // What no driver writes, or something else was done.
                _ => Err(IoError::Device),
            };
            // What was accepted should not fail: the driver may be damaged.
            if outcome.is_err_and(|error| error != IoError::Crashed) {
                let is_attached = |queue| self.clients.contains_key(&queue);
                if self.scheduler.try_again(completion.user_data, is_attached) {
                    self.doubts.driver = true;
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
            self.give(origin, outcome);
        }
        has_finished
    }

    /// Completes a request of a client, or has it taken again if something else was done.
    fn give(&mut self, Origin { queue, token }: Origin, outcome: Result<Receipt, IoError>) {
        // The client may have gone meanwhile.
        let Some(taken) = self
            .clients
            .get_mut(&queue)
            .and_then(|client| client.remove(&token))
        else {
            return;
        };
        let Taken { id, turn } = taken;
        if let Ok(receipt) = outcome
            && let Some(entry) = self.rings.entry(queue, &id)
            && !is_for(&entry, receipt)
        {
            self.doubts.this_side = true;
            // Once: a client that changes its entries has not asked for anything in particular.
            if turn == Turn::First {
                log::error!(
                    "queue {queue}: something else was done than entry {}",
                    id.key()
                );
                let redelivered = true;
                let submission = Submission {
                    id,
                    entry,
                    redelivered,
                };
                self.mistaken.push((queue, submission));
                return;
            }
        }
        self.rings.complete(queue, id, result_word(outcome));
    }

    /// Takes requests from the clients, in turn, and hands to the driver what it can take. The
    /// entry at work is noted in the state region; one over which the server has crashed again and
    /// again is refused unseen.
    pub fn take_requests<M: StateMemory>(&mut self, tables: &mut Region<Tables, M>) {
        for (queue, submission) in core::mem::take(&mut self.mistaken) {
            self.take(tables.state(), queue, submission, Turn::Again);
        }
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
                let refused = result_word::<Receipt, _>(Err(IoError::Crashed));
                self.rings.complete(queue, submission.id, refused);
                settle(tables, queue, key);
                continue;
            }
            tables.about_to(queue, key);
            self.take(tables.state(), queue, submission, Turn::First);
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
    fn take(&mut self, tables: &Tables, queue: u32, submission: Submission, turn: Turn) {
        self.last_token += 1;
        let token = self.last_token;
        let origin = Origin { queue, token };
        let entry = &submission.entry;
        let refused = match BlockEntry::from_words(entry.opcode, entry.arguments) {
            Ok(request) => accept(&mut self.scheduler, tables, origin, &request.into())
                .map_err(|error| result_word::<Receipt, _>(Err(error))),
            Err(status) => Err(status_word(status)),
        };
        match refused {
            Ok(()) => {
                let client = self.clients.entry(queue).or_default();
                let id = submission.id;
                client.insert(token, Taken { id, turn });
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

/// Returns whether this is the receipt for what an entry asks for.
#[inline(never)]
fn is_for(entry: &Entry, receipt: Receipt) -> bool {
    let request = BlockEntry::from_words(entry.opcode, entry.arguments);
    request.is_ok_and(|request| Receipt::of(&request.into()) == receipt)
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
