//! `cargo xtask profile`: of what an operation consists, instruction by instruction.
//!
//! [`tracer`] boots a machine that repeats one benchmark and logs what it executes, [`trace`] reads
//! that log, [`mod@attribute`] says whose instructions they are, [`mod@cut`] finds the operation
//! that is repeated, [`image`] knows what is in the linked programs, and [`operation`] shows it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use iced_x86::{FlowControl, Formatter, IntelFormatter};
use skink_qemu::Accelerator;

use crate::artefacts;
use crate::bench::results::figures;
use crate::build::{Built, build};
use crate::workspace::Workspace;

mod attribute;
mod cut;
pub(crate) mod image;
mod operation;
mod trace;
mod tracer;

use attribute::attribute;
use cut::{Cut, cut};
use image::Image;
use operation::{Flow, Line, Operation};
use trace::Step;
use tracer::Tracer;

/// The program with the benchmarks.
const BENCH: &str = "bench";
/// Its number among the images.
const BENCH_NUMBER: usize = 1;
/// How the functions end that repeat an operation.
const LOOPS: &str = "bench::benchmark::Benchmark>::run";
/// How often the log is taken before giving up: it may fall between two batches.
const ATTEMPTS: usize = 5;
/// A longer listing is written to its file only.
const LONGEST_LISTING: usize = 5_000;

/// What can be profiled.
#[derive(Debug, Subcommand)]
pub(crate) enum Options {
    /// An operation of the program `bench`.
    Ipc {
        /// The benchmark's whole name, as `bench ipc --list` prints it.
        #[arg(
            long,
            value_name = "NAME",
            default_value = "ipc.roundtrip.cross_space.8B"
        )]
        metric: String,
    },
    /// An operation on files.
    Files {
        /// The benchmark's whole name, as `bench files --list` prints it.
        #[arg(long, value_name = "NAME", default_value = "files.open_close")]
        metric: String,
    },
}

