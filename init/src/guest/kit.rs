//! All that a service needs to be started, made once and kept for ever.
//!
//! Endpoint, notification, senders, state region, log ring and device memory outlive the
//! processes that use them; that is what makes a restart invisible to clients.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use init::ledger::{self, Position, Record, ServiceRecord};
use init::supervisor::life::Asker;
use libipc::spawn::MemoryPager;
use libsys::abi::PAGE_SIZE;
use libsys::abi::layout::{LOG_RING, LOG_RING_BYTES, MAPPINGS, SERVICE_PAGE, STATE_REGION};
use libsys::mappings::Mapping;
use libsys::service::{ARGUMENT_AT, ORDER_AT, Order, ServicePage};
use libsys::spawn::{Child, Image, Pool, Premapped, Spawn, SpawnError};
use libsys::{
    Endpoint, Handle, Interrupt, IoPorts, MapFlags, Memory, Notification, Process, RawHandle,
    Rights, Sender, System,
};
use skink_manifest::service::{Grant, SystemRight};
use skink_manifest::{Service, command_line};
use spin::{Mutex, Once};

use super::book::Book;
use super::program::Program;

const READ_WRITE: MapFlags = MapFlags(MapFlags::READ.0 | MapFlags::WRITE.0);
/// What holders of a handle may pass on to their own children and servers.
const SHARE: Rights = Rights(Rights::DUPLICATE.0 | Rights::TRANSFER.0);
const PAGE: u64 = PAGE_SIZE as u64;
/// Word of the command line, and variable of services, that says whether their state regions are
/// written: `volatile` if not, for measuring what it costs.
const STATE: &str = "state";

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
    /// What the next instance of `init` must know.
    pub(crate) book: &'static Book,
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
    /// Its position among the services.
    pub(crate) position: Position,
    /// Its manifest.
    pub(crate) service: Service,
    /// Its program, and which of the slots it uses.
    pub(crate) versions: Mutex<Versions>,
    /// Its endpoint.
    pub(crate) endpoint: Handle<Endpoint>,
    /// Its notification.
    pub(crate) notification: Handle<Notification>,
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
    /// last instance; one if it has to, because it is started in the same process.
    pub(crate) pools: Vec<Pool>,
    /// The process of a service that keeps its handles: all instances run in it.
    pub(crate) body: Option<Handle<Process>>,
}

/// What an instance has of its own. There are two for each service, since two instances live side
/// by side during a swap.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Service page.
    pub(crate) page: Handle<Memory>,
    /// The same, to look at it without a system call.
    pub(crate) page_view: Mapping,
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
        self.page_view.read_bytes(0, &mut bytes).ok()?;
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
    /// Whether it runs something else than its manifest says, or did.
    pub(crate) is_swapped: bool,
    /// The last request for a swap that was committed.
    pub(crate) committed_for: Option<Asker>,
}

impl Versions {
    /// Returns what the next instance of `init` must know.
    pub(crate) fn noted(&self) -> ledger::Versions {
        ledger::Versions {
            slot: self.active as u8,
            current: self.is_swapped.then(|| self.current.noted()),
            previous: self.previous.as_ref().map(Program::noted),
            committed_for: self.committed_for,
        }
    }
}

/// Why a service could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartError {
    /// The image is not the one that was built.
    Digest,
    /// It has no such pool.
    NoPool,
    /// `init` has no room to note what it does.
    NotNoted,
    /// The process could not be made.
    Spawn(SpawnError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Digest => f.write_str("image is damaged: its SHA-256 is wrong"),
            StartError::NoPool => f.write_str("no reserved memory"),
            StartError::NotNoted => f.write_str("no room left in the ledger"),
            StartError::Spawn(error) => error.fmt(f),
        }
    }
}

impl From<SpawnError> for StartError {
    fn from(error: SpawnError) -> Self {
        StartError::Spawn(error)
    }
}

impl From<libsys::state::Full> for StartError {
    fn from(_: libsys::state::Full) -> Self {
        StartError::NotNoted
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
        self.verify(&program, common.book)?;
        self.prepare_state(active, common.book)?;
        let page = ServicePage::new(generation);
        let spawn = self.describe(&self.service.name, common, &self.slots[active]);
        let image = program.image(common);
        self.launch(&image, (&self.slots[active], page), spawn, paging)
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
        let active = self.running().0;
        let slot = &self.slots[1 - active];
        let serving = self.slots[active].read_page().map(|page| page.serving());
        let page = ServicePage::new_trial(generation, &serving.unwrap_or_default().interfaces);
        if !program.is_intact() {
            return Err(StartError::Digest);
        }
        let spawn = self.describe(&self.trial_name(), common, slot);
        self.launch(&program.image(common), (slot, page), spawn, paging)
    }

