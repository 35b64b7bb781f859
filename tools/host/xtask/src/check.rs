//! `cargo xtask check`: everything that can be said without booting.

use std::process::ExitCode;

use crate::build::build;
use crate::setup::{self, Tool};
use crate::workspace::{Workspace, compile, succeed};

/// Runs the checks in order of cost and stops at the first that fails.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let workspace = Workspace::load()?;
    step("format");
    succeed(
        workspace.cargo().args(["fmt", "--all", "--check"]),
        "cargo fmt --check",
    )?;
    step("lints, host");
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--workspace", "--all-targets"]);
    compile(clippy, &["-D", "warnings"], "cargo clippy")?;
    step("lints, guest");
    compile(
        workspace.guest_cargo("clippy"),
        &["-D", "warnings"],
        "cargo clippy for the guest",
    )?;
    step("documentation");
    let mut doc = workspace.cargo();
    doc.env("RUSTDOCFLAGS", "-D warnings")
        .args(["doc", "--quiet", "--workspace", "--no-deps"]);
    succeed(&mut doc, "cargo doc")?;
    step("host tests");
    setup::need(&[Tool::Spin])?;
    succeed(
        workspace.cargo().args(["test", "--quiet", "--workspace"]),
        "cargo test",
    )?;
    step("linked programs");
    build(&workspace)?;
    eprintln!("check: all is well");
    Ok(ExitCode::SUCCESS)
}

fn step(name: &str) {
    eprintln!("check: {name}");
}
