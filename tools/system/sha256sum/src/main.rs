//! Prints SHA-256 checksums of files.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

use core::fmt::Write as _;

use sha2::{Digest, Sha256};
use skink_program::files::Files;
use skink_program::{Failed, Outcome, Program};

const HELP: &str = "\
Usage: sha256sum [FILE]...

Prints the SHA-256 checksum of each file. Without a file, or for -, of what is
typed until ^D on an empty line.
";

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let mut operands = program.options(&[])?.operands;
    if operands.is_empty() {
        operands.push("-".into());
    }
    let files = Files::new(program)?;
    for operand in &operands {
        match checksum(program, &files, operand) {
            Ok(hash) => {
                let out = program.out();
                for byte in hash.finalize() {
                    write!(out, "{byte:02x}")?;
                }
                writeln!(out, "  {operand}")?;
                // The next one may take long.
                out.flush()?;
            }
            Err(failed) => program.complain(failed.message),
        }
    }
    program.finish()
}

fn checksum(program: &mut Program, files: &Files, operand: &str) -> Result<Sha256, Failed> {
    let mut hash = Sha256::new();
    if operand == "-" {
        loop {
            let line = program.read_input()?;
            if line.is_empty() {
                return Ok(hash);
            }
            hash.update(&line);
        }
    }
    let path = program.absolute(operand);
    files.read(path.as_bytes(), |bytes| {
        hash.update(bytes);
        Ok(())
    })?;
    Ok(hash)
}
