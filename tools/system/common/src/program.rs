//! A running program: what it was given, its output, its way to the servers.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, OnceCell};
use core::fmt;

use libipc::Interface;
use libipc::proto::console::{ConsoleClient, MAX_READ};
use libipc::proto::init::InitClient;
use libipc::proto::log::LogClient;
use libipc::proto::memory::MemoryManagerClient;
use libipc::proto::vfs::{OpenOptions, VfsClient, VfsSchema};
use libsys::startup::Startup;
use libsys::{Handle, Kind, System};

use crate::failed::{FAILURE, Failed, HELP_ASKED, Outcome};
use crate::output::{self, Output};
use crate::{Flag, Options};

/// Variable with the current directory.
pub const CWD: &str = "cwd";
/// Variable with the path of the file that takes the output.
pub const STDOUT: &str = "stdout";
/// Variable that says how [`STDOUT`] is opened: [`APPEND`] or anything else.
pub const STDOUT_MODE: &str = "stdout_mode";
/// Value of [`STDOUT_MODE`] for writing at the end.
pub const APPEND: &str = "append";

/// What a program was given and what it does with it.
#[derive(Debug)]
pub struct Program {
    startup: Startup,
    console: Option<ConsoleClient>,
    vfs: OnceCell<VfsClient>,
    is_vfs_connected: Cell<bool>,
    out: Output,
    has_complained: bool,
}

impl Program {
    /// Makes a program of what it was given; opens the file that takes its output.
    ///
    /// # Errors
    ///
    /// When that file cannot be opened; it is said on the terminal already.
    pub fn new(startup: Startup) -> Result<Self, Failed> {
        let console = startup.handle("console").map(Handle::from_raw);
        // Without a terminal there is nowhere to say why there is none.
        let console = console.and_then(|sender| ConsoleClient::connect(sender).ok());
        let out = Output::terminal(console.clone());
        let vfs = OnceCell::new();
        let mut program = Program {
            startup,
            console,
            vfs,
            is_vfs_connected: Cell::new(false),
            out,
            has_complained: false,
        };
        if let Some(path) = program.startup.variable(STDOUT).map(ToString::to_string) {
            let options = match program.startup.variable(STDOUT_MODE) {
                Some(APPEND) => OpenOptions::append(),
                // At the end even so: a child of this program may write there too.
                _ => OpenOptions {
                    append: true,
                    ..OpenOptions::replace()
                },
            };
            let opened = program.vfs().and_then(|vfs| {
                Output::file(vfs, &path, options).map_err(|failed| failed.about(&path))
            });
            match opened {
                Ok(out) => program.out = out,
                Err(failed) => {
                    program.complain(&failed.message);
                    return Err(failed);
                }
            }
        }
        Ok(program)
    }

    /// Returns what the program was given, all of it.
    pub fn startup(&self) -> &Startup {
        &self.startup
    }

    /// Returns the name under which it was started.
    pub fn name(&self) -> &str {
        &self.startup.name
    }

    /// Returns the arguments.
    pub fn arguments(&self) -> &[String] {
        &self.startup.arguments
    }

    /// Returns the current directory.
    pub fn cwd(&self) -> &str {
        self.startup.variable(CWD).unwrap_or("/")
    }

    /// Returns a path as the vfs wants it: absolute.
    pub fn absolute(&self, path: &str) -> String {
        join(self.cwd(), path)
    }

    /// Parses the arguments into options and operands.
    ///
    /// # Errors
    ///
    /// A usage failure that names the unknown option; `--help` is an error that [`run`] answers.
    pub fn options(&self, known: &[Flag]) -> Result<Options, Failed> {
        let mut options = self.arguments().iter().take_while(|a| *a != "--");
        if options.any(|argument| argument == "--help") {
            return Err(Failed {
                message: String::new(),
                code: HELP_ASKED,
            });
        }
        Options::parse(self.arguments(), known).map_err(Failed::usage)
    }

    /// Returns the output.
    pub fn out(&mut self) -> &mut Output {
        &mut self.out
    }

    /// Says on the terminal what went wrong, with the program's name in front. The exit code
    /// will be 1, the program may go on.
    pub fn complain(&mut self, message: impl fmt::Display) {
        // What was written before must be read before; if that fails it is said at the end.
        let _ = self.out.flush();
        output::complain(self.console.as_ref(), &self.startup.name, &message);
        self.has_complained = true;
    }

    /// Flushes the output; the exit code is 1 after a complaint, else 0.
    ///
    /// # Errors
    ///
    /// When the output cannot be written.
    pub fn finish(&mut self) -> Outcome {
        self.out.flush().map_err(|failed| failed.about("output"))?;
        Ok(if self.has_complained { FAILURE } else { 0 })
    }

    /// Reads a line (or, when the terminal is in raw mode, some bytes) from the terminal; nothing
    /// is the end of input.
    ///
    /// # Errors
    ///
    /// When there is no terminal or it fails.
    pub fn read_input(&mut self) -> Result<Vec<u8>, Failed> {
        self.out.flush()?;
        Ok(self.console()?.read(MAX_READ as u32)?)
    }

    /// Returns a client of the terminal.
    ///
    /// # Errors
    ///
    /// When the program was not given it.
    pub fn console(&self) -> Result<ConsoleClient, Failed> {
        self.console.clone().ok_or_else(|| not_given("console"))
    }

    /// Returns a client of the files.
    ///
    /// # Errors
    ///
    /// When the program was not given it.
    pub fn vfs(&self) -> Result<VfsClient, Failed> {
        let vfs = self.unconnected_vfs()?;
        if !self.is_vfs_connected.get() {
            vfs.client().handshake(VfsSchema::SCHEMA)?;
            self.is_vfs_connected.set(true);
        }
        Ok(vfs)
    }

