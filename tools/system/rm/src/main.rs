//! Removes files.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

use libipc::Failure;
use libipc::proto::vfs::{FileKind, FsError, LastLink};
use skink_program::files::{Files, file_name};
use skink_program::{Failed, Flag, Options, Outcome, Program};

const HELP: &str = "\
Usage: rm [-rf] PATH...

Removes files and symbolic links.

  -r, --recursive  removes directories with all that is in them too
  -f, --force      what does not exist is fine
";

const FLAGS: &[Flag] = &[
    Flag {
        letter: 'r',
        name: "recursive",
    },
    Flag {
        letter: 'f',
        name: "force",
    },
];

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let options = program.options(FLAGS)?;
    if options.operands.is_empty() && !options.has('f') {
        return Err(Failed::usage("which file?"));
    }
    let files = Files::new(program)?;
    for operand in &options.operands {
        let path = program.absolute(operand);
        if let Err(failed) = remove(&files, path.as_bytes(), &options) {
            let message = if failed.message.starts_with('/') {
                failed.message
            } else {
                failed.about(operand).message
            };
            program.complain(message);
        }
    }
    program.finish()
}

fn remove(files: &Files, path: &[u8], options: &Options) -> Result<(), Failed> {
    if matches!(file_name(path), b"" | b"." | b"..") {
        return Err(Failed::new(
            "is not removed: it is a directory above or the root",
        ));
    }
    let kind = match files.vfs().stat(path, LastLink::Keep) {
        Ok(attributes) => attributes.kind,
        Err(Failure::Server(FsError::NotFound)) if options.has('f') => return Ok(()),
        Err(failure) => return Err(failure.into()),
    };
    if kind != FileKind::Directory {
        return Ok(files.vfs().unlink(path)?);
    }
    if !options.has('r') {
        return Err(Failed::new("is a directory; use -r"));
    }
    files.remove_tree(path)
}
