//! Showing logs.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use libipc::proto::log::{Level, LogClient, LogLine};
use libsys::time;
use skink_program::{Failed, Program};

/// How often a log that is followed is looked at.
const PERIOD_NS: u64 = 250 * time::MS;

/// When to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Until {
    /// When all that is there was shown.
    End,
    /// Never: at the interrupt key.
    Interrupted,
}

/// A log and how far it was shown.
struct Followed<'a> {
    name: &'a str,
    /// What stands before each line: nothing when only one log is shown.
    label: String,
    next: u64,
}

/// Shows the logs of services.
pub(crate) fn show(program: &mut Program, names: &[String], until: Until) -> Result<(), Failed> {
    let log = program.log()?;
    let mut all: Vec<Followed<'_>> = Vec::new();
    for name in names {
        let label = if names.len() > 1 {
            format!("{name}: ")
        } else {
            String::new()
        };
        let mut followed = Followed {
            name,
            label,
            next: 0,
        };
        match followed.show(program, &log) {
            Ok(()) => all.push(followed),
            Err(failed) => program.complain(failed.about(name).message),
        }
    }
    while until == Until::Interrupted && !all.is_empty() {
        program.out().flush()?;
        time::sleep(PERIOD_NS);
        for followed in &mut all {
            followed.show(program, &log)?;
        }
    }
    Ok(())
}

impl Followed<'_> {
    /// Shows what is new.
    fn show(&mut self, program: &mut Program, log: &LogClient) -> Result<(), Failed> {
        loop {
            let page = log.read(self.name, self.next)?;
            if page.lines.is_empty() {
                return Ok(());
            }
            // What was overwritten before the first look is no news.
            if page.lost > 0 && self.next > 0 {
                let text = format!("({} lines lost)\n", page.lost);
                program.out().write_bytes(text.as_bytes())?;
            }
            self.next = page.next;
            for line in &page.lines {
                program
                    .out()
                    .write_bytes(text_of(&self.label, line).as_bytes())?;
            }
        }
    }
}

fn text_of(label: &str, line: &LogLine) -> String {
    let level = match line.level {
        Level::Error => "ERROR ",
        Level::Warn => "WARN  ",
        Level::Info => "",
        Level::Debug => "DEBUG ",
        Level::Trace => "TRACE ",
    };
    let ms = line.time_ns / time::MS;
    format!(
        "[{:5}.{:03}] {label}{level}{}\n",
        ms / 1000,
        ms % 1000,
        line.text
    )
}
