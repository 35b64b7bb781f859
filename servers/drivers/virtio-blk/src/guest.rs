//! Wiring: the interface to the block server, rings, interrupts, and the vault.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::convert::Infallible;

use libipc::events::Events;
use libipc::proto::block::BufferId;
use libipc::proto::disk::{DiskDispatcher, DiskError, DiskInfo, DiskSchema, DiskServer};
use libipc::proto::init::{InitClient, InitError};
use libipc::proto::pci::PciClient;
use libipc::schema::Interface;
use libipc::{Caller, Failure, Server};
use libsys::mappings::Mapping;
use libsys::{Handle, MapFlags, Memory, Notification, Rights, startup, state};
use virtio_blk::{Buffer, FlightLog, Kept};

use crate::probe::{self, Found};
use crate::unit::{Shared, Unit};

struct Driver {
    /// By number; `None` for a device that cannot be driven.
    units: Vec<Option<Rc<Unit>>>,
    shared: Rc<Shared>,
    init: InitClient,
    events: Events,
}

/// Serves until the endpoint is gone.
pub(crate) fn serve() -> Result<Infallible, &'static str> {
    libsys::log_ring::init(log::LevelFilter::Info);
    let (region, _) = state::open_mapped("requests at the devices")?;
    let startup = startup::read().ok_or("the start-up pages are damaged")?;
    let endpoint = startup::take(&startup, "self").ok_or("no endpoint was given")?;
    let notification =
        startup::take(&startup, "notification").ok_or("no notification was given")?;
    let init = startup::take(&startup, "init").ok_or("no sender to init was given")?;
    let init = InitClient::connect(init).map_err(report("init"))?;
    let pci = startup::take(&startup, "pci").ok_or("no sender to pci was given")?;
    let pci = PciClient::connect(pci).map_err(report("pci"))?;
    let dma: Handle<Memory> = startup::take(&startup, "dma").ok_or("no DMA memory was given")?;

    // The devices, the ring and the vault belong to the version that serves.
    libipc::gate::pass(&[DiskSchema::SCHEMA], || Ok(()));
    let crashes = init.crashes(&startup.name);
    let flights = RefCell::new(FlightLog::new(region, crashes));

    let mut server = Server::new(endpoint, notification);
    let events = server.events();
    let mut found = probe::find_all(&pci, &dma);
    if found.iter().all(Option::is_none) && init.vault_list().is_ok_and(|keys| !keys.is_empty()) {
        log::error!("the disks are gone: asking for another PCI server");
        pci.client().report("claim");
        found = probe::find_all(&pci, &dma);
    }
    let everyone = events
        .mint((1_u64 << found.len()) - 1)
        .map_err(|_| "no handle for the disks")?;
    let shared = Rc::new(Shared {
        log: flights,
        everyone,
        pci,
    });
    server.keep_state({
        let shared = Rc::clone(&shared);
        move |f| f(shared.log.borrow_mut().region())
    });
    let units = take_disks(found, &events, &shared)?;
    let driver = Rc::new(Driver {
        units,
        shared,
        init,
        events,
    });
    driver.restore();
    for unit in driver.units.iter().flatten() {
        driver
            .events
            .spawn(Rc::clone(unit).run(driver.events.clone()));
    }
    server.run(DiskDispatcher::new(driver))
}

/// Takes the disks that were found, each with its interrupt; a place of one that did not come up
/// stays empty.
fn take_disks(
    found: Vec<Option<Found>>,
    events: &Events,
    shared: &Rc<Shared>,
) -> Result<Vec<Option<Rc<Unit>>>, &'static str> {
    let mut units = Vec::new();
    for (bit, found) in (0_u8..).zip(found) {
        let Some(found) = found else {
            units.push(None);
            continue;
        };
        let wake = events
            .mint(1 << bit)
            .map_err(|_| "no handle for an interrupt")?;
        found
            .interrupt
            .bind(&wake)
            .map_err(|_| "an interrupt cannot be bound")?;
        let unit = Unit::new(found, wake, bit, Rc::clone(shared));
        units.push(Some(Rc::new(unit)));
    }
    if units.is_empty() {
        log::warn!("no virtio block device found");
    }
    Ok(units)
}

