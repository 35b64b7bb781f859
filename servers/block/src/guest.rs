//! Wiring: the interface, the drivers, the vault and the state region.

use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::convert::Infallible;

use block::{Buffer, Queue, Record};
use libipc::events::Events;
use libipc::proto::block::{
    BlockDispatcher, BlockError, BlockSchema, BlockServer, BufferId, DeviceInfo, QueueId,
    Statistics,
};
use libipc::proto::disk::{DiskClient, DiskError, DiskInfo, DiskSchema};
use libipc::proto::init::{InitClient, InitError};
use libipc::ring::{RingClient, pages_for};
use libipc::schema::Interface;
use libipc::sync::Mutex;
use libipc::{Caller, Failure, Server};
use libsys::abi::PAGE_SIZE;
use libsys::mappings::Mapping;
use libsys::startup::{self, Startup};
use libsys::state::{self, Purpose};
use libsys::{Handle, MapFlags, Memory, Notification, Rights, time};

use crate::device::{Device, KeptTables, Place, queue_bit};

/// Drivers that are asked for disks when the arguments name none.
const DEFAULT_DRIVERS: [&str; 1] = ["virtio-blk"];
/// Most devices: one notification bit each, the upper ones belong to queues and the event loop.
const MAX_DEVICES: usize = 32;
/// How long to wait before each time that a driver is asked for its disks, ns: one that answers wrongly
/// is being replaced meanwhile.
const PAUSES_NS: [u64; 5] = [
    0,
    2 * time::MS,
    10 * time::MS,
    50 * time::MS,
    200 * time::MS,
];
/// Most requests on their way to one driver.
const RING_SLOTS: usize = 64;

const READ_WRITE: MapFlags = MapFlags(MapFlags::READ.0 | MapFlags::WRITE.0);

struct Block {
    devices: Vec<Rc<Device>>,
    tables: Rc<RefCell<KeptTables>>,
    init: InitClient,
    events: Events,
    /// Held while queues and buffers come or go: each takes several steps.
    changes: Mutex,
}

/// Serves until the endpoint is gone.
pub(crate) fn serve() -> Result<Infallible, &'static str> {
    libsys::log_ring::init(log::LevelFilter::Info);
    let (mut tables, _) = state::open_mapped("queues and buffers")?;
    let startup = startup::read().ok_or("the start-up pages are damaged")?;
    let endpoint = startup::take(&startup, "self").ok_or("no endpoint was given")?;
    let notification =
        startup::take(&startup, "notification").ok_or("no notification was given")?;
    let init = startup::take(&startup, "init").ok_or("no sender to init was given")?;
    let init = InitClient::connect(init).map_err(|error| {
        log::error!("{error}");
        "init cannot be reached"
    })?;
    // The driver, the rings and the vault belong to the version that serves.
    libipc::gate::pass(&[BlockSchema::SCHEMA], || Ok(()));
    let crashes = init.crashes(&startup.name);
    block::begin(&mut tables, crashes).map_err(|_| "the state region is too small")?;
    let tables = Rc::new(RefCell::new(tables));
    let mut server = Server::new(endpoint, notification);
    server.keep_state({
        let tables = Rc::clone(&tables);
        move |f| f(&mut tables.borrow_mut())
    });
    let events = server.events();
    let devices = find_devices(&startup, &events, &tables)?;
    let block = Rc::new(Block {
        devices,
        tables,
        init,
        events,
        changes: Mutex::new(),
    });
    block.restore();
    for device in &block.devices {
        let events = &block.events;
        events.spawn(Rc::clone(device).run(events.clone()));
        events.spawn(Rc::clone(device).guard(events.clone()));
    }
    server.on_closed({
        let block = Rc::clone(&block);
        move |badge| block.client_gone(badge)
    });
    server.run(BlockDispatcher::new(block))
}

