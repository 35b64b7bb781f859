//! Keeps the services as the supervisor wants them.
//!
//! Everything is level-triggered: [`Keeper::look_after`] looks at the state of all services and
//! does what is due, however often and for whatever reason it is called. Death, a finished start
//! and the clock all lead there.
//!
//! What is decided about a service is noted before it is done ([`Keeper::note_service`]), so that
//! an `init` that was started in place goes on where its predecessor was.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use init::MS;
use init::control::{OWN_NAME, Services, Source};
use init::heartbeat::{Doing, Look};
use init::ledger::{self, Instance, Number, Record, Situation};
use init::reports::{Reports, Verdict};
use init::supervisor::life::Stage;
use init::supervisor::{Action, Kept, Supervisor};
use init::swap::Ticket;
use libipc::Caller;
use libipc::proto::init::{
    Cause, InitError, ServiceInfo, ServiceStatistics, ServiceVersion, SwapReason,
};
use libsys::abi::{ExitReason, ProcessInfo, ProcessState};
use libsys::spawn::Child;
use libsys::{Handle, Kind, Memory, Notification, Process, Rights, ipc, time};
use skink_manifest::Service;
use skink_manifest::service::Grant;

use super::book::{Book, adopt};
use super::kit::{Common, Kit, Paging, StartError};
use super::own::Oneself;
use super::setup::Setup;
use super::swapper::Attempt;
use super::worker::{Done, Job, Jobs};

/// Exit code of a process that `init` ended.
pub(crate) const ENDED_BY_INIT: u64 = 137;
/// Exit code of the machine when nothing can go on.
pub(crate) const FATAL_EXIT: u32 = 14;
/// Time between two looks at a service that does not serve yet, at first and at most, ns.
const READY_POLL_NS: (u64, u64) = (MS / 2, 250 * MS);
/// Services to be looked at within this time are looked at together, ns.
const LOOK_SLACK_NS: u64 = 10 * MS;
/// How long a service may take until it serves before its heartbeat counts, ns.
const START_NS: u64 = 5_000 * MS;
/// Bit of a log reader's notification: log rings are there.
const RINGS_BIT: u64 = 1;

/// The processes of one service.
#[derive(Debug, Default)]
pub(super) struct Processes {
    pub(super) running: Option<Running>,
    /// The pool in which one is being made.
    making_in: Option<u8>,
    /// The pool of another version that is on trial.
    pub(super) trial_in: Option<u8>,
    /// What is being torn down, with the pool that it holds.
    pub(super) ending: Vec<(Handle<Process>, u8)>,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: Handle<Process>,
    /// Its number.
    pub(super) id: u64,
    /// The pool of a pinned one.
    pub(super) pool: Option<u8>,
    pub(super) since: u64,
}

impl Running {
    fn noted(&self) -> Instance {
        Instance {
            process: number_of(&self.process),
            id: self.id,
            pool: self.pool,
        }
    }
}

impl Processes {
    /// Takes up what an earlier instance of `init` noted.
    fn take_up(situation: &Situation) -> Self {
        let since = match situation.life.stage {
            Stage::Running { since, .. } => since,
            _ => 0,
        };
        let running = situation.running.and_then(|instance| {
            Some(Running {
                process: take_up(instance.process)?,
                id: instance.id,
                pool: instance.pool,
                since,
            })
        });
        let ending = situation.ending.iter();
        Processes {
            running,
            making_in: situation.making_in,
            trial_in: situation.trial_in,
            ending: ending
                .filter_map(|&(process, pool)| Some((take_up(process)?, pool)))
                .collect(),
        }
    }

    /// Takes those out that are gone; they must be closed only after that was noted.
    pub(super) fn take_gone(&mut self) -> Vec<(Handle<Process>, u8)> {
        self.ending
            .extract_if(.., |(process, _)| is_gone(process))
            .collect()
    }

    /// Returns a pool that no process holds.
    pub(super) fn free_pool(&self, pools: usize) -> Option<u8> {
        let running = self.running.as_ref().and_then(|running| running.pool);
        (0..u8::try_from(pools).unwrap_or(u8::MAX)).find(|pool| {
            ![running, self.trial_in].contains(&Some(*pool))
                && self.ending.iter().all(|(_, held)| held != pool)
        })
    }
}

fn take_up(process: Number) -> Option<Handle<Process>> {
    adopt(process)
        .inspect_err(|error| log::error!("process not taken up: {error}"))
        .ok()
}

fn number_of(process: &Handle<Process>) -> Number {
    process.raw().0
}

fn is_gone(process: &Handle<Process>) -> bool {
    process
        .info()
        .is_ok_and(|info| info.state == ProcessState::Dead as u32)
}

