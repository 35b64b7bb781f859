//! `cargo xtask chaos`: kills services by the thousand while workloads run, and counts.
//!
//! A campaign is cut into batches, each a boot of its own with a seed of its own, some at a time.
//! Inside runs the program `siege`; what it prints is read by [`events`], summed by [`figures`],
//! drawn by [`plot`]. [`ledger`] keeps figures in the documentation.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use clap::Args;
use skink_qemu::{Accelerator, Artefacts, disk};

use crate::artefacts;
use crate::bench::commit;
use crate::build::build;
use crate::setup::{self, Tool};
use crate::workspace::Workspace;

mod batch;
mod events;
mod figures;
mod ledger;
mod plot;
mod progress;
mod silent;

use batch::{Batch, Outcome};
use figures::Figures;
use progress::Progress;
use silent::Programs;

/// The supervisor is killed like a service, but has no manifest.
const INIT: &str = "init";
/// Runs the programs of people, `siege` among them: it is spared.
const SHELL: &str = "shell";
/// The plan that needs a list of faults.
const SILENT: &str = "silent";
/// Most machines at a time.
const MAX_JOBS: usize = 64;

/// Options of `cargo xtask chaos`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Writes a table in Markdown and charts beside the JSON file, and prints the table.
    #[arg(long)]
    report: bool,
    /// Repeats the choices of an earlier campaign.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Number of kills (and other faults, swaps and quiet minutes) in all.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// Services to kill, with commas between them [default: all that the system can live
    /// without, but for the shell].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    services: Vec<String>,
    /// Kinds of faults, with commas between them: single kills, pair (two services at once), again
    /// (the next instance too, while it recovers), hang, flip (of a bit in memory), swap (to
    /// another version of block, vfs, virtio-blk, and back), broken (swaps to versions of block that cannot
    /// take over), silent (mistakes in code and data, which nobody is told of), matrix (each ordered pair
    /// of services, and each twice, in order), init (a service, and init while that one recovers), quiet
    /// (minutes without any fault), slow (a service answers late), drop (a service ends when it would
    /// answer), duplicate (an answer is lost, and the service that gave it gets the request again), exhaust
    /// (a program takes all frames, memory objects, handles or open files that it gets).
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "single", value_parser = ["single", "pair", "again", "hang", "flip", "swap", "broken", "silent", "matrix", "init", "quiet", "slow", "drop", "duplicate", "exhaust"])]
    plan: Vec<String>,
    /// Time from a recovery to the next kill, in microseconds.
    #[arg(long, value_name = "LO..HI", default_value = "0..20000")]
    gap_us: String,
    /// CPUs of each machine. With one, time is virtual: the clock counts instructions; with
    /// more it is the host's.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    smp: u32,
    /// Keeps so many files open besides, in memory and of the disk.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=15_000))]
    open: u32,
    /// Virtual time of an instruction: 2 to the power of this, in nanoseconds. More makes quiet time
    /// pass faster.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=6))]
    shift: u32,
    /// The clock is the host's with one CPU too.
    #[arg(long)]
    real_time: bool,
    /// Machines at a time [default: as many as there are CPUs].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Kills in one boot.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Leaves out the first so many kills of each boot: to have the rest of a boot again that ended with
    /// its first fault that was not recovered.
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u32,
    /// Makes the outcome the figures of the documentation.
    #[arg(long)]
    bless: bool,
    /// Reads an earlier campaign from its JSON file in place of a new one, for --report and
    /// --bless.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "skip", "services", "real_time", "jobs"])]
    from: Option<PathBuf>,
}