    /// Returns the active slot and its program.
    pub(crate) fn running(&self) -> (usize, Program) {
        let versions = self.versions.lock();
        (versions.active, versions.current.clone())
    }

    /// Makes the other slot and its program those of the service. Returns the program that nobody
    /// needs any more.
    #[must_use]
    pub(crate) fn adopt(&self, program: Program, asker: Option<Asker>) -> Option<Program> {
        let mut versions = self.versions.lock();
        versions.active = 1 - versions.active;
        versions.is_swapped = true;
        versions.committed_for = asker;
        let before = core::mem::replace(&mut versions.current, program);
        versions.previous.replace(before)
    }

    /// Goes back to the version before the last swap, which reads the same state region. Returns
    /// the program that nobody needs any more.
    #[must_use]
    pub(crate) fn revert(&self) -> Option<Program> {
        let mut versions = self.versions.lock();
        let previous = versions.previous.take()?;
        Some(core::mem::replace(&mut versions.current, previous))
    }

    /// Returns the name of a process that was started on trial. It shows which of two processes
    /// is which, also to an `init` that finds both.
    pub(crate) fn trial_name(&self) -> String {
        alloc::format!("{}~", self.service.name)
    }

    /// Has the next instance find an empty state region.
    pub(crate) fn clear_state(&self, book: &Book) -> Result<(), StartError> {
        Ok(book.note(Record::HasState(self.position, false))?)
    }

    fn launch(
        &self,
        image: &Image<'_>,
        (slot, page): (&Slot, ServicePage),
        spawn: Spawn<'_>,
        paging: Paging<'_>,
    ) -> Result<Child, StartError> {
        slot.page.write(0, &page.to_bytes())?;
        Ok(match paging {
            Paging::Pinned(pool) => {
                spawn.start_pinned(image, self.pools.get(pool).ok_or(StartError::NoPool)?)?
            }
            Paging::Paged(pager) => spawn.start_paged(image, pager)?,
        })
    }

    /// Returns the service page of the running instance as it is now.
    pub(crate) fn service_page(&self) -> Option<ServicePage> {
        let active = self.versions.lock().active;
        self.slots[active].read_page()
    }

    fn is_noted(&self, book: &Book, of: fn(&ServiceRecord) -> bool) -> bool {
        book.read(|ledger| ledger.service(self.position).is_some_and(of))
    }

    /// Checks the image, the first time only, also if `init` is started again meanwhile.
    fn verify(&self, program: &Program, book: &Book) -> Result<(), StartError> {
        if !program.is_intact() {
            return Err(StartError::Digest);
        }
        let is_own = program.name() == self.service.image;
        if is_own && !self.is_noted(book, |service| service.is_verified) {
            book.note(Record::Verified(self.position))?;
        }
        Ok(())
    }

    /// Fills the state region with zeros for the first instance; what RAM held before is nobody's
    /// business. Noted before that instance runs: what it writes must never be taken for that.
    fn prepare_state(&self, active: usize, book: &Book) -> Result<(), StartError> {
        if let Some(state) = self.slots[active].state.get()
            && !self.is_noted(book, |service| service.has_state)
        {
            state.zero(0, self.state_pages * PAGE)?;
            book.note(Record::HasState(self.position, true))?;
        }
        Ok(())
    }

    fn describe<'a>(&'a self, name: &str, common: &'a Common, slot: &'a Slot) -> Spawn<'a> {
        let service = &self.service;
        let mut spawn = Spawn::new(name)
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
        if service.is_server() {
            spawn = spawn.urgent(&common.system);
        }
        if let Some(body) = &self.body {
            // What it had from `init` in its last life it is given once more, and closes that.
            spawn = spawn.revive(body, RawHandle::NONE);
        }
        if let Some(state) = slot.state.get() {
            let region = whole(STATE_REGION, state, self.state_pages, READ_WRITE);
            spawn = spawn.map(region).state_bytes(self.state_pages * PAGE);
            if let Some(kept) = command_line::option(&common.command_line, STATE) {
                spawn = spawn.variable(STATE, kept);
            }
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