/// Prints of what an operation consists, and writes that and a flame graph.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let (suite, metric) = match options {
        Options::Ipc { metric } => ("ipc", metric),
        Options::Files { metric } => ("files", metric),
    };
    let workspace = Workspace::load()?;
    let files = files(&build(&workspace)?)?;
    let images = files
        .iter()
        .map(|(name, bytes)| {
            Image::parse(name, bytes, &workspace.root).with_context(|| name.clone())
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut artefacts = artefacts::prepare(&workspace)?;
    artefacts.accelerator = Accelerator::Tcg;
    artefacts::make_sample_disk(&artefacts)?;
    let folder = workspace.target.join("profile");
    fs::create_dir_all(&folder)?;
    let mut tracer = Tracer::start(&artefacts, (suite, metric), &folder)?;
    let (steps, cut) = typical(&mut tracer, &images)?;
    let operation = Operation {
        lines: describe(&images, &steps[cut.start..][..cut.length])?,
        operations: tracer.operations,
    };
    drop(tracer);
    show(metric, &operation, &cut, &folder)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads what is linked: the kernel, the program with the benchmarks, and all others.
fn files(built: &Built) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let bench = built.kernel.with_file_name(BENCH);
    let others = built.programs.iter().filter(|file| **file != bench);
    let files = [&built.kernel, &bench].into_iter().chain(others);
    files
        .map(|file| {
            let name = if *file == built.kernel {
                "kernel".into()
            } else {
                file.file_name().unwrap_or_default().to_string_lossy()
            };
            let bytes = fs::read(file).with_context(|| file.display().to_string())?;
            Ok((name.into_owned(), bytes))
        })
        .collect()
}

/// An executed instruction and the number of its image.
type Owned = (Step, Option<usize>);

/// Logs until there is an operation that is much of what was executed.
fn typical(tracer: &mut Tracer, images: &[Image<'_>]) -> anyhow::Result<(Vec<Owned>, Cut)> {
    for _ in 0..ATTEMPTS {
        let steps = tracer.trace()?;
        let owners = attribute(&steps, BENCH_NUMBER..images.len(), |program, path| {
            explains(&images[program], path)
        });
        let steps: Vec<Owned> = steps.into_iter().zip(owners).collect();
        if let Some(cut) = find(&steps, &images[BENCH_NUMBER]) {
            return Ok((steps, cut));
        }
    }
    bail!("no operation is repeated often enough")
}

/// Returns whether a program can execute these instructions one after another.
fn explains(image: &Image<'_>, path: &[Step]) -> bool {
    let is_code = |step: &Step| image.instruction(step.pc).is_some();
    path.iter().all(is_code)
        && path
            .windows(2)
            .all(|pair| image.leads(pair[0].pc, pair[1].pc))
}

/// Finds the operation that is repeated. It starts in the loop of the benchmark.
fn find(steps: &[Owned], bench: &Image<'_>) -> Option<Cut> {
    let mut numbers: HashMap<Owned, u32> = HashMap::new();
    let codes: Vec<u32> = steps
        .iter()
        .map(|step| {
            let next = numbers.len() as u32;
            *numbers.entry(*step).or_insert(next)
        })
        .collect();
    let is_loop = |(step, owner): &Owned| {
        *owner == Some(BENCH_NUMBER) && bench.symbol(step.pc).ends_with(LOOPS)
    };
    let mut starts: Vec<(u64, u32)> = numbers
        .iter()
        .filter(|(step, _)| is_loop(step))
        .map(|((step, _), code)| (step.pc, *code))
        .collect();
    starts.sort_unstable();
    let starts: Vec<u32> = starts.into_iter().map(|(_, code)| code).collect();
    cut(&codes, &starts)
}

/// Looks up every instruction of an operation.
fn describe(images: &[Image<'_>], steps: &[Owned]) -> anyhow::Result<Vec<Rc<Line>>> {
    let mut known: HashMap<Owned, Rc<Line>> = HashMap::new();
    let mut lines = Vec::with_capacity(steps.len());
    for owned in steps {
        let line = match known.get(owned) {
            Some(line) => Rc::clone(line),
            None => {
                let (step, owner) = owned;
                let image = owner.and_then(|owner| images.get(owner));
                let image = image.with_context(|| format!("no program has {:#x}", step.pc))?;
                let line = Rc::new(describe_one(image, *step)?);
                known.insert(*owned, Rc::clone(&line));
                line
            }
        };
        lines.push(line);
    }
    Ok(lines)
}

fn describe_one(image: &Image<'_>, step: Step) -> anyhow::Result<Line> {
    let instruction = image.instruction(step.pc);
    let instruction =
        instruction.with_context(|| format!("{}: no instruction at {:#x}", image.name, step.pc))?;
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_space_after_operand_separator(true);
    options.set_branch_leading_zeros(false);
    let mut text = String::new();
    formatter.format(&instruction, &mut text);
    let flow = match instruction.flow_control() {
        FlowControl::Call | FlowControl::IndirectCall => Flow::Call,
        FlowControl::Return => Flow::Return,
        _ => Flow::Other,
    };
    Ok(Line {
        program: image.name.clone(),
        ring: step.ring,
        pc: step.pc,
        next: instruction.next_ip(),
        text,
        flow,
        frames: image.frames(step.pc)?,
    })
}

/// Prints everything and writes the files.
fn show(metric: &str, operation: &Operation, cut: &Cut, folder: &Path) -> anyhow::Result<()> {
    let listing = operation.listing();
    let mean = cut.executed as f64 / cut.whole as f64 / operation.operations;
    let text = format!(
        "{metric}: {} instructions, with the loop around the operation.\n\
        {} of {} turns were equal, all of them had {} on average.\n\n\
        {}\nA turn in the order of execution\n\n{}",
        figures(operation.instructions()),
        cut.equal,
        cut.whole,
        figures(mean),
        operation.table(),
        operation.course(),
    );
    print!("{text}");
    if operation.lines.len() <= LONGEST_LISTING {
        println!("\nA turn, instruction by instruction\n{listing}");
    }
    let file = |extension: &str| folder.join(format!("{metric}.{extension}"));
    write(&file("txt"), &format!("{text}{listing}"))?;
    write(&file("svg"), &flame_graph(metric, operation)?)
}

fn write(file: &PathBuf, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{}", file.display());
    Ok(())
}

/// Draws who called whom, with a width for each instruction.
fn flame_graph(metric: &str, operation: &Operation) -> anyhow::Result<String> {
    let mut options = inferno::flamegraph::Options::default();
    options.title = format!("{metric}: instructions of a turn");
    "instructions".clone_into(&mut options.count_name);
    options.deterministic = true;
    // Functions of two or three instructions matter here.
    options.min_width = 0.0;
    let stacks = operation.stacks();
    let mut svg = Vec::new();
    inferno::flamegraph::from_lines(&mut options, stacks.iter().map(String::as_str), &mut svg)?;
    ensure!(!svg.is_empty(), "the flame graph is empty");
    Ok(String::from_utf8(svg)?)
}
