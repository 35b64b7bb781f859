//! Turns what the kernel gave into kits for all services, before anything runs.
//!
//! Everything is made once and noted in the ledger: an `init` that was started in place takes up
//! what is there. It divides the RAM in the same way as its predecessors did, since objects and
//! manifests are the same.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use init::control::badge_of_service;
use init::ledger::{Key, Part, Position};
use init::reserve::{self, Reserve};
use libsys::abi::PAGE_SIZE;
use libsys::abi::layout::LOG_RING_BYTES;
use libsys::elf::Elf;
use libsys::mappings::Mapping;
use libsys::spawn::{Pool, pinned_pages};
use libsys::startup::{self, Startup};
use libsys::{Endpoint, Error, Handle, MapFlags, Memory, Notification, Sender};
use skink_manifest::Service;
use skink_manifest::bundle::{Bundle, BundleError, Kind};
use skink_manifest::service::{DecodeError, Grant};

use super::book::{Book, BookError};
use super::kit::{Common, Kit, Named, Program};
use super::worker::{self, Jobs, THREAD_PAGES};
use super::{WAKE_BIT, watchdog};

const PAGE: u64 = PAGE_SIZE as u64;
/// Sets of frames of a pinned service.
const POOLS: u8 = 2;
/// A state region gets at most one part in so many of all RAM, so that small machines work too.
const STATE_SHARE: u64 = 8;
/// `init`'s own badge at the memory manager, apart from those of services.
const INIT_BADGE: u64 = 1 << 32;

/// Everything that is made once.
#[derive(Debug)]
pub(crate) struct Setup {
    /// `init`'s own endpoint.
    pub(crate) endpoint: Handle<Endpoint>,
    /// Its notification.
    pub(crate) notification: Handle<Notification>,
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
    /// The ledger cannot be read or written.
    Book(BookError),
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
            SetupError::Book(error) => error.fmt(f),
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

impl From<BookError> for SetupError {
    fn from(error: BookError) -> Self {
        SetupError::Book(error)
    }
}

impl Setup {
    /// Makes everything, or takes it up.
    pub(crate) fn new(startup: &Startup, book: &'static Book) -> Result<Setup, SetupError> {
        let command_line = startup.variable("cmdline").unwrap_or_default().to_string();
        let bundle_bytes =
            libsys::given::bundle(startup).ok_or(SetupError::Missing("boot bundle"))?;
        let endpoint = book.keep(Key::Endpoint, || make(Handle::<Endpoint>::create()))?;
        let notification =
            book.keep(Key::Notification, || make(Handle::<Notification>::create()))?;
        let wake = book.keep(Key::Wake, || make(notification.mint(1 << WAKE_BIT)))?;
        let common = Box::leak(Box::new(Common {
            system: take(startup, "system")?,
            bundle: take(startup, "bundle")?,
            bundle_bytes,
            command_line,
            wake,
            book,
        }));
        let bundle = Bundle::parse(bundle_bytes).map_err(SetupError::Bundle)?;
        let manifests = bundle
            .find_kind(Kind::Manifest)
            .ok_or(SetupError::Missing("service manifests"))?;
        let services = skink_manifest::decode(manifests.data).map_err(SetupError::Manifests)?;

        let mut frames = Frames::new(startup, book)?;
        let mut kits = Vec::with_capacity(services.len());
        for (position, service) in (0..).zip(services) {
            let init = || make(endpoint.mint(badge_of_service(position)));
            let init = book.keep(Key::Of(position as Position, Part::Init), init)?;
            let program = find_program(&bundle, &service);
            let kit = make_kit(position as Position, service, program, init, &mut frames)?;
            kits.push(kit);
        }
        connect(&mut kits, book)?;
        add_devices(&mut kits, common);

        let worker_memory = frames.take(Key::Thread(0), THREAD_PAGES, "init")?;
        let watchdog_memory = frames.take(Key::Thread(1), watchdog::THREAD_PAGES, "init")?;
        let jobs = Box::leak(Box::new(Jobs::new(book)?));
        let memory_manager = give_ram(&mut kits, &frames)?;
        frames.keep_objects();
        let kits: &'static [Kit] = kits.leak();
        if let Some(memory_manager) = memory_manager {
            worker::start(&worker_memory, memory_manager, (common, kits, jobs))?;
        }
        // The threads never end, so their frames are never free again.
        core::mem::forget(worker_memory);
        watchdog::start(&watchdog_memory, common)?;
        core::mem::forget(watchdog_memory);
        Ok(Setup {
            endpoint,
            notification,
            common,
            kits,
            jobs,
        })
    }
}

/// Fits what is made to [`Book::keep`].
fn make<K: libsys::Kind>(made: libsys::Result<Handle<K>>) -> Result<Handle<K>, SetupError> {
    Ok(made?)
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
    book: &'static Book,
}

impl Frames {
    fn new(startup: &Startup, book: &'static Book) -> Result<Frames, SetupError> {
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
            book,
        })
    }

    fn slice(&self, part: reserve::Part) -> Result<Handle<Memory>, SetupError> {
        let object = self
            .objects
            .get(part.object)
            .ok_or(SetupError::Missing("RAM"))?;
        Ok(object.slice(part.first_page, part.pages)?)
    }

    fn take(&mut self, key: Key, pages: u64, what: &str) -> Result<Handle<Memory>, SetupError> {
        self.take_after(key, pages, what, |_| Ok(()))
    }

    fn take_zeroed(
        &mut self,
        key: Key,
        pages: u64,
        what: &str,
    ) -> Result<Handle<Memory>, SetupError> {
        // It is noted only when it is zero.
        self.take_after(key, pages, what, |memory| memory.zero(0, pages * PAGE))
    }

    fn take_after(
        &mut self,
        key: Key,
        pages: u64,
        what: &str,
        prepare: impl FnOnce(&Handle<Memory>) -> libsys::Result<()>,
    ) -> Result<Handle<Memory>, SetupError> {
        let part = self.reserve.take(pages);
        self.book.keep(key, || {
            let part = part.ok_or_else(|| SetupError::NoMemory(what.to_string()))?;
            let memory = self.slice(part)?;
            prepare(&memory)?;
            Ok(memory)
        })
    }

    /// Leaves the objects open: the next instance divides them in the same way.
    fn keep_objects(self) {
        self.objects.into_iter().for_each(core::mem::forget);
    }
}

