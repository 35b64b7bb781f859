//! Carries swaps out: one at a time, as [`init::swap`] decides.
//!
//! Like everything that the keeper does this is level-triggered: [`Keeper::look_at_swap`] looks at
//! both versions and does what is due, whatever woke it.

use init::MS;
use init::escalation::{Previous, Step};
use init::supervisor::life::Asker;
use init::swap::{Action, Sight, Swap, Ticket, Which};
use libipc::proto::init::{SwapOutcome, SwapReason, SwapReport};
use libipc::server::QUIESCE_BIT;
use libsys::abi::ProcessInfo;
use libsys::service::Order;
use libsys::{Handle, Process, Rights, ipc, time};

use super::candidate::{self, Candidate};
use super::keeper::Keeper;
use super::kit::Kit;
use super::processes::{Running, end_process, is_name, notify};
use super::program::Program;
use super::sight::sight;
use super::worker::Done;

pub(super) const PAGE: u64 = libsys::abi::PAGE_SIZE as u64;
/// State of more bytes is copied by the second thread, so that `init` keeps answering.
const MAX_COPIED_HERE: u64 = 1 << 20;
/// How often a version on trial is looked for that waits for memory to be started in, ns.
const POOL_POLL_NS: u64 = 2 * MS;

/// A swap that is going on, and those who take part in it.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(super) service: usize,
    pub(super) swap: Swap,
    /// The request that asked for it.
    pub(super) asker: Option<Asker>,
    pub(super) ticket: Ticket,
    /// The version to be tried; taken by the worker, which checks it and gives a program back.
    pub(super) candidate: Option<Candidate>,
    pub(super) program: Option<Program>,
    /// Number of the process of the old version.
    pub(super) old_id: u64,
    /// The old version after its successor was adopted.
    pub(super) old: Option<Running>,
    /// The new version until it is adopted.
    pub(super) new: Option<Running>,
    /// Whether the new version is to be started as soon as there is a pool.
    pub(super) waits_for_pool: bool,
}

impl Keeper {
    /// Gives up a swap of a service, if it is not too late.
    pub(super) fn give_up_swap(&self, service: usize, reason: SwapReason) {
        let is_meant = |attempt: &Attempt| attempt.service == service;
        if self.attempt.borrow().as_ref().is_some_and(is_meant) {
            self.tell_swap(|swap, now| swap.give_up(reason, now));
            self.look_at_swap();
        }
    }

    /// Does what is to be done about a service that crashes in a row, before it is started.
    /// Returns the program that is not needed any more.
    pub(super) fn take_step(&self, service: usize) -> Option<Program> {
        let step = self.supervisor.borrow_mut().take_step(service);
        let kit = &self.kits[service];
        let name = &kit.service.name;
        match step {
            Step::Restart => {}
            Step::PreviousVersion => {
                log::error!("{name} crashes in a row: the version before the swap comes back");
                return kit.revert();
            }
            Step::RollBack => {
                log::error!("{name} crashes in a row: it is swapped back when it serves");
                self.order_roll_back(service);
            }
            Step::FreshState if kit.state_pages > 0 => {
                log::error!("{name} crashes in a row: IT STARTS EMPTY, what it kept is lost");
                if let Err(error) = kit.clear_state(self.common.book) {
                    log::error!("{name}: {error}");
                }
            }
            Step::FreshState => {}
        }
        None
    }

    /// Goes on with swaps that an earlier instance of `init` was in the middle of: back, unless
    /// they were committed.
    pub(super) fn resume_swaps(&self) {
        for (service, kit) in self.kits.iter().enumerate() {
            let name = &kit.service.name;
            let slot = &kit.slots[kit.running().0];
            let processes = self.processes.borrow();
            for (process, _) in &processes[service].ending {
                end_process(process, name);
            }
            if processes[service].running.is_none() {
                continue;
            }
            let order = match slot.read_page().map(|page| page.order()) {
                Some(Order::Quiesce) => Order::Run,
                // What it took the place of has been ended.
                Some(Order::Hold | Order::Open) => Order::Commit,
                _ => continue,
            };
            log::warn!("{name}: swap was interrupted; {order:?}");
            if let Err(error) = slot.order(order, 0) {
                log::error!("{name}: order {order:?} not given: {error}");
            }
        }
    }

