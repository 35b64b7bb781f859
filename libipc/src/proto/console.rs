//! The terminal: output without loss or repetition, input by line or by key, the interrupt key.

use alloc::vec::Vec;

use libsys::{Handle, Notification, Sender};
use serde::{Deserialize, Serialize};

/// Most bytes of one [`Console::write`]; longer output is written in parts.
pub const MAX_WRITE: usize = 4000;

/// Most bytes that one [`Console::read`] returns.
pub const MAX_READ: usize = 1024;

/// How input is prepared for readers. There is one mode for all clients: it belongs to the
/// terminal, and whoever is in the foreground sets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum InputMode {
    /// Bytes as they are typed, without echo, the interrupt key included: for programs that edit
    /// lines themselves.
    Raw,
    /// One line at a time, echoed, with backspace (`^H`, `DEL`), kill line (`^U`) and end of
    /// input (`^D`); the interrupt key `^C` interrupts: for programs that just read.
    Line,
}

/// Why the terminal refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConsoleError {
    /// The bytes are more than [`MAX_WRITE`]. Remedy: write in parts.
    TooLong,
    /// The device failed. Remedy: none; output up to here may be lost.
    Device,
    /// The server is out of handles or memory. Remedy: end programs.
    NoMemory,
    /// The client was closed while it waited for input.
    Cancelled,
}

impl core::fmt::Display for ConsoleError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            ConsoleError::TooLong => "too many bytes in one write",
            ConsoleError::Device => "the terminal device failed",
            ConsoleError::NoMemory => "the console is out of memory",
            ConsoleError::Cancelled => "the client was closed",
        })
    }
}

/// The terminal on the first serial port.
#[crate::interface(version = 2)]
#[compared]
#[suspect(ConsoleError::Device | ConsoleError::TooLong)]
pub trait Console {
    /// Writes bytes, `\n` as `\r\n`; the answer comes when the device has taken all of them.
    ///
    /// The server counts in its state region, in the same uninterrupted system call that feeds
    /// the device, what the device took: a redelivered write goes on at exactly that byte.
    #[exactly_once]
    fn write(bytes: &[u8]) -> Result<(), ConsoleError>;

    /// Waits for input. In [`InputMode::Raw`] returns what is there, at most `max` bytes; in
    /// [`InputMode::Line`] returns one line with its `\n`, whatever `max` is. Nothing is the end
    /// of input.
    ///
    /// A redelivered read gets the same bytes again. Readers are served in the order they came.
    #[exactly_once]
    fn read(max: u32) -> Result<Vec<u8>, ConsoleError>;

    /// Sets how input is prepared; reads that wait follow.
    #[idempotent]
    fn set_mode(mode: InputMode) -> Result<(), ConsoleError>;

    /// Has the notification's bits set when the interrupt key is pressed in
    /// [`InputMode::Line`]; what was typed before it is thrown away. It takes the place of an
    /// earlier one, for all clients.
    #[idempotent]
    fn on_interrupt(notification: Handle<Notification>) -> Result<(), ConsoleError>;

    /// Makes a sender with a badge of its own, for a child.
    #[idempotent]
    fn new_session() -> Result<Handle<Sender>, ConsoleError>;

    /// Waits until the device has sent everything: for use before power-off.
    #[idempotent]
    fn drain() -> Result<(), ConsoleError>;
}
