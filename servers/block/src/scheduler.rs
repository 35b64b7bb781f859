//! The requests of one device, from the clients' rings to the driver's.
//!
//! Every accepted request is answered exactly once. A request too long for the device is split; a
//! request that goes on where the last waiting one ends, in the same buffer, is joined with it.
//! The order is that of arrival (the elevator `none`): who needs an order between two requests
//! waits for the first to be answered.
//!
//! What the driver says it did is compared with the requests of the clients, part by part. The
//! answer to a request is made of what the driver said, so that its client can compare as well.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use libipc::proto::block::{IoError, Operation, Receipt, Request, SECTOR_BYTES, Statistics};

use crate::Totals;

/// Requests waiting at which no more are taken from the rings: what the client's ring holds needs
/// no memory here.
const MAX_WAITING: usize = 256;

/// What the device can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Sectors it has.
    pub sectors: u64,
    /// Whether it refuses writes.
    pub is_read_only: bool,
    /// Most sectors of one request.
    pub max_sectors: u64,
    /// Most requests on their way at once.
    pub depth: usize,
}

/// Whose request it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Origin {
    /// The client's queue.
    pub queue: u32,
    /// The number that the client gave the request.
    pub token: u64,
}

/// The buffer of a request, as it was registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BufferView {
    /// Its size.
    pub bytes: u64,
    /// Whether it may be read into.
    pub is_writable: bool,
}

/// The answer to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Whose it is.
    pub origin: Origin,
    /// How it went, and what was transferred.
    pub outcome: Result<Receipt, IoError>,
}

/// An accepted request that is not answered yet.
#[derive(Debug)]
struct Ticket {
    origin: Origin,
    request: Request,
    /// Parts of it that are not done.
    parts_left: usize,
    /// What its parts transferred, or why one of them failed.
    outcome: Result<Receipt, IoError>,
}

/// Some sectors of a ticket's request.
#[derive(Clone, Copy, Debug)]
struct Part {
    ticket: u64,
    /// Sectors of the request that are in front of them.
    from: u64,
    sectors: u64,
}

/// What goes to the driver as one request.
#[derive(Debug)]
struct Job {
    request: Request,
    /// What it does of which tickets, in the order of sectors.
    parts: Vec<Part>,
    /// Whether others may be joined with it.
    is_open: bool,
    /// Whether the driver has failed it before.
    is_again: bool,
}

/// Has the requests of one device.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    tickets: BTreeMap<u64, Ticket>,
    waiting: VecDeque<Job>,
    /// Jobs that the driver has, by tag.
    at_driver: BTreeMap<u64, Job>,
    /// Last number given to a ticket or a tag.
    last_number: u64,
    statistics: Statistics,
}

impl Scheduler {
    /// Makes a scheduler for a device.
    pub fn new(limits: Limits) -> Self {
        Self::going_on(limits, Totals::default())
    }

    /// Makes a scheduler for a device for which so much was done before.
    pub fn going_on(limits: Limits, totals: Totals) -> Self {
        // A device that takes no sectors at once, or no request, would never finish anything.
        let (max_sectors, depth) = (limits.max_sectors.max(1), limits.depth.max(1));
        Scheduler {
            limits: Limits {
                max_sectors,
                depth,
                ..limits
            },
            tickets: BTreeMap::new(),
            waiting: VecDeque::new(),
            at_driver: BTreeMap::new(),
            last_number: 0,
            statistics: Statistics {
                requests: totals.requests,
                sectors_read: totals.sectors_read,
                sectors_written: totals.sectors_written,
                merged: totals.merged,
                failed: totals.failed,
                ..Statistics::default()
            },
        }
    }

