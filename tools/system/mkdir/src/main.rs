//! Makes directories.
#![cfg_attr(bare, no_std, no_main)]

use skink_program::files::Files;
use skink_program::{Failed, Flag, Outcome, Program};

const HELP: &str = "\
Usage: mkdir [-p] DIRECTORY...

Makes the directories.

  -p, --parents  makes missing directories above too; one that exists is fine
";

const FLAGS: &[Flag] = &[Flag {
    letter: 'p',
    name: "parents",
}];

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let options = program.options(FLAGS)?;
    if options.operands.is_empty() {
        return Err(Failed::usage("which directory?"));
    }
    let files = Files::new(program)?;
    for operand in &options.operands {
        let path = program.absolute(operand);
        let made = if options.has('p') {
            files.make_dirs(path.as_bytes())
        } else {
            files.vfs().make_dir(path.as_bytes()).map_err(Failed::from)
        };
        if let Err(failed) = made {
            program.complain(failed.about(operand).message);
        }
    }
    program.finish()
}
