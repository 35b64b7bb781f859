//! Measures a command.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

use alloc::string::ToString;

use skink_program::launch::{Command, Launcher, inherited_output};
use skink_program::{Align, Failed, Outcome, Program, Table, human};

const HELP: &str = "\
Usage: time PROGRAM [ARGUMENT]...

Runs a program and prints how long it took. cpu is the time its threads ran, with
what servers did for it; exit code is the program's.
";

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let arguments = program.arguments().to_vec();
    let [name, arguments @ ..] = arguments.as_slice() else {
        return Err(Failed::usage("which program?"));
    };
    let launcher = Launcher::new(program)?;
    launcher.take_interrupt_key()?;
    let cwd = program.cwd().to_string();
    let output = inherited_output(program);
    let command = Command {
        name,
        arguments,
        cwd: &cwd,
        output: output.as_ref(),
    };
    let start = libsys::time::now();
    let finished = launcher.run(&command).map_err(|error| error.about(name))?;
    let real = libsys::time::now().saturating_sub(start);
    if let Some(message) = finished.message {
        program.complain(message);
    }
    let mut table = Table::without_titles(&[Align::Left, Align::Right]);
    table.row(["real".into(), human::seconds(real)]);
    table.row(["cpu".into(), human::seconds(finished.info.cpu_ns)]);
    table.row(["faults".into(), finished.info.faults.to_string()]);
    table.row(["calls".into(), finished.info.calls.to_string()]);
    program.out().write_bytes(table.render().as_bytes())?;
    program.finish()?;
    Ok(finished.code)
}