/// Asks all drivers for their disks and shares a ring with each.
fn find_devices(
    startup: &Startup,
    events: &Events,
    tables: &Rc<RefCell<KeptTables>>,
) -> Result<Vec<Rc<Device>>, &'static str> {
    let dma: Handle<Memory> = startup::take(startup, "dma").ok_or("no DMA memory was given")?;
    let named: Vec<&str> = startup.arguments.iter().map(|name| name.as_str()).collect();
    let drivers = if named.is_empty() {
        DEFAULT_DRIVERS.to_vec()
    } else {
        named
    };
    let mut devices = Vec::new();
    for name in drivers {
        let sender = startup::take(startup, name).ok_or("no sender to a driver was given")?;
        let driver = DiskClient::new_unchecked(sender);
        let known = tables.borrow().state().devices();
        let expected = known.saturating_sub(devices.len());
        for (disk, info) in (0..).zip(disks_of(&driver, name, expected)) {
            let index = devices.len();
            let place = Place {
                driver: driver.clone(),
                disk,
                info,
            };
            let mut connected = Err(Failure::Server(DiskError::NoDisk));
            for pause in PAUSES_NS {
                time::sleep(pause);
                connected = connect(&place, &dma, index, events, tables);
                let Err(failure) = &connected else {
                    break;
                };
                log::error!("disk {disk} of {name} not connected: {failure}");
                if *failure == Failure::Server(DiskError::NoDisk) {
                    break;
                }
            }
            devices.extend(connected.map(Rc::new));
        }
    }
    Ok(devices)
}

/// Returns the disks of a driver, of which there were at least so many before. One that knows of
/// fewer, or does not answer as it should, is replaced and asked again.
fn disks_of(driver: &DiskClient, name: &str, known: usize) -> Vec<DiskInfo> {
    let mut disks = Vec::new();
    for pause in PAUSES_NS {
        time::sleep(pause);
        if let Err(error) = driver.client().handshake(DiskSchema::SCHEMA) {
            log::error!("{name}: {error}");
            continue;
        }
        match driver.disks() {
            Ok(told) if told.len() >= known => return told,
            Ok(told) => {
                log::error!("{name} tells of {} disks, there were {known}", told.len());
                driver.client().report("disks");
                disks = told;
            }
            Err(failure) => log::error!("{name} tells of no disks: {failure}"),
        }
    }
    disks
}

/// Shares a ring with the driver of a disk. The driver may still have the ring of an earlier
/// instance, maybe in the same memory: it gives that up first. What it has not completed there is
/// still in the rings of the clients.
fn connect(
    place: &Place,
    dma: &Handle<Memory>,
    index: usize,
    events: &Events,
    tables: &Rc<RefCell<KeptTables>>,
) -> Result<Device, Failure<DiskError>> {
    if index >= MAX_DEVICES {
        return Err(Failure::Server(DiskError::TooMany));
    }
    let Place { driver, disk, info } = place;
    driver.detach(*disk)?;
    for buffer in driver.buffers(*disk)? {
        if !tables.borrow().state().knows_buffer(buffer.0, index as u32) {
            driver.unregister_buffer(*disk, buffer)?;
        }
    }
    let pages = pages_for(RING_SLOTS) as u64;
    let memory = dma.slice(index as u64 * pages, pages)?;
    let mapping = Mapping::map(&memory, READ_WRITE)?;
    let mut ring = RingClient::create(mapping, RING_SLOTS).map_err(|error| {
        log::error!("ring to the driver: {error}");
        Failure::Server(DiskError::BadRing)
    })?;
    let bit = index as u8;
    let bell = events.mint(1 << bit)?;
    ring.set_doorbell(driver.attach(*disk, &memory, &bell)?);
    log::info!("disk{index}: {} sectors", info.sectors);
    let place = place.clone();
    Ok(Device::new(place, ring, (bell, bit), Rc::clone(tables)))
}

/// Something of a client that the vault keeps.
#[derive(Clone, Copy)]
enum Kept {
    Ring(u32),
    Wake(u32),
}

impl Kept {
    fn key(self) -> u64 {
        match self {
            Kept::Ring(queue) => 1 << 32 | u64::from(queue),
            Kept::Wake(queue) => 2 << 32 | u64::from(queue),
        }
    }
}

fn refused(failure: Failure<InitError>) -> BlockError {
    log::error!("the vault refused: {failure}");
    BlockError::Refused
}

fn driver_refused(failure: Failure<DiskError>) -> BlockError {
    match failure {
        Failure::Server(DiskError::BadBuffer) => BlockError::BadBuffer,
        Failure::Server(DiskError::TooMany) => BlockError::TooMany,
        failure => {
            log::error!("the driver refused: {failure}");
            BlockError::Driver
        }
    }
}

