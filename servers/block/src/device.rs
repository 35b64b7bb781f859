//! One device at work: the rings of its clients on one side, the ring of its driver on the other.
//!
//! The driver and the doorbells of all clients of the device set the same notification bit;
//! whatever set it, [`Device::pump`] looks at all rings.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use block::{Answer, BufferView, Limits, Origin, Scheduler, Tables};
use libipc::events::Events;
use libipc::proto::block::{BlockError, IoError, Request, outcome_of, result_word};
use libipc::proto::disk::{DiskClient, DiskInfo};
use libipc::ring::{Entry, RingClient, RingServer, SubmissionId};
use libipc::sync::Signal;
use libsys::mappings::Mapping;
use libsys::state::{MappedMemory, Region};
use libsys::{Handle, Notification, ipc};

/// Rounds between clients and driver before others get their turn.
const ROUNDS: usize = 16;
/// Requests taken from one client's ring before the next client has its turn.
const BATCH: usize = 16;

/// The tables, kept in the state region.
pub(crate) type KeptTables = Region<Tables, MappedMemory>;

/// The ring of a client's queue.
struct Client {
    ring: RingServer,
    wake: Handle<Notification>,
    /// Submissions that are not completed, by the token of their request.
    submissions: BTreeMap<u64, SubmissionId>,
}

/// A device and all who use it.
pub(crate) struct Device {
    /// What the driver said.
    pub(crate) info: DiskInfo,
    /// The driver.
    pub(crate) driver: DiskClient,
    /// The number of the device there.
    pub(crate) disk: u32,
    scheduler: RefCell<Scheduler>,
    ring: RingClient,
    clients: RefCell<BTreeMap<u32, Client>>,
    tables: Rc<RefCell<KeptTables>>,
    /// Signalled when requests were finished.
    finished: Signal,
    last_token: Cell<u64>,
    /// Sets the bit of this device.
    bell: Handle<Notification>,
    bit: u8,
}

/// Where a device is.
pub(crate) struct Place {
    pub(crate) driver: DiskClient,
    pub(crate) disk: u32,
    pub(crate) info: DiskInfo,
}

impl Device {
    /// Takes a ring to the driver; `bell` sets `bit`, as the driver does.
    pub(crate) fn new(
        place: Place,
        ring: RingClient,
        (bell, bit): (Handle<Notification>, u8),
        tables: Rc<RefCell<KeptTables>>,
    ) -> Self {
        let Place { driver, disk, info } = place;
        let limits = Limits {
            sectors: info.sectors,
            is_read_only: info.is_read_only,
            max_sectors: info.max_sectors.into(),
            depth: info.depth as usize,
        };
        Device {
            info,
            driver,
            disk,
            scheduler: RefCell::new(Scheduler::new(limits)),
            ring,
            clients: RefCell::default(),
            tables,
            finished: Signal::new(),
            last_token: Cell::new(0),
            bell,
            bit,
        }
    }

    /// Returns the notification bit of this device.
    pub(crate) fn bit(&self) -> u8 {
        self.bit
    }

    /// Tells what was done for the device.
    pub(crate) fn statistics(&self) -> libipc::proto::block::Statistics {
        self.scheduler.borrow().statistics()
    }

    /// Takes a client's ring; what is not completed in it is done (again).
    pub(crate) fn attach(
        &self,
        queue: u32,
        ring: Mapping,
        wake: Handle<Notification>,
    ) -> Result<(), BlockError> {
        let ring = RingServer::attach(ring).map_err(|error| {
            log::warn!("ring of queue {queue} refused: {error}");
            BlockError::BadRing
        })?;
        // An earlier instance may have died between completing something and saying so.
        self.ring(&wake);
        let client = Client {
            ring,
            wake,
            submissions: BTreeMap::new(),
        };
        self.clients.borrow_mut().insert(queue, client);
        self.ring(&self.bell);
        Ok(())
    }

    /// Drops a client's ring and waits until the driver has nothing of it.
    pub(crate) async fn detach(&self, queue: u32) {
        self.clients.borrow_mut().remove(&queue);
        self.scheduler.borrow_mut().cancel(queue);
        while self.scheduler.borrow().is_at_driver(queue) {
            self.finished.wait().await;
        }
    }

