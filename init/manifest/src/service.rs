//! What the manifests say, as `init` reads it: one [`Service`] each, in start order.
//!
//! The host compiles `init/services/*.toml` to these (`compile`, feature `std`); `init` decodes them
//! and checks them again ([`check`]), since the levels in them are what keeps servers from
//! waiting for each other in a circle.

mod check;

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use check::{Problem, check};

/// Version of the compiled form; another one is refused.
pub const VERSION: u32 = 2;
/// Highest level: programs and what starts them.
pub const TOP_LEVEL: u8 = 7;
/// Highest level whose services are pinned: all their memory is there before they start, they
/// never fault and never need the memory manager.
pub const PINNED_LEVEL: u8 = 3;
/// Most services; bounds the work of [`check`] and `init`'s tables.
pub const MAX_SERVICES: usize = 256;

/// One service: who it is, what it may do, what it gets and how it is kept alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Unique name, also that of the handles by which others call it.
    pub name: String,
    /// Entry of the boot bundle with its program.
    pub image: String,
    /// Synchronous calls only go to lower levels.
    pub level: u8,
    /// Services that it may call.
    pub calls: Vec<String>,
    /// Arguments.
    pub arguments: Vec<String>,
    /// Sizes of what it gets.
    pub memory: MemorySizes,
    /// What it may do beyond calling others.
    pub rights: Privileges,
    /// I/O ports that it gets.
    pub ports: Vec<Ports>,
    /// Interrupt lines that it gets.
    pub interrupts: Vec<Line>,
    /// When it is started again.
    pub restart: Restart,
    /// How it shows that it is alive.
    pub heartbeat: Heartbeat,
}

impl Service {
    /// Returns whether it serves others, so that its threads run before those of programs.
    pub const fn is_server(&self) -> bool {
        self.level < TOP_LEVEL
    }

    /// Returns whether all its memory is there before it starts.
    pub const fn is_pinned(&self) -> bool {
        self.level <= PINNED_LEVEL
    }

    /// Returns whether all its instances run in one process, which keeps its handles from one to
    /// the next: so it is for who owns the memory of others.
    pub fn keeps_handles(&self) -> bool {
        self.rights.has(Grant::Ram)
    }
}

/// Sizes of what a service gets, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemorySizes {
    /// Heap.
    pub heap: u64,
    /// Stack of the main thread.
    pub stack: u64,
    /// Kernel memory that it may use: page tables, threads, handles.
    pub kernel: u64,
    /// State region, which outlives it; 0 for none.
    pub state: u64,
    /// Contiguous memory for devices, under the handle `dma`; 0 for none.
    pub dma: u64,
}

/// What a service may do beyond calling others: everything is forbidden by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privileges {
    /// What it may do with the machine, under the handle `system`; none for no handle.
    pub system: Vec<SystemRight>,
    /// Other things that it gets or may do.
    pub grants: Vec<Grant>,
}

impl Privileges {
    /// Returns whether the service has this one.
    pub fn has(&self, grant: Grant) -> bool {
        self.grants.contains(&grant)
    }
}

/// A right on the machine itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SystemRight {
    /// Look at processes, counters and the kernel log.
    Inspect,
    /// Make objects for device registers and I/O ports.
    Devices,
    /// Make interrupt objects.
    Interrupts,
    /// Power the machine off.
    Power,
    /// Open any process, and read and write its memory: for debugging and fault injection.
    Debug,
}

/// Something that few services get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// The boot bundle: the handle `bundle`, and mapped where the variables `bundle_address`
    /// and `bundle_bytes` say.
    Bundle,
    /// The kernel's command line as the variable `cmdline`.
    CommandLine,
    /// Control of the services and of power through `init`.
    Control,
    /// The log rings of all services.
    LogReader,
    /// The machine's free memory as `ram0`, `ram1` and so on. One service at most. Its process
    /// keeps its handles when it is started again.
    Ram,
}

/// A range of I/O ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    /// Name of the handle.
    pub name: String,
    /// First port.
    pub first: u16,
    /// Number of ports.
    pub count: u16,
}

/// An interrupt line of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Name of the handle.
    pub name: String,
    /// ISA interrupt number.
    pub line: u32,
}

/// When a service that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// In which cases.
    pub policy: RestartPolicy,
    /// Delay before the second start in a row, ms; it doubles from one to the next. The first
    /// restart is immediate.
    pub min_delay_ms: u32,
    /// Longest delay, ms.
    pub max_delay_ms: u32,
    /// A service that ran this long has proved itself: the next death is a first one again, s.
    pub reset_after_s: u32,
}

/// In which cases a service is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// However it ended.
    Always,
    /// Unless it ended by itself with exit code 0.
    OnFailure,
    /// Never.
    Never,
    /// Never, and the machine is powered off: nothing works without it.
    PowerOff,
}

/// How a service shows that it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Time between two looks at it, ms; 0 for never.
    pub period_ms: u32,
    /// CPU time without a turn of its loop after which it counts as hung, ms.
    pub timeout_ms: u32,
    /// How long it may hold a request without answering it, ms; 0 for as long as it likes.
    pub request_ms: u32,
}

/// Why compiled manifests cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They end early or hold something else.
    Damaged,
    /// They were compiled by another version of this crate.
    BadVersion(u32),
    /// They contradict the rules. The host's compiler would have refused them too.
    Invalid(Problem),
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            DecodeError::Damaged => f.write_str("service manifests are damaged"),
            DecodeError::BadVersion(version) => {
                write!(f, "service manifests of version {version}, need {VERSION}")
            }
            DecodeError::Invalid(problem) => write!(f, "service manifests: {problem}"),
        }
    }
}

/// Encodes services that were checked.
#[cfg(feature = "std")]
pub(crate) fn encode(services: &[Service]) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_allocvec(&(VERSION, services))
}

/// Decodes and checks compiled manifests; the services come in start order.
///
/// # Errors
///
/// See [`DecodeError`].
pub fn decode(bytes: &[u8]) -> Result<Vec<Service>, DecodeError> {
    let (version, body) =
        postcard::take_from_bytes::<u32>(bytes).map_err(|_| DecodeError::Damaged)?;
    if version != VERSION {
        return Err(DecodeError::BadVersion(version));
    }
    let services: Vec<Service> = postcard::from_bytes(body).map_err(|_| DecodeError::Damaged)?;
    match check(&services).into_iter().next() {
        Some(problem) => Err(DecodeError::Invalid(problem)),
        None => Ok(services),
    }
}
