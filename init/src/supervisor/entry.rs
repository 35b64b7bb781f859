//! One service.

use libipc::proto::init::{Cause, ServiceState};
use skink_manifest::Service;
use skink_manifest::service::{Heartbeat, Restart};

use super::life::{Asker, Life, Stage};
use super::{Kept, Status};
use crate::MS;
use crate::back_off::{BackOff, Decision};
use crate::escalation::{Ladder, Previous};
use crate::heartbeat::{Judgement, Look, Watcher};
use crate::statistics::Statistics;

/// What a service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It was not started yet.
    Waiting,
    /// It is being started.
    Starting,
    /// Its process runs.
    Running {
        /// Since when.
        since: u64,
        /// Its heartbeat.
        watcher: Watcher,
        /// Whether it serves.
        is_ready: bool,
    },
    /// It is started again at the end of this time.
    BackOff {
        /// End of the delay.
        until: u64,
    },
    /// It is left as it is.
    Stopped,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) restart: Restart,
    heartbeat: Heartbeat,
    pub(super) state: State,
    pub(super) back_off: BackOff,
    pub(super) ladder: Ladder,
    pub(super) statistics: Statistics,
    /// Why `init` ends the running instance.
    pub(super) ending: Option<Cause>,
    /// Whether the next instance was asked for, whatever the policy says.
    pub(super) is_wanted: bool,
    /// The last request that it was killed or restarted for.
    pub(super) asked_by: Option<Asker>,
    generation: u64,
    /// How many of the instances are other versions that took over from a running one.
    adopted: u64,
    /// Since when it does not serve.
    down_since: Option<u64>,
}

impl Entry {
    /// Takes a service up where the last instance of `init` left it.
    pub(super) fn new(service: &Service, kept: Kept, now: u64) -> Self {
        let Kept { life, samples } = kept;
        let state = match life.stage {
            Stage::Waiting => State::Waiting,
            Stage::Starting => State::Starting,
            Stage::Running { since, is_ready } => State::Running {
                since,
                watcher: Watcher::new(&service.heartbeat, now),
                is_ready,
            },
            Stage::BackOff { until } => State::BackOff { until },
            Stage::Stopped => State::Stopped,
        };
        Entry {
            restart: service.restart,
            heartbeat: service.heartbeat,
            state,
            back_off: BackOff::new(life.crashes_in_row),
            statistics: Statistics::new(life.counts, samples, life.last_cause),
            ending: life.ending,
            is_wanted: life.is_wanted,
            asked_by: life.asked_by,
            generation: life.generation,
            adopted: life.adopted,
            ladder: life.ladder,
            down_since: life.down_since,
        }
    }

    /// Returns what must outlive this instance of `init`.
    pub(super) fn life(&self) -> Life {
        Life {
            stage: match self.state {
                State::Waiting => Stage::Waiting,
                State::Starting => Stage::Starting,
                State::Running {
                    since, is_ready, ..
                } => Stage::Running { since, is_ready },
                State::BackOff { until } => Stage::BackOff { until },
                State::Stopped => Stage::Stopped,
            },
            generation: self.generation,
            adopted: self.adopted,
            ladder: self.ladder,
            crashes_in_row: self.back_off.crashes_in_row(),
            ending: self.ending,
            is_wanted: self.is_wanted,
            down_since: self.down_since,
            counts: self.statistics.counts().clone(),
            last_cause: self.statistics.last_cause(),
            asked_by: self.asked_by,
        }
    }

    /// Begins to start the next instance and returns its number.
    pub(super) fn start(&mut self) -> u64 {
        self.generation += 1;
        self.state = State::Starting;
        self.ending = None;
        self.is_wanted = false;
        self.generation
    }

    pub(super) const fn next_generation(&self) -> u64 {
        self.generation + 1
    }

    /// Goes on with another version, which serves at once.
    pub(super) fn adopt(&mut self, previous: Previous, now: u64) {
        self.generation = self.next_generation();
        self.adopted += 1;
        self.ending = None;
        self.is_wanted = false;
        self.back_off.reset();
        self.ladder.swapped(previous);
        self.run(now);
        self.ready(now);
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn run(&mut self, now: u64) {
        let watcher = Watcher::new(&self.heartbeat, now);
        self.state = State::Running {
            since: now,
            watcher,
            is_ready: false,
        };
    }

    pub(super) fn ready(&mut self, at: u64) {
        if let State::Running { is_ready, .. } = &mut self.state
            && !*is_ready
        {
            *is_ready = true;
            if let Some(since) = self.down_since.take() {
                self.statistics.add_downtime(at.saturating_sub(since));
            }
        }
    }

    pub(super) const fn is_getting_ready(&self) -> bool {
        matches!(
            self.state,
            State::Running {
                is_ready: false,
                ..
            }
        )
    }

    /// Notes a death and decides what comes then.
    pub(super) fn end(&mut self, cause: Cause, now: u64) -> Decision {
        let uptime = match self.state {
            State::Running { since, .. } => now.saturating_sub(since),
            _ => 0,
        };
        self.statistics.add_death(cause);
        // A service that dies again before it served has been down all the time.
        self.down_since.get_or_insert(now);
        let decision = if self.is_wanted {
            Decision::StartAt(now)
        } else {
            let decision = self.back_off.on_death(&self.restart, &cause, now, uptime);
            match self.back_off.crashes_in_row() {
                // It was asked for, or comes after a quiet time.
                0 | 1 if uptime >= self.quiet_ns() => self.ladder.proved(),
                _ if cause == Cause::Asked => {}
                _ if matches!(cause, Cause::Reported | Cause::Doubted) => self.ladder.reported(),
                in_row => self.ladder.crashed(in_row),
            }
            decision
        };
        self.state = match decision {
            Decision::StartAt(until) => State::BackOff { until },
            Decision::Stop | Decision::PowerOff => State::Stopped,
        };
        decision
    }

    /// Returns how long an instance must run to prove itself.
    fn quiet_ns(&self) -> u64 {
        u64::from(self.restart.reset_after_s) * 1_000 * MS
    }

    pub(super) fn judge(&mut self, look: Look, now: u64) -> Option<Judgement> {
        match &mut self.state {
            State::Running { watcher, .. } if self.ending.is_none() => {
                Some(watcher.judge(&self.heartbeat, look, now))
            }
            _ => None,
        }
    }

    /// Returns when to look at the running instance; `None` when there is none to look at.
    pub(super) fn next_look(&self) -> Option<u64> {
        match &self.state {
            State::Running { watcher, .. } if self.ending.is_none() => Some(watcher.next_look()),
            _ => None,
        }
    }

    /// Returns when something is to be done; `u64::MAX` for never.
    pub(super) fn deadline(&self) -> u64 {
        match self.state {
            State::BackOff { until } => until,
            _ => self.next_look().unwrap_or(u64::MAX),
        }
    }

    pub(super) fn status(&self) -> Status {
        let (state, running_since) = match self.state {
            State::Waiting => (ServiceState::Waiting, None),
            State::Starting => (ServiceState::Starting, None),
            State::Running { since, .. } => (ServiceState::Running, Some(since)),
            State::BackOff { .. } => (ServiceState::BackOff, None),
            State::Stopped => (ServiceState::Stopped, None),
        };
        Status {
            state,
            generation: self.generation,
            restarts: u32::try_from(self.generation.saturating_sub(1 + self.adopted))
                .unwrap_or(u32::MAX),
            last_cause: self.statistics.last_cause(),
            last_downtime_ns: self.statistics.last_downtime_ns(),
            running_since,
        }
    }
}
