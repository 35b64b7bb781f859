//! `cargo xtask gdb`: a debugger on a machine started with `run --gdb`.

use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Args;

use crate::build::build;
use crate::setup::{self, Tool};
use crate::workspace::Workspace;

/// Port of QEMU's debugging server.
pub(crate) const PORT: u16 = 1234;

/// Options of `cargo xtask gdb`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Also loads the symbols of this server or program.
    #[arg(long, value_name = "NAME")]
    program: Option<String>,
}

/// Starts the debugger and waits for its end.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    setup::need(&[Tool::Gdb])?;
    let workspace = Workspace::load()?;
    let built = build(&workspace)?;
    let mut command = Command::new("gdb");
    command.arg("--quiet").arg(&built.kernel);
    if let Some(program) = &options.program {
        let file = built.kernel.with_file_name(program);
        if !file.is_file() {
            bail!("there is no server or program {program:?}");
        }
        command
            .arg("-ex")
            .arg(format!("add-symbol-file {}", file.display()));
    }
    command
        .arg("-ex")
        .arg(format!("target remote 127.0.0.1:{PORT}"));
    // Software breakpoints need the page tables that only the loader makes.
    eprintln!("use `hbreak FILE:LINE` until the kernel runs");
    let status = command.status().context("cannot start gdb")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
