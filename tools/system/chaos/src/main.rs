//! Kills services at random moments while a program runs, and tells what came of it.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

mod campaign;
mod runs;

use alloc::format;
use alloc::string::{String, ToString};

use chaos::Request;
use libsys::time;
use skink_program::launch::{INTERRUPTED, Launcher};
use skink_program::{FAILURE, Failed, Outcome, Program};

use crate::campaign::Campaign;
use crate::runs::Runs;

const HELP: &str = "\
Usage: chaos [OPTION]... [--] PROGRAM [ARGUMENT]...

Runs a program, again and again if need be, until each service was killed often
enough at random moments while it ran. The exit code is 0 only if every run went
well, every service came back and none ended for another reason.

  -k, --kill LIST       services to kill, with commas between them; if not given, all
                        that the system can live without, but for the shell
  -w, --swap LIST       swaps services instead of killing them: each NAME=IMAGE, or NAME
                        for its own image, to that version and back in turn
  -f, --fault KIND      harms services instead of killing them: slow, each for 20 ms; drop,
                        each ends when it would answer; duplicate, an answer is lost and
                        the service gets the request again
  -n, --times N         how often each service is killed; 10 if not given
  -g, --gap-ms LO..HI   time between two kills; 5..50 if not given
  -s, --seed S          repeats the choices of an earlier campaign
  -c, --compare         all runs must print the same; it goes to files meanwhile
  -e, --expect TEXT     all runs must print this; it goes to files meanwhile
";

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let request = Request::parse(program.arguments()).map_err(Failed::usage)?;
    let seed = request.seed.unwrap_or_else(time::now);
    let launcher = Launcher::new(program)?;
    launcher.take_interrupt_key()?;
    let init = launcher
        .init()
        .ok_or_else(|| Failed::new("no control of services was given"))?;
    let system = launcher
        .system()
        .ok_or_else(|| Failed::new("no way to look at processes was given"))?;
    let mut campaign = Campaign::new(init, system, &request, seed)?;
    let mut runs = Runs::new(&request, program)?;
    let start = time::now();
    loop {
        let code = runs.run(program, &launcher, || campaign.tick())?;
        if code == INTERRUPTED {
            return Ok(INTERRUPTED);
        }
        if campaign.is_done() {
            break;
        }
    }
    campaign.wait_for_all();
    let elapsed = time::now().saturating_sub(start);
    if let Some(output) = runs.output() {
        program.out().write_bytes(output)?;
    }
    program
        .out()
        .write_bytes(campaign.table().render().as_bytes())?;
    let summary = summary(seed, &campaign, &runs, elapsed);
    program.out().write_bytes(summary.as_bytes())?;
    for problem in campaign.problems() {
        program.complain(problem);
    }
    let code = program.finish()?;
    Ok(if runs.failed() > 0 { FAILURE } else { code })
}

fn summary(seed: u64, campaign: &Campaign<'_>, runs: &Runs<'_>, elapsed_ns: u64) -> String {
    let runs_of = |count: u32| {
        if count == 1 {
            "1 run".to_string()
        } else {
            format!("{count} runs")
        }
    };
    format!(
        "{} {} in {}, {} failed, {}; seed {seed}\n",
        campaign.kills(),
        campaign.deeds(),
        runs_of(runs.count()),
        runs.failed(),
        skink_program::human::seconds(elapsed_ns),
    )
}
