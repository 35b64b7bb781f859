//! Makes directories.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

use libipc::Failure;
use libipc::proto::vfs::FsError;
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
            make_all(&files, &path)
        } else {
            files.vfs().make_dir(path.as_bytes()).map_err(Failed::from)
        };
        if let Err(failed) = made {
            program.complain(failed.about(operand).message);
        }
    }
    program.finish()
}

/// Makes a directory and those above it.
fn make_all(files: &Files, path: &str) -> Result<(), Failed> {
    let ends = path
        .match_indices('/')
        .map(|(at, _)| at)
        .skip(1)
        .chain([path.len()]);
    for end in ends {
        let directory = &path.as_bytes()[..end];
        match files.vfs().make_dir(directory) {
            Err(Failure::Server(FsError::Exists)) if files.is_directory(directory) => {}
            // A directory that is there need not be in a place where one could be made.
            Err(Failure::Server(FsError::ReadOnly | FsError::Busy))
                if files.is_directory(directory) => {}
            made => made?,
        }
    }
    Ok(())
}
