//! The life of every service: waiting, starting, running, backing off, stopped.
//!
//! News come in through methods ([`Supervisor::started`], [`Supervisor::died`] and so on), what
//! to do comes out as [`Action`]s. Invariants: a service never has two live instances; every
//! death is counted once, with the cause that `init` knows best; a start that failed counts as a
//! death, so that it backs off too.

mod entry;
pub mod life;

use alloc::vec::Vec;

use libipc::Caller;
use libipc::proto::init::{Cause, InitError, ServiceState, ServiceStatistics};
use skink_manifest::Service;
use skink_manifest::service::RestartPolicy;

use crate::back_off::Decision;
use crate::escalation::{Previous, Step};
use crate::heartbeat::{Judgement, Look};
use crate::statistics::Samples;
use entry::{Entry, State};
use life::{Asker, Life};

/// What has to be done. Services are named by their position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start this instance of the service.
    Start {
        /// The service.
        service: usize,
        /// Number of the instance, from 1.
        generation: u64,
    },
    /// End the process of the service.
    End(usize),
    /// Power the machine off: a service is gone without which nothing works.
    PowerOff(usize),
}

/// What a service looks like to those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it does just now.
    pub state: ServiceState,
    /// Number of the instance; 0 before the first.
    pub generation: u64,
    /// How often it was started again.
    pub restarts: u32,
    /// Why the last instance ended.
    pub last_cause: Option<Cause>,
    /// Last downtime, ns.
    pub last_downtime_ns: u64,
    /// Since when it runs, ns since boot; `None` when it does not.
    pub running_since: Option<u64>,
}

/// What an earlier instance of `init` left about a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its life.
    pub life: Life,
    /// Its last downtimes.
    pub samples: Samples,
}

/// All services.
#[derive(Clone, Debug)]
pub struct Supervisor {
    entries: Vec<Entry>,
}

impl Supervisor {
    /// Takes the services up at `now` where an earlier instance of `init` left them; `kept` tells
    /// by position, the default stands for one that was never started.
    pub fn new(services: &[Service], kept: impl Fn(usize) -> Kept, now: u64) -> Self {
        let services = services.iter().enumerate();
        Supervisor {
            entries: services
                .map(|(at, service)| Entry::new(service, kept(at), now))
                .collect(),
        }
    }

    /// Starts all services that wait, in their order, and goes on with what an earlier instance
    /// of `init` had begun: starts, ends and a power-off that had been decided but perhaps not
    /// carried out. Doing them twice does no harm.
    pub fn start_all(&mut self) -> Vec<Action> {
        let entries = self.entries.iter_mut().enumerate();
        let actions = entries.filter_map(|(service, entry)| match entry.state {
            State::Waiting => Some(Action::Start {
                service,
                generation: entry.start(),
            }),
            State::Starting => Some(Action::Start {
                service,
                generation: entry.generation(),
            }),
            State::Running { .. } => entry.ending.map(|_| Action::End(service)),
            State::Stopped if entry.restart.policy == RestartPolicy::PowerOff => {
                Some(Action::PowerOff(service))
            }
            State::BackOff { .. } | State::Stopped => None,
        });
        actions.collect()
    }

    /// Returns what must outlive this instance of `init`.
    pub fn life(&self, service: usize) -> Option<Life> {
        self.entries.get(service).map(Entry::life)
    }

    /// Notes that the instance that is being started runs since `now`. Returns what to do if it
    /// was decided meanwhile that it must not.
    pub fn started(&mut self, service: usize, now: u64) -> Option<Action> {
        let entry = self.entries.get_mut(service)?;
        if entry.state != State::Starting {
            return None;
        }
        entry.run(now);
        entry.ending.is_some().then_some(Action::End(service))
    }

    /// Notes that the instance that was to be started could not be.
    pub fn not_started(&mut self, service: usize, now: u64) -> Option<Action> {
        let entry = self.entries.get_mut(service)?;
        if entry.state != State::Starting {
            return None;
        }
        self.end(service, Cause::NotStarted, now)
    }

    /// Notes that the process of a service ended at `now`, for the reason that the kernel gives.
    pub fn died(&mut self, service: usize, reason: Cause, now: u64) -> Option<Action> {
        let entry = self.entries.get_mut(service)?;
        if !matches!(entry.state, State::Running { .. }) {
            return None;
        }
        // Who ended it knows better why than the kernel does.
        let cause = entry.ending.take().unwrap_or(reason);
        self.end(service, cause, now)
    }

    /// Returns the number that the next instance of a service will have.
    pub fn next_generation(&self, service: usize) -> Option<u64> {
        Some(self.entries.get(service)?.next_generation())
    }

    /// Notes that another version of a running service took its place at `now`, as the next
    /// instance. It was started and watched elsewhere before that. `previous` is the one whose
    /// place it took.
    pub fn adopted(&mut self, service: usize, previous: Previous, now: u64) {
        if let Some(entry) = self.entries.get_mut(service) {
            entry.adopt(previous, now);
        }
    }

    /// Returns what to do about a service before the start that was decided, beyond starting it.
    pub fn take_step(&mut self, service: usize) -> Step {
        let entry = self.entries.get_mut(service);
        entry.map_or(Step::Restart, |entry| entry.ladder.take())
    }

