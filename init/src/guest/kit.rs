//! All that a service needs to be started, made once and kept for ever.
//!
//! Endpoint, notification, senders, state region, log ring and device memory outlive the
//! processes that use them; that is what makes a restart invisible to clients.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use libipc::spawn::MemoryPager;
use libsys::abi::PAGE_SIZE;
use libsys::abi::layout::{LOG_RING, LOG_RING_BYTES, MAPPINGS, SERVICE_PAGE, STATE_REGION};
use libsys::service::{ARGUMENT_AT, ORDER_AT, Order, ServicePage};
use libsys::spawn::{Child, Pool, Premapped, Spawn, SpawnError};
use libsys::{
    Endpoint, Handle, Interrupt, IoPorts, MapFlags, Memory, Notification, Rights, Sender, System,
};
use skink_manifest::Service;
use skink_manifest::service::{Grant, SystemRight};
use spin::{Mutex, Once};

use super::program::Program;

const READ_WRITE: MapFlags = MapFlags(MapFlags::READ.0 | MapFlags::WRITE.0);
/// What holders of a handle may pass on to their own children and servers.
const SHARE: Rights = Rights(Rights::DUPLICATE.0 | Rights::TRANSFER.0);
const PAGE: u64 = PAGE_SIZE as u64;

/// What all services have in common.
#[derive(Debug)]
pub(crate) struct Common {
    /// The machine.
    pub(crate) system: Handle<System>,
    /// The boot bundle.
    pub(crate) bundle: Handle<Memory>,
    /// Its bytes.
    pub(crate) bundle_bytes: &'static [u8],
    /// The kernel's command line.
    pub(crate) command_line: String,
    /// Has `init` look after the services.
    pub(crate) wake: Handle<Notification>,
}

/// Handles by name.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// Services that it may call.
    pub(crate) calls: Vec<(String, Handle<Sender>)>,
    /// I/O ports.
    pub(crate) ports: Vec<(String, Handle<IoPorts>)>,
    /// Interrupts.
    pub(crate) interrupts: Vec<(String, Handle<Interrupt>)>,
    /// Free RAM of the machine.
    pub(crate) ram: Vec<(String, Handle<Memory>)>,
}

/// All that a service needs to be started.
#[derive(Debug)]
pub(crate) struct Kit {
    /// Its manifest.
    pub(crate) service: Service,
    /// Its program, and which of the slots it uses.
    pub(crate) versions: Mutex<Versions>,
    /// Its endpoint.
    pub(crate) endpoint: Handle<Endpoint>,
    /// Its notification.
    pub(crate) notification: Handle<Notification>,
    /// Sets the heartbeat bit of its notification.
    pub(crate) ping: Handle<Notification>,
    /// Its way to `init`.
    pub(crate) init: Handle<Sender>,
    /// What its manifest names.
    pub(crate) named: Named,
    /// Memory for devices.
    pub(crate) dma: Option<Handle<Memory>>,
    /// Pages of its state region; 0 for none.
    pub(crate) state_pages: u64,
    /// What each of two instances has of its own.
    pub(crate) slots: [Slot; 2],
    /// Log ring.
    pub(crate) log_ring: Handle<Memory>,
    /// Frames of a pinned service: two sets, so that a restart need not wait for the end of the
    /// last instance.
    pub(crate) pools: Vec<Pool>,
    /// Whether an instance has run, so that the state region may hold something.
    pub(crate) has_run: AtomicBool,
}

/// What an instance has of its own. There are two for each service, since two instances live side
/// by side during a swap.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Service page.
    pub(crate) page: Handle<Memory>,
    /// Its instance waits for it at the gate, and at rest.
    pub(crate) gate: Handle<Notification>,
    /// State region: that of the first slot is there from the start, the other one comes when it
    /// is needed.
    pub(crate) state: Once<Handle<Memory>>,
}

impl Slot {
    /// Returns the service page as it is now.
    pub(crate) fn read_page(&self) -> Option<ServicePage> {
        let mut bytes = [0; size_of::<ServicePage>()];
        self.page.read(0, &mut bytes).ok()?;
        Some(ServicePage::from_bytes(&bytes))
    }

