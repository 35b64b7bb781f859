//! Keeps the services as the supervisor wants them.
//!
//! Everything is level-triggered: [`Keeper::look_after`] looks at the state of all services and
//! does what is due, however often and for whatever reason it is called. Death, a finished start
//! and the clock all lead there.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use init::MS;
use init::control::{Services, Source};
use init::heartbeat::Look;
use init::supervisor::{Action, Supervisor};
use init::swap::Ticket;
use libipc::proto::init::{
    Cause, InitError, ServiceInfo, ServiceStatistics, ServiceVersion, SwapReason,
};
use libsys::abi::{ExitReason, ProcessInfo, ProcessState};
use libsys::spawn::Child;
use libsys::{Handle, Kind, Memory, Notification, Process, Rights, ipc, time};
use skink_manifest::Service;
use skink_manifest::service::Grant;

use super::kit::{Common, Kit, Paging, StartError};
use super::setup::Setup;
use super::swapper::Attempt;
use super::worker::{Done, Job, Jobs};

/// Exit code of a process that `init` ended.
pub(super) const ENDED_BY_INIT: u64 = 137;
/// Exit code of the machine when nothing can go on.
const FATAL_EXIT: u32 = 14;
/// Time between two looks at a service that does not serve yet, at first and at most, ns.
const READY_POLL_NS: (u64, u64) = (MS / 2, 250 * MS);
/// Bit of a log reader's notification: log rings are there.
const RINGS_BIT: u64 = 1;

/// The processes of one service.
#[derive(Debug, Default)]
pub(super) struct Processes {
    pub(super) running: Option<Running>,
    /// What is being torn down, with the pool that it holds.
    pub(super) ending: Vec<(Handle<Process>, usize)>,
    /// The pool of another version that is on trial.
    pub(super) trial_pool: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    /// The pool of a pinned one.
    pub(super) pool: Option<usize>,
    pub(super) since: u64,
}

impl Processes {
    /// Returns a pool that no process holds.
    pub(super) fn free_pool(&mut self, pools: usize) -> Option<usize> {
        self.ending.retain(|(process, _)| {
            process
                .info()
                .is_ok_and(|info| info.state != ProcessState::Dead as u32)
        });
        let running = self.running.as_ref().and_then(|running| running.pool);
        (0..pools).find(|pool| {
            ![running, self.trial_pool].contains(&Some(*pool))
                && self.ending.iter().all(|(_, held)| held != pool)
        })
    }
}

/// Keeps the services as the supervisor wants them.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(super) common: &'static Common,
    pub(super) kits: &'static [Kit],
    pub(super) jobs: &'static Jobs,
    pub(super) supervisor: RefCell<Supervisor>,
    pub(super) processes: RefCell<Vec<Processes>>,
    /// The swap that is going on.
    pub(super) attempt: RefCell<Option<Attempt>>,
    /// Services that are to be swapped back as soon as they serve.
    pub(super) roll_backs: RefCell<Vec<usize>>,
    /// Starts of pinned services that wait for a pool.
    waiting: RefCell<VecDeque<Job>>,
    /// When services that do not serve yet are looked at next.
    next_ready_look: Cell<u64>,
}

impl Keeper {
    /// Makes a keeper of services none of which runs.
    pub(crate) fn new(setup: Setup) -> Self {
        let services: Vec<Service> = setup.kits.iter().map(|kit| kit.service.clone()).collect();
        Keeper {
            common: setup.common,
            kits: setup.kits,
            jobs: setup.jobs,
            supervisor: RefCell::new(Supervisor::new(&services)),
            processes: RefCell::new(setup.kits.iter().map(|_| Processes::default()).collect()),
            attempt: RefCell::default(),
            roll_backs: RefCell::default(),
            waiting: RefCell::default(),
            next_ready_look: Cell::new(0),
        }
    }

    /// Starts all services. Calls to one that does not serve yet wait at its endpoint, so nothing
    /// is waited for here.
    pub(crate) fn start_all(&self) {
        let actions = self.supervisor.borrow_mut().start_all();
        self.perform(actions);
    }

    /// Does what is due and returns when to look again.
    pub(crate) fn look_after(&self) -> u64 {
        self.take_done_starts();
        self.find_deaths();
        for job in self.waiting.take() {
            self.start_pinned(job);
        }
        self.look_at_swap();
        let now = time::now();
        self.look_for_readiness(now);
        let due = self.supervisor.borrow_mut().due(now);
        self.perform(due);
        self.look_at_heartbeats(now);
        self.next_look()
    }