    /// Notes that the instance of a service serves since `at`.
    pub fn ready(&mut self, service: usize, at: u64) {
        if let Some(entry) = self.entries.get_mut(service) {
            entry.ready(at);
        }
    }

    /// Returns the running services that do not serve yet.
    pub fn not_ready(&self) -> impl Iterator<Item = usize> {
        let entries = self.entries.iter().enumerate();
        entries
            .filter(|(_, entry)| entry.is_getting_ready())
            .map(|(service, _)| service)
    }

    /// Returns the services whose back-off is over at `now`.
    pub fn due(&mut self, now: u64) -> Vec<Action> {
        self.start_where(|state| matches!(state, State::BackOff { until } if *until <= now))
    }

    /// Returns the running services that should be looked at.
    pub fn to_look_at(&self, now: u64) -> Vec<usize> {
        let entries = self.entries.iter().enumerate();
        entries
            .filter(|(_, entry)| entry.next_look().is_some_and(|at| at <= now))
            .map(|(service, _)| service)
            .collect()
    }

    /// Judges what was seen of a service.
    pub fn looked(&mut self, service: usize, look: Look, now: u64) -> Option<Action> {
        let entry = self.entries.get_mut(service)?;
        match entry.judge(look, now)? {
            Judgement::Alive | Judgement::Suspect => None,
            Judgement::Late => {
                entry.statistics.add_late_heartbeat();
                None
            }
            Judgement::Hung => {
                entry.ending = Some(Cause::Hung);
                Some(Action::End(service))
            }
            Judgement::Overdue => {
                entry.ending = Some(Cause::Overdue);
                Some(Action::End(service))
            }
        }
    }

    /// Returns the next time at which [`Supervisor::due`] or [`Supervisor::to_look_at`] has
    /// something; `u64::MAX` for never.
    pub fn next_deadline(&self) -> u64 {
        self.entries
            .iter()
            .map(Entry::deadline)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Ends a service on request, for this reason; its policy decides what comes then. A request
    /// that was carried out by an earlier instance of `init` is not carried out again.
    ///
    /// # Errors
    ///
    /// `NoSuchService`, `NotRunning`, or `Critical` if the machine would be powered off.
    pub fn kill(
        &mut self,
        service: usize,
        cause: Cause,
        caller: &Caller,
    ) -> Result<Option<Action>, InitError> {
        let entry = self
            .entries
            .get_mut(service)
            .ok_or(InitError::NoSuchService)?;
        if entry.restart.policy == RestartPolicy::PowerOff {
            return Err(InitError::Critical);
        }
        if entry.asked_by.is_some_and(|last| last.is_again(caller)) {
            return Ok(None);
        }
        match entry.state {
            State::Running { .. } => {
                entry.asked_by = Some(Asker::from(caller));
                entry.ending.get_or_insert(cause);
                Ok(Some(Action::End(service)))
            }
            _ => Err(InitError::NotRunning),
        }
    }

    /// Starts a service afresh on request, whatever it does now; forgets its crashes. A request
    /// that was carried out by an earlier instance of `init` is not carried out again.
    ///
    /// # Errors
    ///
    /// `NoSuchService`, or `Critical` if the machine would be powered off.
    pub fn restart(
        &mut self,
        service: usize,
        caller: &Caller,
    ) -> Result<Option<Action>, InitError> {
        let entry = self
            .entries
            .get_mut(service)
            .ok_or(InitError::NoSuchService)?;
        if entry.restart.policy == RestartPolicy::PowerOff {
            return Err(InitError::Critical);
        }
        if entry.asked_by.is_some_and(|last| last.is_again(caller)) {
            return Ok(None);
        }
        entry.asked_by = Some(Asker::from(caller));
        entry.back_off.reset();
        match entry.state {
            State::Running { .. } => {
                entry.ending.get_or_insert(Cause::Asked);
                entry.is_wanted = true;
                Ok(Some(Action::End(service)))
            }
            // It is on its way already.
            State::Starting => Ok(None),
            State::Waiting | State::BackOff { .. } | State::Stopped => {
                Ok(Some(self.start(service)))
            }
        }
    }

    /// Tells about a service.
    pub fn status(&self, service: usize) -> Option<Status> {
        self.entries.get(service).map(Entry::status)
    }

    /// Returns how a service has fared.
    pub fn statistics(&self, service: usize) -> Option<ServiceStatistics> {
        let entry = self.entries.get(service)?;
        Some(entry.statistics.report(entry.back_off.crashes_in_row()))
    }

    fn start_where(&mut self, is_due: impl Fn(&State) -> bool) -> Vec<Action> {
        let entries = self.entries.iter_mut().enumerate();
        entries
            .filter(|(_, entry)| is_due(&entry.state))
            .map(|(service, entry)| Action::Start {
                service,
                generation: entry.start(),
            })
            .collect()
    }

    fn start(&mut self, service: usize) -> Action {
        let generation = self.entries[service].start();
        Action::Start {
            service,
            generation,
        }
    }

    fn end(&mut self, service: usize, cause: Cause, now: u64) -> Option<Action> {
        match self.entries[service].end(cause, now) {
            Decision::StartAt(at) if at <= now => Some(self.start(service)),
            Decision::StartAt(_) | Decision::Stop => None,
            Decision::PowerOff => Some(Action::PowerOff(service)),
        }
    }
}

#[cfg(test)]
mod tests;