    /// As [`Program::vfs`], without asking the vfs whether it speaks the same version: for
    /// programs that must come up while it is away.
    ///
    /// # Errors
    ///
    /// When the program was not given it.
    pub fn unconnected_vfs(&self) -> Result<VfsClient, Failed> {
        if let Some(vfs) = self.vfs.get() {
            return Ok(vfs.clone());
        }
        let vfs = VfsClient::new_unchecked(self.take("vfs")?);
        Ok(self.vfs.get_or_init(|| vfs).clone())
    }

    /// Returns a client of `init`. Take each of the clients below once only: each owns its
    /// handle.
    ///
    /// # Errors
    ///
    /// When the program was not given it.
    pub fn init(&self) -> Result<InitClient, Failed> {
        Ok(InitClient::connect(self.take("init")?)?)
    }

    /// Returns a client of the log server.
    ///
    /// # Errors
    ///
    /// When the program was not given it.
    pub fn log(&self) -> Result<LogClient, Failed> {
        Ok(LogClient::connect(self.take("log")?)?)
    }

    /// Returns a client of the memory manager, for this program's own space.
    ///
    /// # Errors
    ///
    /// When the program was not given it.
    pub fn memory(&self) -> Result<MemoryManagerClient, Failed> {
        Ok(MemoryManagerClient::connect(self.take("memory")?)?)
    }

    /// Returns the machine, for looking.
    ///
    /// # Errors
    ///
    /// When the program was not given it.
    pub fn system(&self) -> Result<Handle<System>, Failed> {
        self.take("system")
    }

    /// Takes a handle that was given under a name. Take each once only.
    ///
    /// # Errors
    ///
    /// When there is none of this name.
    pub fn take<K: Kind>(&self, name: &str) -> Result<Handle<K>, Failed> {
        self.startup
            .handle(name)
            .map(Handle::from_raw)
            .ok_or_else(|| not_given(name))
    }
}

fn not_given(name: &str) -> Failed {
    Failed::new(format!("this program was not given access to {name}"))
}

/// Puts a path behind a directory, unless it is absolute.
pub fn join(directory: &str, path: &str) -> String {
    if path.starts_with('/') {
        path.to_string()
    } else if directory.ends_with('/') {
        format!("{directory}{path}")
    } else {
        format!("{directory}/{path}")
    }
}

/// Runs a program: answers `--help`, says why it failed, returns the exit code.
pub fn run(startup: Startup, help: &str, main: fn(&mut Program) -> Outcome) -> i32 {
    let mut program = match Program::new(startup) {
        Ok(program) => program,
        Err(failed) => return failed.code,
    };
    // Behind the first operand it may be meant for another program, as in `time ls --help`.
    let mut first = program
        .arguments()
        .iter()
        .take_while(|a| a.starts_with('-'));
    let outcome = if first.any(|argument| argument == "--help") {
        Err(Failed {
            message: String::new(),
            code: HELP_ASKED,
        })
    } else {
        main(&mut program)
    };
    let outcome = match outcome {
        Err(failed) if failed.code == HELP_ASKED => program
            .out
            .write_bytes(help.as_bytes())
            .and_then(|()| program.finish()),
        outcome => outcome,
    };
    match outcome {
        Ok(code) => code,
        Err(failed) => {
            program.complain(&failed.message);
            failed.code
        }
    }
}

/// Makes a function from [`Program`] to [`Outcome`] the program, with a text for `--help`.
#[macro_export]
macro_rules! program {
    ($help:expr, $main:path) => {
        #[cfg(bare)]
        $crate::libsys::entry!(skink_main);

        #[cfg(bare)]
        fn skink_main() -> i32 {
            match $crate::libsys::startup::read() {
                Some(startup) => $crate::run(startup, $help, $main),
                None => 126,
            }
        }

        /// On the host there is nothing to run: this program speaks to Skink's servers.
        #[cfg(not(bare))]
        fn main() {
            let startup = $crate::libsys::startup::Startup::default();
            std::process::exit($crate::run(startup, $help, $main));
        }
    };
}

#[cfg(test)]
mod tests {
    use libsys::startup::Startup;

    use super::{Failed, Outcome, Program, join, run};

    fn started(arguments: &[&str]) -> Startup {
        Startup {
            name: "test".into(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            ..Startup::default()
        }
    }

    fn never(_program: &mut Program) -> Outcome {
        Err(Failed::usage("ran"))
    }

    #[test]
    fn help_is_answered_before_the_program_runs() {
        assert_eq!(run(started(&["-x", "--help"]), "help\n", never), 0);
        assert_eq!(run(started(&["ls", "--help"]), "help\n", never), 2);
    }

    #[test]
    fn help_is_answered_among_operands_unless_they_were_ended() {
        fn parses(program: &mut Program) -> Outcome {
            program.options(&[])?;
            Ok(3)
        }
        assert_eq!(run(started(&["x", "--help"]), "help\n", parses), 0);
        assert_eq!(run(started(&["x", "--", "--help"]), "help\n", parses), 3);
    }

    #[test]
    fn a_complaint_makes_the_exit_code_1() {
        fn complains(program: &mut Program) -> Outcome {
            program.complain("x: no such file");
            program.finish()
        }
        assert_eq!(run(started(&[]), "", complains), 1);
    }

    #[test]
    fn output_that_cannot_be_opened_fails_the_program() {
        let mut startup = started(&[]);
        startup.variables.push(("stdout".into(), "/tmp/x".into()));
        assert_eq!(run(startup, "", never), 1);
    }

    #[test]
    fn paths_are_joined_with_one_slash() {
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("/tmp", "a/b"), "/tmp/a/b");
        assert_eq!(join("/tmp", "/etc"), "/etc");
    }
}