    /// Gives an order to the instance.
    pub(crate) fn order(&self, order: Order, argument: u64) -> libsys::Result<()> {
        self.page
            .write(ARGUMENT_AT as u64, &argument.to_le_bytes())?;
        // A single byte, so that no half of a word is ever seen.
        self.page.write(ORDER_AT as u64, &[order as u8])?;
        libsys::ipc::notify(&self.gate)
    }
}

/// Which programs a service runs and ran.
#[derive(Debug)]
pub(crate) struct Versions {
    /// The slot that its instance uses: its state region is that of the service.
    pub(crate) active: usize,
    /// What it runs.
    pub(crate) current: Program,
    /// What it ran before the last swap.
    pub(crate) previous: Option<Program>,
}

/// Why a service could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartError {
    /// The image is not the one that was built.
    Digest,
    /// It has no such pool.
    NoPool,
    /// The process could not be made.
    Spawn(SpawnError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Digest => f.write_str("image is damaged: its SHA-256 is wrong"),
            StartError::NoPool => f.write_str("no reserved memory"),
            StartError::Spawn(error) => error.fmt(f),
        }
    }
}

impl From<SpawnError> for StartError {
    fn from(error: SpawnError) -> Self {
        StartError::Spawn(error)
    }
}

impl From<libsys::Error> for StartError {
    fn from(error: libsys::Error) -> Self {
        StartError::Spawn(SpawnError::Kernel(error))
    }
}

/// Where the pages of an instance come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Paging<'a> {
    /// From the pool in this position.
    Pinned(usize),
    /// From the memory manager.
    Paged(&'a MemoryPager),
}

impl Kit {
    /// Starts instance number `generation`.
    pub(crate) fn start(
        &self,
        common: &Common,
        generation: u64,
        paging: Paging<'_>,
    ) -> Result<Child, StartError> {
        let (active, program) = self.running();
        let page = ServicePage::new(generation);
        let child = self.launch(common, &program, (&self.slots[active], page), paging)?;
        self.has_run.store(true, Ordering::Release);
        Ok(child)
    }

    /// Starts instance number `generation` of another version beside the one that runs; it waits at
    /// the gate.
    pub(crate) fn start_trial(
        &self,
        common: &Common,
        program: &Program,
        generation: u64,
        paging: Paging<'_>,
    ) -> Result<Child, StartError> {
        let slot = &self.slots[1 - self.running().0];
        let page = ServicePage::new_trial(generation);
        self.launch(common, program, (slot, page), paging)
    }

    /// Returns the active slot and its program.
    pub(crate) fn running(&self) -> (usize, Program) {
        let versions = self.versions.lock();
        (versions.active, versions.current.clone())
    }

    /// Makes the other slot and its program those of the service.
    pub(crate) fn adopt(&self, program: Program) {
        let mut versions = self.versions.lock();
        versions.active = 1 - versions.active;
        let before = core::mem::replace(&mut versions.current, program);
        versions.previous = Some(before);
    }

    /// Goes back to the version before the last swap, which reads the same state region.
    pub(crate) fn revert(&self) {
        let mut versions = self.versions.lock();
        if let Some(previous) = versions.previous.take() {
            versions.current = previous;
        }
    }

    /// Has the next instance find an empty state region.
    pub(crate) fn clear_state(&self) {
        self.has_run.store(false, Ordering::Release);
    }

    fn launch(
        &self,
        common: &Common,
        program: &Program,
        (slot, page): (&Slot, ServicePage),
        paging: Paging<'_>,
    ) -> Result<Child, StartError> {
        if !program.is_intact() {
            return Err(StartError::Digest);
        }
        slot.page.write(0, &page.to_bytes())?;
        let spawn = self.describe(common, slot);
        let image = program.image(common);
        let child = match paging {
            Paging::Pinned(pool) => {
                spawn.start_pinned(&image, self.pools.get(pool).ok_or(StartError::NoPool)?)?
            }
            Paging::Paged(pager) => spawn.start_paged(&image, pager)?,
        };
        Ok(child)
    }

    /// Returns the service page of the running instance as it is now.
    pub(crate) fn service_page(&self) -> Option<ServicePage> {
        let active = self.versions.lock().active;
        self.slots[active].read_page()
    }

