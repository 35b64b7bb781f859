//! Kills services while workloads run that notice every loss, and counts what came of it.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

mod campaign;
mod loads;
mod probe;
mod services;
mod snapshot;
mod wreck;

use libsys::time;
use siege::Request;
use skink_program::launch::{INTERRUPTED, Launcher};
use skink_program::{FAILURE, Failed, Outcome, Program};

use crate::campaign::Campaign;

const HELP: &str = "\
Usage: siege [OPTION]...

Kills services at random moments while workloads run, each of which knows what it must
see. Counts operations that failed, were lost or done twice, and wrong bytes; measures
the time from a kill to the next request that is served; compares what memory and
handles are in use before and after. The exit code is 0 only if nothing went wrong.
Lines for programs begin with `#siege ` and are JSON.

  -k, --kill LIST    services to kill, with commas between them; if not given, all that
                     the system can live without, but for the shell
  -n, --times N      number of kills, faults, swaps or minutes in all; 100 if not given
  -p, --plan LIST    single (if not given): one service is killed; pair: two at once;
                     again: one, and its next instance while it recovers; hang: one turns
                     for ever; flip: a bit of its memory is turned over; swap: one is
                     swapped to its other version, or back; broken: one is swapped to a
                     version that cannot take over; silent: faults of a file are put in;
                     matrix: each ordered pair of services, and each twice, in order; init:
                     one, and init while that one recovers; quiet: a minute without faults;
                     slow: one answers late for a while; drop: one ends when it would answer;
                     duplicate: an answer is lost, and one that lives gets the request again;
                     exhaust: a program takes all frames, objects, handles or files it gets
  -x, --skip N       leaves out the first N of them
  -f, --faults FILE  the faults of plan silent: a line with service and class, below it lines
                     with address, old and new bytes; made by `cargo xtask chaos`
  -g, --gap-us LO..HI
                     time from a recovery to the next kill; 0..20000 if not given
  -l, --loads LIST   workloads: paging, disk, tree, once, lines; all these if not given; or
                     none; or busy, which keeps a virtual clock from leaping ahead
  -o, --open N       one more workload keeps so many files open, every other one in memory
  -s, --seed S       repeats the choices of an earlier campaign
";

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let request = Request::parse(program.arguments()).map_err(Failed::usage)?;
    let seed = request.seed.unwrap_or_else(time::now);
    let launcher = Launcher::new(program)?;
    launcher.take_interrupt_key()?;
    let mut campaign = Campaign::new(program, &launcher, &request, seed)?;
    if campaign.run(program)? {
        return Ok(INTERRUPTED);
    }
    let is_good = campaign.report(program)?;
    let code = program.finish()?;
    Ok(if is_good { code } else { FAILURE })
}