/// Keeps the services as the supervisor wants them.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(super) common: &'static Common,
    pub(super) kits: &'static [Kit],
    pub(super) jobs: &'static Jobs,
    /// `init` itself.
    own: Oneself,
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
    reports: RefCell<Reports>,
}

impl Keeper {
    /// Takes all services up as the last instance of `init` left them.
    pub(crate) fn new(setup: &Setup, own: Oneself) -> Self {
        let services: Vec<Service> = setup.kits.iter().map(|kit| kit.service.clone()).collect();
        let record = |at: usize| {
            let position = setup.kits[at].position;
            let book = setup.common.book;
            book.read(|ledger| ledger.service(position).cloned().unwrap_or_default())
        };
        let kept = |at| {
            let record = record(at);
            Kept {
                life: record.situation.life,
                samples: record.samples,
            }
        };
        let supervisor = Supervisor::new(&services, kept, time::now());
        let processes = (0..services.len()).map(|at| Processes::take_up(&record(at).situation));
        Keeper {
            common: setup.common,
            kits: setup.kits,
            jobs: setup.jobs,
            own,
            supervisor: RefCell::new(supervisor),
            processes: RefCell::new(processes.collect()),
            attempt: RefCell::default(),
            roll_backs: RefCell::default(),
            waiting: RefCell::default(),
            next_ready_look: Cell::new(0),
            reports: RefCell::default(),
        }
    }

    /// Takes up a process of which no record tells, left behind by an earlier instance: one whose
    /// start was complete runs on, any other one is ended.
    pub(crate) fn take_up(&self, process: Handle<Process>) {
        let Ok(info) = process.info() else { return };
        let Some(process) = self.end_trial(process, &info) else {
            return;
        };
        let is_meant = |at: &usize| {
            let supervisor = self.supervisor.borrow();
            is_name(&info, &self.kits[*at].service.name)
                && matches!(supervisor.life(*at), Some(life) if life.stage == Stage::Starting)
        };
        let Some(service) = (0..self.kits.len()).find(is_meant) else {
            return end_process(&process, OWN_NAME);
        };
        let pool = self
            .processes
            .borrow()
            .get(service)
            .and_then(|of| of.making_in);
        // The thread is the last that a process gets.
        if info.state == ProcessState::Alive as u32 && info.threads > 0 {
            self.run(service, (process, info.id), pool);
            return;
        }
        end_process(&process, &self.kits[service].service.name);
        if let Some(pool) = pool {
            self.processes.borrow_mut()[service]
                .ending
                .push((process, pool));
            self.note_service(service);
        }
    }

    /// Starts all services, or goes on with them. Calls to one that does not serve yet wait at its
    /// endpoint, so nothing is waited for here.
    pub(crate) fn start_all(&self) {
        self.resume_swaps();
        let actions = self.supervisor.borrow_mut().start_all();
        self.perform(actions);
    }

