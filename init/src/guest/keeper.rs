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
use init::control::{OWN_NAME, Services};
use init::heartbeat::Look;
use init::ledger::{Record, Situation};
use init::reports::Reports;
use init::supervisor::life::Stage;
use init::supervisor::{Action, Kept, Supervisor};
use libipc::proto::init::Cause;
use libsys::abi::ProcessState;
use libsys::spawn::Child;
use libsys::{Handle, Process, time};
use skink_manifest::Service;
use skink_manifest::service::Grant;

use super::book::Book;
use super::kit::{Common, Kit, Paging, StartError};
use super::orders::Order;
use super::own::Oneself;
use super::processes::{
    Processes, Running, cause_of, end_process, is_name, look_of, notify, number_of,
};
use super::setup::Setup;
use super::swapper::Attempt;
use super::watchdog;
use super::worker::{Done, Job, Jobs};

/// Exit code of the machine when nothing can go on.
pub(crate) const FATAL_EXIT: u32 = 14;
/// Time between two looks at a service that does not serve yet, at first and at most, ns.
const READY_POLL_NS: (u64, u64) = (MS / 2, 250 * MS);
/// Services to be looked at within this time are looked at together, ns.
const LOOK_SLACK_NS: u64 = 5 * MS;
/// Bit of a log reader's notification: log rings are there.
const RINGS_BIT: u64 = 1;

/// Keeps the services as the supervisor wants them.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(super) common: &'static Common,
    pub(super) kits: &'static [Kit],
    pub(super) jobs: &'static Jobs,
    /// `init` itself.
    pub(super) own: Oneself,
    pub(super) supervisor: RefCell<Supervisor>,
    pub(super) processes: RefCell<Vec<Processes>>,
    /// The swap that is going on.
    pub(super) attempt: RefCell<Option<Attempt>>,
    /// Swaps that are to begin as soon as their services serve.
    pub(super) orders: RefCell<Vec<Order>>,
    /// Starts of pinned services that wait for a pool.
    waiting: RefCell<VecDeque<Job>>,
    /// When services that do not serve yet are looked at next.
    next_ready_look: Cell<u64>,
    pub(super) reports: RefCell<Reports>,
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
            orders: RefCell::default(),
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
    pub(super) fn perform(&self, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            // A start is longer than most turns, and at boot there are many.
            watchdog::turned();
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
            if cause == Cause::Exited(libsys::heap::DAMAGE_EXIT_CODE) {
                log::error!("{} ended: heap damage", kit.service.name);
            } else {
                log::warn!("{} ended: {cause:?}", kit.service.name);
            }
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
            // One that cannot be seen is looked at again after a while, and not at once and for ever.
            let look = self.look(service).unwrap_or_default();
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
        Some(look_of(&info, &page))
    }

    fn next_look(&self) -> u64 {
        self.supervisor
            .borrow()
            .next_deadline()
            .min(self.next_ready_look.get())
            .min(self.swap_deadline())
    }
}
