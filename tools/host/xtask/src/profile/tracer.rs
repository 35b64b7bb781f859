//! A machine in which one benchmark is repeated, and its execution log for a moment.
//!
//! The clock counts instructions, so however slow logging is, timer interrupts stay as rare as
//! they are. QEMU is told by its machine protocol (QMP) when to log.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use skink_qemu::{Artefacts, Machine, Session, exec_word};

use super::trace::{self, Step};
use crate::bench::Mode;

/// How long the machine may run.
const TIME_LIMIT: Duration = Duration::from_mins(3);
/// A log of this size is enough: half a million instructions.
const ENOUGH_BYTES: u64 = 40_000_000;
/// How long a log may take to get there, and how often it is looked at.
const LOG_LIMIT: Duration = Duration::from_secs(30);
const LOG_POLL: Duration = Duration::from_millis(20);
/// What makes QEMU translate instructions one by one: its name until QEMU 8.0, and since.
const ONE_BY_ONE: [&str; 2] = ["singlestep on", "one-insn-per-tb on"];

/// A machine that repeats a benchmark.
pub(crate) struct Tracer {
    _session: Session,
    control: Control,
    log: PathBuf,
    /// Operations in a turn of the benchmark's loop.
    pub(crate) operations: f64,
}

impl Tracer {
    /// Boots, and waits until the benchmark is warm. Logs are put into `folder`.
    pub(crate) fn start(
        artefacts: &Artefacts,
        (suite, metric): (&str, &str),
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let mut machine = Machine::new(artefacts, "profile");
        machine.cpus = 1;
        machine.command_line = format!(
            "quiet {}",
            exec_word(&format!("bench {suite} --forever {metric}"))
        );
        machine.disk = (suite == "files").then(|| artefacts.sample_disk.clone());
        let socket = Socket::new();
        machine.extra.extend(
            Mode::Icount
                .qemu_arguments()
                .iter()
                .map(|&argument| argument.to_owned()),
        );
        machine.extra.extend([
            "-qmp".to_owned(),
            format!("unix:{},server=on,wait=off", socket.0.display()),
        ]);
        let mut session = Session::start(&machine, artefacts, TIME_LIMIT)?;
        let operations = warm(&mut session, metric)
            .with_context(|| format!("log: {}", machine.log.display()))?;
        let mut control = Control::connect(&socket.0)?;
        control.one_by_one()?;
        Ok(Self {
            _session: session,
            control,
            log: folder.join("execution.log"),
            operations,
        })
    }

    /// Logs what is executed for a moment.
    pub(crate) fn trace(&mut self) -> anyhow::Result<Vec<Step>> {
        if self.log.exists() {
            fs::remove_file(&self.log)?;
        }
        self.control
            .command(&format!("logfile {}", self.log.display()))?;
        self.control.command("log exec,nochain")?;
        let started = Instant::now();
        while fs::metadata(&self.log).map_or(0, |log| log.len()) < ENOUGH_BYTES {
            ensure!(
                started.elapsed() < LOG_LIMIT,
                "QEMU has not logged enough to {}",
                self.log.display()
            );
            std::thread::sleep(LOG_POLL);
        }
        self.control.command("log none")?;
        let log = fs::read(&self.log)?;
        fs::remove_file(&self.log)?;
        Ok(trace::parse(&String::from_utf8_lossy(&log)))
    }
}

/// Where QEMU listens. Its name is gone when this is dropped, whatever became of QEMU.
struct Socket(PathBuf);

impl Socket {
    fn new() -> Self {
        // The name of a socket must be short, which the target folder's may not be.
        let name = format!("skink-profile-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // It fails only if QEMU has not got so far.
        let _ = fs::remove_file(&self.0);
    }
}

/// Waits for the line that says that the benchmark is repeated, and returns how many operations a
/// turn of its loop is.
fn warm(session: &mut Session, metric: &str) -> anyhow::Result<f64> {
    let start = format!("repeating {metric}: ");
    if session.wait_for(&start).is_err() {
        bail!("the benchmark has not started: {}", session.transcript());
    }
    let line = session.wait_for("operations")?;
    operations_of(&line).with_context(|| format!("no number of operations in {line:?}"))
}

/// Reads how many operations a turn is from "TURNS turns are OPERATIONS".
fn operations_of(line: &str) -> Option<f64> {
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    let (turns, operations): (f64, f64) = (numbers.next()?, numbers.next()?);
    let ratio = operations / turns;
    (ratio.is_finite() && ratio > 0.0).then_some(ratio)
}

/// QEMU's machine protocol.
struct Control {
    input: BufReader<UnixStream>,
    output: UnixStream,
}

impl Control {
    fn connect(socket: &Path) -> anyhow::Result<Self> {
        let output = UnixStream::connect(socket)
            .with_context(|| format!("cannot connect to {}", socket.display()))?;
        output.set_read_timeout(Some(LOG_LIMIT))?;
        let input = BufReader::new(output.try_clone()?);
        let mut control = Self { input, output };
        control.execute(&json!({ "execute": "qmp_capabilities" }))?;
        Ok(control)
    }

    fn one_by_one(&mut self) -> anyhow::Result<()> {
        for command in ONE_BY_ONE {
            if !self.human(command)?.contains("unknown command") {
                return Ok(());
            }
        }
        bail!("this QEMU cannot translate instructions one by one")
    }

    /// Executes a command of QEMU's monitor, which must have nothing to say.
    fn command(&mut self, line: &str) -> anyhow::Result<()> {
        let answer = self.human(line)?;
        ensure!(answer.trim().is_empty(), "QEMU: {line}: {answer}");
        Ok(())
    }

    fn human(&mut self, line: &str) -> anyhow::Result<String> {
        let answer = self.execute(&json!({
            "execute": "human-monitor-command",
            "arguments": { "command-line": line },
        }))?;
        Ok(answer.as_str().unwrap_or("").to_owned())
    }

    fn execute(&mut self, command: &Value) -> anyhow::Result<Value> {
        writeln!(self.output, "{command}")?;
        let mut line = String::new();
        loop {
            line.clear();
            ensure!(self.input.read_line(&mut line)? > 0, "QEMU has ended");
            let mut answer: Value = serde_json::from_str(&line)?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU: {error}");
            }
            // Else it is the greeting or an event.
            if let Some(answer) = answer.get_mut("return") {
                return Ok(answer.take());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_may_be_several_operations_and_not_none() {
        assert_eq!(operations_of("1000 turns are 1000 "), Some(1.0));
        assert_eq!(operations_of("8 turns are 4096 "), Some(512.0));
        for line in [
            "",
            "8 turns",
            "0 turns are 0",
            "8 turns are 0",
            "0 turns are 8",
        ] {
            assert_eq!(operations_of(line), None, "{line}");
        }
    }
}
