//! Prints its arguments.
#![cfg_attr(bare, no_std, no_main)]

use skink_program::{Outcome, Program};

const HELP: &str = "\
Usage: echo [-n] [TEXT]...

Prints the texts with blanks between them, and a line end.

  -n  without the line end
";

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let text = program.arguments().join(" ");
    // A text may start with a dash: `-n` is an option only when it comes first.
    let rest = (program.arguments().first().map(|first| first == "-n") == Some(true))
        .then(|| program.arguments()[1..].join(" "));
    match rest {
        Some(rest) => program.out().write_bytes(rest.as_bytes())?,
        None => {
            program.out().write_bytes(text.as_bytes())?;
            program.out().write_bytes(b"\n")?;
        }
    }
    program.finish()
}
