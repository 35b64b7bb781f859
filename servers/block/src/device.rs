//! One device at work: the rings of its clients on one side, the ring of its driver on the other.
//!
//! The driver sets the notification bit of the device, the doorbell of each client one of the bits
//! for queues, so that [`Device::pump`] looks only at the rings that have news.

use alloc::rc::Rc;
use core::cell::RefCell;

use block::{Exchange, Limits, Record, Scheduler, Tables};
use libipc::events::Events;
use libipc::proto::block::{BlockError, Statistics};
use libipc::proto::disk::{DiskClient, DiskInfo};
use libipc::ring::{Progress, RingClient};
use libipc::sync::Signal;
use libsys::mappings::Mapping;
use libsys::state::{MappedMemory, Purpose, Region};
use libsys::{Handle, Notification, ipc, time};

/// Rounds between clients and driver before others get their turn.
const ROUNDS: usize = 16;

/// Time between two looks at the requests that the driver has, ns. One that is there at two looks has
/// been lost.
const LOOK_NS: u64 = 1_000 * time::MS;

/// The first notification bit for doorbells of queues, and how many there are. The bits above belong
/// to the event loop. Queues share a bit when there are more of them.
const FIRST_QUEUE_BIT: u8 = 32;
const QUEUE_BITS: u8 = 30;
const ALL_QUEUE_BITS: u64 = ((1 << QUEUE_BITS) - 1) << FIRST_QUEUE_BIT;

/// Returns the notification bit that the doorbell of a queue sets: the same in every instance of
/// this server, for clients keep their doorbells.
pub(crate) fn queue_bit(queue: u32) -> u8 {
    FIRST_QUEUE_BIT + (queue % u32::from(QUEUE_BITS)) as u8
}

/// The tables, kept in the state region.
pub(crate) type KeptTables = Region<Tables, MappedMemory>;

/// A device and all who use it.
pub(crate) struct Device {
    /// What the driver said.
    pub(crate) info: DiskInfo,
    /// The driver.
    pub(crate) driver: DiskClient,
    /// The number of the device there.
    pub(crate) disk: u32,
    exchange: RefCell<Exchange>,
    tables: Rc<RefCell<KeptTables>>,
    /// Signalled when requests were finished.
    finished: Signal,
    /// Sets the bit of this device.
    bell: Handle<Notification>,
    /// The bit, and the number of the device.
    bit: u8,
}

/// Where a device is.
#[derive(Clone)]
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
        let totals = tables.borrow().state().totals(bit.into());
        Device {
            info,
            driver,
            disk,
            exchange: RefCell::new(Exchange::new(Scheduler::going_on(limits, totals), ring)),
            tables,
            finished: Signal::new(),
            bell,
            bit,
        }
    }

    /// Tells what was done for the device.
    pub(crate) fn statistics(&self) -> Statistics {
        self.exchange.borrow().scheduler().statistics()
    }

    /// Takes a client's ring; what is not completed in it is done (again).
    pub(crate) fn attach(
        &self,
        queue: u32,
        ring: Mapping,
        wake: Handle<Notification>,
    ) -> Result<(), BlockError> {
        // An earlier instance may have died between completing something and saying so.
        self.ring(&wake);
        self.exchange
            .borrow_mut()
            .attach(queue, queue_bit(queue), ring, wake)
            .map_err(|error| {
                log::warn!("ring of queue {queue} refused: {error}");
                BlockError::BadRing
            })?;
        self.ring(&self.bell);
        Ok(())
    }

    /// Drops a client's ring and waits until the driver has nothing of it.
    pub(crate) async fn detach(&self, queue: u32) {
        self.exchange.borrow_mut().detach(queue);
        while self.exchange.borrow().scheduler().is_at_driver(queue) {
            self.finished.wait().await;
        }
    }

    /// Waits until no request uses a buffer.
    pub(crate) async fn unused(&self, buffer: u32) {
        while self.exchange.borrow().scheduler().uses_buffer(buffer) {
            self.finished.wait().await;
        }
    }

    /// Watches the ring to the driver, for ever: if it does not get on, first this server and then the
    /// driver are replaced. If that does not help either, this server ends: its next instance connects
    /// anew.
    pub(crate) async fn guard(self: Rc<Self>, events: Events) {
        let ring = self.exchange.borrow().driver_ring();
        RingClient::guard(ring, events, LOOK_NS, move |progress| {
            match progress {
                Progress::Fine => {}
                Progress::Overdue(_) => self.distrust("takes too long"),
                Progress::Unheard => libipc::doubt_oneself("ring"),
                Progress::Lost => {
                    panic!("the driver of disk {} does not know its ring", self.disk)
                }
            }
            // For what was found in the ring by looking.
            self.ring(&self.bell);
        })
        .await;
    }

    /// Moves requests to the driver and answers back, for ever.
    pub(crate) async fn run(self: Rc<Self>, events: Events) {
        let mut watch = events.watch_any(1 << self.bit | ALL_QUEUE_BITS);
        loop {
            if !self.pump() {
                // By way of the event loop, so that it sees other messages in between.
                self.ring(&self.bell);
            }
            let bits = watch.changed().await;
            self.exchange.borrow_mut().raise(bits & ALL_QUEUE_BITS);
        }
    }

    /// Returns whether there is nothing left to do until the bit is set.
    fn pump(&self) -> bool {
        let mut exchange = self.exchange.borrow_mut();
        let mut tables = self.tables.borrow_mut();
        for _ in 0..ROUNDS {
            if exchange.take_answers() {
                self.finished.notify();
            }
            let doubts = exchange.take_doubts();
            if doubts.this_side {
                libipc::doubt_oneself("ring");
            }
            if doubts.driver {
                self.distrust("fails what it should not, or does something else");
            }
            exchange.take_requests(&mut tables);
            exchange.flush();
            if exchange.prepare_wait() {
                self.count(&exchange, &mut tables);
                return true;
            }
        }
        false
    }

    /// Has this server replaced, and if that was tried the driver: it may be this side that asks for
    /// nonsense or does not see the answer.
    fn distrust(&self, why: &str) {
        log::error!("disk {}: the driver {why}", self.disk);
        libipc::doubt_oneself("ring");
        self.driver.client().report("ring");
    }

    /// Records what was done, once for all that was done without a pause.
    fn count(&self, exchange: &Exchange, tables: &mut KeptTables) {
        let number = self.bit.into();
        let totals = exchange.scheduler().totals();
        if totals != tables.state().totals(number)
            && let Err(error) = tables.append(Record::Counted(number, totals), Purpose::Shrink)
        {
            log::warn!("statistics of disk {number} not kept: {error}");
        }
    }

    fn ring(&self, bell: &Handle<Notification>) {
        if let Err(error) = ipc::notify(bell) {
            log::warn!("disk {}: not notified: {error}", self.disk);
        }
    }
}
