//! Measures in Linux what the program `bench` measures in Skink, by the same method and with the
//! same output. `cargo xtask bench --linux` boots Linux with this as its only program; run in a
//! terminal it measures the host.

use std::io::Write;

use bench::report::{Calibration, Measured, Report};
use bench::{Benchmark, Plan, measure};
use nix::sys::reboot::{RebootMode, reboot};
use skink_program::Failed;

mod clock;
mod memory;
mod messages;
mod partner;
mod plain;
mod scheduling;

/// A metric.
struct Entry {
    name: &'static str,
    about: &'static str,
    plan: Plan,
    make: fn() -> Result<Box<dyn Benchmark>, Failed>,
}

const GROUPS: [&[Entry]; 4] = [
    plain::BENCHMARKS,
    messages::BENCHMARKS,
    memory::BENCHMARKS,
    scheduling::BENCHMARKS,
];

/// Turns of the loop that shows what a tick is.
const CALIBRATION_TURNS: u64 = 1_000_000;
/// How often it runs; the least disturbed run counts.
const CALIBRATIONS: usize = 5;

fn main() {
    let text = report();
    // Nobody is left to be told of an error.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    if std::process::id() == 1 {
        // The first process must not return; if it cannot power off, the time limit ends it.
        let _ = reboot(RebootMode::RB_POWER_OFF);
    }
}

/// Measures everything and returns it as JSON.
fn report() -> String {
    let calibration = calibrate();
    let ticks_per_ms = clock::ticks_per_ms();
    let results = GROUPS.iter().flat_map(|group| group.iter()).map(|entry| {
        let result = (entry.make)().and_then(|mut benchmark| {
            measure(
                &mut *benchmark,
                &mut plain::EmptyLoop,
                entry.plan,
                &clock::ticks,
            )
        });
        Measured {
            name: entry.name,
            about: entry.about,
            result,
        }
    });
    let report = Report {
        cpus: 1,
        uptime_ns: clock::now_ns(),
        ticks_per_ms,
        calibration,
        results: results.collect(),
    };
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = report.write_json(&mut text);
    text
}

fn calibrate() -> Calibration {
    let runs = (0..CALIBRATIONS).map(|_| {
        let start = clock::ticks();
        clock::count_down(CALIBRATION_TURNS);
        clock::ticks().wrapping_sub(start)
    });
    Calibration {
        instructions: CALIBRATION_TURNS * clock::COUNT_DOWN_INSTRUCTIONS,
        ticks: runs.min().unwrap_or(0),
    }
}

/// Turns an error of the system into a sentence.
fn failed(what: &'static str) -> impl Fn(nix::Error) -> Failed {
    move |error| Failed::new(error.desc()).about(what)
}
