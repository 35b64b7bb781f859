//! `init`: control of the services, and the vault in which a server keeps handles that must
//! outlive it.
//!
//! `init` never waits for anyone it supervises, so everyone may call it. Control (kill, restart,
//! power off) is only for callers whose manifest grants `control`; the vault of a caller is its
//! own, known by its badge.

use alloc::string::String;
use alloc::vec::Vec;

use libsys::{Handle, Memory, Notification};
use serde::{Deserialize, Serialize};

/// Most log rings that one answer carries: the handles that fit into a message.
pub const PAGE_OF_RINGS: usize = 4;
/// Most keys that the vault keeps for one caller.
pub const MAX_VAULT_KEYS: usize = 128;

/// What a service does just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceState {
    /// It was not started yet.
    Waiting,
    /// It is being started.
    Starting,
    /// Its process runs.
    Running,
    /// It died and is started again at the end of its back-off.
    BackOff,
    /// It ended and its manifest says to leave it so, or it cannot be started.
    Stopped,
}

/// Why an instance of a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// By itself, with this exit code.
    Exited(i32),
    /// By a processor exception.
    Fault {
        /// Exception vector.
        vector: u8,
        /// The instruction.
        address: u64,
        /// What it touched.
        fault_address: u64,
    },
    /// Somebody with control over the services asked for it.
    Asked,
    /// It did not answer the heartbeat in time.
    Hung,
    /// It could not be started.
    NotStarted,
    /// Another process with a handle to it ended it, for example the pager after a wild access.
    Killed(u64),
}

/// One line of `svc list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceInfo {
    /// Name.
    pub name: String,
    /// Level: synchronous calls only go to lower ones.
    pub level: u8,
    /// What it does just now.
    pub state: ServiceState,
    /// Number of the process, or 0 when there is none.
    pub process: u64,
    /// Number of this instance: 1 for the first.
    pub generation: u64,
    /// How often it was started again.
    pub restarts: u32,
    /// Why the last instance ended.
    pub last_cause: Option<Cause>,
    /// How long the last downtime was, ns.
    pub last_downtime_ns: u64,
    /// How long this instance runs, ns.
    pub uptime_ns: u64,
    /// Time that this instance ran, ns, work done for it by servers included.
    pub cpu_ns: u64,
    /// Time that this instance ran for its callers, ns.
    pub served_ns: u64,
    /// Pages mapped in its space.
    pub mapped_pages: u64,
}

/// What `svc stats NAME` shows. A downtime lasts from the death of an instance until the next
/// one serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatistics {
    /// Instances that ended by themselves.
    pub exited: u32,
    /// Instances that ended by a fault.
    pub faulted: u32,
    /// Instances that were ended on request.
    pub asked: u32,
    /// Instances that were ended because they hung.
    pub hung: u32,
    /// Instances that another process ended.
    pub killed: u32,
    /// Attempts to start it that failed.
    pub not_started: u32,
    /// Deaths in a row without a quiet time between them.
    pub crashes_in_row: u32,
    /// Downtimes measured.
    pub downtimes: u32,
    /// Last downtime, ns.
    pub downtime_last_ns: u64,
    /// Median of the last downtimes, ns.
    pub downtime_p50_ns: u64,
    /// 99th percentile of the last downtimes, ns.
    pub downtime_p99_ns: u64,
    /// Longest downtime since boot, ns.
    pub downtime_max_ns: u64,
    /// Heartbeats that came too late, without being fatal.
    pub late_heartbeats: u32,
}

impl ServiceStatistics {
    /// Returns how many instances ended by something that they did: a wild access is among
    /// `killed`, for it is the pager that ends them then. Those ended on request do not count.
    pub fn crashes(&self) -> u32 {
        let ends = [self.exited, self.faulted, self.hung, self.killed];
        ends.into_iter().fold(0, u32::saturating_add)
    }
}

/// Why `init` refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InitError {
    /// There is no service of this name.
    NoSuchService,
    /// The caller's manifest does not grant `control` (or `log-reader`).
    NotAllowed,
    /// The service has no process just now.
    NotRunning,
    /// The system cannot live without this service: ending it would end the system.
    Critical,
    /// The vault keeps [`MAX_VAULT_KEYS`] keys for this caller already. Remedy: remove some.
    VaultFull,
    /// The vault has nothing under this key, or something of another kind.
    NoSuchKey,
    /// The kernel refused; `init` has logged why.
    Kernel,
}

impl core::fmt::Display for InitError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            InitError::NoSuchService => "no such service",
            InitError::NotAllowed => "not allowed to control services",
            InitError::NotRunning => "service is not running",
            InitError::Critical => "the system cannot run without this service",
            InitError::VaultFull => "too many keys in the vault",
            InitError::NoSuchKey => "no such key in the vault",
            InitError::Kernel => "the kernel refused",
        })
    }
}

/// Control of the services, and the vault.
#[crate::interface(version = 3)]
pub trait Init {
    /// Lists the services; the cursor is the position in the list.
    #[stream]
    fn services() -> Result<Stream<ServiceInfo, u32>, InitError>;

    /// Tells how a service has fared since boot.
    #[idempotent]
    fn statistics(name: &str) -> Result<ServiceStatistics, InitError>;

    /// Ends the process of a service, as a crash would. It is started again by its restart
    /// policy. Needs control.
    #[exactly_once]
    fn kill(name: &str) -> Result<(), InitError>;

    /// Ends the process of a service, if it has one, and starts it at once, without back-off; also
    /// brings a stopped service back. Needs control.
    #[exactly_once]
    fn restart(name: &str) -> Result<(), InitError>;

    /// Powers the machine off with an exit code. Needs control.
    #[idempotent]
    fn shutdown(code: u32) -> Result<(), InitError>;

    /// Keeps a memory object under a key, in place of what was there.
    #[idempotent]
    fn vault_put_memory(key: u64, memory: Handle<Memory>) -> Result<(), InitError>;

    /// Keeps a notification under a key, in place of what was there.
    #[idempotent]
    fn vault_put_notification(
        key: u64,
        notification: Handle<Notification>,
    ) -> Result<(), InitError>;

    /// Returns another handle to the memory object under a key.
    #[idempotent]
    fn vault_get_memory(key: u64) -> Result<Handle<Memory>, InitError>;

    /// Returns another handle to the notification under a key.
    #[idempotent]
    fn vault_get_notification(key: u64) -> Result<Handle<Notification>, InitError>;

    /// Lists the keys that the caller has in the vault, in ascending order.
    #[idempotent]
    fn vault_list() -> Result<Vec<u64>, InitError>;

    /// Drops what is under a key. Removing what is not there is no error.
    #[idempotent]
    fn vault_remove(key: u64) -> Result<(), InitError>;

    /// Hands out the log rings of services from the `first` on, with their names: at most
    /// [`PAGE_OF_RINGS`] at once; handles without a name beside them are `None`. Needs
    /// the grant `log-reader` in the manifest.
    #[idempotent]
    fn log_rings(
        first: u32,
    ) -> Result<
        (
            Vec<String>,
            Option<Handle<Memory>>,
            Option<Handle<Memory>>,
            Option<Handle<Memory>>,
            Option<Handle<Memory>>,
        ),
        InitError,
    >;
}
