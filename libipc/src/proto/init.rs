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

pub use crate::seal::Seal;

/// Most log rings that one answer carries: the handles that fit into a message.
pub const PAGE_OF_RINGS: usize = 4;
/// Most keys that the vault keeps for one caller.
pub const MAX_VAULT_KEYS: usize = 128;
/// In place of a level for `init` itself, which stands beside the levels: everyone may call it, and
/// it calls none of those that it looks after.
pub const NO_LEVEL: u8 = u8::MAX;

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
    /// Its loop did not turn, though it used CPU time.
    Hung,
    /// It could not be started.
    NotStarted,
    /// Another process with a handle to it ended it, for example the pager after a wild access.
    Killed(u64),
    /// It held a request for longer than its manifest allows.
    Overdue,
    /// A service that calls it got a reply that could not be true.
    Reported,
    /// It was about to give a reply that no service in order gives, and asked for its next instance
    /// to answer: it, or whoever asked, is damaged.
    Doubted,
}

/// One line of `svc list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceInfo {
    /// Name.
    pub name: String,
    /// Level: synchronous calls only go to lower ones. [`NO_LEVEL`] for `init` itself.
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
    /// Instances that were ended because they hung, or held a request for too long.
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
    /// Instances that were ended because their replies could not be true.
    pub reported: u32,
    /// Instances that had the next one answer in their place.
    pub doubted: u32,
}

impl InitClient {
    /// Returns how many instances of a service have crashed since boot, for that service: by
    /// comparing it with what it was told earlier it knows whether the last one did. Without an
    /// answer it is taken for none.
    pub fn crashes(&self, name: &str) -> u32 {
        self.statistics(name).map_or_else(
            |failure| {
                log::warn!("init does not tell of crashes: {failure}");
                0
            },
            |statistics| statistics.crashes(),
        )
    }
}

impl ServiceStatistics {
    /// Returns how many instances ended by something that they did: a wild access is among
    /// `killed`, for it is the pager that ends them then. Those ended on request do not count.
    pub fn crashes(&self) -> u32 {
        let ends = [
            self.exited,
            self.faulted,
            self.hung,
            self.killed,
            self.reported,
            self.doubted,
        ];
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
    /// Another version of a service is being tried just now. Remedy: try again later.
    Busy,
    /// The boot bundle has no program of this name.
    NoSuchImage,
    /// No other version of this service has run before.
    NoPreviousVersion,
    /// The program of this service does not serve, or does not serve yet: it cannot come to rest.
    NotSwappable,
    /// What was about to be done is not what the [`Seal`] of the request says.
    BrokenSeal,
}

/// How far a swap came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwapPhase {
    /// The image is checked.
    Verify,
    /// The new version is started beside the old one.
    Start,
    /// The new version says which state it reads.
    Announce,
    /// The old version comes to rest.
    Quiesce,
    /// The state is copied.
    Copy,
    /// The new version reads the state.
    Migrate,
    /// The new version tests itself.
    Test,
    /// The old version is ended, and the new one serves.
    Commit,
}

/// Why a swap was rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwapReason {
    /// It took too long.
    TimedOut,
    /// The new version ended.
    NewDied(Cause),
    /// The old version ended; it was started again.
    OldDied,
    /// Somebody asked for the end or a restart of the service.
    Asked,
    /// The SHA-256 of the image is another one than was said.
    WrongDigest,
    /// The image is not listed in the boot bundle, and the policy allows no others.
    NotListed,
    /// The image is no program.
    NotAProgram,
    /// The image needs more pages than are reserved for the service.
    TooLarge {
        /// Pages that it needs.
        needed: u64,
        /// Pages that there are.
        reserved: u64,
    },
    /// There is no memory for image or state.
    NoMemory,
    /// The new version could not be started.
    NotStarted,
    /// The new version serves other interfaces.
    OtherInterface,
    /// The new version cannot read the state, and the old one cannot write it for it.
    UnknownSchema,
    /// The new version would lose a part of the state.
    StateLost,
    /// The self-test of the new version failed.
    SelfTest,
    /// The new version lacks something that it needs.
    CannotServe,
    /// One of the two said something that makes no sense.
    Nonsense,
    /// The state could not be copied.
    NotCopied,
    /// The new version serves another version of an interface, which is not the old one with more
    /// methods.
    OtherVersion {
        /// The interface, by the upper half of its labels.
        interface: u16,
        /// The version that is served.
        old: u32,
        /// The version that would be.
        new: u32,
    },
}

