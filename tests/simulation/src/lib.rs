//! A world of real servers without a kernel, in which any of them can be ended at any step.
//!
//! The servers are those of the system, with their state regions, behind their interfaces; only
//! the kernel's part is played here ([`Endpoint`]): a caller keeps its request until it is answered,
//! and a request whose server died is delivered again to the next instance, marked as such. What a
//! server does is counted step by step ([`Steps`]): each receive, store, commit, call, reply and
//! doorbell. A
//! run can be told to end the server that makes step number *n*; running once for each *n* is
//! exhaustive.

mod endpoint;
mod memory;
mod ring;
mod steps;

pub use endpoint::Endpoint;
pub use memory::{Kept, ServerMemory};
pub use ring::{SharedRing, SharedWord};
pub use steps::{Killed, Place, Steps, When};

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Writes a table of steps, as Markdown: how often each place was passed.
#[must_use]
pub fn table(passed: &BTreeMap<(&'static str, Place, When), u64>) -> String {
    let mut text =
        String::from("| server | step | before | during | after |\n|---|---|---|---|---|\n");
    let mut rows: BTreeMap<(&str, Place), [u64; 3]> = BTreeMap::new();
    for (&(server, place, when), &count) in passed {
        rows.entry((server, place)).or_default()[when as usize] += count;
    }
    let cell = |count: u64| match count {
        0 => "–".to_owned(),
        count => count.to_string(),
    };
    for ((server, place), [before, during, after]) in rows {
        let (before, during, after) = (cell(before), cell(during), cell(after));
        let _ = writeln!(
            text,
            "| {server} | {place} | {before} | {during} | {after} |"
        );
    }
    text
}