fn map_ring(ring: &Handle<Memory>) -> Result<Mapping, BlockError> {
    // A ring of the largest size has a few dozen pages: more is not mapped.
    let pages = ring.info().map_err(|_| BlockError::BadRing)?.pages;
    let pages = pages.min(pages_for(libipc::ring::MAX_SLOTS) as u64);
    Mapping::map_part(ring, 0, pages, READ_WRITE).map_err(|error| {
        log::warn!("ring of a client not mapped: {error}");
        BlockError::BadRing
    })
}

/// Looks at memory that is to be a buffer.
fn describe(memory: &Handle<Memory>, queue: u32) -> Option<Buffer> {
    let rights = Rights(memory.handle_info().ok()?.rights as u16);
    let info = memory.info().ok()?;
    let is_usable = rights.contains(Rights::READ | Rights::DMA) && info.is_ram == 1;
    is_usable.then_some(Buffer {
        queue,
        identity: info.identity,
        bytes: info.pages * PAGE_SIZE as u64,
        is_writable: rights.contains(Rights::WRITE),
    })
}

impl Block {
    fn device(&self, number: u32) -> Result<&Rc<Device>, BlockError> {
        self.devices
            .get(number as usize)
            .ok_or(BlockError::NoDevice)
    }

    fn queue(&self, queue: QueueId, caller: &Caller) -> Result<Queue, BlockError> {
        self.tables.borrow().state().queue(queue.0, caller.badge)
    }

    fn record(&self, record: Record, purpose: Purpose) -> Result<(), BlockError> {
        self.tables
            .borrow_mut()
            .append(record, purpose)
            .map_err(|_| BlockError::TooMany)
    }

    /// Takes up what an earlier instance had.
    fn restore(self: &Rc<Self>) {
        let queues: Vec<(u32, Queue)> = self.tables.borrow().state().queues().collect();
        for (id, queue) in queues {
            if queue.is_closing {
                self.events.spawn(Rc::clone(self).close_later(id));
            } else if let Err(error) = self.restore_queue(id, queue) {
                // The call that opened the queue was not finished and comes again, or its ring
                // cannot be used; the client finds out when it asks for anything.
                log::warn!("queue {id} not taken up again: {error}");
            }
        }
    }

    fn restore_queue(&self, id: u32, queue: Queue) -> Result<(), BlockError> {
        let device = self.device(queue.device)?;
        let wake = self
            .init
            .vault_get_notification(Kept::Wake(id).key())
            .map_err(refused)?;
        let ring = self
            .init
            .vault_get_memory(Kept::Ring(id).key())
            .map_err(refused)?;
        device.attach(id, map_ring(&ring)?, wake)
    }

    /// Closes all queues of a client that has no sender any more.
    fn client_gone(self: &Rc<Self>, badge: u64) {
        let queues = self.tables.borrow().state().queues_of(badge, None);
        for id in queues {
            // From here on the closing goes on even if this instance dies.
            match self.record(Record::Closing(id), Purpose::Shrink) {
                Ok(()) => self.events.spawn(Rc::clone(self).close_later(id)),
                Err(error) => log::error!("queue {id} not closed: {error}"),
            }
        }
    }

    async fn close_later(self: Rc<Self>, id: u32) {
        let _guard = self.changes.lock().await;
        if let Err(error) = self.close_queue(id).await {
            log::error!("queue {id} not closed: {error}");
        }
    }

    /// Closes a queue that may have been closed before. `changes` must be held.
    async fn close_queue(&self, id: u32) -> Result<(), BlockError> {
        let found = self
            .tables
            .borrow()
            .state()
            .queues()
            .find(|(known, _)| *known == id);
        let Some((_, queue)) = found else {
            return Ok(());
        };
        self.record(Record::Closing(id), Purpose::Shrink)?;
        if let Ok(device) = self.device(queue.device) {
            device.detach(id).await;
            let buffers = self.tables.borrow().state().buffers_of(id);
            for buffer in buffers {
                device
                    .driver
                    .unregister_buffer(device.disk, BufferId(buffer))
                    .map_err(driver_refused)?;
            }
        }
        self.init
            .vault_remove(Kept::Ring(id).key())
            .map_err(refused)?;
        self.init
            .vault_remove(Kept::Wake(id).key())
            .map_err(refused)?;
        self.record(Record::Closed(id), Purpose::Shrink)
    }

    fn queue_numbers(&self, badge: u64, device: u32) -> Vec<u32> {
        self.tables.borrow().state().queues_of(badge, Some(device))
    }

