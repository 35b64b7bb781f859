//! Start-up, and the interface on top of the policy.

use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::Poll;

use libipc::events::Events;
use libipc::proto::memory::{
    ImageSegment, MemoryError, MemoryManagerDispatcher, MemoryManagerServer, MemoryTotals,
    Protection, SpaceUsage,
};
use libipc::server::{Caller, Fault, Server};
use libsys::abi::MapItem;
use libsys::startup::{self, Startup};
use libsys::state::Report;
use libsys::{Handle, Memory, Notification, Process, Sender, state, time};
use memory_manager::PAGE_BYTES;
use memory_manager::inventory::StartedOver;
use memory_manager::journal::{OpenError, RequestName};
use memory_manager::manager::Manager;
use memory_manager::resolve::Refusal;
use memory_manager::zones::Zones;

use crate::kernel::Kernel;
use crate::tables;

/// Notification bit by which the kernel tells that a watched process has ended.
const DEATH_BIT: u8 = 0;
/// Frames taken back between two looks at the endpoint: some 0.1 ms.
const REAP_SLICE: usize = 512;
/// Exit code when the tables contradict each other.
const UNSOUND: i32 = 2;
/// Objects asked whether they are still used when a process has ended, or somebody wants to know.
const SWEEP_SLICE: usize = 128;

type Shared = Rc<RefCell<Manager<'static, Kernel>>>;

pub(crate) fn main() -> i32 {
    libsys::log_ring::init(log::LevelFilter::Info);
    match start() {
        Ok((server, manager)) => {
            server.run(MemoryManagerDispatcher::new(Rc::new(Service(manager))))
        }
        Err(reason) => {
            libsys::debug_log(&format!("memory-manager: {reason}"));
            1
        }
    }
}

/// Takes what `init` gave and sets the manager and its housekeeping up.
fn start() -> Result<(Server, Shared), &'static str> {
    let startup = startup::read().ok_or("the start-up pages are damaged")?;
    let endpoint = startup::take(&startup, "self").ok_or("no endpoint was given to it")?;
    let notification: Handle<Notification> =
        startup::take(&startup, "notification").ok_or("no notification was given to it")?;
    let death = notification
        .mint(1 << DEATH_BIT)
        .map_err(|_| "no notification can be made")?;
    let given = given(&startup);
    let store = libsys::state::mapped().ok_or("no state region was given to it")?;
    let (ram, zones) = take_ram(&startup)?;
    let (frames, table_frames) = tables::make(&zones, &ram)?;
    let mut server = Server::new(endpoint, notification);
    server.never_waits();
    let kernel = Kernel::new(ram, zones.clone(), server.endpoint(), death, given);
    let begun = time::now();
    let (manager, found) =
        Manager::open(kernel, &zones, frames, table_frames, store).map_err(refuse)?;
    let totals = manager.totals();
    log::info!(
        "{} MiB in {} pieces, {} KiB of it for tables",
        (totals.total * PAGE_BYTES) >> 20,
        zones.all().len(),
        (totals.tables * PAGE_BYTES) >> 10,
    );
    if found.journal.found != state::Found::Fresh {
        log::info!(
            "found {} spaces, {} objects, {} pages of spaces, {} processes gone in {} us ({})",
            totals.spaces,
            totals.object_count,
            totals.anonymous,
            found.gone,
            (time::now() - begun) / 1000,
            found.journal,
        );
    }
    if let Some(started_over) = found.started_over.filter(StartedOver::has_losses) {
        tell_losses(&started_over, &found.journal);
    }
    if found.stray > 0 {
        log::error!("unmapped {} pages that nobody had", found.stray);
    }

    let manager: Shared = Rc::new(RefCell::new(manager));
    let faults = Rc::clone(&manager);
    server.on_fault(move |fault| resolve(&faults, fault));
    let closed = Rc::clone(&manager);
    server.on_closed(move |badge| {
        // The kernel's own sender is closed when the process is gone, which is told otherwise.
        let mut closed = closed.borrow_mut();
        if let Some(space) = closed
            .space_of_badge(badge)
            .filter(|_| closed.space_of_pager(badge).is_none())
        {
            closed.sender_closed(space);
        }
    });
    let tasks = server.events();
    tasks.spawn(reap_the_dead(Rc::clone(&manager), tasks.clone()));
    Ok((server, manager))
}

/// Says, loudly, that all processes with a space were ended.
fn tell_losses(over: &StartedOver, journal: &Report) {
    let StartedOver {
        why,
        ended,
        objects,
    } = over;
    log::error!("state region {journal}: {why}");
    let message = format!(
        "memory-manager: IT IS LOST WHO HAS WHICH MEMORY: ended {ended} processes, kept {objects} objects"
    );
    log::error!("{message}");
    libsys::debug_log(&message);
}

/// Says why the manager cannot go on.
fn refuse(error: OpenError) -> &'static str {
    log::error!("{error}");
    "cannot read what is written down"
}