/// How a swap ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwapOutcome {
    /// The new version serves.
    Committed,
    /// The old version serves on, with its state.
    RolledBack {
        /// How far it came.
        phase: SwapPhase,
        /// What was in the way.
        reason: SwapReason,
    },
}

/// What came of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapReport {
    /// How it ended.
    pub outcome: SwapOutcome,
    /// How long nobody received, ns: from the order to come to rest until the first receive of the
    /// version that serves now. `None` when the old version was never stopped.
    pub pause_ns: Option<u64>,
    /// How long it took altogether, ns.
    pub took_ns: u64,
    /// Bytes of state that were copied.
    pub state_bytes: u64,
    /// Whether the old version wrote its state in the schema of the new one.
    pub is_exported: bool,
    /// Whether the new version serves another version of the same interfaces.
    pub has_other_interface: bool,
}

/// Which program a service runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceVersion {
    /// Name of the service.
    pub name: String,
    /// Name of the image; empty for one that is not from the boot bundle.
    pub image: String,
    /// First bytes of its SHA-256.
    pub digest: u64,
    /// Name and digest of the version to which `rollback` goes back.
    pub previous: Option<(String, u64)>,
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
            InitError::Busy => "another version of a service is being tried: try again later",
            InitError::NoSuchImage => "no such image in the boot bundle",
            InitError::NoPreviousVersion => "no other version has run before",
            InitError::NotSwappable => "it does not serve (yet), so it cannot be swapped",
            InitError::BrokenSeal => "request was damaged on its way",
        })
    }
}

/// Control of the services, and the vault.
#[crate::interface(version = 7)]
#[compared]
#[suspect(InitError::BrokenSeal)]
pub trait Init {
    /// Lists the services, `init` itself as the last; the cursor is the position in the list.
    #[stream]
    fn services() -> Result<Stream<ServiceInfo, u32>, InitError>;

    /// Tells how a service has fared since boot.
    #[idempotent]
    #[ensures(crate::promises::statistics)]
    #[sealed(Seal::text)]
    fn statistics(name: &str, seal: Seal) -> Result<ServiceStatistics, InitError>;

    /// Ends the process of a service, as a crash would. It is started again by its restart
    /// policy. Needs control. `init` itself can be named too, here and in the other methods: it
    /// answers when it has been started again.
    #[exactly_once]
    #[sealed(Seal::text)]
    fn kill(name: &str, seal: Seal) -> Result<(), InitError>;

    /// Ends the process of a service, if it has one, and starts it at once, without back-off; also
    /// brings a stopped service back. Needs control.
    #[exactly_once]
    #[sealed(Seal::text)]
    fn restart(name: &str, seal: Seal) -> Result<(), InitError>;

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

    /// Replaces the program of a running service by another image of the boot bundle, without
    /// losing state or requests. The answer comes when the new version serves or the old one
    /// serves again. Needs control.
    #[exactly_once]
    #[sealed(Seal::texts)]
    fn swap(name: &str, image: &str, seal: Seal) -> Result<SwapReport, InitError>;

    /// As `swap`, to the first `bytes` bytes of a memory object, whose SHA-256 is `digest`.
    /// `init` copies them first. Needs control.
    #[exactly_once]
    #[sealed(Seal::image)]
    fn swap_memory(
        name: &str,
        memory: Handle<Memory>,
        bytes: u64,
        digest: [u8; 32],
        seal: Seal,
    ) -> Result<SwapReport, InitError>;

    /// Goes back to the version that ran before the last swap. Needs control.
    #[exactly_once]
    #[sealed(Seal::text)]
    fn rollback(name: &str, seal: Seal) -> Result<SwapReport, InitError>;

    /// Tells which programs the services run; the cursor is the position in the list.
    #[stream]
    fn versions() -> Result<Stream<ServiceVersion, u32>, InitError>;

    /// Says that a reply of a service could not be decoded, or broke what its interface promises.
    /// `init` ends that service as a crash would, unless it has just done so, or has heard this
    /// caller too often. Only for services whose manifest says that they call that one, and the
    /// programs of such a service; others get `NotAllowed`.
    #[idempotent]
    #[sealed(Seal::texts)]
    fn report(name: &str, method: &str, seal: Seal) -> Result<(), InitError>;
}
