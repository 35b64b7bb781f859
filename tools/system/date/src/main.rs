//! Shows the wall time.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

use alloc::format;

use libsys::abi::calendar::Moment;
use libsys::time;
use skink_program::{Failed, Flag, Outcome, Program};

const HELP: &str = "\
Usage: date [-s]

Shows date and time, Universal Time.

  -s, --seconds  shows the seconds since the beginning of 1970
";

const FLAGS: &[Flag] = &[Flag {
    letter: 's',
    name: "seconds",
}];

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let options = program.options(FLAGS)?;
    if !options.operands.is_empty() {
        return Err(Failed::usage("too many arguments"));
    }
    let wall = time::wall().ok_or_else(|| Failed::new("the machine's clock shows no time"))?;
    let seconds = wall / 1_000_000_000;
    let text = if options.has('s') {
        format!("{seconds}\n")
    } else {
        let moment = Moment::from_unix(seconds)
            .ok_or_else(|| Failed::new("the machine's clock shows a time that is no date"))?;
        format!("{moment} UTC\n")
    };
    program.out().write_bytes(text.as_bytes())?;
    program.finish()
}