fn make_kit(
    position: Position,
    service: Service,
    program: Program,
    init: Handle<Sender>,
    frames: &mut Frames,
) -> Result<Kit, SetupError> {
    let book = frames.book;
    let key = |part| Key::Of(position, part);
    let notification = book.keep(key(Part::Notification), || {
        make(Handle::<Notification>::create())
    })?;
    let name = service.name.as_str();
    let memory = service.memory;
    let dma = match memory.dma.div_ceil(PAGE) {
        0 => None,
        pages => Some(frames.take_zeroed(key(Part::Dma), pages, name)?),
    };
    let state = match memory
        .state
        .div_ceil(PAGE)
        .min(frames.total_pages / STATE_SHARE)
    {
        0 => None,
        // It is zeroed before the first instance starts.
        pages => Some((frames.take(key(Part::State), pages, name)?, pages)),
    };
    let page = frames.take_zeroed(key(Part::Page), 1, name)?;
    Ok(Kit {
        position,
        program,
        endpoint: book.keep(key(Part::Endpoint), || make(Handle::<Endpoint>::create()))?,
        notification,
        init,
        named: Named::default(),
        dma,
        state,
        page_view: Mapping::map(&page, MapFlags::READ)?,
        page,
        log_ring: frames.take_zeroed(key(Part::LogRing), LOG_RING_BYTES / PAGE, name)?,
        pools: make_pools(position, &service, program, frames)?,
        service,
    })
}

fn make_pools(
    position: Position,
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
    let pool = |number| {
        let key = Key::Of(position, Part::Pool(number));
        Ok(Pool {
            memory: frames.take(key, pages, &service.name)?,
            pages,
        })
    };
    (0..POOLS).map(pool).collect()
}

/// Gives every service a sender to each one that it may call.
fn connect(kits: &mut [Kit], book: &Book) -> Result<(), SetupError> {
    for position in 0..kits.len() {
        let mut calls = Vec::new();
        for (number, name) in (0..).zip(&kits[position].service.calls) {
            // `decode` has checked that each name is there and on a lower level.
            if let Some(callee) = kits.iter().find(|kit| kit.service.name == *name) {
                let key = Key::Of(kits[position].position, Part::Call(number));
                let badge = badge_of_service(position);
                let sender = book.keep(key, || make(callee.endpoint.mint(badge)))?;
                calls.push((name.clone(), sender));
            }
        }
        kits[position].named.calls = calls;
    }
    Ok(())
}

/// Makes the objects for ports and interrupts. What the machine does not have is left out: the
/// service finds no handle and says what it misses.
fn add_devices(kits: &mut [Kit], common: &Common) {
    let (system, book) = (&common.system, common.book);
    for kit in kits {
        let key = |part| Key::Of(kit.position, part);
        for (number, ports) in (0..).zip(&kit.service.ports) {
            let create = || make(system.create_ports(ports.first, ports.count));
            match book.keep(key(Part::Ports(number)), create) {
                Ok(object) => kit.named.ports.push((ports.name.clone(), object)),
                Err(error) => log::error!("{}: {}: {error}", kit.service.name, ports.name),
            }
        }
        for (number, line) in (0..).zip(&kit.service.interrupts) {
            let create = || make(system.create_line(line.line));
            match book.keep(key(Part::Interrupt(number)), create) {
                Ok(object) => kit.named.interrupts.push((line.name.clone(), object)),
                Err(error) => log::error!("{}: {}: {error}", kit.service.name, line.name),
            }
        }
    }
}

/// Gives all RAM that is left to the memory manager, and returns `init`'s own way to it.
fn give_ram(kits: &mut [Kit], frames: &Frames) -> Result<Option<Handle<Sender>>, SetupError> {
    let Some(owner) = kits
        .iter_mut()
        .find(|kit| kit.service.rights.has(Grant::Ram))
    else {
        log::error!("no service takes the memory: paged services cannot start");
        return Ok(None);
    };
    for (number, part) in (0..).zip(frames.reserve.rest()) {
        let key = Key::Of(owner.position, Part::Ram(number));
        let ram = frames.book.keep(key, || frames.slice(part))?;
        owner.named.ram.push((alloc::format!("ram{number}"), ram));
    }
    log::info!(
        "{} of {} KiB of memory go to {}",
        frames.reserve.free_pages() * PAGE / 1024,
        frames.total_pages * PAGE / 1024,
        owner.service.name
    );
    let sender = || make(owner.endpoint.mint(INIT_BADGE));
    Ok(Some(frames.book.keep(Key::MemoryManager, sender)?))
}
