//! Turns what the kernel gave into kits for all services; done once, before anything runs.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use init::control::badge_of_service;
use init::reserve::{Part, Reserve};
use libipc::server::PING_BIT;
use libsys::abi::PAGE_SIZE;
use libsys::abi::layout::LOG_RING_BYTES;
use libsys::elf::Elf;
use libsys::spawn::{Pool, pinned_pages};
use libsys::startup::{self, Startup};
use libsys::{Endpoint, Error, Handle, Memory, Notification, Process, Sender};
use skink_manifest::Service;
use skink_manifest::bundle::{Bundle, BundleError, Kind};
use skink_manifest::service::{DecodeError, Grant};

use super::kit::{Common, Kit, Named, Program};
use super::worker::{self, Jobs, THREAD_PAGES};

const PAGE: u64 = PAGE_SIZE as u64;
/// Sets of frames of a pinned service.
const POOLS: usize = 2;
/// Those of one that is started in the same process, where nothing of the last life may be left.
const POOLS_OF_KEPT: usize = 1;
/// A state region gets at most one part in so many of all RAM, so that small machines work too.
const STATE_SHARE: u64 = 8;
/// `init`'s own badge at the memory manager, apart from those of services.
const INIT_BADGE: u64 = 1 << 32;

/// Everything that is made once.
#[derive(Debug)]
pub(crate) struct Setup {
    /// What all services have in common.
    pub(crate) common: &'static Common,
    /// The services in start order.
    pub(crate) kits: &'static [Kit],
    /// Work for the second thread.
    pub(crate) jobs: &'static Jobs,
}

/// Why the system cannot be started.
#[derive(Debug)]
pub(crate) enum SetupError {
    /// The kernel refused.
    Kernel(Error),
    /// The kernel did not give this.
    Missing(&'static str),
    /// The boot bundle is damaged.
    Bundle(BundleError),
    /// The manifests in it are.
    Manifests(DecodeError),
    /// There is not enough RAM for this.
    NoMemory(String),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::Kernel(error) => write!(f, "the kernel refused: {error}"),
            SetupError::Missing(what) => write!(f, "missing: {what}"),
            SetupError::Bundle(error) => write!(f, "boot bundle: {error}"),
            SetupError::Manifests(error) => error.fmt(f),
            SetupError::NoMemory(what) => write!(f, "not enough memory for {what}"),
        }
    }
}

impl From<Error> for SetupError {
    fn from(error: Error) -> Self {
        SetupError::Kernel(error)
    }
}

impl Setup {
    /// Makes everything. `endpoint` is `init`'s own; `wake` has the main thread look after the
    /// services.
    pub(crate) fn new(
        endpoint: &Handle<Endpoint>,
        wake: Handle<Notification>,
    ) -> Result<Setup, SetupError> {
        let startup = startup::read().ok_or(SetupError::Missing("start-up pages"))?;
        let command_line = startup.variable("cmdline").unwrap_or_default().to_string();
        super::kernel_log::start(&command_line);
        let bundle_bytes =
            libsys::given::bundle(&startup).ok_or(SetupError::Missing("boot bundle"))?;
        let common = Box::leak(Box::new(Common {
            system: take(&startup, "system")?,
            bundle: take(&startup, "bundle")?,
            bundle_bytes,
            command_line,
            wake,
        }));
        let bundle = Bundle::parse(bundle_bytes).map_err(SetupError::Bundle)?;
        let manifests = bundle
            .find_kind(Kind::Manifest)
            .ok_or(SetupError::Missing("service manifests"))?;
        let services = skink_manifest::decode(manifests.data).map_err(SetupError::Manifests)?;

        let mut frames = Frames::new(&startup)?;
        let mut kits = Vec::with_capacity(services.len());
        for (position, service) in services.into_iter().enumerate() {
            let init = endpoint.mint(badge_of_service(position))?;
            let program = find_program(&bundle, &service);
            kits.push(make_kit(service, program, init, &mut frames)?);
        }
        connect(&mut kits)?;
        add_devices(&mut kits, common);

        let thread_memory = frames.take(THREAD_PAGES, "init")?;
        let jobs = Box::leak(Box::new(Jobs::new()?));
        let memory_manager = give_ram(&mut kits, frames)?;
        let kits: &'static [Kit] = kits.leak();
        if let Some(memory_manager) = memory_manager {
            worker::start(&thread_memory, memory_manager, (common, kits, jobs))?;
            // The thread never ends, so its frames are never free again.
            core::mem::forget(thread_memory);
        }
        Ok(Setup { common, kits, jobs })
    }
}

fn take<K: libsys::Kind>(startup: &Startup, name: &'static str) -> Result<Handle<K>, SetupError> {
    startup::take(startup, name).ok_or(SetupError::Missing(name))
}

/// Finds a service's program. One that is missing fails when it is started, so that the others
/// still run.
fn find_program(bundle: &Bundle<'static>, service: &Service) -> Program {
    match bundle.find(&service.image) {
        Some(entry) => Program {
            offset: entry.offset,
            bytes: entry.data,
            digest: entry.digest,
        },
        None => {
            log::error!(
                "{}: no image {:?} in the boot bundle",
                service.name,
                service.image
            );
            Program {
                offset: 0,
                bytes: &[],
                digest: &[0; 32],
            }
        }
    }
}

/// The machine's RAM on its way to its owners.
struct Frames {
    objects: Vec<Handle<Memory>>,
    reserve: Reserve,
    total_pages: u64,
}

