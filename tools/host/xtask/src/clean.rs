//! `cargo xtask clean`.

use std::process::ExitCode;

use crate::workspace::{Workspace, succeed};

/// Removes cargo's target folder, in which all else is.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let workspace = Workspace::load()?;
    succeed(workspace.cargo().arg("clean"), "cargo clean")?;
    Ok(ExitCode::SUCCESS)
}
