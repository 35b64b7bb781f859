//! Ends servers at every instruction of their requests.
//!
//! For one server and one operation at a time: the server is made to end after its n-th instruction,
//! the operation is carried out, its answer and all that it should have changed are looked at, and the
//! server is waited for; then the same for a later n, until the operation ends first.

mod files;
mod operation;
mod others;
mod victim;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;

use libsys::time;
use skink_program::{Align, FAILURE, Failed, Outcome, Output, Program, Table};

use crate::context::Context;
use crate::random::Random;
use operation::{Fault, Operation};
use victim::{Victim, wait_for_all};

/// Cuts of each server, as near as whole strides come, if nothing else is said.
const DEFAULT_CUTS: u64 = 150;
/// Runs of which the shortest counts.
const MEASURED_RUNS: usize = 3;
/// Place of the cuts in a row.
const CUTS: usize = 2;
/// Faults that are told in words.
const MAX_TOLD: usize = 20;
/// Cuts from one line about how far it has got to the next.
const CUTS_PER_LINE: u64 = 50;

/// What is asked for behind `--cut`.
struct Request {
    servers: Vec<String>,
    /// Instructions from one cut to the next, if it was given.
    stride: Option<u64>,
    cuts: u64,
    seed: u64,
    /// The only instruction at which to cut, if it was given.
    at: Option<u64>,
    /// The only operation to carry out, if it was given.
    operation: Option<String>,
}

impl Request {
    fn parse(arguments: &[String]) -> Result<Self, Failed> {
        let mut request = Request {
            servers: Vec::new(),
            stride: None,
            cuts: DEFAULT_CUTS,
            seed: time::now(),
            at: None,
            operation: None,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if !argument.starts_with('-') {
                request.servers.push(argument.clone());
                continue;
            }
            let value = rest.next();
            if argument == "--operation" {
                let name = value.ok_or_else(|| Failed::usage("the operation is missing"))?;
                request.operation = Some(name.clone());
                continue;
            }
            let number = value.and_then(|value| value.parse::<u64>().ok());
            let number = number.ok_or_else(|| Failed::usage("a number is missing"))?;
            match argument.as_str() {
                "--at" => request.at = Some(number.max(1)),
                "--stride" => request.stride = Some(number.max(1)),
                "--cuts" => request.cuts = number.max(1),
                "--seed" => request.seed = number,
                _ => return Err(Failed::usage("there is no such option").about(argument)),
            }
        }
        Ok(request)
    }

    /// Returns whether an operation is to be carried out.
    fn wants(&self, operation: &Operation<'_>) -> bool {
        let wanted = self.operation.as_ref();
        wanted.is_none_or(|wanted| *wanted == word(operation.name))
    }
}

/// Makes one word of the name of an operation, so that it needs no quotes in a command.
fn word(name: &str) -> String {
    name.replace(' ', "-")
}

/// What came of the cuts of one server.
#[derive(Default)]
struct Tally {
    operations: usize,
    /// Instructions of all operations together.
    instructions: u64,
    /// Ends at different instructions of an operation.
    cuts: u64,
    wrong: u64,
    lost: u64,
    duplicated: u64,
}

impl Tally {
    fn note(&mut self, fault: &Fault) {
        match fault {
            Fault::Wrong(_) => self.wrong += 1,
            Fault::Lost(_) => self.lost += 1,
            Fault::Duplicated(_) => self.duplicated += 1,
        }
    }
}

/// Ends the servers that the arguments name, or all, and prints a row for each.
pub(crate) fn run(program: &mut Program, arguments: &[String]) -> Outcome {
    let request = Request::parse(arguments)?;
    let context = Context::new(program)?;
    let mut random = Random::new(request.seed);
    let mut table = Table::new(&[
        ("SERVER", Align::Left),
        ("OPERATIONS", Align::Right),
        ("INSTRUCTIONS", Align::Right),
        ("CUTS", Align::Right),
        ("RESTARTS", Align::Right),
        ("WRONG", Align::Right),
        ("LOST", Align::Right),
        ("DUPLICATED", Align::Right),
        ("SECONDS", Align::Right),
    ]);
    let (mut cuts, mut told) = (0, Vec::new());
    for (server, operations) in operation::all(program, &context).map_err(Failed::new)? {
        let is_named = request.servers.iter().any(|name| name == server);
        if is_named || request.servers.is_empty() {
            let campaign = Campaign {
                context: &context,
                victim: Victim::new(&context, server).map_err(Failed::new)?,
                request: &request,
            };
            let operations = operations.into_iter();
            let operations = operations.filter(|operation| request.wants(operation));
            let out = program.out();
            let row = campaign.row(operations.collect(), out, &mut random, &mut told);
            let row = row.map_err(|why| Failed::new(why).about(server))?;
            cuts += row[CUTS];
            let name = [server.to_string()].into_iter();
            table.row(name.chain(row.map(|number| number.to_string())));
        }
    }
    program.out().write_bytes(table.render().as_bytes())?;
    for fault in told.iter().take(MAX_TOLD) {
        writeln!(program.out(), "{fault}")?;
    }
    let seed = request.seed;
    writeln!(
        program.out(),
        "{cuts} cuts, {} faults; seed {seed}",
        told.len()
    )?;
    program.finish()?;
    Ok(if told.is_empty() && cuts > 0 {
        0
    } else {
        FAILURE
    })
}

