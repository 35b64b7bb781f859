//! The interactive shell.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

mod session;
mod terminal;

use alloc::string::String;

use libipc::proto::console::InputMode;
use skink_manifest::command_line;
use skink_program::{Failed, Outcome, Program};

use crate::session::{Ended, Session};
use crate::terminal::{Answer, Terminal};

const HELP: &str = "\
Usage: shell

Reads commands from the terminal and runs them.

  a; b           a, then b              a && b, a || b   b if a succeeded, failed
  a > f, a >> f  output into a file     $?               last exit code
  'a b' \"a b\" \\  quoting                # ...            comment

Built in: cd [DIR], pwd, exit [CODE], history. `help` lists the programs.
";

const BANNER: &str = concat!(
    "Skink ",
    env!("CARGO_PKG_VERSION"),
    ". Type help for help.\n"
);

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    let commands = commands_of_command_line(program)?;
    let mut session = Session::new(program)?;
    match commands {
        Some(commands) => execute(program, &mut session, &commands),
        None => interact(program, &mut session),
    }
}

/// Returns the commands that the kernel's command line asks for, if it does.
fn commands_of_command_line(program: &Program) -> Result<Option<String>, Failed> {
    let line = program.startup().variable("cmdline").unwrap_or_default();
    let Some(value) = command_line::option(line, "exec") else {
        return Ok(None);
    };
    let bytes = command_line::hex_bytes(value).ok_or_else(|| Failed::new("exec= is not hex:…"))?;
    let text = String::from_utf8(bytes.collect());
    text.map(Some)
        .map_err(|_| Failed::new("exec= is not UTF-8"))
}

/// Runs commands, then powers off with the last exit code that was not 0.
fn execute(program: &mut Program, session: &mut Session, commands: &str) -> Outcome {
    program.console()?.set_mode(InputMode::Line)?;
    let code = match session.run_line(program, commands, &[]) {
        Ended::Exit(code) => code,
        Ended::Line { failure } => failure,
    };
    program.out().flush()?;
    program.console()?.drain()?;
    let init = session
        .init()
        .ok_or_else(|| Failed::new("no way to power off"))?;
    init.shutdown(code.cast_unsigned())?;
    Ok(code)
}

/// Reads lines and runs them until the shell is left.
fn interact(program: &mut Program, session: &mut Session) -> Outcome {
    let mut terminal = Terminal::new(program.console()?);
    terminal.write(BANNER.as_bytes())?;
    loop {
        let prompt = alloc::format!("skink:{}# ", session.cwd());
        let line = match terminal.read_line(&prompt, session)? {
            Answer::Line(line) => line,
            Answer::Interrupted => {
                session.set_status(skink_program::launch::INTERRUPTED);
                continue;
            }
            Answer::EndOfInput => {
                terminal.write(b"exit\n")?;
                return Ok(0);
            }
        };
        terminal.set_mode(InputMode::Line)?;
        let ended = session.run_line(program, &line, terminal.history());
        program.out().flush()?;
        if let Ended::Exit(code) = ended {
            return Ok(code);
        }
    }
}
