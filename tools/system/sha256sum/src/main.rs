//! Prints and checks SHA-256 checksums of files.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use sha2::{Digest, Sha256};
use sha256sum::{SUM_BYTES, parse_line};
use skink_program::files::{Files, printable};
use skink_program::{Failed, Flag, Outcome, Program, join};

const HELP: &str = "\
Usage: sha256sum [FILE]...
       sha256sum -c [FILE]...

Prints the SHA-256 checksum of each file. Without a file, or for -, of what is
typed until ^D on an empty line.

  -c, --check  reads lists of checksums from the files and tells for each line
               whether the file named there has that checksum
";

const FLAGS: &[Flag] = &[Flag {
    letter: 'c',
    name: "check",
}];

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let options = program.options(FLAGS)?;
    let mut operands = options.operands.clone();
    if operands.is_empty() {
        operands.push("-".into());
    }
    let files = Files::new(program)?;
    for operand in &operands {
        let done = if options.has('c') {
            check(program, &files, operand)
        } else {
            print(program, &files, operand)
        };
        if let Err(failed) = done {
            program.complain(failed.message);
        }
    }
    program.finish()
}

/// Prints the checksum of an operand.
fn print(program: &mut Program, files: &Files, operand: &str) -> Result<(), Failed> {
    let sum = checksum(program, files, operand)?;
    let out = program.out();
    for byte in sum {
        write!(out, "{byte:02x}")?;
    }
    writeln!(out, "  {operand}")?;
    // The next one may take long.
    out.flush()
}

/// Checks the files in a list; tells how many were wrong in a complaint.
fn check(program: &mut Program, files: &Files, operand: &str) -> Result<(), Failed> {
    let mut list = Vec::new();
    read(program, files, operand, |bytes| {
        list.extend_from_slice(bytes);
        Ok(())
    })?;
    let lines = list.split(|&byte| byte == b'\n');
    let (mut odd, mut wrong, mut unread) = (0, 0, 0);
    for line in lines.filter(|line| !line.is_empty()) {
        let Some(listed) = parse_line(line) else {
            odd += 1;
            continue;
        };
        let name = String::from_utf8_lossy(listed.name);
        let verdict = match checksum(program, files, &name) {
            Ok(sum) if sum == listed.sum => "OK",
            Ok(_) => {
                wrong += 1;
                "FAILED"
            }
            Err(failed) => {
                unread += 1;
                program.complain(failed.message);
                "FAILED open or read"
            }
        };
        writeln!(program.out(), "{}: {verdict}", printable(listed.name))?;
    }
    for (count, what) in [
        (odd, "no checksum of a file"),
        (unread, "a file that cannot be read"),
        (wrong, "another checksum than the file's"),
    ] {
        if count > 0 {
            program.complain(format_args!("{operand}: {count} lines have {what}"));
        }
    }
    Ok(())
}

fn checksum(
    program: &mut Program,
    files: &Files,
    operand: &str,
) -> Result<[u8; SUM_BYTES], Failed> {
    let mut hash = Sha256::new();
    read(program, files, operand, |bytes| {
        hash.update(bytes);
        Ok(())
    })?;
    Ok(hash.finalize().into())
}

/// Gives the content of a file, or what is typed, to `take`.
fn read(
    program: &mut Program,
    files: &Files,
    operand: &str,
    mut take: impl FnMut(&[u8]) -> Result<(), Failed>,
) -> Result<(), Failed> {
    if operand != "-" {
        return files.read(join(program.cwd(), operand).as_bytes(), take);
    }
    loop {
        let line = program.read_input()?;
        if line.is_empty() {
            return Ok(());
        }
        take(&line)?;
    }
}