    /// Returns the number of a buffer, which is recorded when it is new.
    fn buffer_number(&self, queue: u32, buffer: Buffer) -> Result<u32, BlockError> {
        let known = self
            .tables
            .borrow()
            .state()
            .find_buffer(queue, buffer.identity);
        let id = match known {
            Some(id) => id,
            None => self.tables.borrow().state().buffer_number(queue)?,
        };
        self.record(Record::Registered(id, buffer), Purpose::Grow)?;
        Ok(id)
    }
}

impl BlockServer for Block {
    async fn devices(&self, _caller: &Caller) -> Result<Vec<DeviceInfo>, BlockError> {
        let infos = self
            .devices
            .iter()
            .enumerate()
            .map(|(number, device)| DeviceInfo {
                name: format!("disk{number}"),
                sectors: device.info.sectors,
                is_read_only: device.info.is_read_only,
            });
        Ok(infos.collect())
    }

    async fn open(
        &self,
        caller: &Caller,
        device: u32,
        ring: Handle<Memory>,
        wake: Handle<Notification>,
    ) -> Result<(QueueId, Handle<Notification>), BlockError> {
        let _guard = self.changes.lock().await;
        let badge = caller.badge;
        let target = self.device(device)?;
        for earlier in self.queue_numbers(badge, device) {
            self.close_queue(earlier).await?;
        }
        let mapping = map_ring(&ring)?;
        let id = self.tables.borrow().state().queue_number()?;
        let doorbell = self.events.mint(1 << queue_bit(id)).map_err(|error| {
            log::error!("no doorbell: {error}");
            BlockError::Refused
        })?;
        self.record(Record::Opened(id, Queue::new(badge, device)), Purpose::Grow)?;
        self.init
            .vault_put_notification(Kept::Wake(id).key(), &wake)
            .map_err(refused)?;
        self.init
            .vault_put_memory(Kept::Ring(id).key(), &ring)
            .map_err(refused)?;
        if let Err(error) = target.attach(id, mapping, wake) {
            self.close_queue(id).await?;
            return Err(error);
        }
        Ok((QueueId(id), doorbell))
    }

    async fn register_buffer(
        &self,
        caller: &Caller,
        queue: QueueId,
        memory: Handle<Memory>,
    ) -> Result<BufferId, BlockError> {
        let _guard = self.changes.lock().await;
        let known = self.queue(queue, caller)?;
        let device = self.device(known.device)?;
        let buffer = describe(&memory, queue.0).ok_or(BlockError::BadBuffer)?;
        let id = self.buffer_number(queue.0, buffer)?;
        let registered = device
            .driver
            .register_buffer(device.disk, BufferId(id), &memory);
        if let Err(failure) = registered {
            self.record(Record::Unregistered(id), Purpose::Shrink)?;
            return Err(driver_refused(failure));
        }
        Ok(BufferId(id))
    }

    async fn unregister_buffer(
        &self,
        caller: &Caller,
        queue: QueueId,
        buffer: BufferId,
    ) -> Result<(), BlockError> {
        let _guard = self.changes.lock().await;
        let known = self.queue(queue, caller)?;
        let device = self.device(known.device)?;
        let is_known = self
            .tables
            .borrow()
            .state()
            .buffer(buffer.0, queue.0)
            .is_some();
        if !is_known {
            // A redelivered request may have come that far before.
            return if caller.redelivered {
                Ok(())
            } else {
                Err(BlockError::NoBuffer)
            };
        }
        // First of all no new requests may name it, or a client could keep it in use for ever. If
        // this instance dies now, the next one has the driver forget what is not recorded.
        self.record(Record::Unregistered(buffer.0), Purpose::Shrink)?;
        device.unused(buffer.0).await;
        device
            .driver
            .unregister_buffer(device.disk, buffer)
            .map_err(driver_refused)
    }

    async fn close(&self, caller: &Caller, queue: QueueId) -> Result<(), BlockError> {
        let _guard = self.changes.lock().await;
        match self.queue(queue, caller) {
            Ok(_) => self.close_queue(queue.0).await,
            // A redelivered request may have come that far before.
            Err(_) if caller.redelivered => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn statistics(&self, _caller: &Caller, device: u32) -> Result<Statistics, BlockError> {
        Ok(self.device(device)?.statistics())
    }
}
