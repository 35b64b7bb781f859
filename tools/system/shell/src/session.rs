//! What the shell knows, and running lines.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;

use libipc::proto::file_system::FileKind;
use libipc::proto::init::InitClient;
use libipc::proto::vfs::{LastLink, OpenOptions, VfsClient};
use shell::complete::{Candidate, Query, insertion, matching, query};
use shell::parse::{self, When};
use skink_program::launch::{
    Command, INTERRUPTED, LaunchError, Launcher, NOT_FOUND, NOT_STARTED, Redirect,
};
use skink_program::{FAILURE, Failed, Output, Program, USAGE, join};

/// Commands that the shell itself carries out.
pub(crate) const BUILTINS: [&str; 4] = ["cd", "exit", "history", "pwd"];

/// How a line ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// All of it was run; the last exit code that was not 0, or 0.
    Line {
        /// That exit code.
        failure: i32,
    },
    /// The shell is to be left.
    Exit(i32),
}

/// The state of the shell.
#[derive(Debug)]
pub(crate) struct Session {
    launcher: Launcher,
    vfs: VfsClient,
    cwd: String,
    status: i32,
}

/// How a single command ended.
enum Done {
    Status(i32),
    Exit(i32),
}

impl Session {
    pub(crate) fn new(program: &Program) -> Result<Self, Failed> {
        let launcher = Launcher::new(program)?;
        launcher.take_interrupt_key()?;
        let vfs = launcher.vfs().clone();
        Ok(Session {
            launcher,
            vfs,
            cwd: "/".to_string(),
            status: 0,
        })
    }

    pub(crate) fn cwd(&self) -> &str {
        &self.cwd
    }

    pub(crate) fn set_status(&mut self, status: i32) {
        self.status = status;
    }

    pub(crate) fn init(&self) -> Option<InitClient> {
        self.launcher.init()
    }

    /// Runs a line.
    pub(crate) fn run_line(
        &mut self,
        program: &mut Program,
        line: &str,
        history: &[String],
    ) -> Ended {
        let commands = match parse::parse(line) {
            Ok(commands) => commands,
            Err(error) => {
                program.complain(error);
                self.status = USAGE;
                return Ended::Line { failure: USAGE };
            }
        };
        let mut failure = 0;
        for command in commands {
            let runs = match command.when {
                When::Always => true,
                When::Success => self.status == 0,
                When::Failure => self.status != 0,
            };
            if !runs {
                continue;
            }
            match self.run(program, &command, history) {
                Done::Exit(code) => return Ended::Exit(code),
                Done::Status(status) => self.status = status,
            }
            if self.status != 0 {
                failure = self.status;
            }
            if self.status == INTERRUPTED {
                break;
            }
        }
        Ended::Line { failure }
    }

    fn run(&mut self, program: &mut Program, command: &parse::Command, history: &[String]) -> Done {
        let words: Vec<String> = command
            .words
            .iter()
            .map(|w| w.expand(self.status))
            .collect();
        let [name, arguments @ ..] = words.as_slice() else {
            return Done::Status(0);
        };
        let output = command.output.as_ref().map(|output| Redirect {
            path: join(&self.cwd, &output.path.expand(self.status)),
            is_append: output.is_append,
        });
        if BUILTINS.contains(&name.as_str()) {
            return match self.builtin(name, arguments, history) {
                Ok(Builtin::Exit(code)) => Done::Exit(code),
                Ok(Builtin::Text(text)) => Done::Status(self.print(program, &text, output)),
                Err(failed) => {
                    program.complain(format!("{name}: {}", failed.message));
                    Done::Status(failed.code)
                }
            };
        }
        let child = Command {
            name,
            arguments,
            cwd: &self.cwd,
            output: output.as_ref(),
        };
        Done::Status(match self.launcher.run(&child) {
            Ok(finished) => {
                if let Some(message) = finished.message {
                    program.complain(message);
                }
                if finished.code == INTERRUPTED {
                    // The terminal has shown the key where the cursor was.
                    let _ = program.out().write_str("^C\n");
                }
                finished.code
            }
            Err(LaunchError::NotFound) => {
                program.complain(format!("{name}: no such program; help lists them"));
                NOT_FOUND
            }
            Err(LaunchError::Failed(failed)) => {
                program.complain(format!("{name}: cannot be started: {}", failed.message));
                NOT_STARTED
            }
        })
    }