/// Runs a campaign. The exit code is 0 only if nothing was lost, wrong, done twice, leaked, and
/// no machine hung or ended before its time.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::load()?;
    if let Some(file) = &options.from {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let figures = Figures::parse(&text).with_context(|| file.display().to_string())?;
        show(&workspace, options, &figures, file, &text)?;
        return Ok(ExitCode::SUCCESS);
    }
    check_services(&workspace, &options.services)?;
    check_gap(&options.gap_us)?;
    let jobs = options
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    ensure!(
        (1..=MAX_JOBS).contains(&jobs),
        "--jobs: 1 to {MAX_JOBS} machines at a time"
    );
    setup::need(&[Tool::Mkfs])?;
    // What is built here is what is measured, whatever is checked out when it is over.
    let commit = commit(&workspace)?;
    let mut artefacts = artefacts::prepare(&workspace)?;
    // Runs are of the same kind on every machine.
    artefacts.accelerator = Accelerator::Tcg;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = options.seed.unwrap_or(now.as_millis() as u64);
    let mut batches = batches(seed, options.kills, options.batch);
    for batch in &mut batches {
        batch.skip = options.skip;
    }
    let settings = settings(&workspace, options, &artefacts, &batches)?;
    eprintln!(
        "{} kills in {} boots, {jobs} at a time, {}; seed {seed}",
        options.kills,
        batches.len(),
        settings.clock()
    );
    let outcomes = run_all(&artefacts, &settings, batches, jobs);
    let figures = Figures::new(commit, seed, &settings, &outcomes);
    let folder = workspace.target.join("chaos");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{}.json", now.as_secs()));
    let text = figures.json(&outcomes)?;
    write(&file, &text)?;
    show(&workspace, options, &figures, &file, &text)?;
    print!("{}", figures.summary());
    for failure in figures::failures(&outcomes) {
        eprintln!("error: {failure}");
    }
    Ok(if figures.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Writes table and chart beside the file of a campaign, and into the documentation, as asked.
fn show(
    workspace: &Workspace,
    options: &Options,
    figures: &Figures,
    file: &Path,
    text: &str,
) -> anyhow::Result<()> {
    if options.report {
        let table = figures.markdown();
        print!("{table}");
        write(&file.with_extension("md"), &table)?;
        if figures.has_gaps() {
            write(&file.with_extension("svg"), &plot::svg(figures)?)?;
        }
    }
    if options.bless {
        ledger::bless(&workspace.root, text)?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}", file.display());
    Ok(())
}

fn settings(
    workspace: &Workspace,
    options: &Options,
    artefacts: &Artefacts,
    batches: &[Batch],
) -> anyhow::Result<batch::Settings> {
    let mut settings = batch::Settings {
        services: options.services.clone(),
        plan: options.plan.clone(),
        gap_us: options.gap_us.clone(),
        cpus: options.smp,
        is_virtual: options.smp == 1 && !options.real_time,
        shift: options.shift,
        open: options.open,
        disk: artefacts.scratch.join("siege.img"),
        programs: None,
    };
    if !options.plan.iter().any(|kind| kind == SILENT) {
        disk::make_siege(&settings.disk)?;
        return Ok(settings);
    }
    let mut names = options.services.clone();
    if names.is_empty() {
        names = services(workspace)?;
        names.retain(|name| name != SHELL);
    }
    let programs = Programs::read(&workspace.root, &build(workspace)?.programs, &names)?;
    let wanted: Vec<(u64, u32)> = batches.iter().map(|one| (one.seed, one.kills)).collect();
    let lists = programs.lists(&wanted)?;
    let files: Vec<(String, String)> = batches.iter().map(|one| one.faults()).zip(lists).collect();
    settings.disk = artefacts.scratch.join("faults.img");
    disk::make_siege_with(&settings.disk, &files)?;
    settings.programs = Some(Arc::new(programs));
    Ok(settings)
}

/// Returns the names of all services, `init` first.
fn services(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let mut known = vec![INIT.to_owned()];
    for entry in fs::read_dir(workspace.root.join("init/services"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        known.extend(name.strip_suffix(".toml").map(str::to_owned));
    }
    known.sort();
    Ok(known)
}

/// Fails when a name is not that of a service.
fn check_services(workspace: &Workspace, names: &[String]) -> anyhow::Result<()> {
    let known = services(workspace)?;
    for name in names {
        ensure!(
            known.contains(name),
            "--services: there is no service {name:?}; there are {}",
            known.join(", ")
        );
    }
    Ok(())
}

/// Fails when this is no range of numbers.
fn check_gap(gap: &str) -> anyhow::Result<()> {
    let range = gap.split_once("..").unwrap_or((gap, gap));
    let parse = |text: &str| text.parse::<u64>().ok();
    let is_good =
        matches!((parse(range.0), parse(range.1)), (Some(low), Some(high)) if low <= high);
    ensure!(is_good, "--gap-us: two numbers like 0..20000, not {gap:?}");
    Ok(())
}

/// Cuts a campaign into boots.
fn batches(seed: u64, kills: u32, most: u32) -> Vec<Batch> {
    let count = kills.div_ceil(most);
    (0..count)
        .map(|index| Batch {
            index,
            seed: derived(seed, index),
            kills: most.min(kills - index * most),
            skip: 0,
        })
        .collect()
}

/// Returns the seed of a batch (SplitMix64). The first one has the seed of the campaign, so that
/// any batch can be repeated as a campaign of its own.
fn derived(seed: u64, index: u32) -> u64 {
    let state = seed.wrapping_add(u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    if index == 0 {
        return seed;
    }
    let word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 1
}

/// Runs all batches, some at a time; the outcomes are in their order. A boot that ends before all of its
/// faults were put in is followed by another one for the rest.
fn run_all(
    artefacts: &Artefacts,
    settings: &batch::Settings,
    batches: Vec<Batch>,
    jobs: usize,
) -> Vec<Outcome> {
    let kills = batches.iter().map(|batch| u64::from(batch.kills)).sum();
    let progress = Progress::new(kills);
    let queue = Mutex::new(VecDeque::from(batches));
    let outcomes = Mutex::new(Vec::new());
    let next = || queue.lock().ok()?.pop_front();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(batch) = next() {
                    let outcome = batch.run(artefacts, settings, &progress);
                    if let (Some(rest), Ok(mut queue)) = (outcome.rest(), queue.lock()) {
                        queue.push_front(rest);
                    }
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push(outcome);
                    }
                }
            });
        }
    });
    progress.finish();
    let mut outcomes = outcomes.into_inner().unwrap_or_default();
    outcomes.sort_by_key(|outcome| (outcome.batch.index, outcome.batch.skip));
    outcomes
}

#[cfg(test)]
mod tests {
    use super::{batches, check_gap, derived};

    #[test]
    fn batches_cover_all_kills_with_different_seeds() {
        let cut = batches(7, 1201, 500);
        let kills: Vec<u32> = cut.iter().map(|batch| batch.kills).collect();
        assert_eq!(kills, [500, 500, 201]);
        assert_eq!(cut[0].seed, 7);
        assert_ne!(cut[1].seed, cut[2].seed);
        // One batch of that seed alone does the same.
        assert_eq!(derived(cut[1].seed, 0), cut[1].seed);
    }

    #[test]
    fn gaps_are_ranges() {
        assert!(check_gap("0..5").is_ok() && check_gap("7").is_ok());
        for gap in ["", "x", "5..1", "1..x", "-1..2"] {
            let error = check_gap(gap).unwrap_err().to_string();
            assert!(error.starts_with("--gap-us"), "{error}");
        }
    }
}
