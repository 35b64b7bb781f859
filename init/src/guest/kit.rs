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
use libsys::service::ServicePage;
use libsys::spawn::{Child, Image, Pool, Premapped, Spawn, SpawnError};
use libsys::{
    Endpoint, Handle, Interrupt, IoPorts, MapFlags, Memory, Notification, Rights, Sender, System,
};
use sha2::{Digest as _, Sha256};
use skink_manifest::Service;
use skink_manifest::service::{Grant, SystemRight};

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

/// The program of a service, in the boot bundle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    /// First byte within the bundle; page aligned.
    pub(crate) offset: usize,
    /// The image.
    pub(crate) bytes: &'static [u8],
    /// SHA-256 that the image must have.
    pub(crate) digest: &'static [u8; 32],
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
    /// Its program.
    pub(crate) program: Program,
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
    /// State region and its pages.
    pub(crate) state: Option<(Handle<Memory>, u64)>,
    /// Service page.
    pub(crate) page: Handle<Memory>,
    /// Log ring.
    pub(crate) log_ring: Handle<Memory>,
    /// Frames of a pinned service: two sets, so that a restart need not wait for the end of the
    /// last instance.
    pub(crate) pools: Vec<Pool>,
    /// Whether the image has the digest it must have.
    pub(crate) is_verified: AtomicBool,
    /// Whether an instance has run, so that the state region may hold something.
    pub(crate) has_run: AtomicBool,
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
        self.verify()?;
        self.page
            .write(0, &ServicePage::new(generation).to_bytes())?;
        let spawn = self.describe(common);
        let image = Image {
            bytes: self.program.bytes,
            memory: &common.bundle,
            first_page: self.program.offset as u64 / PAGE,
        };
        let child = match paging {
            Paging::Pinned(pool) => {
                spawn.start_pinned(&image, self.pools.get(pool).ok_or(StartError::NoPool)?)?
            }
            Paging::Paged(pager) => spawn.start_paged(&image, pager)?,
        };
        self.has_run.store(true, Ordering::Release);
        Ok(child)
    }

    /// Returns the service page as it is now.
    pub(crate) fn service_page(&self) -> Option<ServicePage> {
        let mut bytes = [0; size_of::<ServicePage>()];
        self.page.read(0, &mut bytes).ok()?;
        Some(ServicePage::from_bytes(&bytes))
    }

    /// Checks the image, the first time only: the bundle is read only.
    fn verify(&self) -> Result<(), StartError> {
        if !self.is_verified.load(Ordering::Acquire) {
            if Sha256::digest(self.program.bytes).as_slice() != self.program.digest {
                return Err(StartError::Digest);
            }
            self.is_verified.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn describe<'a>(&'a self, common: &'a Common) -> Spawn<'a> {
        let service = &self.service;
        let mut spawn = Spawn::new(&service.name)
            .arguments(service.arguments.iter().map(String::as_str))
            .heap_bytes(service.memory.heap)
            .stack_bytes(service.memory.stack)
            .kernel_quota(service.memory.kernel)
            .watch(&common.wake)
            .with_service_page()
            .map(whole(SERVICE_PAGE, &self.page, 1, READ_WRITE))
            .map(whole(
                LOG_RING,
                &self.log_ring,
                LOG_RING_BYTES / PAGE,
                READ_WRITE,
            ))
            .handle("self", &self.endpoint, Rights::ALL)
            .handle("notification", &self.notification, Rights::ALL)
            .handle("init", &self.init, Rights::CALL | SHARE);
        if let Some((state, pages)) = &self.state {
            // The first instance finds zeros; what RAM held before is nobody's business.
            let is_fresh = !self.has_run.load(Ordering::Acquire);
            let flags = if is_fresh {
                READ_WRITE | MapFlags::ZERO
            } else {
                READ_WRITE
            };
            let region = whole(STATE_REGION, state, *pages, flags);
            spawn = spawn.map(region).state_bytes(pages * PAGE);
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
                    SystemRight::Debug => Rights::DEBUG,
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