impl Frames {
    fn new(startup: &Startup) -> Result<Frames, SetupError> {
        let mut objects: Vec<Handle<Memory>> = Vec::new();
        while let Some(object) = startup::take(startup, &alloc::format!("ram{}", objects.len())) {
            objects.push(object);
        }
        let pages: Result<Vec<u64>, Error> = objects
            .iter()
            .map(|object| object.info().map(|info| info.pages))
            .collect();
        let reserve = Reserve::new(pages?);
        let total_pages = reserve.free_pages();
        Ok(Frames {
            objects,
            reserve,
            total_pages,
        })
    }

    fn slice(&self, part: Part) -> Result<Handle<Memory>, SetupError> {
        let object = self
            .objects
            .get(part.object)
            .ok_or(SetupError::Missing("RAM"))?;
        Ok(object.slice(part.first_page, part.pages)?)
    }

    fn take(&mut self, pages: u64, what: &str) -> Result<Handle<Memory>, SetupError> {
        match self.reserve.take(pages) {
            Some(part) => self.slice(part),
            None => Err(SetupError::NoMemory(what.to_string())),
        }
    }

    fn take_zeroed(&mut self, pages: u64, what: &str) -> Result<Handle<Memory>, SetupError> {
        let memory = self.take(pages, what)?;
        memory.zero(0, pages * PAGE)?;
        Ok(memory)
    }
}

fn make_kit(
    service: Service,
    program: Program,
    init: Handle<Sender>,
    frames: &mut Frames,
) -> Result<Kit, SetupError> {
    let notification = Handle::<Notification>::create()?;
    let name = service.name.as_str();
    let memory = service.memory;
    let dma = match memory.dma.div_ceil(PAGE) {
        0 => None,
        pages => Some(frames.take_zeroed(pages, name)?),
    };
    let state = match memory
        .state
        .div_ceil(PAGE)
        .min(frames.total_pages / STATE_SHARE)
    {
        0 => None,
        // It is zeroed when it is mapped for the first instance.
        pages => Some((frames.take(pages, name)?, pages)),
    };
    Ok(Kit {
        program,
        endpoint: Handle::<Endpoint>::create()?,
        ping: notification.mint(1 << PING_BIT)?,
        notification,
        init,
        named: Named::default(),
        dma,
        state,
        page: frames.take_zeroed(1, name)?,
        log_ring: frames.take_zeroed(LOG_RING_BYTES / PAGE, name)?,
        pools: make_pools(&service, program, frames)?,
        body: make_body(&service)?,
        is_verified: false.into(),
        has_run: false.into(),
        service,
    })
}

fn make_pools(
    service: &Service,
    program: Program,
    frames: &mut Frames,
) -> Result<Vec<Pool>, SetupError> {
    if !service.is_pinned() {
        return Ok(Vec::new());
    }
    // An image that is none is refused with a clear error when it is started.
    let Ok(elf) = Elf::parse(program.bytes) else {
        return Ok(Vec::new());
    };
    let pages = pinned_pages(&elf, service.memory.heap, service.memory.stack);
    let pool = |_| {
        Ok(Pool {
            memory: frames.take(pages, &service.name)?,
            pages,
        })
    };
    let pools = if service.keeps_handles() {
        POOLS_OF_KEPT
    } else {
        POOLS
    };
    (0..pools).map(pool).collect()
}

/// Makes the process of a service that keeps its handles.
fn make_body(service: &Service) -> Result<Option<Handle<Process>>, SetupError> {
    if !service.keeps_handles() {
        return Ok(None);
    }
    let body = Handle::<Process>::create(&service.name, service.memory.kernel)?;
    body.keep_handles()?;
    Ok(Some(body))
}

/// Gives every service a sender to each one that it may call.
fn connect(kits: &mut [Kit]) -> Result<(), SetupError> {
    for position in 0..kits.len() {
        let mut calls = Vec::new();
        for name in &kits[position].service.calls {
            // `decode` has checked that each name is there and on a lower level.
            if let Some(callee) = kits.iter().find(|kit| kit.service.name == *name) {
                calls.push((
                    name.clone(),
                    callee.endpoint.mint(badge_of_service(position))?,
                ));
            }
        }
        kits[position].named.calls = calls;
    }
    Ok(())
}

/// Makes the objects for ports and interrupts. What the machine does not have is left out: the
/// service finds no handle and says what it misses.
fn add_devices(kits: &mut [Kit], common: &Common) {
    for kit in kits {
        for ports in &kit.service.ports {
            match common.system.create_ports(ports.first, ports.count) {
                Ok(object) => kit.named.ports.push((ports.name.clone(), object)),
                Err(error) => log::error!("{}: {}: {error}", kit.service.name, ports.name),
            }
        }
        for line in &kit.service.interrupts {
            match common.system.create_line(line.line) {
                Ok(object) => kit.named.interrupts.push((line.name.clone(), object)),
                Err(error) => log::error!("{}: {}: {error}", kit.service.name, line.name),
            }
        }
    }
}

/// Gives all RAM that is left to the memory manager, and returns `init`'s own way to it.
fn give_ram(kits: &mut [Kit], frames: Frames) -> Result<Option<Handle<Sender>>, SetupError> {
    let Some(owner) = kits
        .iter_mut()
        .find(|kit| kit.service.rights.has(Grant::Ram))
    else {
        log::error!("no service takes the memory: paged services cannot start");
        return Ok(None);
    };
    for (number, part) in frames.reserve.rest().into_iter().enumerate() {
        owner
            .named
            .ram
            .push((alloc::format!("ram{number}"), frames.slice(part)?));
    }
    log::info!(
        "{} of {} KiB of memory go to {}",
        frames.reserve.free_pages() * PAGE / 1024,
        frames.total_pages * PAGE / 1024,
        owner.service.name
    );
    Ok(Some(owner.endpoint.mint(INIT_BADGE)?))
}
