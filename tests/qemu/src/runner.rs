//! Runs scenarios one after another and reports each named test on a line.

use std::time::Instant;

use crate::{Artefacts, Exit, Run, Scenario};

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u32,
    /// Tests that failed.
    pub failed: u32,
}

impl Tally {
    fn count(&mut self, name: &str, started: Instant, outcome: Result<(), String>) {
        let seconds = started.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => {
                println!("ok {name} ({seconds:.1} s)");
                self.passed += 1;
            }
            Err(why) => {
                println!("FAILED {name} ({seconds:.1} s): {why}");
                self.failed += 1;
            }
        }
    }
}

/// Runs the scenarios whose name contains `only`.
#[must_use]
pub fn run(scenarios: &[Scenario], artefacts: &Artefacts, only: Option<&str>) -> Tally {
    let mut tally = Tally::default();
    for scenario in scenarios {
        if only.is_some_and(|only| !scenario.name().contains(only)) {
            continue;
        }
        for &cpus in scenario.cpu_counts() {
            run_one(scenario, artefacts, cpus, &mut tally);
        }
    }
    tally
}

fn run_one(scenario: &Scenario, artefacts: &Artefacts, cpus: u32, tally: &mut Tally) {
    let name = match scenario.cpu_counts() {
        [_] => scenario.name().to_owned(),
        _ if cpus == 1 => format!("{} on 1 CPU", scenario.name()),
        _ => format!("{} on {cpus} CPUs", scenario.name()),
    };
    let log_name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let log = artefacts.logs.join(format!("{log_name}.log"));
    let with_log = |why: &str| format!("{why}\n    serial log: {}", log.display());
    let started = Instant::now();
    let outcome = scenario.run_once(artefacts, &log_name, cpus);
    match outcome {
        Ok(Some(run)) if scenario.has_guest_tests() => {
            count_guest_tests(&name, &run, started, tally, with_log);
        }
        Ok(_) => {
            tally.count(&name, started, Ok(()));
            // The log of a test that passed tells nothing that its name does not.
            let _ = std::fs::remove_file(&log);
        }
        Err(error) => tally.count(&name, started, Err(with_log(&format!("{error:#}")))),
    }
    let _ = std::fs::remove_file(log.with_extension("uefi-variables"));
}

fn count_guest_tests(
    name: &str,
    run: &Run,
    started: Instant,
    tally: &mut Tally,
    with_log: impl Fn(&str) -> String,
) {
    let before = *tally;
    for (test, outcome) in run.guest_tests() {
        let outcome = outcome.map_err(|why| with_log(&why));
        tally.count(&format!("{name}: {test}"), started, outcome);
    }
    // A program that dies half-way has reported only what went well.
    if *tally == before {
        tally.count(name, started, Err(with_log("the guest reported no test")));
    } else if run.exit != Exit::Orderly(0) && tally.failed == before.failed {
        let why = format!("the machine ended with {:?}", run.exit);
        tally.count(&format!("{name}: end"), started, Err(with_log(&why)));
    }
}
