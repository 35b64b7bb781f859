//! Ends services at random while a program runs.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use chaos::{Plan, Request};
use libipc::proto::init::InitClient;
use libsys::abi::FOREVER;
use libsys::time;
use skink_program::launch::{Command, Launcher, inherited_output};
use skink_program::{Failed, Outcome, Program};

const HELP: &str = "\
Usage: chaos [-s SEED] [-n COUNT] [-p MS] SERVICE[,SERVICE]... PROGRAM [ARGUMENT]...

Runs a program and ends the services as a crash would, at random moments, as long as
it runs. The exit code is the program's.

  -s, --seed   repeats the choices of an earlier run
  -n, --count  how often each service is ended; 10 if not given
  -p, --pause  mean time between two ends, ms; 50 if not given
";

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let request = Request::parse(program.arguments()).map_err(Failed::usage)?;
    let [name, arguments @ ..] = request.command.as_slice() else {
        return Err(Failed::usage("while which program runs?"));
    };
    let seed = request.seed.unwrap_or_else(time::now);
    let launcher = Launcher::new(program)?;
    launcher.take_interrupt_key()?;
    let init = launcher
        .init()
        .ok_or_else(|| Failed::new("no control of services was given"))?;
    let cwd = program.cwd().to_string();
    let output = inherited_output(program);
    let command = Command {
        name,
        arguments,
        cwd: &cwd,
        output: output.as_ref(),
    };
    let mut reaper = Reaper::new(init, &request, seed);
    let finished = launcher
        .run_with(&command, || reaper.tick())
        .map_err(|error| error.about(name))?;
    if let Some(message) = finished.message {
        program.complain(message);
    }
    for refusal in reaper.refusals() {
        program.complain(refusal);
    }
    let summary = format!("chaos: seed {seed}, ended {}\n", reaper.summary());
    program.out().write_bytes(summary.as_bytes())?;
    program.finish()?;
    Ok(finished.code)
}

/// Ends services by a plan.
struct Reaper<'a> {
    init: InitClient,
    services: &'a [String],
    plan: Plan,
    next: Option<usize>,
    ended: Vec<u32>,
    refusals: Vec<String>,
}

impl<'a> Reaper<'a> {
    fn new(init: InitClient, request: &'a Request, seed: u64) -> Self {
        Reaper {
            init,
            services: &request.services,
            plan: Plan::new(seed, request),
            next: None,
            ended: vec![0; request.services.len()],
            refusals: Vec::new(),
        }
    }

    /// Ends the service whose time has come and returns when to call again.
    fn tick(&mut self) -> u64 {
        if let Some(service) = self.next.take() {
            let name = &self.services[service];
            match self.init.kill(name) {
                Ok(()) => self.ended[service] += 1,
                Err(failure) => self.refusals.push(format!("{name}: {failure}")),
            }
        }
        let Some((service, wait_us)) = self.plan.step() else {
            return FOREVER;
        };
        self.next = Some(service);
        time::after(wait_us.saturating_mul(1000))
    }

    /// Returns why services could not be ended, each reason once.
    fn refusals(&mut self) -> Vec<String> {
        let mut refusals = core::mem::take(&mut self.refusals);
        refusals.sort_unstable();
        refusals.dedup();
        refusals
    }

    fn summary(&self) -> String {
        let counts = self.services.iter().zip(&self.ended);
        let counts: Vec<String> = counts.map(|(name, n)| format!("{name} {n}")).collect();
        counts.join(", ")
    }
}