    /// Carries decisions out.
    fn perform(&self, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            match action {
                Action::Start {
                    service,
                    generation,
                } => {
                    self.take_step(service);
                    let job = Job {
                        service,
                        generation,
                    };
                    if self.kits[service].service.is_pinned() {
                        self.start_pinned(job);
                    } else {
                        self.jobs.add(job);
                    }
                }
                Action::Ping(service) => notify(&self.kits[service].ping),
                Action::End(service) => self.end(service),
                Action::PowerOff(service) => {
                    log::error!(
                        "{} is gone: nothing can go on",
                        self.kits[service].service.name
                    );
                    self.shutdown(FATAL_EXIT);
                }
            }
        }
    }

    /// Starts a pinned service, or has it wait while both its pools are held by processes that
    /// are being torn down; their end comes as news.
    fn start_pinned(&self, job: Job) {
        let kit = &self.kits[job.service];
        let pool = self.processes.borrow_mut()[job.service].free_pool(kit.pools.len());
        match pool {
            None if !kit.pools.is_empty() => self.waiting.borrow_mut().push_back(job),
            // Without any pool the start fails with the reason.
            _ => {
                let paging = Paging::Pinned(pool.unwrap_or(0));
                let result = kit.start(self.common, job.generation, paging);
                self.started(job, result, pool);
            }
        }
    }

    fn take_done_starts(&self) {
        for done in self.jobs.take_done() {
            match done {
                Done::Started(job, result) => self.started(job, result, None),
                other => self.swap_news(other),
            }
        }
    }

    fn started(&self, job: Job, result: Result<Child, StartError>, pool: Option<usize>) {
        let now = time::now();
        let kit = &self.kits[job.service];
        let name = &kit.service.name;
        let action = match result {
            Ok(child) => {
                log::debug!("{name} runs as process {}", child.id);
                self.processes.borrow_mut()[job.service].running = Some(Running {
                    child,
                    pool,
                    since: now,
                });
                self.next_ready_look.set(now);
                if kit.service.rights.has(Grant::LogReader) {
                    self.announce_rings(kit);
                }
                self.supervisor.borrow_mut().started(job.service, now)
            }
            Err(error) => {
                log::error!("{name} not started: {error}");
                self.supervisor.borrow_mut().not_started(job.service, now)
            }
        };
        // A failed start must not recurse: what is due at once is done by the next look, which
        // the wake makes come.
        match action {
            Some(Action::Start {
                service,
                generation,
            }) => {
                self.start_later(Job {
                    service,
                    generation,
                });
            }
            action => self.perform(action),
        }
    }

    /// Leaves a start to the next look.
    fn start_later(&self, job: Job) {
        if self.kits[job.service].service.is_pinned() {
            self.waiting.borrow_mut().push_back(job);
            notify(&self.common.wake);
        } else {
            self.jobs.add(job);
        }
    }

    fn announce_rings(&self, kit: &Kit) {
        match kit.notification.mint(RINGS_BIT) {
            Ok(bell) => notify(&bell),
            Err(error) => log::warn!("{} not told of log rings: {error}", kit.service.name),
        }
    }

    fn end(&self, service: usize) {
        if let Some(running) = &self.processes.borrow()[service].running
            && let Err(error) = running.child.process.kill(ENDED_BY_INIT)
            && error != libsys::Error::Dead
        {
            log::error!("{} not ended: {error}", self.kits[service].service.name);
        }
    }

    fn find_deaths(&self) {
        for (service, kit) in self.kits.iter().enumerate() {
            let Some(info) = self.take_dead(service) else {
                continue;
            };
            let cause = cause_of(&info);
            log::warn!(
                "{} (process {}) ended: {cause:?}",
                kit.service.name,
                info.id
            );
            let action = self
                .supervisor
                .borrow_mut()
                .died(service, cause, time::now());
            self.perform(action);
        }
    }

    /// Takes the process of a service out of its place if it has ended.
    fn take_dead(&self, service: usize) -> Option<ProcessInfo> {
        let mut processes = self.processes.borrow_mut();
        let processes = &mut processes[service];
        let info = processes.running.as_ref()?.child.process.info().ok()?;
        if info.state == ProcessState::Alive as u32 {
            return None;
        }
        let running = processes.running.take()?;
        if let Some(pool) = running.pool {
            processes.ending.push((running.child.process, pool));
        }
        Some(info)
    }

    fn look_for_readiness(&self, now: u64) {
        let mut supervisor = self.supervisor.borrow_mut();
        let not_ready: Vec<usize> = supervisor.not_ready().collect();
        let mut next = u64::MAX;
        for service in not_ready {
            let page = self.kits[service].service_page();
            if page.is_some_and(|page| page.is_ready()) {
                supervisor.ready(service, now);
                continue;
            }
            let processes = self.processes.borrow();
            let since = processes[service]
                .running
                .as_ref()
                .map_or(now, |running| running.since);
            // Ever less often: what takes long will take longer.
            let (least, most) = READY_POLL_NS;
            next = next.min(now + (now.saturating_sub(since) / 4).clamp(least, most));
        }
        self.next_ready_look.set(next);
    }

    fn look_at_heartbeats(&self, now: u64) {
        let services = self.supervisor.borrow().to_look_at(now);
        for service in services {
            let Some(look) = self.look(service) else {
                continue;
            };
            let action = self.supervisor.borrow_mut().looked(service, look, now);
            if action == Some(Action::End(service)) {
                log::warn!(
                    "{} does not answer its heartbeat",
                    self.kits[service].service.name
                );
            }
            self.perform(action);
        }
    }

    fn look(&self, service: usize) -> Option<Look> {
        let page = self.kits[service].service_page()?;
        let processes = self.processes.borrow();
        let info = processes[service]
            .running
            .as_ref()?
            .child
            .process
            .info()
            .ok()?;
        Some(Look {
            beats: page.heartbeat(),
            is_calling: info.is_calling != 0,
        })
    }

    fn next_look(&self) -> u64 {
        self.supervisor
            .borrow()
            .next_deadline()
            .min(self.next_ready_look.get())
            .min(self.swap_deadline())
    }
}

