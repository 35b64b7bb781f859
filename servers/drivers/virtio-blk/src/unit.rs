//! One disk at work: its ring on one side, its device on the other.
//!
//! Interrupt and doorbell set the same notification bit; whatever set it, [`Unit::pump`] looks
//! at both sides.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use libipc::events::Events;
use libipc::proto::block::BufferId;
use libipc::proto::disk::{DiskError, DiskInfo};
use libipc::proto::pci::{BusMaster, Claim, PciClient};
use libipc::sync::Signal;
use libsys::mappings::Mapping;
use libsys::state::MappedMemory;
use libsys::{Handle, Interrupt, Notification, ipc, time};
use virtio_blk::{Disk, FlightLog, Intake, Window};

use crate::probe::Found;

/// How often a device that has work is looked at without an interrupt: one that was lost, or a
/// device that does not go on, must be noticed some time.
const LOOK_NS: u64 = 1_000 * time::MS;
/// Rounds between device and ring before others get their turn.
const ROUNDS: usize = 16;

/// What all disks share.
pub(crate) struct Shared {
    /// What is at the devices.
    pub(crate) log: RefCell<FlightLog<MappedMemory>>,
    /// Sets the bits of all disks.
    pub(crate) everyone: Handle<Notification>,
    /// Forbids devices that were given up to touch RAM.
    pub(crate) pci: PciClient,
}

/// The ring of the block server.
struct Attached {
    intake: Intake,
    wake: Handle<Notification>,
}

/// What is to be done after a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Wait for interrupt or doorbell.
    Wait,
    /// There is more to do.
    GoOn,
}

/// A disk.
pub(crate) struct Unit {
    pub(crate) disk: RefCell<Disk<Window>>,
    attached: RefCell<Option<Attached>>,
    /// Signalled when requests were finished.
    finished: Signal,
    shared: Rc<Shared>,
    /// Sets the bit of this disk.
    bell: Handle<Notification>,
    /// The bit, and the number of the disk.
    bit: u8,
    claim: Claim,
    /// Kept because the interrupt ends with its last handle.
    _interrupt: Handle<Interrupt>,
}

impl Unit {
    /// Makes a disk whose interrupt sets `bit`, as `bell` does.
    pub(crate) fn new(
        found: Found,
        bell: Handle<Notification>,
        bit: u8,
        shared: Rc<Shared>,
    ) -> Self {
        let features = found.device.geometry().features;
        let before = shared.log.borrow_mut().negotiated(bit.into(), features);
        if let Some(before) = before {
            log::warn!("disk {bit}: features {features:#x}, earlier {before:#x}");
        }
        Unit {
            shared,
            disk: RefCell::new(Disk::new(found.device)),
            attached: RefCell::default(),
            finished: Signal::new(),
            bell,
            bit,
            claim: found.claim,
            _interrupt: found.interrupt,
        }
    }

    /// Returns the notification bit of this disk.
    pub(crate) fn bit(&self) -> u8 {
        self.bit
    }

    /// Describes the disk.
    pub(crate) fn info(&self) -> DiskInfo {
        let disk = self.disk.borrow();
        let geometry = disk.geometry();
        DiskInfo {
            sectors: geometry.sectors,
            is_read_only: geometry.is_read_only,
            max_sectors: geometry.max_sectors,
            depth: disk.depth() as u32,
        }
    }

    /// Takes a ring; what is not completed in it is done (again).
    pub(crate) fn attach(
        &self,
        ring: Mapping,
        wake: Handle<Notification>,
    ) -> Result<(), DiskError> {
        let intake = Intake::attach(self.bit.into(), ring).map_err(|error| {
            log::error!("ring refused: {error}");
            DiskError::BadRing
        })?;
        // An earlier instance may have died between completing something and saying so.
        self.ring(&wake);
        *self.attached.borrow_mut() = Some(Attached { intake, wake });
        self.ring(&self.bell);
        Ok(())
    }

    /// Drops the ring and waits until nothing of it is at the device.
    pub(crate) async fn detach(&self) {
        self.attached.replace(None);
        while self.disk.borrow().in_flight() > 0 {
            self.finished.wait().await;
        }
    }

    /// Waits until nothing at the device uses a buffer.
    pub(crate) async fn unused(&self, buffer: BufferId) {
        while self.disk.borrow().is_in_use(buffer) {
            self.finished.wait().await;
        }
    }

    /// Moves requests to the device and answers back, for ever.
    pub(crate) async fn run(self: Rc<Self>, events: Events) {
        loop {
            if self.pump() == Next::GoOn {
                // By way of the event loop, so that it sees other messages in between.
                self.ring(&self.bell);
            }
            if self.disk.borrow().in_flight() > 0 {
                // That the time is up is no more than another reason to look.
                let _ = events
                    .until(time::after(LOOK_NS), events.bit(self.bit))
                    .await;
            } else {
                events.bit(self.bit).await;
            }
        }
    }

    fn pump(&self) -> Next {
        let mut disk = self.disk.borrow_mut();
        let mut attached = self.attached.borrow_mut();
        let mut log = self.shared.log.borrow_mut();
        let mut done = Vec::new();
        for _ in 0..ROUNDS {
            let now = time::now();
            if let Some(fault) = disk.poll(now, &mut done) {
                let state = match (disk.is_gone(), disk.is_stuck()) {
                    (false, _) => "reset",
                    (true, false) => "reset and given up",
                    (true, true) => "given up; it does not reset, its buffers stay in quarantine",
                };
                log::error!("disk {}: {fault}; {state}", self.bit);
                if disk.is_gone() {
                    self.forbid();
                }
            }
            if !done.is_empty() {
                self.finished.notify();
            }
            let Some(attached) = &mut *attached else {
                return Next::Wait;
            };
            if log.flights().is_careful() && !done.is_empty() {
                // Another disk may have waited for that.
                self.ring(&self.shared.everyone);
            }
            if !attached.intake.was_asked(&done) {
                log::error!("disk {}: the device did something else", self.bit);
                libipc::doubt_oneself("ring");
            }
            attached.intake.answer(&mut done, &mut log);
            attached.intake.take_requests(&mut disk, &mut log, now);
            attached.intake.flush(&attached.wake);
            // A full device raises an interrupt when it has room again.
            let has_room = disk.has_room() && log.flights().room() > 0;
            if !has_room || attached.intake.prepare_wait() {
                return Next::Wait;
            }
        }
        Next::GoOn
    }

    /// Takes the device's right to touch RAM away.
    fn forbid(&self) {
        let forbidden = self.shared.pci.set_bus_master(self.claim, BusMaster::Off);
        if let Err(failure) = forbidden {
            log::error!("disk {}: it may still touch memory: {failure}", self.bit);
        }
    }

    fn ring(&self, bell: &Handle<Notification>) {
        if let Err(error) = ipc::notify(bell) {
            log::warn!("disk {}: not notified: {error}", self.bit);
        }
    }
}
