//! Lists the programs.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

use alloc::string::{String, ToString};

use skink_program::launch::{images, programs};
use skink_program::{Align, Failed, Outcome, Program, Table, columns};

const HELP: &str = "\
Usage: help

Lists the programs. PROGRAM --help tells about one of them.
";

/// What the programs do, and what the shell does itself.
const TEXTS: &[(&str, &str)] = &[
    ("bench", "measures the system"),
    ("cat", "prints files"),
    ("cd", "changes the current directory (in the shell)"),
    ("chaos", "kills services at random while a program runs"),
    ("cp", "copies files"),
    ("date", "shows the wall time"),
    ("echo", "prints its arguments"),
    ("exit", "leaves the shell"),
    ("free", "shows memory use"),
    ("help", "lists the programs"),
    (
        "history",
        "prints the lines that were entered (in the shell)",
    ),
    ("ls", "lists directories"),
    ("memtest", "fills memory with patterns and checks them"),
    ("mkdir", "makes directories"),
    ("mv", "moves and renames files"),
    ("ps", "lists processes"),
    ("pwd", "prints the current directory (in the shell)"),
    ("rm", "removes files"),
    ("sha256sum", "prints and checks checksums of files"),
    ("shell", "reads commands and runs programs"),
    ("shutdown", "powers the machine off"),
    ("svc", "lists, restarts and ends services, shows their logs"),
    ("system-tests", "tests the kernel and the runtime"),
    ("time", "measures a command"),
];
const BUILT_IN: &[&str] = &["cd", "exit", "history", "pwd"];

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    if !program.options(&[])?.operands.is_empty() {
        return Err(Failed::usage("too many arguments"));
    }
    let found = images(program).map(programs).unwrap_or_default();
    let is_there = |name: &str| BUILT_IN.contains(&name) || found.iter().any(|n| n == name);
    let mut table = Table::without_titles(&[Align::Left, Align::Left]);
    for (name, text) in TEXTS.iter().filter(|(name, _)| is_there(name)) {
        table.row([(*name).to_string(), (*text).to_string()]);
    }
    let others: alloc::vec::Vec<String> = found
        .into_iter()
        .filter(|name| !TEXTS.iter().any(|(known, _)| known == name))
        .collect();
    let out = program.out();
    out.write_bytes(table.render().as_bytes())?;
    if !others.is_empty() {
        out.write_bytes(b"\nOthers:\n")?;
        out.write_bytes(columns::render(&others, columns::WIDTH).as_bytes())?;
    }
    out.write_bytes(b"\nPROGRAM --help tells about one of them.\n")?;
    program.finish()
}
