//! What of a service's life outlives `init`.

use libipc::Caller;
use libipc::proto::init::{Cause, ServiceStatistics};
use serde::{Deserialize, Serialize};

use crate::escalation::Ladder;

/// A request that changed something: its badge and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    badge: u64,
    sequence: u64,
}

impl Asker {
    /// Returns whether the caller's request is this one, delivered again.
    pub fn is_again(&self, caller: &Caller) -> bool {
        caller.redelivered && *self == Asker::from(caller)
    }
}

impl From<&Caller> for Asker {
    fn from(caller: &Caller) -> Self {
        Asker {
            badge: caller.badge,
            sequence: caller.sequence,
        }
    }
}

/// What a service does, without what is only of interest to the `init` that watches it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It was not started yet.
    #[default]
    Waiting,
    /// It is being started.
    Starting,
    /// Its process runs.
    Running {
        /// Since when, ns since boot.
        since: u64,
        /// Whether it serves.
        is_ready: bool,
    },
    /// It is started again at the end of this time.
    BackOff {
        /// End of the delay, ns since boot.
        until: u64,
    },
    /// It is left as it is.
    Stopped,
}

/// The life of one service, as it is kept for the next instance of `init`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// What it does.
    pub stage: Stage,
    /// Number of the instance; 0 before the first.
    pub generation: u64,
    /// Crashes without a quiet time between them.
    pub crashes_in_row: u32,
    /// How many of the instances are other versions that took over from a running one.
    pub adopted: u64,
    /// What was done about crashes in a row.
    pub ladder: Ladder,
    /// Why `init` ends the running instance.
    pub ending: Option<Cause>,
    /// Whether the next instance was asked for, whatever the policy says.
    pub is_wanted: bool,
    /// Since when it does not serve, ns since boot.
    pub down_since: Option<u64>,
    /// Deaths and downtimes, without percentiles.
    pub counts: ServiceStatistics,
    /// Why the last instance ended.
    pub last_cause: Option<Cause>,
    /// The last request to kill or restart it that was carried out.
    pub asked_by: Option<Asker>,
}
