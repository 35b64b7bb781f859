//! The command line of `bench`.

use alloc::format;
use alloc::string::{String, ToString};

use skink_program::Failed;

/// Text for `--help`.
pub const HELP: &str = "\
Usage: bench SUITE [OPTIONS]
Measures what operations of the system cost.

Suites:
  ipc             system calls, messages, rings, page faults, switches and the clock
  files           files in memory and on the sample disk; time in which nothing runs is not in it

  kills           reading a file while the driver of the disk is killed

Options:
  --list          list the benchmarks of the suite and what they measure
  --only PREFIX   run those of which the name starts with PREFIX
  --json          print JSON in place of a table
  --ticks         show ticks of the time stamp counter in place of ns
  --forever NAME  repeat one benchmark without end, for a profiler
  --help          show this text

The cost of the loop around an operation is taken away. `min` is the best of several batches;
`p99` is of operations that were timed one by one: 99 of 100 do not take longer.
";

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Task {
    /// Measure.
    Measure(Request),
    /// List benchmarks.
    List {
        /// Name of the suite.
        suite: String,
        /// Start of the names.
        only: String,
    },
    /// Repeat a benchmark until this program is ended.
    Forever {
        /// Name of the suite.
        suite: String,
        /// The benchmark's whole name.
        name: String,
    },
    /// Read while a driver is killed.
    Kills(Format),
    /// Serve a benchmark that runs in another process: how `bench` starts itself.
    Serve(Role),
}

/// What to measure and how to show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Name of the suite.
    pub suite: String,
    /// Start of the names.
    pub only: String,
    /// Form of the result.
    pub format: Format,
    /// Unit of the table; JSON has both.
    pub unit: Unit,
}

/// Form of the result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Unit of the result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    /// Ticks of the time stamp counter.
    Ticks,
}

/// What a server does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Answers each message with its own bytes.
    Echo,
    /// Answers each message with its own words: none.
    Words0,
    /// One.
    Words1,
    /// As many as go in registers.
    Words8,
    /// Serves the interface of [`crate::echo`].
    Typed,
    /// Answers each notification with one.
    Notify,
    /// Completes the entries of a ring.
    Ring,
    /// Touches an address at which nothing is mapped, for ever.
    Fault,
    /// Lets others run, for ever.
    Spin,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 9] = [
        Role::Echo,
        Role::Words0,
        Role::Words1,
        Role::Words8,
        Role::Typed,
        Role::Notify,
        Role::Ring,
        Role::Fault,
        Role::Spin,
    ];

    /// Returns the arguments that start a server of this role.
    #[must_use]
    pub fn arguments(self) -> [&'static str; 2] {
        let role = match self {
            Role::Echo => "echo",
            Role::Words0 => "words-0",
            Role::Words1 => "words-1",
            Role::Words8 => "words-8",
            Role::Typed => "typed",
            Role::Notify => "notify",
            Role::Ring => "ring",
            Role::Fault => "fault",
            Role::Spin => "spin",
        };
        [SERVE, role]
    }
}

/// What is asked for in the place of a suite: it is no benchmark of an operation.
const KILLS: &str = "kills";
const SERVE: &str = "--serve";

impl Task {
    /// Parses the arguments.
    ///
    /// # Errors
    ///
    /// A sentence that names what is wrong.
    pub fn parse(arguments: &[String]) -> Result<Task, Failed> {
        let (mut suite, mut only, mut role, mut forever) = (None, String::new(), None, None);
        let (mut format, mut unit, mut is_list) = (Format::Table, Unit::Ns, false);
        let mut rest = arguments.iter().map(String::as_str);
        while let Some(argument) = rest.next() {
            match argument {
                "--list" => is_list = true,
                "--json" => format = Format::Json,
                "--ticks" => unit = Unit::Ticks,
                "--only" => only = value(argument, rest.next())?.to_string(),
                "--forever" => forever = Some(value(argument, rest.next())?.to_string()),
                SERVE => role = Some(parse_role(value(argument, rest.next())?)?),
                _ if argument.starts_with('-') => {
                    return Err(Failed::usage(format!("unknown option {argument}")));
                }
                _ if suite.is_none() => suite = Some(argument.to_string()),
                _ => return Err(Failed::usage(format!("unexpected argument {argument}"))),
            }
        }
        if let Some(role) = role {
            return Ok(Task::Serve(role));
        }
        let suite = suite.ok_or_else(|| Failed::usage("which suite?"))?;
        if suite == KILLS {
            return Ok(Task::Kills(format));
        }
        if let Some(name) = forever {
            return Ok(Task::Forever { suite, name });
        }
        Ok(if is_list {
            Task::List { suite, only }
        } else {
            Task::Measure(Request {
                suite,
                only,
                format,
                unit,
            })
        })
    }
}

fn value<'a>(option: &str, value: Option<&'a str>) -> Result<&'a str, Failed> {
    value.ok_or_else(|| Failed::usage(format!("{option} needs a value")))
}

fn parse_role(text: &str) -> Result<Role, Failed> {
    let known = Role::ALL
        .into_iter()
        .find(|role| role.arguments()[1] == text);
    known.ok_or_else(|| Failed::usage(format!("no server is called {text}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Format, Request, Role, Task, Unit};

    fn parse(text: &str) -> Result<Task, String> {
        let arguments: Vec<String> = text.split_whitespace().map(Into::into).collect();
        Task::parse(&arguments).map_err(|failed| failed.message)
    }

    #[test]
    fn options_stand_before_or_behind_the_suite() {
        let expected = Task::Measure(Request {
            suite: "ipc".into(),
            only: "mem.".into(),
            format: Format::Json,
            unit: Unit::Ticks,
        });
        assert_eq!(parse("--json ipc --only mem. --ticks"), Ok(expected));
        let list = Task::List {
            suite: "ipc".into(),
            only: String::new(),
        };
        assert_eq!(parse("ipc --list"), Ok(list));
    }

    #[test]
    fn one_benchmark_can_be_repeated_without_end() {
        let forever = Task::Forever {
            suite: "ipc".into(),
            name: "time.page".into(),
        };
        assert_eq!(parse("ipc --forever time.page"), Ok(forever));
        assert!(parse("ipc --forever").is_err());
    }

    #[test]
    fn reading_while_a_driver_is_killed_is_asked_for_like_a_suite() {
        assert_eq!(parse("--json kills"), Ok(Task::Kills(Format::Json)));
    }

    #[test]
    fn a_server_is_started_by_its_own_arguments() {
        for role in Role::ALL {
            assert_eq!(parse(&role.arguments().join(" ")), Ok(Task::Serve(role)));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(parse("").unwrap_err(), "which suite?; try --help");
        assert_eq!(
            parse("ipc --only").unwrap_err(),
            "--only needs a value; try --help"
        );
        assert_eq!(
            parse("ipc -x").unwrap_err(),
            "unknown option -x; try --help"
        );
        assert_eq!(
            parse("ipc mem").unwrap_err(),
            "unexpected argument mem; try --help"
        );
        assert_eq!(
            parse("--serve x").unwrap_err(),
            "no server is called x; try --help"
        );
    }

    proptest! {
        #[test]
        fn any_arguments_parse_or_are_refused(
            arguments in proptest::collection::vec(any::<String>(), 0..6),
        ) {
            if let Err(failed) = Task::parse(&arguments) {
                prop_assert!(failed.message.ends_with("try --help"));
            }
        }
    }
}
