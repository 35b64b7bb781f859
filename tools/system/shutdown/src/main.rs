//! Powers the machine off.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

use skink_program::{Failed, Outcome, Program};

const HELP: &str = "\
Usage: shutdown [CODE]

Powers the machine off. The code (0 if none is given) is the exit code of the
emulator's run.
";

/// How long files and terminal are waited for, ns.
const TIMEOUT_NS: u64 = 5_000_000_000;

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let operands = program.options(&[])?.operands;
    let code = match operands.as_slice() {
        [] => 0,
        [code] => code
            .parse()
            .map_err(|_| Failed::usage("the code must be a number"))?,
        _ => return Err(Failed::usage("too many arguments")),
    };
    // Best effort: power goes off whether or not the disk or the terminal can be waited for.
    let _ = program
        .vfs()
        .map(|vfs| vfs.with_deadline(TIMEOUT_NS).sync());
    let _ = program
        .console()
        .map(|console| console.with_deadline(TIMEOUT_NS).drain());
    program.init()?.shutdown(code)?;
    program.finish()
}
