//! Moves and renames files.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

use libipc::Failure;
use libipc::proto::vfs::{FileKind, FsError, LastLink};
use skink_program::files::{Files, below, file_name};
use skink_program::{Failed, Outcome, Program};

const HELP: &str = "\
Usage: mv FROM TO
       mv FROM... DIRECTORY

Moves or renames files and directories. A file at the target is replaced. Between
file systems they are copied, then removed.
";

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let operands = program.options(&[])?.operands;
    let [sources @ .., target] = operands.as_slice() else {
        return Err(Failed::usage("from where, to where?"));
    };
    if sources.is_empty() {
        return Err(Failed::usage("to where?"));
    }
    let files = Files::new(program)?;
    let target = program.absolute(target).into_bytes();
    let is_into = files.is_directory(&target);
    if sources.len() > 1 && !is_into {
        return Err(Failed::usage(
            "several files can only be moved into a directory",
        ));
    }
    for source in sources {
        let from = program.absolute(source).into_bytes();
        let to = if is_into {
            below(&target, file_name(&from))
        } else {
            target.clone()
        };
        let moved = match files.vfs().rename(&from, &to) {
            Err(Failure::Server(FsError::CrossesMounts)) => carry(program, &files, &from, &to),
            moved => moved.map_err(Failed::from),
        };
        if let Err(failed) = moved {
            program.complain(failed.about(source).message);
        }
    }
    program.finish()
}

/// Copies to another file system, then removes; what was not copied whole is not removed.
fn carry(program: &mut Program, files: &Files, from: &[u8], to: &[u8]) -> Result<(), Failed> {
    match files.stat(from, LastLink::Keep)?.kind {
        FileKind::Directory => {
            files.copy_tree(program, from, to)?;
            if program.finish()? != 0 {
                return Err(Failed::new(
                    "not all of it was copied, so it is left in place",
                ));
            }
            files.remove_tree(from)
        }
        FileKind::Symlink => {
            let target = files.vfs().read_link(from)?;
            files.vfs().symlink(to, &target)?;
            Ok(files.vfs().unlink(from)?)
        }
        _ => {
            files.copy(from, to)?;
            Ok(files.vfs().unlink(from)?)
        }
    }
}
