//! Tests that run inside the system, in Ring 3: IPC, handles, recovery, hostile programs, paging.
//!
//! A test is a named function that finds out whether the kernel keeps a promise. It starts
//! children of this same program, each with a *role* (`--child ROLE …`): servers, clients, and
//! programs that do what they must not. `context` starts and watches them, `wire` speaks plain
//! messages, `cases` holds the tests by subject, `roles` what children do.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

mod cases;
mod context;
mod cut;
mod harm;
mod late_dma;
mod random;
mod raw;
mod roles;
mod wire;

use core::fmt::Write as _;

use alloc::string::String;
use skink_program::{Failed, Flag, Outcome, Program};

use context::Context;

/// Option that makes this program a child with a role.
const CHILD: &str = "--child";
/// Option that makes it end servers.
const CUT: &str = "--cut";
/// Option that makes it do harm to a server.
const HARM: &str = "--harm";
/// Option that makes it watch memory while drivers end.
const LATE_DMA: &str = "--late-dma";

const HELP: &str = "\
Usage: system-tests [--list] [NAME]...
       system-tests --cut [--stride N] [--cuts N] [--seed S] [SERVER]...
       system-tests --late-dma ROUNDS FILE
       system-tests --harm state|crashes SERVER

Runs the tests whose names start with a NAME, or all of them. Prints one line for each,
`ok NAME` or `FAILED NAME: why`, and `N passed, N failed` at the end.

  -l, --list   print the names of all tests

With --cut it ends each SERVER, or all, at instructions of the requests that it deals
with, one after the other, and checks that nothing is lost, wrong or done twice:

  --stride N   from one instruction to the N-th after it; 1 for every instruction
  --cuts N     if there is no stride: cuts of each server, about; 150 if not given
  --seed S     where to begin within the first stride
  --operation NAME, --at N   only this operation, only this instruction: to repeat a fault

With --late-dma it ends the driver of the disk and the file system while FILE is read, and checks
that memory which is made meanwhile is not written to.

With --harm it damages the state region of SERVER beyond repair and ends it, or ends it until
it starts with fresh state; then it waits for its own end.
";

/// A promise that is checked: `Err` says how it was broken.
struct Test {
    /// Name: subject, dot, what is promised.
    name: &'static str,
    /// Finds out.
    run: fn(&Context) -> Result<(), String>,
}

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    if program
        .arguments()
        .first()
        .is_some_and(|first| first == CHILD)
    {
        return Ok(roles::play(program));
    }
    if let Some((first, rest)) = program.arguments().split_first() {
        let (first, rest) = (first.clone(), rest.to_vec());
        match first.as_str() {
            LATE_DMA => return late_dma::run(program, &rest),
            CUT => return cut::run(program, &rest),
            HARM => return harm::run(program, &rest),
            _ => {}
        }
    }
    let options = program.options(&[Flag {
        letter: 'l',
        name: "list",
    }])?;
    if options.has('l') {
        for test in cases::all() {
            writeln!(program.out(), "{}", test.name)?;
        }
        return program.finish();
    }
    let names = options.operands;
    let is_wanted = |test: &&Test| {
        names.is_empty()
            || names
                .iter()
                .any(|name| test.name.starts_with(name.as_str()))
    };
    if !cases::all().any(|test| is_wanted(&test)) {
        return Err(Failed::usage("no test has such a name"));
    }
    let context = Context::new(program)?;
    let (mut passed, mut failed) = (0, 0);
    for test in cases::all().filter(is_wanted) {
        let result = (test.run)(&context);
        for note in context.take_notes() {
            writeln!(program.out(), "   {note}")?;
        }
        match result {
            Ok(()) => {
                passed += 1;
                writeln!(program.out(), "ok {}", test.name)?;
            }
            Err(why) => {
                failed += 1;
                writeln!(program.out(), "FAILED {}: {why}", test.name)?;
            }
        }
        // A test that takes the system down leaves the names of those before it.
        program.out().flush()?;
    }
    writeln!(program.out(), "{passed} passed, {failed} failed")?;
    program.finish()?;
    Ok(i32::from(failed > 0))
}
