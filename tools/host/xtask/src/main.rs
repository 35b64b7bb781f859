//! The project's commands: `cargo xtask run | test | bench | chaos | profile | image | check | gdb |
//! clean`.
//!
//! One module per command, plus what they share: [`workspace`] (paths, child cargos), [`setup`]
//! (installs missing tools), [`build`] (guest packages to boot bundle) and [`artefacts`] (what a
//! machine boots from). No command ever asks a question.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod artefacts;
mod bench;
mod build;
mod chaos;
mod check;
mod clean;
mod gdb;
mod image;
mod post_link;
mod profile;
mod run;
mod setup;
mod strip;
mod test;
mod workspace;

/// Builds, runs and tests Skink.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boots the system in QEMU, to a prompt or to run commands.
    Run(run::Options),
    /// Runs all tests: on the host, then in QEMU.
    Test(test::Options),
    /// Measures inside the system, compares with a baseline or with Linux, draws charts.
    Bench(bench::Options),
    /// Kills services by the thousand while workloads run, and counts what came of it.
    Chaos(chaos::Options),
    /// Shows of what an operation consists, instruction by instruction.
    #[command(subcommand)]
    Profile(profile::Options),
    /// Makes a CD image that boots by BIOS and UEFI.
    Image,
    /// Checks format, lints, documentation, host tests and the linked programs.
    Check,
    /// Connects gdb to a machine started with `run --gdb`.
    Gdb(gdb::Options),
    /// Builds the boot bundle and nothing else.
    Build,
    /// Removes everything that was built.
    Clean,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Chaos(options) => chaos::run(&options),
        Command::Profile(options) => profile::run(&options),
        Command::Image => image::run(),
        Command::Check => check::run(),
        Command::Gdb(options) => gdb::run(&options),
        Command::Build => build::run(),
        Command::Clean => clean::run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
