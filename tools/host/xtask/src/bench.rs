//! `cargo xtask bench`: measures inside the system.
//!
//! It boots headless with one CPU under two clocks: plain, where times are real, and `-icount`,
//! where the clock counts instructions and two runs of one build give the same numbers. Then it
//! boots some more to see how long that takes. [`results`] is what comes out.
//!
//! [`baseline`] guards against getting slower, [`restart`] says what it costs that services can be
//! restarted, [`linux`] measures Linux in the same machine, [`compare`] puts both side by side, and
//! [`plot`] draws charts.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use skink_qemu::{Accelerator, Artefacts, Exit, Machine, PROMPT, Session, exec_word};

use crate::artefacts;
use crate::workspace::Workspace;

mod baseline;
mod compare;
pub(crate) mod linux;
mod plot;
mod restart;
pub(crate) mod results;

use baseline::Baseline;
use restart::{KILLS, Price, Restart, Slowdown};
pub(crate) use results::Mode;
use results::{GuestReport, Metric, Results, RunResults};

/// How long one machine may run: under `-icount` a benchmark takes many times longer.
const TIME_LIMIT: Duration = Duration::from_mins(5);
/// Start of the names of what needs two CPUs.
const CROSS_CPU: &str = "ipc.cross_cpu.";
/// Suite of everything else that needs no disk, and the one of files and disks.
const IPC: &str = "ipc";
const FILES: &str = "files";
/// Starts of the names of the latter.
const FILE_NAMES: [&str; 2] = ["files.", "block."];
/// Has services keep nothing for their next instances.
const VOLATILE: &str = "state=volatile";
/// How long a machine may run in which a driver is killed: seconds of virtual time.
const KILLS_LIMIT: Duration = Duration::from_mins(20);
/// The metric that the host measures.
const BOOT: &str = "boot.to_shell_ms";
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
    /// Counts instructions and fails if a metric is over its baseline by more than 3 %, or 5 % if it
    /// waits for a disk.
    #[arg(long, conflicts_with_all = ["bless", "linux", "plot"])]
    check: bool,
    /// Counts instructions and makes them the baseline.
    #[arg(long, conflicts_with_all = ["linux", "plot", "only"])]
    bless: bool,
    /// Measures Debian's Linux in the same machine too.
    #[arg(long)]
    linux: bool,
    /// Draws the charts of the documentation: of what is measured with --linux, otherwise of
    /// the last results.
    #[arg(long, conflicts_with = "only")]
    plot: bool,
}

