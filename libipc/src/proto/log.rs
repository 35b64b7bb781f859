//! The collected logs of all services and of the kernel.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Name under which the log of the kernel is kept.
pub const KERNEL: &str = "kernel";

/// How important a line is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Level {
    /// Something failed for good.
    Error,
    /// Something is wrong and was dealt with.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Every step.
    Trace,
}

/// One line of a log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was written, ns since boot.
    pub time_ns: u64,
    /// How important it is.
    pub level: Level,
    /// The module that wrote it.
    pub target: String,
    /// The text.
    pub text: String,
}

/// Some lines of a log, as many as fit into a message.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LogPage {
    /// The lines, oldest first; none means that there is nothing newer now.
    pub lines: Vec<LogLine>,
    /// Where to read on.
    pub next: u64,
    /// Lines before the first one that are lost: overwritten here or dropped by the writer.
    pub lost: u64,
}

/// Why a log could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LogError {
    /// No service of this name has a log.
    NoSuchService,
}

impl core::fmt::Display for LogError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            LogError::NoSuchService => "no service of this name has a log",
        })
    }
}

/// Reads what services logged. Writing goes through rings in shared memory
/// (`libsys::log_ring`), never through this interface.
#[crate::interface(version = 2)]
#[compared]
pub trait Log {
    /// Returns the names of all services that have a log.
    #[idempotent]
    fn services() -> Result<Vec<String>, LogError>;

    /// Returns lines of a service's log (or of [`KERNEL`]) from a position: 0 for the oldest, or
    /// the `next` of the page before.
    #[idempotent]
    fn read(service: &str, from: u64) -> Result<LogPage, LogError>;
}