/// Logs why a service cannot be reached.
fn report(service: &'static str) -> impl Fn(libipc::ConnectError) -> &'static str {
    move |error| {
        log::error!("{service}: {error}");
        "a service cannot be reached"
    }
}

/// Logs what the vault refused.
fn refused(failure: Failure<InitError>) -> DiskError {
    log::error!("the vault refused: {failure}");
    DiskError::Refused
}

/// Looks at memory that is to be a buffer.
fn describe(memory: &Handle<Memory>) -> Option<Buffer> {
    let rights = Rights(memory.handle_info().ok()?.rights as u16);
    let info = memory.info().ok()?;
    let is_usable = rights.contains(Rights::READ | Rights::DMA)
        && info.is_ram == 1
        && info.physical != u64::MAX;
    is_usable.then_some(Buffer {
        physical: info.physical,
        bytes: info.pages * libsys::abi::PAGE_SIZE as u64,
        is_writable: rights.contains(Rights::WRITE),
    })
}

fn map_ring(ring: &Handle<Memory>) -> Result<Mapping, DiskError> {
    Mapping::map(ring, MapFlags::READ | MapFlags::WRITE).map_err(|error| {
        log::error!("ring not mapped: {error}");
        DiskError::BadRing
    })
}

impl Driver {
    fn unit(&self, disk: u32) -> Result<&Rc<Unit>, DiskError> {
        let known = self.units.get(disk as usize);
        known.and_then(Option::as_ref).ok_or(DiskError::NoDisk)
    }

    /// Takes up what an earlier instance had: buffers first, for the rings name them.
    fn restore(&self) {
        let keys = self.init.vault_list().unwrap_or_else(|failure| {
            refused(failure);
            Vec::new()
        });
        let mut kept: Vec<Kept> = keys.into_iter().filter_map(Kept::from_key).collect();
        kept.sort_unstable_by(|a, b| b.cmp(a));
        for entry in kept {
            let restored = match entry {
                Kept::Buffer(disk, buffer) => self.restore_buffer(disk, buffer),
                Kept::Ring(disk) => self.restore_ring(disk),
                Kept::Wake(_) => Ok(()),
            };
            match restored {
                Ok(()) => {}
                // Nobody has reset the device since the requests of an earlier instance: it may
                // still write there. The vault keeps the memory from being used for anything else.
                Err(DiskError::NoDisk) => {
                    log::error!("{entry:?} stays in quarantine: its device was not reset");
                }
                Err(error) => {
                    log::error!("{entry:?} not taken up again: {error}");
                    // What cannot be used now cannot be used later either.
                    let _ = self.init.vault_remove(entry.key());
                }
            }
        }
    }

    fn restore_buffer(&self, disk: u32, id: BufferId) -> Result<(), DiskError> {
        let unit = self.unit(disk)?;
        let memory = self
            .init
            .vault_get_memory(Kept::Buffer(disk, id).key())
            .map_err(refused)?;
        let buffer = describe(&memory).ok_or(DiskError::BadBuffer)?;
        if unit.disk.borrow_mut().register(id, buffer) {
            Ok(())
        } else {
            Err(DiskError::TooMany)
        }
    }

    fn restore_ring(&self, disk: u32) -> Result<(), DiskError> {
        let unit = self.unit(disk)?;
        // Without the notification the call that brought the ring was not finished: it comes
        // again.
        let Ok(wake) = self.init.vault_get_notification(Kept::Wake(disk).key()) else {
            return Ok(());
        };
        let ring = self
            .init
            .vault_get_memory(Kept::Ring(disk).key())
            .map_err(refused)?;
        unit.attach(map_ring(&ring)?, wake)
    }

    async fn detach_unit(&self, disk: u32) -> Result<(), DiskError> {
        let unit = self.unit(disk)?;
        unit.detach().await;
        self.init
            .vault_remove(Kept::Ring(disk).key())
            .map_err(refused)?;
        self.init
            .vault_remove(Kept::Wake(disk).key())
            .map_err(refused)
    }
}

impl DiskServer for Driver {
    async fn disks(&self, _caller: &Caller) -> Result<Vec<DiskInfo>, DiskError> {
        let none = DiskInfo {
            sectors: 0,
            is_read_only: true,
            max_sectors: 0,
            depth: 0,
        };
        let infos = self.units.iter().map(|unit| match unit {
            Some(unit) => unit.info(),
            None => none.clone(),
        });
        Ok(infos.collect())
    }

    async fn attach(
        &self,
        _caller: &Caller,
        disk: u32,
        ring: Handle<Memory>,
        wake: Handle<Notification>,
    ) -> Result<Handle<Notification>, DiskError> {
        self.detach_unit(disk).await?;
        let unit = self.unit(disk)?;
        let mapping = map_ring(&ring)?;
        self.shared.log.borrow_mut().has_new_ring(disk);
        self.init
            .vault_put_notification(Kept::Wake(disk).key(), &wake)
            .map_err(refused)?;
        self.init
            .vault_put_memory(Kept::Ring(disk).key(), &ring)
            .map_err(refused)?;
        unit.attach(mapping, wake)?;
        self.events.mint(1 << unit.bit()).map_err(|error| {
            log::error!("no doorbell: {error}");
            DiskError::Refused
        })
    }

    async fn detach(&self, _caller: &Caller, disk: u32) -> Result<(), DiskError> {
        self.detach_unit(disk).await
    }

    async fn register_buffer(
        &self,
        _caller: &Caller,
        disk: u32,
        id: BufferId,
        memory: Handle<Memory>,
    ) -> Result<(), DiskError> {
        let unit = self.unit(disk)?;
        let buffer = describe(&memory).ok_or(DiskError::BadBuffer)?;
        unit.unused(id).await;
        if unit.disk.borrow().is_stuck() {
            log::error!("disk {disk} takes no buffers: it may still write to earlier ones");
            return Err(DiskError::Refused);
        }
        if !unit.disk.borrow_mut().register(id, buffer) {
            return Err(DiskError::TooMany);
        }
        let kept = self
            .init
            .vault_put_memory(Kept::Buffer(disk, id).key(), &memory);
        if kept.is_err() {
            // Nothing can use it yet: its number was not given out.
            unit.disk.borrow_mut().unregister(id);
        }
        kept.map_err(refused)
    }

    async fn unregister_buffer(
        &self,
        _caller: &Caller,
        disk: u32,
        id: BufferId,
    ) -> Result<(), DiskError> {
        let unit = self.unit(disk)?;
        unit.unused(id).await;
        unit.disk.borrow_mut().unregister(id);
        if unit.disk.borrow().is_stuck() {
            // The device may still write there: the vault keeps the memory.
            return Ok(());
        }
        self.init
            .vault_remove(Kept::Buffer(disk, id).key())
            .map_err(refused)
    }

    async fn buffers(&self, _caller: &Caller, disk: u32) -> Result<Vec<BufferId>, DiskError> {
        Ok(self.unit(disk)?.disk.borrow().buffers())
    }
}