    /// Ends a process that an earlier instance of `init` started on trial, and gives all others
    /// back.
    pub(super) fn end_trial(
        &self,
        process: Handle<Process>,
        info: &ProcessInfo,
    ) -> Option<Handle<Process>> {
        let is_meant = |kit: &Kit| is_name(info, &kit.trial_name());
        let Some(service) = self.kits.iter().position(is_meant) else {
            return Some(process);
        };
        end_process(&process, &self.kits[service].service.name);
        {
            let processes = &mut self.processes.borrow_mut()[service];
            if let Some(pool) = processes.trial_in.take() {
                processes.ending.push((process, pool));
            }
        }
        self.note_service(service);
        None
    }

    /// Takes what the worker did for a swap.
    pub(super) fn swap_news(&self, done: Done) {
        match done {
            // Starts of services are no matter of swaps.
            Done::Started(..) => {}
            Done::Prepared(result) => {
                let result = result.map(|program| {
                    if let Some(attempt) = &mut *self.attempt.borrow_mut() {
                        attempt.program = Some(program);
                    }
                });
                self.tell_swap(|swap, now| swap.prepared(result, now));
            }
            Done::Trial(result) => self.trial_started(result, None),
            Done::Copied(result) => self.state_copied(result),
        }
    }

    /// Looks at both versions and does what is due.
    pub(super) fn look_at_swap(&self) {
        self.look_at_orders();
        self.start_waiting_trial();
        loop {
            let Some((old, new)) = self.sights() else {
                return;
            };
            let actions = {
                let mut attempt = self.attempt.borrow_mut();
                let Some(attempt) = &mut *attempt else {
                    return;
                };
                attempt.swap.look(old, new, time::now())
            };
            if actions.is_empty() {
                return;
            }
            self.perform_swap(actions);
        }
    }

    /// Returns when to look at the swap again; `u64::MAX` when there is none.
    pub(super) fn swap_deadline(&self) -> u64 {
        let attempt = self.attempt.borrow();
        attempt
            .as_ref()
            .map_or(u64::MAX, |attempt| {
                let poll = if attempt.waits_for_pool {
                    time::after(POOL_POLL_NS)
                } else {
                    u64::MAX
                };
                attempt.swap.deadline().min(poll)
            })
            .min(self.orders_deadline())
    }

    /// Tells the swap something and does what it says.
    pub(super) fn tell_swap(&self, tell: impl FnOnce(&mut Swap, u64) -> alloc::vec::Vec<Action>) {
        let actions = match &mut *self.attempt.borrow_mut() {
            Some(attempt) => tell(&mut attempt.swap, time::now()),
            None => return,
        };
        self.perform_swap(actions);
    }

    /// Returns what is seen of both versions; `None` when no swap is going on.
    fn sights(&self) -> Option<(Sight, Sight)> {
        let attempt = self.attempt.borrow();
        let attempt = attempt.as_ref()?;
        let kit = &self.kits[attempt.service];
        let active = kit.running().0;
        let processes = self.processes.borrow();
        let serving = processes[attempt.service].running.as_ref();
        Some(if attempt.swap.is_committed() {
            let slots = [1 - active, active];
            let is_new = |running: &&Running| running.id != attempt.old_id;
            (
                sight(kit, slots[0], attempt.old.as_ref()),
                sight(kit, slots[1], serving.filter(is_new)),
            )
        } else {
            let is_old = |running: &&Running| running.id == attempt.old_id;
            (
                sight(kit, active, serving.filter(is_old)),
                sight(kit, 1 - active, attempt.new.as_ref()),
            )
        })
    }

