//! What `init` must know when it is started in place after its own death.
//!
//! Its handle table outlives it, but numbers say nothing: the ledger says what each handle is
//! for. Rules that make every moment a good one to die in:
//!
//! - A handle is made first and recorded then. Dying between the two leaves a handle that no
//!   record names; the next instance closes it.
//! - A handle is recorded as gone first and closed then, for the same reason.
//! - A decision about a service is recorded before it is carried out, and carrying it out twice
//!   does no harm.
//! - A request and its effect are one record, so that it is not carried out twice.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use libipc::proto::init::{Cause, ServiceStatistics};
use libsys::state::{NoPrevious, State};
use serde::{Deserialize, Serialize};

use crate::statistics::Samples;
use crate::supervisor::life::{Asker, Life};

/// Position of a service.
pub type Position = u16;
/// Number of a handle.
pub type Number = u32;

/// What a handle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Key {
    /// `init`'s own endpoint.
    Endpoint,
    /// Its notification.
    Notification,
    /// Has the main thread look after the services.
    Wake,
    /// Wakes the worker.
    Bell,
    /// The pages of a thread.
    Thread(u8),
    /// `init`'s way to the memory manager.
    MemoryManager,
    /// Something of a service.
    Of(Position, Part),
}

/// What of a service a handle is for. Numbers count those of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// Endpoint.
    Endpoint,
    /// Notification.
    Notification,
    /// Its way to `init`.
    Init,
    /// Memory for devices.
    Dma,
    /// State region of an instance.
    State(u8),
    /// Service page of an instance.
    Page(u8),
    /// Where an instance waits during a swap.
    Gate(u8),
    /// Log ring.
    LogRing,
    /// Frames of an instance.
    Pool(u8),
    /// Way to a service that it may call.
    Call(u8),
    /// I/O ports.
    Ports(u8),
    /// Interrupt.
    Interrupt(u8),
    /// Free RAM.
    Ram(u8),
    /// The process of a service that keeps its handles.
    Body,
}

/// Something in the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kept {
    /// A memory object.
    Memory(Number),
    /// A notification.
    Notification(Number),
}

impl Kept {
    /// Returns the number of the handle.
    pub const fn number(self) -> Number {
        match self {
            Kept::Memory(number) | Kept::Notification(number) => number,
        }
    }
}

/// A process of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its handle.
    pub process: Number,
    /// Its number in the system.
    pub id: u64,
    /// The pool that it lives in, if it is pinned.
    pub pool: Option<u8>,
}

/// A program of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// The image of this name in the boot bundle.
    Image(String),
    /// So many bytes of this memory object.
    Memory(Number, u64),
}

impl Program {
    /// Returns the number of the handle, if it has one.
    pub const fn number(&self) -> Option<Number> {
        match self {
            Program::Image(_) => None,
            Program::Memory(number, _) => Some(*number),
        }
    }
}

/// Which programs a service runs and ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Which page, gate and state region are those of the service.
    pub slot: u8,
    /// What it runs; `None` for the image of its manifest.
    pub current: Option<Program>,
    /// What it ran before the last swap.
    pub previous: Option<Program>,
    /// The last request for a swap that was committed.
    pub committed_for: Option<Asker>,
}

/// A service and its processes: what changes when it starts or ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Situation {
    /// Its life.
    pub life: Life,
    /// What runs.
    pub running: Option<Instance>,
    /// The pool in which an instance is being made.
    pub making_in: Option<u8>,
    /// The pool in which another version is on trial.
    pub trial_in: Option<u8>,
    /// The programs. A swap is committed by the record in which these change.
    pub versions: Versions,
    /// Processes that are being torn down, by handle, and the pools that they hold.
    pub ending: Vec<(Number, u8)>,
}

/// All that is known of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Itself and its processes.
    pub situation: Situation,
    /// Its last downtimes.
    pub samples: Samples,
    /// Whether its state region has been zeroed, so that it may hold something.
    pub has_state: bool,
    /// Whether its image has the digest that it must have.
    pub is_verified: bool,
}

