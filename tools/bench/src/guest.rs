//! The benchmarks and what runs them.

use alloc::vec::Vec;
use core::fmt::Write;

use bench::arguments::{Format, Request, Task};
use bench::report::{Calibration, Measured, Report};
use bench::{Clock, Entry, Group, Suite, measure, repeat};
use libsys::{Handle, System};
use skink_program::{Align, FAILURE, Failed, Outcome, Program, Table};

mod block;
mod cross_cpu;
mod files;
mod helpers;
mod ipc;
mod kills;
mod kit;
mod memory;
mod processor;
mod rings;
mod scheduling;
mod server;
mod time;

use helpers::Spinner;
use kit::Kit;

/// Every suite. To add one, add its groups here.
static SUITES: &[Suite<Kit>] = &[
    Suite {
        name: "ipc",
        about: "system calls, messages, rings, page faults, switches and the clock",
        clock: Clock::All,
        groups: &[
            Group::new(ipc::BENCHMARKS),
            Group {
                cpus: 2,
                entries: cross_cpu::BENCHMARKS,
            },
            Group::new(rings::BENCHMARKS),
            Group::new(memory::BENCHMARKS),
            Group::new(scheduling::BENCHMARKS),
            Group::new(time::BENCHMARKS),
        ],
    },
    Suite {
        name: "files",
        about: "files in memory and on a disk",
        clock: Clock::Busy,
        groups: &[Group::new(files::BENCHMARKS), Group::new(block::BENCHMARKS)],
    },
];

/// Turns of the loop that shows what a tick is.
const CALIBRATION_TURNS: u64 = 1_000_000;
/// How often it runs; the least disturbed run counts.
const CALIBRATIONS: usize = 5;

/// Runs the program.
pub(crate) fn run(program: &mut Program) -> Outcome {
    match Task::parse(program.arguments())? {
        Task::Serve(role) => server::run(program, role),
        Task::List { suite, only } => {
            let mut table = Table::without_titles(&[Align::Left, Align::Left]);
            for entry in find(&suite)?.entries(&only, u64::MAX) {
                table.row([entry.name.into(), entry.about.into()]);
            }
            write!(program.out(), "{}", table.render())?;
            program.finish()
        }
        Task::Forever { suite, name } => repeat_one(program, find(&suite)?, &name),
        Task::Kills(format) => kills::run(program, format),
        Task::Measure(request) => measure_suite(program, &request),
    }
}

fn find(name: &str) -> Result<&'static Suite<Kit>, Failed> {
    SUITES
        .iter()
        .find(|suite| suite.name == name)
        .ok_or_else(|| {
            let known: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
            Failed::usage(format_args!(
                "no suite is called {name}, there is: {}",
                known.join(", ")
            ))
        })
}

fn measure_suite(program: &mut Program, request: &Request) -> Outcome {
    let kit = Kit::new(program)?;
    let (machine, _) = kit.system.system_info()?;
    let suite = find(&request.suite)?;
    let entries: Vec<_> = suite.entries(&request.only, machine.cpus).collect();
    if entries.is_empty() {
        return Err(Failed::new(format_args!(
            "no benchmark that this machine can run starts with {}",
            request.only
        )));
    }
    let calibration = calibrate();
    let spinner = match suite.clock {
        Clock::All => None,
        Clock::Busy => Some(Spinner::start(&kit)?),
    };
    let clock = || match &spinner {
        None => processor::read(),
        Some(spinner) => busy_ticks(&kit.system, spinner),
    };
    let results = entries.into_iter().map(|entry| {
        let result = (entry.make)(&kit).and_then(|mut benchmark| {
            measure(
                &mut *benchmark,
                &mut processor::EmptyLoop,
                entry.plan,
                &clock,
            )
        });
        Measured {
            name: entry.name,
            about: entry.about,
            result,
        }
    });
    let report = Report {
        cpus: machine.cpus,
        uptime_ns: machine.uptime_ns,
        ticks_per_ms: machine.tsc_per_ms,
        calibration,
        results: results.collect(),
    };
    match request.format {
        Format::Table => write!(program.out(), "{}", report.table(request.unit))?,
        Format::Json => report.write_json(program.out())?,
    }
    let code = program.finish()?;
    Ok(if report.is_complete() { code } else { FAILURE })
}

/// Repeats a benchmark without end. `cargo xtask profile` waits for the line that says so.
fn repeat_one(program: &mut Program, suite: &'static Suite<Kit>, name: &str) -> Outcome {
    let kit = Kit::new(program)?;
    let (machine, _) = kit.system.system_info()?;
    let entry: Option<&Entry<Kit>> = suite
        .entries(name, machine.cpus)
        .find(|entry| entry.name == name);
    let entry = entry.ok_or_else(|| {
        Failed::new(format_args!(
            "no benchmark that this machine can run is called {name}"
        ))
    })?;
    let turns = entry.plan.iterations;
    let never = repeat(&mut *(entry.make)(&kit)?, entry.plan, |operations| {
        let out = program.out();
        writeln!(
            out,
            "repeating {name}: {turns} turns are {operations} operations"
        )?;
        out.flush()
    })?;
    match never {}
}

/// Returns the ticks of all CPUs in which they were not idle and did not run the spinner. If the
/// kernel does not tell, which it always does, a difference of two of these is obviously wrong.
fn busy_ticks(system: &Handle<System>, spinner: &Spinner) -> u64 {
    let (Ok((machine, statistics)), Ok(spun_ns)) = (system.system_info(), spinner.cpu_ns()) else {
        return 0;
    };
    let lost_ns = u128::from(statistics.idle_ns) + u128::from(spun_ns);
    let lost = lost_ns * u128::from(machine.tsc_per_ms) / 1_000_000;
    // Modulo 2^64, as differences of the counter are.
    let all = processor::read().wrapping_mul(machine.cpus);
    all.wrapping_sub(lost as u64)
}

fn calibrate() -> Calibration {
    let runs = (0..CALIBRATIONS).map(|_| {
        let start = processor::read();
        processor::count_down(CALIBRATION_TURNS);
        processor::read().wrapping_sub(start)
    });
    Calibration {
        instructions: CALIBRATION_TURNS * processor::COUNT_DOWN_INSTRUCTIONS,
        ticks: runs.min().unwrap_or(0),
    }
}