    fn describe<'a>(&'a self, common: &'a Common, slot: &'a Slot) -> Spawn<'a> {
        let service = &self.service;
        let mut spawn = Spawn::new(&service.name)
            .arguments(service.arguments.iter().map(String::as_str))
            .heap_bytes(service.memory.heap)
            .stack_bytes(service.memory.stack)
            .kernel_quota(service.memory.kernel)
            .watch(&common.wake)
            .with_service_page()
            .map(whole(SERVICE_PAGE, &slot.page, 1, READ_WRITE))
            .map(whole(
                LOG_RING,
                &self.log_ring,
                LOG_RING_BYTES / PAGE,
                READ_WRITE,
            ))
            .handle("self", &self.endpoint, Rights::ALL)
            .handle("notification", &self.notification, Rights::ALL)
            .handle("init", &self.init, Rights::CALL | SHARE)
            .handle("gate", &slot.gate, Rights::ALL)
            .handle("gate-bell", &common.wake, Rights::NOTIFY);
        if let Some(state) = slot.state.get() {
            // The first instance finds zeros; what RAM held before is nobody's business. A version
            // on trial, which is never the first, finds the state at the gate.
            let is_fresh = !self.has_run.load(Ordering::Acquire);
            let flags = if is_fresh {
                READ_WRITE | MapFlags::ZERO
            } else {
                READ_WRITE
            };
            let region = whole(STATE_REGION, state, self.state_pages, flags);
            spawn = spawn.map(region).state_bytes(self.state_pages * PAGE);
        }
        for (name, sender) in &self.named.calls {
            spawn = spawn.handle(name, sender, Rights::CALL | SHARE);
        }
        self.add_privileges(self.add_devices(spawn), common)
    }

    fn add_devices<'a>(&'a self, mut spawn: Spawn<'a>) -> Spawn<'a> {
        for (name, ports) in &self.named.ports {
            spawn = spawn.handle(name, ports, Rights::ALL);
        }
        for (name, interrupt) in &self.named.interrupts {
            spawn = spawn.handle(name, interrupt, Rights::ALL);
        }
        for (name, ram) in &self.named.ram {
            spawn = spawn.handle(name, ram, Rights::ALL);
        }
        if let Some(dma) = &self.dma {
            // Without `OWN`: what it maps of it is tracked.
            let rights = Rights::READ | Rights::WRITE | Rights::DMA | SHARE;
            spawn = spawn.handle("dma", dma, rights);
        }
        spawn
    }

    fn add_privileges<'a>(&'a self, mut spawn: Spawn<'a>, common: &'a Common) -> Spawn<'a> {
        let privileges = &self.service.rights;
        if !privileges.system.is_empty() {
            let rights = privileges.system.iter().fold(SHARE, |rights, right| {
                rights.union(match right {
                    SystemRight::Inspect => Rights::INSPECT,
                    SystemRight::Devices => Rights::DEVICES,
                    SystemRight::Interrupts => Rights::INTERRUPTS,
                    SystemRight::Power => Rights::POWER,
                })
            });
            spawn = spawn.handle("system", &common.system, rights);
        }
        if privileges.has(Grant::Bundle) {
            let bytes = common.bundle_bytes.len();
            let pages = bytes.div_ceil(PAGE_SIZE) as u64;
            spawn = spawn
                .handle(
                    "bundle",
                    &common.bundle,
                    Rights::READ | Rights::EXECUTE | SHARE,
                )
                .map(whole(MAPPINGS, &common.bundle, pages, MapFlags::READ))
                .variable("bundle_address", &alloc::format!("{MAPPINGS}"))
                .variable("bundle_bytes", &alloc::format!("{bytes}"));
        }
        if privileges.has(Grant::CommandLine) {
            spawn = spawn.variable("cmdline", &common.command_line);
        }
        spawn
    }
}

fn whole(address: u64, memory: &Handle<Memory>, pages: u64, flags: MapFlags) -> Premapped<'_> {
    Premapped {
        address,
        memory,
        first_page: 0,
        pages,
        flags,
    }
}
