//! Output of a program: to the terminal or into a file.

use alloc::vec::Vec;
use core::fmt;

use libipc::proto::console::{ConsoleClient, MAX_WRITE};
use libipc::proto::vfs::{APPEND, MAX_SMALL_BYTES, OpenOptions, Opened, Seal, VfsClient};

use crate::Failed;

/// Bytes that are collected before they are sent: one message to either side holds them.
const BUFFER_BYTES: usize = 3072;

const _: () = assert!(BUFFER_BYTES <= MAX_WRITE && BUFFER_BYTES <= MAX_SMALL_BYTES);

/// Where the bytes go.
#[derive(Debug)]
enum Target {
    Terminal(ConsoleClient),
    File {
        vfs: VfsClient,
        file: Opened,
        is_append: bool,
        offset: u64,
    },
    /// There is no terminal: a program that was started without one.
    Nowhere,
}

/// Buffered output. What was not flushed is flushed when the program finishes.
#[derive(Debug)]
pub struct Output {
    target: Target,
    buffer: Vec<u8>,
    failure: Option<Failed>,
}

impl Output {
    /// Makes output to the terminal, or to nowhere.
    pub fn terminal(console: Option<ConsoleClient>) -> Self {
        Self::to(console.map_or(Target::Nowhere, Target::Terminal))
    }

    /// Opens a file for output.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened.
    pub fn file(vfs: VfsClient, path: &str, options: OpenOptions) -> Result<Self, Failed> {
        let file = vfs.open(path.as_bytes(), options)?;
        Ok(Self::to(Target::File {
            vfs,
            file,
            is_append: options.append,
            offset: 0,
        }))
    }

    fn to(target: Target) -> Self {
        Output {
            target,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            failure: None,
        }
    }

    /// Returns whether a person may be watching.
    pub fn is_terminal(&self) -> bool {
        matches!(self.target, Target::Terminal(_))
    }

    /// Writes bytes.
    ///
    /// # Errors
    ///
    /// When they, or earlier ones, could not be written.
    pub fn write_bytes(&mut self, mut bytes: &[u8]) -> Result<(), Failed> {
        while !bytes.is_empty() {
            let room = BUFFER_BYTES - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == BUFFER_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Sends what was collected.
    ///
    /// # Errors
    ///
    /// When it could not be written.
    pub fn flush(&mut self) -> Result<(), Failed> {
        if self.failure.is_none() && !self.buffer.is_empty() {
            self.failure = self.send().err();
        }
        self.buffer.clear();
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn send(&mut self) -> Result<(), Failed> {
        match &mut self.target {
            Target::Terminal(console) => console.write(&self.buffer)?,
            Target::File {
                vfs,
                file,
                is_append,
                offset,
            } => {
                let place = if *is_append { APPEND } else { *offset };
                let seal = Seal::transfer(file.attributes.inode, place, self.buffer.len() as u32);
                let written = vfs.write_small(file.file, *offset, &self.buffer, seal)?;
                *offset += u64::from(written.bytes);
            }
            Target::Nowhere => {}
        }
        Ok(())
    }
}

impl fmt::Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_bytes(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// Writes a line to the terminal at once, for complaints.
pub(crate) fn complain(console: Option<&ConsoleClient>, name: &str, message: &dyn fmt::Display) {
    let Some(console) = console else { return };
    let line = alloc::format!("{name}: {}\n", message);
    for part in line.as_bytes().chunks(MAX_WRITE) {
        // There is nowhere to complain about a terminal that fails.
        let _ = console.write(part);
    }
}
