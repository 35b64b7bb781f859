//! Numbered lines to the terminal. Whether each arrived once is for the host to see.

use alloc::format;

use libsys::time;
use siege::json::LINE_PREFIX;
use skink_program::{Failed, Program};

use crate::worker::Worker;

/// Longest time between two lines, ns.
const MAX_REST_NS: u64 = 6 * time::MS;

/// Writes lines until it is stopped.
pub(crate) fn run(program: &Program, mut worker: Worker<'_>) -> Result<(), Failed> {
    let console = program.console()?;
    worker.begin();
    let mut number = 0_u64;
    while worker.goes_on() {
        let line = format!("{LINE_PREFIX}{number}\n");
        worker.good("write a line", console.write(line.as_bytes()));
        number += 1;
        time::sleep(worker.random.below(MAX_REST_NS));
    }
    Ok(())
}