/// `init` itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// How often it was started again.
    pub restarts: u32,
    /// Since when this instance runs, ns since boot.
    pub since: u64,
    /// Deaths and downtimes, without percentiles.
    pub counts: ServiceStatistics,
    /// Why the last instance ended.
    pub last_cause: Option<Cause>,
    /// Why the running instance ends itself.
    pub ending: Option<Cause>,
    /// The last request to end `init` that was carried out.
    pub asked_by: Option<Asker>,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// This handle is for this.
    Handle(Key, Number),
    /// A client keeps something under a key; `None` for nothing any more.
    Vault {
        /// Badge of the client.
        client: u64,
        /// Its key.
        key: u64,
        /// What is there.
        kept: Option<Kept>,
    },
    /// What a service and its processes are now.
    Situation(Position, Box<Situation>),
    /// Whether the state region of a service has been zeroed, so that it may hold something.
    HasState(Position, bool),
    /// The image of a service is what it must be.
    Verified(Position),
    /// What `init` itself is now.
    Own(Box<Own>),
}

/// What `init` must know when it is started in place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    handles: BTreeMap<Key, Number>,
    vault: BTreeMap<(u64, u64), Kept>,
    services: BTreeMap<Position, ServiceRecord>,
    own: Own,
    own_samples: Samples,
}

impl State for Ledger {
    type Record = Record;
    // A ledger ends with the boot and is read by the same program that wrote it, as `init` cannot
    // be swapped: a way from older schemas would never be gone.
    type Previous = NoPrevious;

    const SCHEMA: &'static str = "init.2";

    fn apply(&mut self, record: Record) {
        match record {
            Record::Handle(key, number) => {
                self.handles.insert(key, number);
            }
            Record::Vault { client, key, kept } => {
                match kept {
                    Some(kept) => self.vault.insert((client, key), kept),
                    None => self.vault.remove(&(client, key)),
                };
            }
            Record::Situation(position, situation) => {
                let service = self.services.entry(position).or_default();
                let counts = &situation.life.counts;
                if counts.downtimes > service.situation.life.counts.downtimes {
                    service.samples.add(counts.downtime_last_ns);
                }
                service.situation = *situation;
            }
            Record::HasState(position, has_state) => {
                self.services.entry(position).or_default().has_state = has_state;
            }
            Record::Verified(position) => {
                self.services.entry(position).or_default().is_verified = true;
            }
            Record::Own(own) => {
                if own.counts.downtimes > self.own.counts.downtimes {
                    self.own_samples.add(own.counts.downtime_last_ns);
                }
                self.own = *own;
            }
        }
    }
}

impl Ledger {
    /// Returns the handle that is for this.
    pub fn handle(&self, key: Key) -> Option<Number> {
        self.handles.get(&key).copied()
    }

    /// Returns what clients keep, by client and key.
    pub fn vault(&self) -> impl Iterator<Item = ((u64, u64), Kept)> {
        self.vault.iter().map(|(&place, &kept)| (place, kept))
    }

    /// Returns what a client keeps under a key.
    pub fn kept(&self, client: u64, key: u64) -> Option<Kept> {
        self.vault.get(&(client, key)).copied()
    }

    /// Returns what is known of a service.
    pub fn service(&self, position: Position) -> Option<&ServiceRecord> {
        self.services.get(&position)
    }

    /// Returns `init`'s record of itself, and its last downtimes.
    pub const fn own(&self) -> (&Own, &Samples) {
        (&self.own, &self.own_samples)
    }

    /// Returns all handles that it names. `init` closes every other one when it is started in
    /// place.
    pub fn numbers(&self) -> BTreeSet<Number> {
        let situations = self.services.values().map(|service| &service.situation);
        let processes = situations.flat_map(|situation| {
            let running = situation.running.iter().map(|instance| instance.process);
            let versions = &situation.versions;
            let programs = versions.current.iter().chain(&versions.previous);
            running
                .chain(situation.ending.iter().map(|&(process, _)| process))
                .chain(programs.filter_map(Program::number))
        });
        let handles = self.handles.values().copied();
        let vault = self.vault.values().map(|kept| kept.number());
        handles.chain(vault).chain(processes).collect()
    }
}

#[cfg(test)]
mod tests;
