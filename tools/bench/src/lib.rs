//! What benchmarks have in common: how one is measured, summed up and shown.
//!
//! [`Benchmark`] is an operation that can be repeated; [`measure`] times batches of it and takes
//! the cost of the loop away; [`Summary`] is what comes out, [`report`] prints it. The benchmarks
//! themselves need the system and are part of the program.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod arguments;
mod benchmark;
mod cost;
pub mod echo;
pub mod kills;
pub mod report;

pub use benchmark::{Benchmark, Plan, Summary, measure, repeat};
pub use cost::Cost;

/// A benchmark in the table of its group; `K` is what it may use.
#[derive(Debug)]
pub struct Entry<K> {
    /// Name of the metric, which never changes its meaning.
    pub name: &'static str,
    /// What one operation is.
    pub about: &'static str,
    /// How often it is repeated.
    pub plan: Plan,
    /// Makes everything that it needs.
    pub make: Make<K>,
}

/// Makes a benchmark.
pub type Make<K> = fn(&K) -> Result<alloc::boxed::Box<dyn Benchmark>, skink_program::Failed>;

/// Benchmarks that run together by one command.
#[derive(Debug)]
pub struct Suite<K: 'static> {
    /// Name of the command.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Which time counts.
    pub clock: Clock,
    /// Its benchmarks by group, in the order in which they run.
    pub groups: &'static [Group<K>],
}

/// Which time counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// All of it.
    All,
    /// Only when a CPU has something to do. How long a disk takes depends on the host, even under
    /// a clock that counts instructions.
    Busy,
}

/// Benchmarks of one subject.
#[derive(Debug)]
pub struct Group<K: 'static> {
    /// CPUs that they need.
    pub cpus: u64,
    /// The benchmarks.
    pub entries: &'static [Entry<K>],
}

impl<K> Group<K> {
    /// Makes a group that runs on any machine.
    #[must_use]
    pub const fn new(entries: &'static [Entry<K>]) -> Self {
        Group { cpus: 1, entries }
    }
}

impl<K> Suite<K> {
    /// Returns the benchmarks of which the name starts with `prefix` and which a machine with so
    /// many CPUs can run.
    pub fn entries<'a>(&'a self, prefix: &'a str, cpus: u64) -> impl Iterator<Item = &'a Entry<K>> {
        let groups = self.groups.iter().filter(move |group| group.cpus <= cpus);
        let all = groups.flat_map(|group| group.entries.iter());
        all.filter(move |entry| entry.name.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Entry, Group, Plan, Suite};
    use skink_program::Failed;

    const fn entry(name: &'static str) -> Entry<()> {
        Entry {
            name,
            about: "",
            plan: Plan::SHORT,
            make: |()| {
                Err(Failed {
                    message: alloc::string::String::new(),
                    code: 1,
                })
            },
        }
    }

    static ONE: &[Entry<()>] = &[entry("a.x"), entry("b.x")];
    static TWO: &[Entry<()>] = &[entry("a.y")];
    static SUITE: Suite<()> = Suite {
        name: "all",
        about: "",
        clock: Clock::All,
        groups: &[
            Group::new(ONE),
            Group {
                cpus: 2,
                entries: TWO,
            },
        ],
    };

    #[test]
    fn entries_are_chosen_by_name_and_by_the_cpus_that_they_need() {
        let names = |prefix, cpus| {
            let entries = SUITE.entries(prefix, cpus);
            entries.map(|entry| entry.name).collect::<Vec<_>>()
        };
        assert_eq!(names("", 1), ["a.x", "b.x"]);
        assert_eq!(names("", 2), ["a.x", "b.x", "a.y"]);
        assert_eq!(names("a.", 4), ["a.x", "a.y"]);
        assert_eq!(names("a.y", 1), [""; 0]);
    }
}
