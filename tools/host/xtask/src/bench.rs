//! `cargo xtask bench`: measures inside the system.
//!
//! It boots headless with one CPU under two clocks: plain, where times are real, and `-icount`,
//! where the clock counts instructions and two runs of one build give the same numbers. Then it
//! boots some more to see how long that takes. [`results`] is what comes out.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use skink_qemu::{Accelerator, Artefacts, Exit, Machine, PROMPT, Session, exec_word};

use crate::artefacts;
use crate::workspace::Workspace;

mod results;

use results::{GuestReport, Metric, Mode, Results, RunResults};

/// How long one machine may run: under `-icount` a benchmark takes many times longer.
const TIME_LIMIT: Duration = Duration::from_mins(5);
/// Boots for the time to the prompt.
const BOOTS: usize = 5;
/// How long one boot may take.
const BOOT_LIMIT: Duration = Duration::from_mins(1);

/// Options of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Measures only what has a name that starts with this text.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    only: String,
}

/// Measures, prints a table and writes `target/bench/latest.json`.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::load()?;
    let mut artefacts = artefacts::prepare(&workspace)?;
    // Both runs are of the same kind on every machine.
    artefacts.accelerator = Accelerator::Tcg;
    let mut results = Results::new(commit(&workspace)?);
    let mut is_complete = true;
    let has_boot = "boot.to_shell_ms".starts_with(&options.only);
    for mode in Mode::ALL {
        let mut metrics = Vec::new();
        if options.only.is_empty() || !has_boot {
            let report = measure(&artefacts, mode, &options.only)?;
            for (name, why) in report.failed() {
                eprintln!("error: {}: {name}: {why}", mode.name());
                is_complete = false;
            }
            metrics = report.metrics(mode)?;
        }
        if has_boot && mode == Mode::Tcg {
            artefacts::make_sample_disk(&artefacts)?;
            metrics.push(boot_times(&artefacts)?);
        }
        results.runs.push(RunResults { mode, metrics });
    }
    print!("{}", results.table());
    let folder = workspace.target.join("bench");
    fs::create_dir_all(&folder)?;
    let file = folder.join("latest.json");
    fs::write(&file, results.json()?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}", file.display());
    Ok(if is_complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Boots one machine that measures, and reads what it prints.
fn measure(artefacts: &Artefacts, mode: Mode, only: &str) -> anyhow::Result<GuestReport> {
    eprintln!("measuring: {}", mode.about());
    let mut machine = Machine::new(artefacts, &format!("bench-{}", mode.name()));
    machine.cpus = 1;
    machine.extra.extend(
        mode.qemu_arguments()
            .iter()
            .map(|&argument| argument.to_owned()),
    );
    let only = if only.is_empty() {
        String::new()
    } else {
        format!(" --only {only}")
    };
    machine.command_line = format!("quiet {}", exec_word(&format!("bench ipc --json{only}")));
    let mut session = Session::start(&machine, artefacts, TIME_LIMIT)?;
    let log = || format!("log: {}", machine.log.display());
    let exit = session.wait_for_end(|_| {}).with_context(log)?;
    ensure!(
        matches!(exit, Exit::Orderly(_)),
        "the machine ended with {exit:?}; {}",
        log()
    );
    GuestReport::parse(&session.transcript(), mode).with_context(log)
}

/// Boots as `cargo xtask run` does, and measures from the start of QEMU to the prompt.
fn boot_times(artefacts: &Artefacts) -> anyhow::Result<Metric> {
    eprintln!("measuring: {BOOTS} boots to the prompt");
    let mut times = Vec::new();
    for _ in 0..BOOTS {
        let mut machine = Machine::new(artefacts, "bench-boot");
        machine.disk = Some(artefacts.sample_disk.clone());
        let started = Instant::now();
        let mut session = Session::start(&machine, artefacts, BOOT_LIMIT)?;
        session
            .wait_for(PROMPT)
            .with_context(|| format!("log: {}", machine.log.display()))?;
        times.push(started.elapsed());
    }
    Ok(Metric::of_boots(&times))
}

/// Returns the commit that is checked out, with a mark when files differ from it.
fn commit(workspace: &Workspace) -> anyhow::Result<String> {
    let git = |arguments: &[&str]| -> anyhow::Result<String> {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(&workspace.root)
            .output();
        let output = output.context("cannot start git")?;
        ensure!(
            output.status.success(),
            "git {} failed",
            arguments.join(" ")
        );
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let has_changes = !git(&["status", "--porcelain"])?.is_empty();
    Ok(if has_changes {
        format!("{commit}-dirty")
    } else {
        commit
    })
}