/// The cuts of one server.
struct Campaign<'a> {
    context: &'a Context,
    victim: Victim<'a>,
    request: &'a Request,
}

impl Campaign<'_> {
    /// Returns the numbers of the row for the server.
    fn row(
        &self,
        operations: Vec<Operation<'_>>,
        out: &mut Output,
        random: &mut Random,
        told: &mut Vec<String>,
    ) -> Result<[u64; 8], String> {
        wait_for_all(self.context)?;
        let start = time::now();
        let before = self.victim.deaths()?;
        let tally = self.run(operations, out, random, told);
        wait_for_all(self.context)?;
        let after = self.victim.deaths()?;
        let (deaths, others) = (after.0 - before.0, after.1 - before.1);
        if (deaths, others) != (tally.cuts, 0) {
            let (name, cuts) = (self.victim.name(), tally.cuts);
            told.push(format!(
                "{name}: {cuts} cuts, {deaths} deaths by them, {others} for other reasons"
            ));
        }
        Ok([
            tally.operations as u64,
            tally.instructions,
            tally.cuts,
            deaths,
            tally.wrong,
            tally.lost,
            tally.duplicated,
            time::now().saturating_sub(start) / (1_000 * time::MS),
        ])
    }

    fn run(
        &self,
        operations: Vec<Operation<'_>>,
        out: &mut Output,
        random: &mut Random,
        told: &mut Vec<String>,
    ) -> Tally {
        let mut tally = Tally {
            operations: operations.len(),
            ..Tally::default()
        };
        for mut operation in operations {
            let name = operation.name;
            let mut note = |tally: &mut Tally, at: u64, fault: &Fault| {
                tally.note(fault);
                let server = self.victim.name();
                told.push(format!(
                    "{server}: {name}, cut at {at}: {fault}; again: \
                     system-tests --cut --operation {} --at {at} {server}",
                    word(name)
                ));
            };
            let length = match self.measure(&mut operation) {
                Ok(length) => length,
                Err(fault) => {
                    note(&mut tally, 0, &fault);
                    continue;
                }
            };
            tally.instructions += length;
            let each = (self.request.cuts / tally.operations as u64).max(1);
            let stride = self.request.stride.unwrap_or(length.div_ceil(each)).max(1);
            let mut at = self.request.at.unwrap_or(1 + random.below(stride));
            loop {
                match self.cut(&mut operation, at) {
                    Ok(true) => {
                        tally.cuts += 1;
                        if tally.cuts.is_multiple_of(CUTS_PER_LINE) {
                            let (server, cuts) = (self.victim.name(), tally.cuts);
                            let line =
                                format!("{server}: {cuts} cuts, {name} at {at} of {length}\n");
                            // An error is kept, and told at the end.
                            let _ = out.write_bytes(line.as_bytes());
                            let _ = out.flush();
                        }
                    }
                    // What was read ahead or is still known makes it shorter now and then.
                    Ok(false) if at < length => {}
                    Ok(false) => break,
                    Err(fault) => {
                        tally.cuts += 1;
                        note(&mut tally, at, &fault);
                        // What follows would be wrong for the same reason.
                        break;
                    }
                }
                if self.request.at.is_some() {
                    break;
                }
                at += stride;
            }
        }
        tally
    }

    /// Carries an operation out several times and returns how many instructions of the server it takes
    /// at least: with more the later cuts would often come when it is over.
    fn measure(&self, operation: &mut Operation<'_>) -> Result<u64, Fault> {
        const MANY: u64 = 1 << 40;
        let mut length = u64::MAX;
        for _ in 0..MEASURED_RUNS {
            (operation.prepare)().map_err(Fault::Wrong)?;
            self.victim.end_after(MANY).map_err(Fault::Wrong)?;
            (operation.run)()?;
            let left = self.victim.rest().map_err(Fault::Wrong)?;
            length = length.min(MANY - left.ok_or_else(|| Fault::Wrong("it ended".into()))?);
        }
        if length == 0 {
            return Err(Fault::Wrong("the server has nothing to do".into()));
        }
        Ok(length)
    }

    /// Carries an operation out, during which the server ends after so many instructions. Returns
    /// whether it did; else the operation was over before.
    fn cut(&self, operation: &mut Operation<'_>, at: u64) -> Result<bool, Fault> {
        (operation.prepare)().map_err(Fault::Wrong)?;
        let instance = self.victim.instance().map_err(Fault::Wrong)?;
        self.victim.end_after(at).map_err(Fault::Wrong)?;
        let result = (operation.run)();
        let left = self.victim.rest().map_err(Fault::Wrong)?;
        if left.is_none() {
            self.victim.wait_for_next(instance).map_err(Fault::Wrong)?;
        }
        result.map(|()| left.is_none())
    }
}
