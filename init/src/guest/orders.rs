//! Orders to swap a service: each is begun as soon as the service serves.

use init::MS;
use init::control::Source;
use init::supervisor::life::Asker;
use init::swap::{Direction, Subject, Swap, Ticket};
use libipc::Caller;
use libipc::proto::init::{InitError, ServiceState, SwapOutcome, SwapReport};
use libsys::service::Serving;
use libsys::time;
use skink_manifest::bundle::{Bundle, Kind};
use skink_manifest::service::{Grant, RestartPolicy};

use super::candidate::Candidate;
use super::keeper::Keeper;
use super::kit::Kit;
use super::program::Program;
use super::swapper::{Attempt, PAGE};

/// How long an order waits for a service that does not serve yet, ns: many times what a start
/// takes, and little for a person who mistook a program for a service.
const PATIENCE_NS: u64 = 1_000 * MS;

/// What one asked for that was not begun yet.
#[derive(Debug)]
pub(super) struct Order {
    service: usize,
    source: Source,
    /// The request that asked for it; `None` for `init` itself.
    asker: Option<Asker>,
    ticket: Ticket,
    /// Until when the service may take to serve, ns since boot.
    until: u64,
}

/// Why a swap cannot begin.
enum Hurdle {
    /// This may change by itself.
    NotYet(InitError),
    /// This stays.
    Never(InitError),
}

/// The version that a swap would stop.
struct Old {
    /// Number of its process.
    id: u64,
    serving: Serving,
}

impl Keeper {
    /// Takes an order of a caller. A request that an earlier instance of `init` committed is
    /// answered; one that it began is begun anew.
    pub(super) fn order_swap(
        &self,
        service: usize,
        source: Source,
        caller: &Caller,
    ) -> Result<Ticket, InitError> {
        // Behind the last service comes `init` itself.
        let kit = self.kits.get(service).ok_or(InitError::Critical)?;
        if self.attempt.borrow().is_some() {
            return Err(InitError::Busy);
        }
        let committed_for = kit.versions.lock().committed_for;
        if committed_for.is_some_and(|last| last.is_again(caller)) {
            return Ok(committed_before());
        }
        let order = Order {
            service,
            source,
            asker: Some(Asker::from(caller)),
            ticket: Ticket::new(),
            until: time::after(PATIENCE_NS),
        };
        let ticket = order.ticket.clone();
        match self.version_to_stop(service) {
            Ok(old) => self.begin(order, old)?,
            Err(Hurdle::NotYet(_)) => self.orders.borrow_mut().push(order),
            Err(Hurdle::Never(error)) => return Err(error),
        }
        Ok(ticket)
    }

    /// Has a service that crashes in a row swapped back when it serves, however long that takes.
    pub(super) fn order_roll_back(&self, service: usize) {
        self.orders.borrow_mut().push(Order {
            service,
            source: Source::Previous,
            asker: None,
            ticket: Ticket::new(),
            until: u64::MAX,
        });
    }

    /// Begins the first order whose service serves, unless a swap is going on, and refuses those
    /// that have waited for too long.
    pub(super) fn look_at_orders(&self) {
        let waiting = self.orders.take();
        for order in waiting {
            let ticket = order.ticket.clone();
            let begun = match self.version_to_stop(order.service) {
                Ok(old) => self.begin(order, old),
                Err(Hurdle::NotYet(_)) if time::now() < order.until => {
                    self.orders.borrow_mut().push(order);
                    Ok(())
                }
                Err(Hurdle::NotYet(error) | Hurdle::Never(error)) => Err(error),
            };
            if let Err(error) = begun {
                ticket.finish(Err(error));
            }
        }
    }

    /// Returns when the next order has waited for too long; `u64::MAX` when none waits.
    pub(super) fn orders_deadline(&self) -> u64 {
        let orders = self.orders.borrow();
        orders
            .iter()
            .map(|order| order.until)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Finds the version that a swap would stop, if one may begin now.
    fn version_to_stop(&self, service: usize) -> Result<Old, Hurdle> {
        let kit = &self.kits[service];
        let restart = kit.service.restart.policy;
        // The memory manager lives on in its handles, which no other process can get.
        if restart == RestartPolicy::PowerOff || kit.service.rights.has(Grant::Ram) {
            return Err(Hurdle::Never(InitError::Critical));
        }
        if self.attempt.borrow().is_some() {
            return Err(Hurdle::NotYet(InitError::Busy));
        }
        let status = self.supervisor.borrow().status(service);
        let state = status.map_or(ServiceState::Stopped, |status| status.state);
        if state == ServiceState::Stopped {
            return Err(Hurdle::Never(InitError::NotRunning));
        }
        let running = self.processes.borrow()[service]
            .running
            .as_ref()
            .map(|running| running.id);
        let id = match (state, running) {
            (ServiceState::Running, Some(id)) => id,
            _ => return Err(Hurdle::NotYet(InitError::NotRunning)),
        };
        let page = kit.service_page().ok_or(Hurdle::Never(InitError::Kernel))?;
        let serving = page.serving();
        match (page.is_ready(), serving.digest) {
            (false, _) => Err(Hurdle::NotYet(InitError::NotSwappable)),
            (true, 0) => Err(Hurdle::Never(InitError::NotSwappable)),
            (true, _) => Ok(Old { id, serving }),
        }
    }

    fn begin(&self, order: Order, old: Old) -> Result<(), InitError> {
        let kit = &self.kits[order.service];
        let direction = match order.source {
            Source::Previous => Direction::Back,
            Source::Image(_) | Source::Memory { .. } => Direction::Forward,
        };
        let candidate = self.find_candidate(kit, order.source)?;
        let subject = Subject {
            state_bytes: kit.state_pages * PAGE,
            serving: old.serving,
            direction,
        };
        let (swap, actions) = Swap::begin(subject, time::now());
        *self.attempt.borrow_mut() = Some(Attempt {
            service: order.service,
            swap,
            asker: order.asker,
            ticket: order.ticket,
            candidate: Some(candidate),
            program: None,
            old_id: old.id,
            old: None,
            new: None,
            waits_for_pool: false,
        });
        self.perform_swap(actions);
        Ok(())
    }

    fn find_candidate(&self, kit: &Kit, source: Source) -> Result<Candidate, InitError> {
        Ok(match source {
            Source::Image(name) => {
                let bundle =
                    Bundle::parse(self.common.bundle_bytes).map_err(|_| InitError::NoSuchImage)?;
                let entry = bundle.find(&name).ok_or(InitError::NoSuchImage)?;
                if !matches!(entry.kind, Kind::Server | Kind::Program) {
                    return Err(InitError::NoSuchImage);
                }
                Candidate::Known(Program::of_bundle(&entry))
            }
            Source::Memory {
                memory,
                bytes,
                digest,
            } => Candidate::Brought {
                memory,
                bytes,
                digest,
            },
            Source::Previous => {
                let previous = kit.versions.lock().previous.clone();
                Candidate::Known(previous.ok_or(InitError::NoPreviousVersion)?)
            }
        })
    }
}

/// Returns the answer to a request that an earlier instance of `init` committed: the figures are
/// lost.
fn committed_before() -> Ticket {
    let ticket = Ticket::new();
    ticket.finish(Ok(SwapReport {
        outcome: SwapOutcome::Committed,
        pause_ns: None,
        took_ns: 0,
        state_bytes: 0,
        is_exported: false,
        has_other_interface: false,
    }));
    ticket
}
