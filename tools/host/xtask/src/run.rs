//! `cargo xtask run`: boots the system.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use clap::Args;
use skink_qemu::{Artefacts, Console, Exit, Machine, Session, exec_word};

use crate::artefacts;
use crate::gdb::PORT;
use crate::workspace::Workspace;

/// Serial logs that are kept.
const KEPT_LOGS: usize = 20;
/// Exit code when the machine did not end in order.
const CRASHED: u8 = 101;

/// Options of `cargo xtask run`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Number of CPUs.
    #[arg(long, value_name = "N", default_value_t = 2)]
    smp: u32,
    /// Memory, as QEMU writes it.
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    mem: String,
    /// A disk image to use in place of the sample files. It is not changed.
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,
    /// Lets the system change the disk image.
    #[arg(long, requires = "disk")]
    writable: bool,
    /// Waits for `cargo xtask gdb` before the first instruction.
    #[arg(long)]
    gdb: bool,
    /// Runs shell commands, prints their output, and ends with the last exit code that was
    /// not 0.
    #[arg(long, value_name = "COMMANDS")]
    exec: Option<String>,
    /// Ends the machine after so many seconds (with --exec).
    #[arg(long, value_name = "SECONDS", requires = "exec")]
    timeout: Option<u64>,
    /// More words for the kernel's command line.
    #[arg(long, value_name = "WORDS", default_value = "")]
    append: String,
    /// More arguments for QEMU.
    #[arg(last = true, value_name = "QEMU ARGUMENTS")]
    qemu: Vec<String>,
}

/// Boots to a prompt, or runs commands.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let artefacts = artefacts::prepare(&Workspace::load()?)?;
    let mut machine = Machine::new(&artefacts, &log_name(&artefacts)?);
    machine.cpus = options.smp;
    machine.memory.clone_from(&options.mem);
    machine.disk_is_writable = options.writable;
    machine.command_line.clone_from(&options.append);
    machine.extra.clone_from(&options.qemu);
    machine.disk = Some(match &options.disk {
        Some(disk) => {
            ensure!(disk.is_file(), "there is no disk image {}", disk.display());
            disk.clone()
        }
        None => {
            artefacts::make_sample_disk(&artefacts)?;
            artefacts.sample_disk.clone()
        }
    });
    if options.gdb {
        machine.extra.extend([
            "-gdb".to_owned(),
            format!("tcp:127.0.0.1:{PORT}"),
            "-S".to_owned(),
        ]);
        eprintln!("waiting for the debugger: run `cargo xtask gdb` in another terminal");
    }
    match &options.exec {
        Some(commands) => run_commands(&mut machine, &artefacts, commands, options.timeout),
        None => run_terminal(&machine, &artefacts),
    }
}

fn run_terminal(machine: &Machine, artefacts: &Artefacts) -> anyhow::Result<ExitCode> {
    eprintln!(
        "Quit: `shutdown` inside, or Ctrl-A X. Log: {}",
        machine.log.display()
    );
    let status = machine
        .command(artefacts, Console::Terminal)?
        .status()
        .context("cannot start qemu-system-x86_64")?;
    Ok(exit_code(Exit::from_status(status)))
}

fn run_commands(
    machine: &mut Machine,
    artefacts: &Artefacts,
    commands: &str,
    timeout: Option<u64>,
) -> anyhow::Result<ExitCode> {
    // A century stands for "no limit"; an `Instant` cannot hold much more.
    const FOREVER: Duration = Duration::from_hours(24 * 365 * 100);
    machine.command_line = format!("quiet {} {}", machine.command_line, exec_word(commands));
    let limit = timeout.map_or(FOREVER, Duration::from_secs);
    let mut session = Session::start(machine, artefacts, limit)?;
    let mut stdout = std::io::stdout().lock();
    let exit = session.wait_for_end(|bytes| {
        let text: Vec<u8> = bytes
            .iter()
            .copied()
            .filter(|&byte| byte != b'\r')
            .collect();
        // A closed pipe behind us is no reason to leave the machine half-way.
        let _ = stdout.write_all(&text).and_then(|()| stdout.flush());
    });
    let exit = exit.with_context(|| format!("log: {}", machine.log.display()))?;
    Ok(exit_code(exit))
}

fn exit_code(exit: Exit) -> ExitCode {
    let complaint = match exit {
        Exit::Orderly(code) => return ExitCode::from(u8::try_from(code).unwrap_or(CRASHED)),
        Exit::Silent => return ExitCode::SUCCESS,
        Exit::Panic => "the kernel panicked",
        Exit::Loader => "the loader could not start the kernel",
        Exit::Qemu => "QEMU failed",
    };
    eprintln!("error: {complaint}");
    ExitCode::from(CRASHED)
}

/// Returns the name of a new log and removes the oldest ones of earlier runs.
fn log_name(artefacts: &Artefacts) -> anyhow::Result<String> {
    let mut logs: Vec<PathBuf> = std::fs::read_dir(&artefacts.logs)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("run-"))
        })
        .collect();
    logs.sort();
    for old in logs.iter().rev().skip(KEPT_LOGS - 1) {
        std::fs::remove_file(old)?;
    }
    // Milliseconds have as many digits for centuries, so names sort by age.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(format!("run-{}", now.as_millis()))
}