    /// Waits until no request uses a buffer.
    pub(crate) async fn unused(&self, buffer: u32) {
        while self.scheduler.borrow().uses_buffer(buffer) {
            self.finished.wait().await;
        }
    }

    /// Moves requests to the driver and answers back, for ever.
    pub(crate) async fn run(self: Rc<Self>, events: Events) {
        loop {
            if !self.pump() {
                // By way of the event loop, so that it sees other messages in between.
                self.ring(&self.bell);
            }
            events.bit(self.bit).await;
        }
    }

    /// Returns whether there is nothing left to do until the bit is set.
    fn pump(&self) -> bool {
        for _ in 0..ROUNDS {
            self.take_answers();
            self.take_requests();
            self.dispatch();
            self.ring.flush();
            let mut may_wait = self.ring.prepare_wait();
            let has_room = self.scheduler.borrow().has_room();
            for client in self.clients.borrow_mut().values_mut() {
                client.ring.flush(&client.wake);
                // Without room the driver's answers are what to wait for.
                may_wait &= !has_room || client.ring.prepare_wait();
            }
            if may_wait {
                return true;
            }
        }
        false
    }

    /// Takes the driver's answers and completes the requests that are done by that.
    fn take_answers(&self) {
        let mut scheduler = self.scheduler.borrow_mut();
        let mut answers = Vec::new();
        let mut has_finished = false;
        while let Some(completion) = self.ring.next_completion() {
            has_finished = true;
            let outcome = outcome_of(completion.result);
            if !scheduler.complete(completion.user_data, outcome, &mut answers) {
                log::warn!("disk {}: the driver answered what was not asked", self.disk);
            }
        }
        let mut clients = self.clients.borrow_mut();
        for Answer { origin, outcome } in answers {
            // The client may have gone meanwhile.
            let Some(client) = clients.get_mut(&origin.queue) else {
                continue;
            };
            if let Some(id) = client.submissions.remove(&origin.token) {
                client.ring.complete(id, result_word(outcome));
            }
        }
        if has_finished {
            self.finished.notify();
        }
    }

    /// Takes requests from the clients, in turn.
    fn take_requests(&self) {
        let mut scheduler = self.scheduler.borrow_mut();
        let tables = self.tables.borrow();
        for (&queue, client) in self.clients.borrow_mut().iter_mut() {
            for _ in 0..BATCH {
                if !scheduler.has_room() {
                    return;
                }
                let Some(submission) = client.ring.next_request() else {
                    break;
                };
                let token = self.new_token();
                let origin = Origin { queue, token };
                match accept(&mut scheduler, tables.state(), origin, &submission.entry) {
                    Ok(()) => {
                        client.submissions.insert(token, submission.id);
                    }
                    Err(error) => client.ring.complete(submission.id, result_word(Err(error))),
                }
            }
        }
    }

    /// Hands waiting requests to the driver.
    fn dispatch(&self) {
        let mut scheduler = self.scheduler.borrow_mut();
        while let Some((tag, request)) = scheduler.next_for_driver() {
            let (opcode, arguments) = request.to_words();
            let entry = Entry {
                user_data: tag,
                opcode,
                flags: 0,
                arguments,
            };
            if self.ring.submit(&entry).is_err() {
                scheduler.put_back(tag);
                return;
            }
        }
    }

    fn new_token(&self) -> u64 {
        self.last_token.set(self.last_token.get() + 1);
        self.last_token.get()
    }

    fn ring(&self, bell: &Handle<Notification>) {
        if let Err(error) = ipc::notify(bell) {
            log::warn!("disk {}: not notified: {error}", self.disk);
        }
    }
}

/// Checks an entry of a client's ring and gives it to the scheduler.
fn accept(
    scheduler: &mut Scheduler,
    tables: &Tables,
    origin: Origin,
    entry: &Entry,
) -> Result<(), IoError> {
    let request = Request::from_words(entry.opcode, entry.arguments).ok_or(IoError::Invalid)?;
    let buffer = tables.buffer(request.buffer.0, origin.queue);
    let view = buffer.map(|known| BufferView {
        bytes: known.bytes,
        is_writable: known.is_writable,
    });
    scheduler.submit(origin, &request, view)
}