/// Does what the options say; without one it measures Skink, prints a table and writes
/// `target/bench/latest.json`.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::load()?;
    if options.check || options.bless {
        return check(&workspace, options);
    }
    let folder = workspace.target.join("bench");
    let file = folder.join("latest.json");
    if options.plot && !options.linux {
        let text = fs::read_to_string(&file)
            .with_context(|| format!("{}: run `cargo xtask bench --linux`", file.display()))?;
        let results = Results::parse(&text).with_context(|| file.display().to_string())?;
        plot::draw(&results, &workspace.root)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (results, is_complete) = measure_all(&workspace, options)?;
    print!("{}", results.table());
    if !results.restart.is_empty() {
        print!("\n{}", results.restart.table());
    }
    if let Some(floor) = compare::floor(&results) {
        println!("\n{floor}");
    }
    if let Some(linux) = &results.linux {
        println!("\nseL4, measured before:");
        print!("{}", compare::sel4_table(&results));
        println!("\nLinux {}: ratios are instructions / ns", linux.kernel);
        print!("{}", compare::table(&results, linux));
    }
    fs::create_dir_all(&folder)?;
    fs::write(&file, results.json()?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}", file.display());
    if options.plot {
        plot::draw(&results, &workspace.root)?;
    }
    Ok(if is_complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What is measured in which machine: starts of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chosen<'a> {
    one_cpu: Option<&'a str>,
    two_cpus: Option<&'a str>,
    files: Option<&'a str>,
    has_kills: bool,
    has_boot: bool,
}

impl<'a> Chosen<'a> {
    /// Chooses what has a name that starts with `only`.
    fn by(only: &'a str) -> Self {
        let has_boot = BOOT.starts_with(only);
        let is_cross = only.starts_with(CROSS_CPU);
        let two_cpus = if is_cross { only } else { CROSS_CPU };
        let is_kills = only.starts_with(KILLS);
        let are_files = FILE_NAMES
            .iter()
            .any(|name| name.starts_with(only) || only.starts_with(name));
        Self {
            one_cpu: (only.is_empty() || !has_boot && !is_cross && !are_files).then_some(only),
            two_cpus: two_cpus.starts_with(only).then_some(two_cpus),
            files: (are_files && !is_kills).then_some(only),
            has_kills: is_kills || KILLS.starts_with(only),
            has_boot,
        }
    }
}

/// Measures in both modes. Returns whether everything could be measured, too.
fn measure_all(workspace: &Workspace, options: &Options) -> anyhow::Result<(Results, bool)> {
    let artefacts = prepare(workspace)?;
    let mut results = Results::new(commit(workspace)?);
    let mut is_complete = true;
    let chosen = Chosen::by(&options.only);
    for mode in Mode::ALL {
        let mut metrics = Vec::new();
        let two_cpus = chosen.two_cpus.filter(|_| mode == Mode::Tcg);
        let suites = [
            (IPC, chosen.one_cpu, 1),
            (IPC, two_cpus, 2),
            (FILES, chosen.files, 1),
        ];
        for (suite, only, cpus) in suites {
            let Some(only) = only else { continue };
            let run = Run::new(mode, suite, only).with_cpus(cpus);
            let report = measure(&artefacts, run)?;
            is_complete &= !complain(&report, mode);
            metrics.extend(report.metrics(mode)?);
        }
        if chosen.has_boot && mode == Mode::Tcg {
            metrics.push(boot_times(&artefacts)?);
        }
        results.runs.push(RunResults { mode, metrics });
    }
    let counted = results.runs.iter().find(|run| run.mode == Mode::Icount);
    let counted = counted.map_or(&[][..], |run| &run.metrics);
    if let Some(only) = chosen.files {
        results.restart.prices = prices(&artefacts, only, counted)?;
    }
    if chosen.has_kills {
        results.restart.slowdowns = slowdowns(&artefacts)?;
    }
    if options.linux {
        let (linux, is_linux_complete) = linux::measure(workspace, &artefacts)?;
        results.linux = Some(linux);
        is_complete &= is_linux_complete;
    }
    Ok((results, is_complete))
}

/// Makes everything ready that a machine boots from.
fn prepare(workspace: &Workspace) -> anyhow::Result<Artefacts> {
    let mut artefacts = artefacts::prepare(workspace)?;
    // Runs are of the same kind on every machine.
    artefacts.accelerator = Accelerator::Tcg;
    artefacts::make_sample_disk(&artefacts)?;
    Ok(artefacts)
}

/// Counts instructions once more where services keep nothing, and compares.
fn prices(artefacts: &Artefacts, only: &str, kept: &[Metric]) -> anyhow::Result<Vec<Price>> {
    let run = Run {
        word: VOLATILE,
        ..Run::new(Mode::Icount, FILES, only)
    };
    let report = measure(artefacts, run)?;
    Ok(Price::all(kept, &report.metrics(Mode::Icount)?))
}

/// Reads while the driver of the disk is killed.
fn slowdowns(artefacts: &Artefacts) -> anyhow::Result<Vec<Slowdown>> {
    let run = Run::new(Mode::Icount, FILES, "");
    let (output, log) = boot(artefacts, run, "bench kills --json", KILLS_LIMIT)?;
    Slowdown::parse(&output).with_context(|| log)
}

/// Says what could not be measured. Returns whether there is something.
fn complain(report: &GuestReport, mode: Mode) -> bool {
    let mut has_failed = false;
    for (name, why) in report.failed() {
        eprintln!("error: {}: {name}: {why}", mode.name());
        has_failed = true;
    }
    has_failed
}

/// Counts instructions, and compares them with the baseline or makes them the baseline.
fn check(workspace: &Workspace, options: &Options) -> anyhow::Result<ExitCode> {
    let artefacts = prepare(workspace)?;
    let chosen = Chosen::by(&options.only);
    let (mut metrics, mut has_failed) = (Vec::new(), false);
    for (suite, only) in [(IPC, chosen.one_cpu), (FILES, chosen.files)] {
        let Some(only) = only else { continue };
        let report = measure(&artefacts, Run::new(Mode::Icount, suite, only))?;
        has_failed |= complain(&report, Mode::Icount);
        metrics.extend(report.metrics(Mode::Icount)?);
    }
    let file = baseline::file(&workspace.root);
    if options.bless {
        ensure!(!has_failed, "the baseline stays as it is");
        fs::write(&file, Baseline::of(&metrics).json()?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    let read = || Baseline::parse(&fs::read_to_string(&file)?);
    let baseline = read()
        .with_context(|| format!("{}: `cargo xtask bench --bless` writes it", file.display()))?;
    let comparison = baseline.compare(&metrics, &options.only);
    print!("{}", comparison.table());
    let mut restart = Restart::default();
    if let Some(only) = chosen.files {
        restart.prices = prices(&artefacts, only, &metrics)?;
        print!("\n{}", restart.table());
    }
    let is_good = comparison.is_good() && !has_failed;
    if !is_good {
        eprintln!("error: something takes more instructions than before, or was not measured");
    } else if comparison.is_outdated() {
        eprintln!("note: `cargo xtask bench --bless` keeps what has become better, or is new");
    }
    // No error: what is over its limit, and by how much, is in docs/performance.md, and the baseline
    // keeps it from growing.
    if !restart.is_good() {
        eprintln!("note: what services keep for their next instances costs more than it should");
    }
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A machine that measures.
#[derive(Clone, Copy, Debug)]
struct Run<'a> {
    mode: Mode,
    suite: &'static str,
    only: &'a str,
    cpus: u32,
    /// A word more for the command line; may be empty.
    word: &'static str,
}

impl<'a> Run<'a> {
    fn new(mode: Mode, suite: &'static str, only: &'a str) -> Self {
        Self {
            mode,
            suite,
            only,
            cpus: 1,
            word: "",
        }
    }

    fn with_cpus(self, cpus: u32) -> Self {
        Self { cpus, ..self }
    }
}

/// Boots one machine that measures, and reads what it prints.
fn measure(artefacts: &Artefacts, run: Run<'_>) -> anyhow::Result<GuestReport> {
    let only = if run.only.is_empty() {
        String::new()
    } else {
        format!(" --only {}", run.only)
    };
    let command = format!("bench {} --json{only}", run.suite);
    let (output, log) = boot(artefacts, run, &command, TIME_LIMIT)?;
    GuestReport::parse(&output, run.mode).with_context(|| log)
}

/// Boots one machine that runs a command. Returns what it prints, and where the log is.
fn boot(
    artefacts: &Artefacts,
    run: Run<'_>,
    command: &str,
    limit: Duration,
) -> anyhow::Result<(String, String)> {
    let Run {
        mode,
        suite,
        cpus,
        word,
        ..
    } = run;
    eprintln!("{command}: {}, CPUs: {cpus} {word}", mode.about());
    let mut machine = Machine::new(artefacts, &format!("bench-{suite}-{}-{cpus}", mode.name()));
    machine.cpus = cpus;
    if suite == FILES {
        machine.disk = Some(artefacts.sample_disk.clone());
    }
    let arguments = mode.qemu_arguments().iter();
    machine
        .extra
        .extend(arguments.map(|&argument| argument.to_owned()));
    machine.command_line = format!("quiet {word} {}", exec_word(command));
    let mut session = Session::start(&machine, artefacts, limit)?;
    let log = format!("log: {}", machine.log.display());
    let exit = session.wait_for_end(|_| {}).with_context(|| log.clone())?;
    ensure!(
        matches!(exit, Exit::Orderly(_)),
        "the machine ended with {exit:?}; {log}"
    );
    Ok((session.transcript(), log))
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
pub(crate) fn commit(workspace: &Workspace) -> anyhow::Result<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_the_machines() {
        let all = Chosen::by("");
        let expected = Chosen {
            one_cpu: Some(""),
            two_cpus: Some(CROSS_CPU),
            files: Some(""),
            has_kills: true,
            has_boot: true,
        };
        assert_eq!(all, expected);
        let machines = |only| {
            let chosen = Chosen::by(only);
            (chosen.one_cpu, chosen.two_cpus, chosen.has_boot)
        };
        assert_eq!(machines("ipc."), (Some("ipc."), Some(CROSS_CPU), false));
        assert_eq!(machines("mem."), (Some("mem."), None, false));
        assert_eq!(machines("boot"), (None, None, true));
        let spin = "ipc.cross_cpu.spin";
        assert_eq!(machines(spin), (None, Some(spin), false));
        assert_eq!(machines("files.stat"), (None, None, false));
        let files = |only| {
            let chosen = Chosen::by(only);
            (chosen.files, chosen.has_kills)
        };
        assert_eq!(files("files."), (Some("files."), true));
        assert_eq!(files("block.read"), (Some("block.read"), false));
        assert_eq!(files("mem."), (None, false));
        let kills = "files.seq_read.kill_1s_percent";
        assert_eq!(files(kills), (None, true));
    }
}