    /// Returns what the ledger is kept in.
    pub(crate) fn book(&self) -> &'static Book {
        self.common.book
    }

    /// Notes what a service is now, if that has changed: before anything is done about it.
    pub(super) fn note_service(&self, service: usize) {
        let Some(life) = self.supervisor.borrow().life(service) else {
            return;
        };
        let processes = self.processes.borrow();
        let processes = &processes[service];
        let situation = Situation {
            life,
            running: processes.running.as_ref().map(Running::noted),
            making_in: processes.making_in,
            trial_in: processes.trial_in,
            versions: self.kits[service].versions.lock().noted(),
            ending: processes
                .ending
                .iter()
                .map(|(process, pool)| (number_of(process), *pool))
                .collect(),
        };
        let position = self.kits[service].position;
        let book = self.book();
        let is_new = book.read(|ledger| {
            ledger
                .service(position)
                .is_none_or(|known| known.situation != situation)
        });
        if is_new && let Err(error) = book.note(Record::Situation(position, situation.into())) {
            log::error!("{}: not noted: {error}", self.kits[service].service.name);
        }
    }

    /// Does what is due and returns when to look again.
    pub(crate) fn look_after(&self) -> u64 {
        self.own.turned();
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
                    let replaced = self.take_step(service);
                    let job = Job {
                        service,
                        generation,
                    };
                    self.note_service(service);
                    // Its handles are closed only when no record names them.
                    drop(replaced);
                    if self.kits[service].service.is_pinned() {
                        self.start_pinned(job);
                    } else {
                        self.jobs.add(job);
                    }
                }
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
        let (gone, pool) = {
            let processes = &mut self.processes.borrow_mut()[job.service];
            let gone = processes.take_gone();
            let pool = processes.free_pool(kit.pools.len());
            processes.making_in = pool;
            (gone, pool)
        };
        self.note_service(job.service);
        drop(gone);
        match pool {
            None if !kit.pools.is_empty() => self.waiting.borrow_mut().push_back(job),
            // Without any pool the start fails with the reason.
            _ => {
                let paging = Paging::Pinned(pool.unwrap_or(0).into());
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

    fn started(&self, job: Job, result: Result<Child, StartError>, pool: Option<u8>) {
        let service = job.service;
        let error = match result {
            Ok(child) => return self.run(service, (child.process, child.id), pool),
            Err(error) => error,
        };
        log::error!("{} not started: {error}", self.kits[service].service.name);
        self.processes.borrow_mut()[service].making_in = None;
        let action = self
            .supervisor
            .borrow_mut()
            .not_started(service, time::now());
        self.note_service(service);
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

    /// Takes a new process in.
    fn run(&self, service: usize, (process, id): (Handle<Process>, u64), pool: Option<u8>) {
        let now = time::now();
        let kit = &self.kits[service];
        log::debug!("{} runs as process {id}", kit.service.name);
        {
            let processes = &mut self.processes.borrow_mut()[service];
            processes.making_in = None;
            processes.running = Some(Running {
                process,
                id,
                pool,
                since: now,
            });
        }
        self.next_ready_look.set(now);
        let action = self.supervisor.borrow_mut().started(service, now);
        self.note_service(service);
        if kit.service.rights.has(Grant::LogReader) {
            self.announce_rings(kit);
        }
        self.perform(action);
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
        self.note_service(service);
        if let Some(running) = &self.processes.borrow()[service].running {
            end_process(&running.process, &self.kits[service].service.name);
        }
    }

    fn find_deaths(&self) {
        for (service, kit) in self.kits.iter().enumerate() {
            let Some((cause, process)) = self.take_dead(service) else {
                continue;
            };
            log::warn!("{} ended: {cause:?}", kit.service.name);
            let action = self
                .supervisor
                .borrow_mut()
                .died(service, cause, time::now());
            self.note_service(service);
            drop(process);
            self.perform(action);
        }
    }

    /// Takes the process of a service out of its place if it has ended, and returns why, and its
    /// handle unless that is still needed.
    fn take_dead(&self, service: usize) -> Option<(Cause, Option<Handle<Process>>)> {
        let mut processes = self.processes.borrow_mut();
        let processes = &mut processes[service];
        let Some(running) = processes.running.as_ref() else {
            // One that could not be taken up is lost.
            let stage = self.supervisor.borrow().life(service)?.stage;
            let is_lost = matches!(stage, Stage::Running { .. });
            return is_lost.then_some((Cause::NotStarted, None));
        };
        let info = running.process.info().ok()?;
        if info.state == ProcessState::Alive as u32 {
            return None;
        }
        let running = processes.running.take()?;
        let process = running.process;
        match running.pool {
            Some(pool) => {
                processes.ending.push((process, pool));
                Some((cause_of(&info), None))
            }
            None => Some((cause_of(&info), Some(process))),
        }
    }

    fn look_for_readiness(&self, now: u64) {
        let mut supervisor = self.supervisor.borrow_mut();
        let not_ready: Vec<usize> = supervisor.not_ready().collect();
        let mut ready = Vec::new();
        let mut next = u64::MAX;
        for service in not_ready {
            let page = self.kits[service].service_page();
            if page.is_some_and(|page| page.is_ready()) {
                supervisor.ready(service, now);
                ready.push(service);
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
        drop(supervisor);
        for service in ready {
            self.note_service(service);
        }
    }

    fn look_at_heartbeats(&self, now: u64) {
        // Those that are nearly due too, so that all are looked at in one turn from then on.
        let services = self.supervisor.borrow().to_look_at(now + LOOK_SLACK_NS);
        for service in services {
            let Some(look) = self.look(service) else {
                continue;
            };
            let action = self.supervisor.borrow_mut().looked(service, look, now);
            if action == Some(Action::End(service)) {
                log::warn!("{} hangs: {look:?}", self.kits[service].service.name);
            }
            self.perform(action);
        }
    }

    fn look(&self, service: usize) -> Option<Look> {
        let page = self.kits[service].service_page()?;
        let processes = self.processes.borrow();
        let running = processes[service].running.as_ref()?;
        let info = running.process.info().ok()?;
        let now = time::now();
        // What it does before it serves is no turn of its loop, and may be long.
        let is_starting = !page.is_ready() && now.saturating_sub(running.since) < START_NS;
        let beats = if is_starting { now } else { page.heartbeat() };
        Some(look_of(&info, beats, page.oldest_request()))
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

    fn swap(&self, service: usize, source: Source, caller: &Caller) -> Result<Ticket, InitError> {
        self.begin_swap(service, source, Some(caller))
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

    fn kill(&self, service: usize, caller: &Caller) -> Result<(), InitError> {
        if service == self.kits.len() {
            return self.own.end(caller);
        }
        self.give_up_swap(service, SwapReason::Asked);
        let killed = self
            .supervisor
            .borrow_mut()
            .kill(service, Cause::Asked, caller);
        let action = killed?;
        self.perform(action);
        Ok(())
    }

    fn report(
        &self,
        by: usize,
        about: usize,
        method: &str,
        caller: &Caller,
    ) -> Result<(), InitError> {
        let calling = self.manifest(by).ok_or(InitError::NotAllowed)?;
        let accused = self.manifest(about).ok_or(InitError::NotAllowed)?;
        let mut reports = self.reports.borrow_mut();
        let verdict = reports.judge((by, calling), (about, accused), time::now());
        let (by, name) = (&calling.name, &accused.name);
        match verdict {
            Verdict::NotAllowed => Err(InitError::NotAllowed),
            Verdict::TooSoon => Ok(()),
            Verdict::TooMany => {
                log::warn!("{by} reports {name} too often: not heard");
                Ok(())
            }
            Verdict::End => {
                log::error!("{by} got a reply of {name} to `{method}` that cannot be true");
                self.give_up_swap(about, SwapReason::OldDied);
                let ended = self
                    .supervisor
                    .borrow_mut()
                    .kill(about, Cause::Reported, caller);
                self.perform(ended?);
                Ok(())
            }
        }
    }

    fn restart(&self, service: usize, caller: &Caller) -> Result<(), InitError> {
        if service == self.kits.len() {
            return self.own.end(caller);
        }
        self.give_up_swap(service, SwapReason::Asked);
        let action = self.supervisor.borrow_mut().restart(service, caller)?;
        self.note_service(service);
        self.perform(action);
        // What was started has to be looked at soon.
        notify(&self.common.wake);
        Ok(())
    }

    fn note(&self, client: u64, key: u64, kept: Option<ledger::Kept>) -> Result<(), InitError> {
        let record = Record::Vault { client, key, kept };
        self.book().note(record).map_err(|error| {
            log::error!("vault of {client:#x}: not noted: {error}");
            InitError::Kernel
        })
    }

    fn shutdown(&self, code: u32) -> InitError {
        log::info!("power off with code {code}");
        if let Err(error) = self.common.system.shutdown(code) {
            log::error!("power off: {error}");
        }
        InitError::Kernel
    }

    fn statistics(&self, service: usize) -> Option<ServiceStatistics> {
        if service == self.kits.len() {
            return Some(self.own.statistics());
        }
        self.supervisor.borrow().statistics(service)
    }

    fn info(&self, service: usize) -> Option<ServiceInfo> {
        if service == self.kits.len() {
            return Some(self.own.info());
        }
        let status = self.supervisor.borrow().status(service)?;
        let manifest = &self.kits.get(service)?.service;
        let processes = self.processes.borrow();
        let running = processes.get(service)?.running.as_ref();
        let process = running.and_then(|running| running.process.info().ok());
        let counter = |of: fn(&ProcessInfo) -> u64| process.as_ref().map_or(0, of);
        Some(ServiceInfo {
            name: manifest.name.clone(),
            level: manifest.level,
            state: status.state,
            process: running.map_or(0, |running| running.id),
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

pub(super) fn end_process(process: &Handle<Process>, name: &str) {
    match process.kill(ENDED_BY_INIT) {
        Ok(()) | Err(libsys::Error::Dead) => {}
        Err(error) => log::error!("{name} not ended: {error}"),
    }
}

pub(super) fn is_name(info: &ProcessInfo, name: &str) -> bool {
    let (known, filling) = info.name.split_at(name.len().min(info.name.len()));
    known == name.as_bytes() && filling.iter().all(|&byte| byte == 0)
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

/// Says what is seen of a process, for its heartbeat.
pub(crate) fn look_of(info: &ProcessInfo, beats: u64, oldest_request: u64) -> Look {
    Look {
        beats,
        calls: info.calls,
        cpu_ns: info.cpu_ns + info.served_ns,
        doing: if info.is_calling != 0 || info.is_receiving != 0 {
            Doing::Waiting
        } else if info.is_sleeping != 0 {
            Doing::Sleeping
        } else {
            Doing::Running
        },
        oldest_request,
    }
}

/// Translates the kernel's reason.
pub(crate) fn cause_of(info: &ProcessInfo) -> Cause {
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
