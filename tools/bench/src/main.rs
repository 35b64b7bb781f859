//! Measures IPC, paging and scheduling inside the system.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

#[cfg(bare)]
mod guest;

skink_program::program!(bench::arguments::HELP, run);

#[cfg(bare)]
use guest::run;

/// On the host there is nothing to measure.
#[cfg(not(bare))]
fn run(_program: &mut skink_program::Program) -> skink_program::Outcome {
    Err(skink_program::Failed::new(
        "this program measures Skink and runs there only",
    ))
}