impl Services for Keeper {
    fn manifest(&self, service: usize) -> Option<&Service> {
        self.kits.get(service).map(|kit| &kit.service)
    }

    fn swap(&self, service: usize, source: Source) -> Result<Ticket, InitError> {
        self.begin_swap(service, source)
    }

    fn version(&self, service: usize) -> Option<ServiceVersion> {
        let kit = self.kits.get(service)?;
        let versions = kit.versions.lock();
        Some(ServiceVersion {
            name: kit.service.name.clone(),
            image: versions.current.name().into(),
            digest: versions.current.short_digest(),
            previous: versions
                .previous
                .as_ref()
                .map(|program| (program.name().into(), program.short_digest())),
        })
    }

    fn kill(&self, service: usize) -> Result<(), InitError> {
        self.give_up_swap(service, SwapReason::Asked);
        let action = self.supervisor.borrow_mut().kill(service)?;
        self.perform([action]);
        Ok(())
    }

    fn restart(&self, service: usize) -> Result<(), InitError> {
        self.give_up_swap(service, SwapReason::Asked);
        let action = self.supervisor.borrow_mut().restart(service)?;
        self.perform(action);
        // What was started has to be looked at soon.
        notify(&self.common.wake);
        Ok(())
    }

    fn shutdown(&self, code: u32) -> InitError {
        log::info!("power off with code {code}");
        if let Err(error) = self.common.system.shutdown(code) {
            log::error!("power off: {error}");
        }
        InitError::Kernel
    }

    fn statistics(&self, service: usize) -> Option<ServiceStatistics> {
        self.supervisor.borrow().statistics(service)
    }

    fn info(&self, service: usize) -> Option<ServiceInfo> {
        let status = self.supervisor.borrow().status(service)?;
        let manifest = &self.kits.get(service)?.service;
        let processes = self.processes.borrow();
        let running = processes.get(service)?.running.as_ref();
        let process = running.and_then(|running| running.child.process.info().ok());
        let counter = |of: fn(&ProcessInfo) -> u64| process.as_ref().map_or(0, of);
        Some(ServiceInfo {
            name: manifest.name.clone(),
            level: manifest.level,
            state: status.state,
            process: running.map_or(0, |running| running.child.id),
            generation: status.generation,
            restarts: status.restarts,
            last_cause: status.last_cause,
            last_downtime_ns: status.last_downtime_ns,
            uptime_ns: status
                .running_since
                .map_or(0, |at| time::now().saturating_sub(at)),
            cpu_ns: counter(|info| info.cpu_ns),
            served_ns: counter(|info| info.served_ns),
            mapped_pages: counter(|info| info.mapped_pages),
        })
    }

    fn log_ring(&self, service: usize) -> Result<Handle<Memory>, InitError> {
        let kit = self.kits.get(service).ok_or(InitError::NoSuchService)?;
        let rights = Rights::READ | Rights::WRITE | Rights::TRANSFER | Rights::DUPLICATE;
        kit.log_ring.duplicate(rights).map_err(refused)
    }

    fn copy<K: Kind>(&self, handle: &Handle<K>) -> Result<Handle<K>, InitError> {
        handle.duplicate(Rights::ALL).map_err(refused)
    }
}

fn refused(error: libsys::Error) -> InitError {
    log::warn!("handle not copied: {error}");
    InitError::Kernel
}

pub(super) fn notify(notification: &Handle<Notification>) {
    if let Err(error) = ipc::notify(notification) {
        log::error!("notification not set: {error}");
    }
}

/// Translates the kernel's reason.
pub(super) fn cause_of(info: &ProcessInfo) -> Cause {
    if info.reason == ExitReason::Fault as u32 {
        Cause::Fault {
            vector: info.code as u8,
            address: info.address,
            fault_address: info.fault_address,
        }
    } else if info.reason == ExitReason::Killed as u32 {
        Cause::Killed(info.code)
    } else {
        Cause::Exited(info.code as i32)
    }
}
