//! What all workloads do: count, rest, stop.

use alloc::format;
use alloc::string::String;
use core::fmt::Display;

use chaos::Random;
use libipc::Failure;
use libipc::files::Files;
use libsys::time;
use siege::tally::Phase;
use siege::{Tally, Verdict};
use skink_program::{Failed, Program};

/// After one operation of this many it rests.
const REST_AFTER: u64 = 16;
/// Longest rest, ns.
const MAX_REST_NS: u64 = 4 * time::MS;

/// A workload at work.
pub(crate) struct Worker<'a> {
    tally: Tally<'a>,
    pub(crate) random: Random,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(tally: Tally<'a>, seed: u64) -> Self {
        Worker {
            tally,
            random: Random::new(seed),
        }
    }

    /// Says that it knows all it needs to know: from now on anything may be killed.
    pub(crate) fn begin(&self) {
        self.tally.enter(Phase::Working);
    }

    /// Returns whether it shall end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.tally.is_stopped()
    }

    /// Rests at times; returns whether to go on.
    pub(crate) fn goes_on(&mut self) -> bool {
        if self.random.below(REST_AFTER) == 0 {
            time::sleep(self.random.below(MAX_REST_NS));
        }
        !self.is_stopped()
    }

    /// Counts how an operation came out.
    pub(crate) fn count(&self, verdict: Verdict, about: impl FnOnce() -> String) {
        self.tally.count(verdict, about);
    }

    /// Counts an operation that must go well, and returns what it gave.
    pub(crate) fn good<T, E: Display>(
        &self,
        what: &str,
        result: Result<T, Failure<E>>,
    ) -> Option<T> {
        match result {
            Ok(value) => {
                self.count(Verdict::Good, String::new);
                Some(value)
            }
            Err(failure) => {
                self.count(Verdict::ClientError, || format!("{what}: {failure}"));
                None
            }
        }
    }
}

/// Returns the way to the files.
pub(crate) fn files(program: &Program) -> Result<Files, Failed> {
    Ok(Files::new(program.vfs()?, Some(program.memory()?), "/"))
}
