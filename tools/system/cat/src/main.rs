//! Prints files.
#![cfg_attr(bare, no_std, no_main)]

use skink_program::files::Files;
use skink_program::{Outcome, Program};

const HELP: &str = "\
Usage: cat [FILE]...

Prints the files one after the other. Without a file, or for -, prints what is
typed until ^D on an empty line.
";

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let operands = program.options(&[])?.operands;
    if operands.is_empty() {
        print_input(program)?;
    }
    let files = Files::new(program)?;
    for operand in &operands {
        if operand == "-" {
            print_input(program)?;
            continue;
        }
        let path = program.absolute(operand);
        let out = program.out();
        let printed = files.read(path.as_bytes(), |bytes| out.write_bytes(bytes));
        if let Err(failed) = printed {
            program.complain(failed.message);
        }
    }
    program.finish()
}

fn print_input(program: &mut Program) -> Result<(), skink_program::Failed> {
    loop {
        let line = program.read_input()?;
        if line.is_empty() {
            return Ok(());
        }
        program.out().write_bytes(&line)?;
    }
}
