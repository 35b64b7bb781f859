//! Copies files.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

use alloc::vec::Vec;

use libipc::proto::vfs::{FileKind, LastLink};
use skink_program::files::{Files, below, file_name};
use skink_program::{Failed, Flag, Options, Outcome, Program};

const HELP: &str = "\
Usage: cp [-r] FROM TO
       cp [-r] FROM... DIRECTORY

Copies files. The target is replaced if it exists.

  -r, --recursive  copies directories too, symbolic links in them as such
";

const FLAGS: &[Flag] = &[Flag {
    letter: 'r',
    name: "recursive",
}];

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let options = program.options(FLAGS)?;
    let [sources @ .., target] = options.operands.as_slice() else {
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
            "several files can only be copied into a directory",
        ));
    }
    for source in sources {
        let from = program.absolute(source).into_bytes();
        let to = if is_into {
            below(&target, file_name(&from))
        } else {
            target.clone()
        };
        if let Err(failed) = copy(program, &files, (&from, &to), &options) {
            let message = if failed.message.starts_with('/') {
                failed.message
            } else {
                failed.about(source).message
            };
            program.complain(message);
        }
    }
    program.finish()
}

fn copy(
    program: &mut Program,
    files: &Files,
    (from, to): (&[u8], &[u8]),
    options: &Options,
) -> Result<(), Failed> {
    let kind = files.stat(from, LastLink::Follow)?.kind;
    if is_same_or_below(files, from, to, kind) {
        return Err(Failed::new("cannot be copied onto or into itself"));
    }
    match kind {
        FileKind::Directory if options.has('r') => files.copy_tree(program, from, to),
        FileKind::Directory => Err(Failed::new("is a directory; use -r")),
        _ => files.copy(from, to),
    }
}

/// Returns whether the target is the source, or lies in it.
fn is_same_or_below(files: &Files, from: &[u8], to: &[u8], kind: FileKind) -> bool {
    let Ok(from) = files.vfs().canonical(from) else {
        return false;
    };
    let to = files.vfs().canonical(to).or_else(|_| {
        // It does not exist yet: the directory that it will be in does.
        let parent: Vec<u8> = to[..to.len() - file_name(to).len()].to_vec();
        files
            .vfs()
            .canonical(&parent)
            .map(|parent| below(&parent, file_name(to)))
    });
    let Ok(to) = to else { return false };
    to == from || (kind == FileKind::Directory && to.starts_with(&below(&from, b"")))
}
