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
use init::ledger::{self, Key, Part, Position};
use init::reserve::{self, Reserve};
use libsys::abi::PAGE_SIZE;
use libsys::abi::layout::LOG_RING_BYTES;
use libsys::elf::Elf;
use libsys::mappings::Mapping;
use libsys::spawn::{Pool, pinned_pages};
use libsys::startup::{self, Startup};
use libsys::{Endpoint, Error, Handle, MapFlags, Memory, Notification, Process, Sender};
use skink_manifest::Service;
use skink_manifest::bundle::{Bundle, BundleError, Kind};
use skink_manifest::service::{DecodeError, Grant};
use spin::{Mutex, Once};

use super::book::{Book, BookError, adopt};
use super::kit::{Common, Kit, Named, Slot, Versions};
use super::program::Program;
use super::worker::{self, Jobs, THREAD_PAGES};
use super::{WAKE_BIT, watchdog};

const PAGE: u64 = PAGE_SIZE as u64;
/// Sets of frames of a pinned service.
const POOLS: u8 = 2;
/// Those of one that is started in the same process, where nothing of the last life may be left.
const POOLS_OF_KEPT: u8 = 1;
/// Pages of each set that the next version of a service may take beyond what this one takes.
const SPARE_PAGES: u64 = 8;
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
            let sources = (program, &bundle);
            let kit = make_kit(position as Position, service, sources, init, &mut frames)?;
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
        Some(entry) => Program::of_bundle(&entry),
        None => {
            log::error!(
                "{}: no image {:?} in the boot bundle",
                service.name,
                service.image
            );
            Program::missing(&service.image)
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
    (program, bundle): (Program, &Bundle<'static>),
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
    let state_pages = memory
        .state
        .div_ceil(PAGE)
        .min(frames.total_pages / STATE_SHARE);
    let slots = [
        make_slot((position, &service), 0, state_pages, frames)?,
        make_slot((position, &service), 1, state_pages, frames)?,
    ];
    Ok(Kit {
        position,
        endpoint: book.keep(key(Part::Endpoint), || make(Handle::<Endpoint>::create()))?,
        notification,
        init,
        named: Named::default(),
        dma,
        state_pages,
        slots,
        log_ring: frames.take_zeroed(key(Part::LogRing), LOG_RING_BYTES / PAGE, name)?,
        pools: make_pools(position, &service, &program, frames)?,
        body: make_body(position, &service, book)?,
        versions: Mutex::new(take_versions(position, program, bundle, book)?),
        service,
    })
}

/// Makes one of the two slots of a service; the first one is used from the start.
fn make_slot(
    (position, service): (Position, &Service),
    number: u8,
    state_pages: u64,
    frames: &mut Frames,
) -> Result<Slot, SetupError> {
    let book = frames.book;
    let key = |part| Key::Of(position, part);
    let state = Once::new();
    let state_key = key(Part::State(number));
    if state_pages > 0 && (number == 0 || service.is_pinned()) {
        // It is zeroed before the first instance starts.
        let region = frames.take(state_key, state_pages, &service.name)?;
        state.call_once(|| region);
    } else if let Some(region) = book.read(|ledger| ledger.handle(state_key)) {
        // A paged service gets its second region from the memory manager when it is swapped: it
        // may be large. A pinned one must not depend on that.
        let region = adopt(region)?;
        state.call_once(|| region);
    }
    let page = frames.take_zeroed(key(Part::Page(number)), 1, &service.name)?;
    Ok(Slot {
        page_view: Mapping::map(&page, MapFlags::READ)?,
        page,
        gate: book.keep(key(Part::Gate(number)), || {
            make(Handle::<Notification>::create())
        })?,
        state,
    })
}

/// Takes up which versions a service ran; `program` is that of its manifest.
fn take_versions(
    position: Position,
    program: Program,
    bundle: &Bundle<'static>,
    book: &Book,
) -> Result<Versions, SetupError> {
    let (noted, is_verified) = book.read(|ledger| {
        let service = ledger.service(position);
        service.map_or_else(Default::default, |service| {
            (service.situation.versions.clone(), service.is_verified)
        })
    });
    if is_verified {
        program.set_verified();
    }
    let find = |record: &ledger::Program| -> Result<Program, SetupError> {
        Ok(match record {
            ledger::Program::Image(name) => match bundle.find(name) {
                Some(entry) => Program::of_bundle(&entry),
                None => Program::missing(name),
            },
            ledger::Program::Memory(number, bytes) => {
                Program::of_memory(adopt(*number)?, *bytes as usize)?
            }
        })
    };
    let current = noted.current.as_ref().map(find).transpose()?;
    let previous = noted.previous.as_ref().map(find).transpose()?;
    Ok(Versions {
        active: usize::from(noted.slot & 1),
        current: current.unwrap_or(program),
        previous,
        is_swapped: noted.current.is_some(),
        committed_for: noted.committed_for,
    })
}

fn make_pools(
    position: Position,
    service: &Service,
    program: &Program,
    frames: &mut Frames,
) -> Result<Vec<Pool>, SetupError> {
    if !service.is_pinned() {
        return Ok(Vec::new());
    }
    // An image that is none is refused with a clear error when it is started.
    let Ok(elf) = Elf::parse(program.bytes()) else {
        return Ok(Vec::new());
    };
    let pages = pinned_pages(&elf, service.memory.heap, service.memory.stack) + SPARE_PAGES;
    let pool = |number| {
        let key = Key::Of(position, Part::Pool(number));
        Ok(Pool {
            memory: frames.take(key, pages, &service.name)?,
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
fn make_body(
    position: Position,
    service: &Service,
    book: &Book,
) -> Result<Option<Handle<Process>>, SetupError> {
    if !service.keeps_handles() {
        return Ok(None);
    }
    let body = book.keep(Key::Of(position, Part::Body), || {
        let body = Handle::<Process>::create(&service.name, service.memory.kernel)?;
        body.keep_handles()?;
        make(Ok(body))
    })?;
    Ok(Some(body))
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
