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
pub mod report;

pub use benchmark::{Benchmark, Plan, Summary, measure};
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
    /// Its benchmarks by group, in the order in which they run.
    pub groups: &'static [&'static [Entry<K>]],
}

impl<K> Suite<K> {
    /// Returns the benchmarks of which the name starts with `prefix`.
    pub fn entries<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Entry<K>> {
        let all = self.groups.iter().flat_map(|group| group.iter());
        all.filter(move |entry| entry.name.starts_with(prefix))
    }
}