    /// Prints what a builtin says.
    fn print(&self, program: &mut Program, text: &str, output: Option<Redirect>) -> i32 {
        let written = match output {
            // At once: the next command writes to the terminal by itself.
            None => program
                .out()
                .write_bytes(text.as_bytes())
                .and_then(|()| program.out().flush()),
            Some(redirect) => {
                let options = if redirect.is_append {
                    OpenOptions::append()
                } else {
                    OpenOptions::replace()
                };
                Output::file(self.vfs.clone(), &redirect.path, options)
                    .and_then(|mut file| {
                        file.write_bytes(text.as_bytes())?;
                        file.flush()
                    })
                    .map_err(|failed| failed.about(&redirect.path))
            }
        };
        match written {
            Ok(()) => 0,
            Err(failed) => {
                program.complain(failed.message);
                FAILURE
            }
        }
    }

    fn builtin(
        &mut self,
        name: &str,
        arguments: &[String],
        history: &[String],
    ) -> Result<Builtin, Failed> {
        if arguments.len() > 1 {
            return Err(Failed {
                message: "too many arguments".into(),
                code: USAGE,
            });
        }
        let argument = arguments.first().map(String::as_str);
        if argument == Some("--help") {
            return Ok(Builtin::Text(builtin_help(name).into()));
        }
        match name {
            "cd" => self.change_directory(argument.unwrap_or("/"))?,
            "pwd" => return Ok(Builtin::Text(format!("{}\n", self.cwd))),
            "history" => return Ok(Builtin::Text(numbered(history))),
            _ => {
                let code = argument.map_or(Ok(self.status), str::parse);
                let code = code.map_err(|_| Failed {
                    message: "the exit code must be a number".into(),
                    code: USAGE,
                })?;
                return Ok(Builtin::Exit(code));
            }
        }
        Ok(Builtin::Text(String::new()))
    }

    fn change_directory(&mut self, path: &str) -> Result<(), Failed> {
        let about = |failed: Failed| failed.about(path);
        let target = join(&self.cwd, path);
        let target = self
            .vfs
            .canonical(target.as_bytes())
            .map_err(|e| about(e.into()))?;
        let attributes = self
            .vfs
            .stat(&target, LastLink::Follow)
            .map_err(|e| about(e.into()))?;
        if attributes.kind != FileKind::Directory {
            return Err(about(Failed::new("not a directory")));
        }
        self.cwd =
            String::from_utf8(target).map_err(|_| about(Failed::new("the name is not UTF-8")))?;
        Ok(())
    }

    /// Completes what stands before the cursor: what to insert, and the choices.
    pub(crate) fn complete(&self, before_cursor: &str) -> (String, Vec<String>) {
        let (prefix, found) = match query(before_cursor) {
            Query::Program(prefix) => {
                let names = self.launcher.programs();
                let names = names.into_iter().chain(BUILTINS.map(ToString::to_string));
                let found = names.map(|name| Candidate {
                    name,
                    is_directory: false,
                });
                let found = matching(&prefix, found);
                (prefix, found)
            }
            Query::Path { directory, prefix } => {
                let found = matching(&prefix, self.names_in(&directory));
                (prefix, found)
            }
        };
        let insertion = insertion(&prefix, &found);
        let choices = found.into_iter().map(|candidate| candidate.name).collect();
        (insertion, choices)
    }

    /// Returns the names in a directory, as far as they can be typed; nothing if it cannot be
    /// read.
    fn names_in(&self, directory: &str) -> Vec<Candidate> {
        let path = join(&self.cwd, directory);
        let entries = self.vfs.read_dir(path.as_bytes()).map_while(Result::ok);
        let names = entries.filter_map(|entry| {
            let is_directory = entry.kind == FileKind::Directory;
            let name = String::from_utf8(entry.name).ok()?;
            Some(Candidate { name, is_directory })
        });
        names.collect()
    }
}

/// What a builtin asks for.
enum Builtin {
    Text(String),
    Exit(i32),
}

fn numbered(history: &[String]) -> String {
    let mut text = String::new();
    for (number, line) in history.iter().enumerate() {
        // Writing to a `String` never fails.
        let _ = writeln!(text, "{:5}  {line}", number + 1);
    }
    text
}

fn builtin_help(name: &str) -> &'static str {
    match name {
        "cd" => "Usage: cd [DIRECTORY]\n\nChanges the current directory; / without an argument.\n",
        "pwd" => "Usage: pwd\n\nPrints the current directory.\n",
        "history" => "Usage: history\n\nPrints the lines that were entered.\n",
        _ => "Usage: exit [CODE]\n\nLeaves the shell; init starts a new one.\n",
    }
}