/// Returns the handles that `init` gave.
fn given(startup: &Startup) -> Vec<u32> {
    let named = startup.handles.iter().map(|(_, handle)| *handle);
    named.chain([startup::process().raw().0]).collect()
}

/// Takes the RAM objects `ram0`, `ram1` and so on.
fn take_ram(startup: &Startup) -> Result<(Vec<Handle<Memory>>, Zones), &'static str> {
    let mut ram: Vec<Handle<Memory>> = Vec::new();
    let mut pieces = Vec::new();
    while let Some(memory) = startup::take::<libsys::Memory>(startup, &format!("ram{}", ram.len()))
    {
        let info = memory
            .info()
            .map_err(|_| "the RAM given to it cannot be inspected")?;
        if info.physical == u64::MAX {
            return Err("the RAM given to it lacks the right to know its address");
        }
        pieces.push((info.physical / PAGE_BYTES, info.pages));
        ram.push(memory);
    }
    Ok((ram, Zones::new(pieces)))
}

/// Answers a page fault. Runs outside of the tasks: it never waits.
fn resolve(manager: &Shared, fault: &Fault) -> Option<MapItem> {
    let mut manager = manager.borrow_mut();
    let space = manager.space_of_pager(fault.badge);
    let result = space.ok_or(Refusal::NoSpace).and_then(|space| {
        let mapping = manager.fault(space, &fault.message)?;
        Ok(manager.machine().map_item(&mapping))
    });
    result
        .inspect_err(|refusal| tell_refusal(space, fault, *refusal))
        .ok()
}

/// Says why a process is ended.
#[cold]
fn tell_refusal(space: Option<u32>, fault: &Fault, refusal: Refusal) {
    log::warn!(
        "fault of space {:#x} at {:#x}, touched {:#x} (code {:#x}): {}",
        space.unwrap_or(0),
        fault.message.instruction,
        fault.message.address,
        fault.message.code,
        refusal.text(),
    );
}

/// Takes back the frames of processes that have ended, a slice at a time.
async fn reap_the_dead(manager: Shared, events: Events) {
    loop {
        events.bit(DEATH_BIT).await;
        manager.borrow_mut().note_deaths();
        while reap_slice(&manager) {
            let_others_run().await;
        }
        // What the dead had of objects is most likely free now.
        manager.borrow_mut().sweep_objects(SWEEP_SLICE);
        if !manager.borrow().is_sound() {
            // The next instance counts afresh, by the records and the page tables.
            log::error!("the numbers of frames contradict each other");
            libsys::runtime::exit(UNSOUND);
        }
    }
}

fn reap_slice(manager: &Shared) -> bool {
    manager.borrow_mut().reap(REAP_SLICE)
}

/// Lets the loop look at its endpoint before this task goes on.
async fn let_others_run() {
    let mut has_waited = false;
    poll_fn(|context| {
        if has_waited {
            return Poll::Ready(());
        }
        has_waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Serves the clients.
struct Service(Shared);

/// Returns the name of a caller's request.
fn name(caller: &Caller) -> RequestName {
    RequestName {
        badge: caller.badge,
        sequence: caller.sequence,
    }
}

impl MemoryManagerServer for Service {
    async fn space_create(
        &self,
        caller: &Caller,
        process: Handle<Process>,
    ) -> Result<Handle<Sender>, MemoryError> {
        self.0.borrow_mut().create_space(name(caller), process)
    }

    async fn map_anonymous(
        &self,
        caller: &Caller,
        address: u64,
        pages: u64,
        protection: Protection,
    ) -> Result<(), MemoryError> {
        self.0
            .borrow_mut()
            .map_anonymous(name(caller), address, pages, protection)
    }

    async fn map_image(
        &self,
        caller: &Caller,
        segment: ImageSegment,
        memory: Handle<Memory>,
    ) -> Result<(), MemoryError> {
        self.0
            .borrow_mut()
            .map_image(name(caller), &segment, memory)
    }

    async fn unmap(&self, caller: &Caller, address: u64, pages: u64) -> Result<(), MemoryError> {
        self.0.borrow_mut().unmap(name(caller), address, pages)
    }

    async fn protect(
        &self,
        caller: &Caller,
        address: u64,
        pages: u64,
        protection: Protection,
    ) -> Result<(), MemoryError> {
        self.0
            .borrow_mut()
            .protect(name(caller), address, pages, protection)
    }

    async fn create_object(
        &self,
        caller: &Caller,
        pages: u64,
    ) -> Result<Handle<Memory>, MemoryError> {
        self.0.borrow_mut().create_object(name(caller), pages)
    }

    async fn usage(&self, caller: &Caller) -> Result<SpaceUsage, MemoryError> {
        let mut manager = self.0.borrow_mut();
        let space = manager.space_of_badge(caller.badge);
        manager.usage(space.ok_or(MemoryError::NoSpace)?)
    }

    async fn totals(&self, _caller: &Caller) -> Result<MemoryTotals, MemoryError> {
        let mut manager = self.0.borrow_mut();
        manager.sweep_objects(SWEEP_SLICE);
        Ok(manager.totals())
    }
}
