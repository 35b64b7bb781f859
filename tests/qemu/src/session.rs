//! A running machine whose console is read and typed at by the test.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::{Artefacts, Console, Exit, Machine};

/// A running QEMU. Dropping it ends QEMU.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: ChildStdin,
    output: Arc<Output>,
    deadline: Instant,
    /// How much of the output `wait_for` has gone past.
    seen: usize,
}

#[derive(Debug, Default)]
struct Output {
    state: Mutex<Collected>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Collected {
    bytes: Vec<u8>,
    has_ended: bool,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Boots a machine. All waiting for it ends when the time limit is over.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub fn start(
        machine: &Machine,
        artefacts: &Artefacts,
        time_limit: Duration,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&artefacts.logs)?;
        let mut child = machine
            .command(artefacts, Console::Pipes)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("cannot start qemu-system-x86_64")?;
        let input = child.stdin.take().context("QEMU has no standard input")?;
        let stdout = child.stdout.take().context("QEMU has no standard output")?;
        let output = Arc::new(Output::default());
        let collector = Arc::clone(&output);
        std::thread::spawn(move || collect(stdout, &collector));
        Ok(Self {
            child,
            input,
            output,
            deadline: Instant::now() + time_limit,
            seen: 0,
        })
    }

    /// Types text at the console.
    ///
    /// # Errors
    /// QEMU has ended.
    pub fn send(&mut self, text: &str) -> anyhow::Result<()> {
        self.input.write_all(text.as_bytes())?;
        Ok(self.input.flush()?)
    }

    /// Types a line at the prompt and returns what it prints up to the next prompt.
    ///
    /// # Errors
    /// The prompt does not come back in time.
    pub fn command(&mut self, line: &str) -> anyhow::Result<String> {
        self.send(&format!("{line}\n"))?;
        // The echo of what was typed, which may have many a prompt in it: the line is drawn anew
        // when it is edited.
        self.wait_for("\n")?;
        self.wait_for(crate::PROMPT)
    }

    /// Waits until a text appears after what earlier calls have seen, and returns what came
    /// before it, without carriage returns.
    ///
    /// # Errors
    /// The text does not appear before the time limit or the end of the machine.
    pub fn wait_for(&mut self, text: &str) -> anyhow::Result<String> {
        let mut state = self.output.lock();
        loop {
            let fresh = &state.bytes[self.seen..];
            if let Some(at) = fresh
                .windows(text.len())
                .position(|part| part == text.as_bytes())
            {
                let before = clean(&fresh[..at]);
                self.seen += at + text.len();
                return Ok(before);
            }
            if state.has_ended {
                bail!("the machine ended while waiting for {text:?}");
            }
            let Some(rest) = self.deadline.checked_duration_since(Instant::now()) else {
                bail!("time limit while waiting for {text:?}");
            };
            let waited = self.output.changed.wait_timeout(state, rest);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the end of the machine and hands on what it prints meanwhile.
    ///
    /// # Errors
    /// The time limit is over.
    pub fn wait_for_end(&mut self, mut live: impl FnMut(&[u8])) -> anyhow::Result<Exit> {
        let mut shown = self.seen;
        loop {
            let mut state = self.output.lock();
            if state.bytes.len() == shown && !state.has_ended {
                let Some(rest) = self.deadline.checked_duration_since(Instant::now()) else {
                    bail!("time limit while waiting for the end");
                };
                let waited = self.output.changed.wait_timeout(state, rest);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            let (fresh, has_ended) = (state.bytes[shown..].to_vec(), state.has_ended);
            drop(state);
            live(&fresh);
            shown += fresh.len();
            if has_ended {
                return Ok(Exit::from_status(self.child.wait()?));
            }
        }
    }

    /// Waits for what the machine prints next, as it is, and returns it; `None` at its end. Only
    /// for sessions that are read in no other way.
    ///
    /// # Errors
    /// It prints nothing for so long, or the time limit is over.
    pub fn next_output(&mut self, quiet: Duration) -> anyhow::Result<Option<Vec<u8>>> {
        let limit = self.deadline.min(Instant::now() + quiet);
        let mut state = self.output.lock();
        loop {
            if self.seen < state.bytes.len() {
                let fresh = state.bytes[self.seen..].to_vec();
                self.seen = state.bytes.len();
                return Ok(Some(fresh));
            }
            if state.has_ended {
                return Ok(None);
            }
            let Some(rest) = limit.checked_duration_since(Instant::now()) else {
                bail!("the machine prints nothing any more");
            };
            let waited = self.output.changed.wait_timeout(state, rest);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the end of QEMU, whose output has ended, and tells how it ended.
    ///
    /// # Errors
    /// The host refuses to tell.
    pub fn exit(&mut self) -> anyhow::Result<Exit> {
        Ok(Exit::from_status(self.child.wait()?))
    }

    /// Returns everything printed so far, without carriage returns.
    #[must_use]
    pub fn transcript(&self) -> String {
        clean(&self.output.lock().bytes)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Both fail only when QEMU has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut from: impl Read, output: &Output) {
    let mut buffer = [0; 4096];
    loop {
        let count = from.read(&mut buffer).unwrap_or(0);
        let mut state = output.lock();
        state.bytes.extend_from_slice(&buffer[..count]);
        state.has_ended = count == 0;
        output.changed.notify_all();
        if count == 0 {
            return;
        }
    }
}

fn clean(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\r', "")
}