    /// Returns whether more requests should be taken from the rings.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    /// Returns what was done so far.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            in_flight: self.at_driver.len() as u32,
            waiting: self.waiting.len() as u32,
            ..self.statistics
        }
    }

    /// Returns what was done since boot.
    pub fn totals(&self) -> Totals {
        let statistics = &self.statistics;
        Totals {
            requests: statistics.requests,
            sectors_read: statistics.sectors_read,
            sectors_written: statistics.sectors_written,
            merged: statistics.merged,
            failed: statistics.failed,
        }
    }

    /// Counts a request that was refused before it came here.
    pub fn refuse(&mut self) {
        self.statistics.requests += 1;
        self.statistics.failed += 1;
    }

    /// Takes a request of a client.
    ///
    /// # Errors
    ///
    /// The answer to a request that cannot be done; it counts as answered.
    pub fn submit(
        &mut self,
        origin: Origin,
        request: &Request,
        buffer: Option<BufferView>,
    ) -> Result<(), IoError> {
        if let Err(error) = self.check(request, buffer) {
            self.refuse();
            return Err(error);
        }
        let ticket = self.number();
        let parts_left = self.enqueue(ticket, request);
        let outcome = Ok(Receipt::default());
        self.tickets.insert(
            ticket,
            Ticket {
                origin,
                request: *request,
                parts_left,
                outcome,
            },
        );
        Ok(())
    }

    /// Takes the next request for the driver, if it can take one: its tag and what to do.
    pub fn next_for_driver(&mut self) -> Option<(u64, Request)> {
        if self.at_driver.len() >= self.limits.depth {
            return None;
        }
        let job = self.waiting.pop_front()?;
        let (tag, request) = (self.number(), job.request);
        self.at_driver.insert(tag, job);
        Some((tag, request))
    }

    /// Puts a request back that the driver's ring had no room for, at the head of the others.
    pub fn put_back(&mut self, tag: u64) {
        if let Some(job) = self.at_driver.remove(&tag) {
            self.waiting.push_front(job);
        }
    }

    /// Has the driver do a request again that it failed, as the next one. Returns false if that was
    /// tried before, if its queue is not attached any more, and for a tag that the driver does not
    /// have.
    pub fn try_again(&mut self, tag: u64, is_attached: impl Fn(u32) -> bool) -> bool {
        let tickets = &self.tickets;
        let is_wanted = |part: &Part| {
            let known = tickets.get(&part.ticket);
            known.is_some_and(|known| is_attached(known.origin.queue))
        };
        let job = self.at_driver.get(&tag);
        if !job.is_some_and(|job| !job.is_again && job.parts.iter().all(is_wanted)) {
            return false;
        }
        if let Some(job) = self.at_driver.remove(&tag) {
            let (is_open, is_again) = (false, true);
            self.waiting.push_front(Job {
                is_open,
                is_again,
                ..job
            });
        }
        true
    }

    /// Returns whether a receipt of the driver is that of the parts which were to be done under
    /// this tag. They are worked out from the requests of the clients, not from what went to the
    /// driver.
    #[inline(never)]
    pub fn was_asked(&self, tag: u64, receipt: Receipt) -> bool {
        let job = self.at_driver.get(&tag);
        job.is_none_or(|job| self.receipt_of(&job.parts) == receipt)
    }

    /// Returns the receipt for parts that are done as they should be.
    fn receipt_of(&self, parts: &[Part]) -> Receipt {
        let receipts = parts.iter().filter_map(|part| {
            let request = &self.tickets.get(&part.ticket)?.request;
            Some(match request.operation {
                Operation::Flush => Receipt::of(request),
                _ => Receipt::of(&request.part(part.from, part.sectors)),
            })
        });
        receipts.sum()
    }

    /// Notes that the driver is done with a request, and adds the answers that are complete now.
    /// Returns false for a tag that the driver does not have.
    pub fn complete(
        &mut self,
        tag: u64,
        outcome: Result<Receipt, IoError>,
        answers: &mut Vec<Answer>,
    ) -> bool {
        let Some(job) = self.at_driver.remove(&tag) else {
            return false;
        };
        if outcome.is_err() && job.parts.len() > 1 {
            self.retry_apart(&job);
            return true;
        }
        let Some((first, rest)) = job.parts.split_first() else {
            return true;
        };
        // What the driver said goes to the clients whole: the first one has what the others leave.
        let others = self.receipt_of(rest);
        self.finish_part(first.ticket, outcome.map(|all| all - others), answers);
        for part in rest {
            let own = self.receipt_of(core::slice::from_ref(part));
            self.finish_part(part.ticket, outcome.map(|_| own), answers);
        }
        true
    }

    /// Forgets what waits of a queue; it is never answered. What the driver has goes on, see
    /// [`Scheduler::is_at_driver`].
    pub fn cancel(&mut self, queue: u32) {
        let tickets = &mut self.tickets;
        // A job has parts of one buffer, so of one queue.
        self.waiting.retain(|job| {
            let is_cancelled = job.parts.iter().any(|part| {
                tickets
                    .get(&part.ticket)
                    .is_some_and(|known| known.origin.queue == queue)
            });
            for part in job.parts.iter().filter(|_| is_cancelled) {
                if let Some(known) = tickets.get_mut(&part.ticket) {
                    known.parts_left -= 1;
                }
            }
            !is_cancelled
        });
        tickets.retain(|_, ticket| ticket.parts_left > 0);
    }

    /// Returns whether the driver has requests of a queue.
    pub fn is_at_driver(&self, queue: u32) -> bool {
        let mut parts = self.at_driver.values().flat_map(|job| &job.parts);
        parts.any(|part| {
            self.tickets
                .get(&part.ticket)
                .is_some_and(|known| known.origin.queue == queue)
        })
    }

    /// Returns whether a buffer is used by a request that waits or that the driver has.
    pub fn uses_buffer(&self, buffer: u32) -> bool {
        self.tickets.values().any(|ticket| {
            ticket.request.operation != Operation::Flush && ticket.request.buffer.0 == buffer
        })
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn check(&self, request: &Request, buffer: Option<BufferView>) -> Result<(), IoError> {
        if request.operation == Operation::Flush {
            return Ok(());
        }
        if request.sectors == 0 || !request.offset.is_multiple_of(SECTOR_BYTES) {
            return Err(IoError::Invalid);
        }
        let end = request
            .sector
            .checked_add(request.sectors)
            .ok_or(IoError::OutOfRange)?;
        if end > self.limits.sectors {
            return Err(IoError::OutOfRange);
        }
        let buffer = buffer.ok_or(IoError::BadBuffer)?;
        let bytes = request
            .sectors
            .checked_mul(SECTOR_BYTES)
            .ok_or(IoError::BadBuffer)?;
        if request
            .offset
            .checked_add(bytes)
            .is_none_or(|end| end > buffer.bytes)
        {
            return Err(IoError::BadBuffer);
        }
        let is_refused = match request.operation {
            Operation::Read => !buffer.is_writable,
            Operation::Write => self.limits.is_read_only,
            Operation::Flush => false,
        };
        if is_refused {
            Err(IoError::ReadOnly)
        } else {
            Ok(())
        }
    }

    /// Splits a checked request and queues its parts; returns how many there are.
    fn enqueue(&mut self, ticket: u64, request: &Request) -> usize {
        if request.operation == Operation::Flush {
            // Whatever else the client wrote into it means nothing.
            let (from, sectors) = (0, 0);
            let part = Part {
                ticket,
                from,
                sectors,
            };
            self.push(part, Request::flush());
            return 1;
        }
        let (mut done, mut parts) = (0, 0);
        while done < request.sectors {
            let sectors = (request.sectors - done).min(self.limits.max_sectors);
            let part = Part {
                ticket,
                from: done,
                sectors,
            };
            self.push(part, request.part(done, sectors));
            done += sectors;
            parts += 1;
        }
        parts
    }

    /// Queues a part, joined with the last waiting job where that is possible.
    fn push(&mut self, part: Part, request: Request) {
        if let Some(last) = self.waiting.back_mut()
            && last.is_open
            && last.request.sectors + request.sectors <= self.limits.max_sectors
        {
            if follows(&last.request, &request) {
                last.parts.push(part);
                last.request.sectors += request.sectors;
                self.statistics.merged += 1;
                return;
            }
            if follows(&request, &last.request) {
                last.parts.insert(0, part);
                let sectors = last.request.sectors + request.sectors;
                last.request = Request { sectors, ..request };
                self.statistics.merged += 1;
                return;
            }
        }
        let is_open = request.operation != Operation::Flush;
        self.waiting.push_back(Job {
            request,
            parts: Vec::from([part]),
            is_open,
            is_again: false,
        });
    }

    /// Queues the parts of a failed job one by one, so that only those fail that must.
    fn retry_apart(&mut self, job: &Job) {
        let mut done = job.request.sectors;
        for part in job.parts.iter().rev() {
            done -= part.sectors;
            self.waiting.push_front(Job {
                request: job.request.part(done, part.sectors),
                parts: Vec::from([*part]),
                is_open: false,
                is_again: job.is_again,
            });
        }
    }

    fn finish_part(
        &mut self,
        number: u64,
        outcome: Result<Receipt, IoError>,
        answers: &mut Vec<Answer>,
    ) {
        let Some(ticket) = self.tickets.get_mut(&number) else {
            return;
        };
        ticket.parts_left -= 1;
        // The first failure is the answer.
        ticket.outcome = ticket
            .outcome
            .and_then(|before| outcome.map(|receipt| before + receipt));
        if ticket.parts_left > 0 {
            return;
        }
        if let Some(ticket) = self.tickets.remove(&number) {
            self.count(&ticket);
            answers.push(Answer {
                origin: ticket.origin,
                outcome: ticket.outcome,
            });
        }
    }

    fn count(&mut self, ticket: &Ticket) {
        let statistics = &mut self.statistics;
        statistics.requests += 1;
        match (ticket.outcome, ticket.request.operation) {
            (Err(_), _) => statistics.failed += 1,
            (Ok(_), Operation::Read) => statistics.sectors_read += ticket.request.sectors,
            (Ok(_), Operation::Write) => statistics.sectors_written += ticket.request.sectors,
            (Ok(_), Operation::Flush) => {}
        }
    }
}

/// Returns whether `second` goes on where `first` ends, on the device and in the buffer.
fn follows(first: &Request, second: &Request) -> bool {
    first.operation == second.operation
        && first.operation != Operation::Flush
        && first.buffer == second.buffer
        && first.sector + first.sectors == second.sector
        && first.offset + first.sectors * SECTOR_BYTES == second.offset
}

#[cfg(test)]
mod tests;