    pub(super) fn perform_swap(&self, actions: alloc::vec::Vec<Action>) {
        for action in actions {
            match action {
                Action::Prepare => self.prepare_trial(),
                Action::Start => self.start_trial(),
                Action::Order(which, order, argument) => self.order(which, order, argument),
                Action::Copy => self.copy_state(),
                Action::Adopt => self.adopt(),
                Action::End(which) => self.end_version(which),
                Action::Stop => self.stop_trial(),
                Action::Report(report) => self.finish_swap(report),
            }
        }
    }

    fn order(&self, which: Which, order: Order, argument: u64) {
        let Some((service, is_committed)) = self.swapped() else {
            return;
        };
        let kit = &self.kits[service];
        let active = kit.running().0;
        let slot = match (which, is_committed) {
            (Which::Old, false) | (Which::New, true) => active,
            (Which::New, false) | (Which::Old, true) => 1 - active,
        };
        let given = kit.slots[slot].order(order, argument).and_then(|()| {
            if order == Order::Quiesce {
                // It may be waiting for messages, and these bits end that.
                let bell = kit.notification.mint(1 << QUIESCE_BIT)?;
                ipc::notify(&bell)?;
            }
            Ok(())
        });
        if let Err(error) = given {
            // The limit of the phase ends the swap.
            log::error!("{}: order {order:?} not given: {error}", kit.service.name);
        }
    }

    /// Returns the service that is being swapped, and whether its new version was adopted.
    fn swapped(&self) -> Option<(usize, bool)> {
        let attempt = self.attempt.borrow();
        let attempt = attempt.as_ref()?;
        Some((attempt.service, attempt.swap.is_committed()))
    }

    fn copy_state(&self) {
        let Some((service, _)) = self.swapped() else {
            return;
        };
        let kit = &self.kits[service];
        if kit.state_pages * PAGE > MAX_COPIED_HERE {
            self.jobs.copy_state(service);
        } else {
            self.state_copied(candidate::copy_state(kit));
        }
    }

    fn state_copied(&self, result: libsys::Result<()>) {
        let result = result.map_err(|error| {
            log::error!("state not copied: {error}");
            SwapReason::NotCopied
        });
        self.tell_swap(|swap, now| swap.copied(result, now));
    }

    /// Makes the new version that of the service: the commit.
    fn adopt(&self) {
        let mut attempt = self.attempt.borrow_mut();
        let Some(attempt) = &mut *attempt else {
            return;
        };
        let (Some(new), Some(program)) = (attempt.new.take(), attempt.program.take()) else {
            return;
        };
        let kit = &self.kits[attempt.service];
        let schemas = [0, 1].map(|slot| kit.slots[slot].read_page().map(|page| page.schema()));
        let previous = if schemas[0] == schemas[1] {
            Previous::SameSchema
        } else {
            Previous::OtherSchema
        };
        let unneeded = kit.adopt(program, attempt.asker);
        {
            let processes = &mut self.processes.borrow_mut()[attempt.service];
            processes.trial_in = None;
            let old = processes.running.replace(new);
            if let Some(mut old) = old {
                // It holds its pool until it is gone, which is noted.
                if let (Some(pool), Ok(copy)) =
                    (old.pool.take(), old.process.duplicate(Rights::ALL))
                {
                    processes.ending.push((copy, pool));
                }
                attempt.old = Some(old);
            }
        }
        self.supervisor
            .borrow_mut()
            .adopted(attempt.service, previous, time::now());
        // With this record the swap is committed.
        self.note_service(attempt.service);
        drop(unneeded);
    }

    fn finish_swap(&self, report: SwapReport) {
        let Some(attempt) = self.attempt.borrow_mut().take() else {
            return;
        };
        let name = &self.kits[attempt.service].service.name;
        match report.outcome {
            SwapOutcome::Committed => log::info!(
                "{name} was swapped; pause {} us",
                report.pause_ns.unwrap_or(0) / 1_000
            ),
            SwapOutcome::RolledBack { phase, reason } => {
                log::warn!("{name} was not swapped: {reason:?} in phase {phase:?}");
            }
        }
        attempt.ticket.finish(Ok(report));
        // Whoever waited behind the swap is looked at soon.
        notify(&self.common.wake);
    }
}
