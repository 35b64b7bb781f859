//! `cargo xtask bench`: measures inside the system.

use std::process::ExitCode;

use clap::Args;

/// Options of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {}

/// Measures.
pub(crate) fn run(_options: &Options) -> anyhow::Result<ExitCode> {
    anyhow::bail!("there are no benchmarks yet")
}
