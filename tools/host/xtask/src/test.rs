//! `cargo xtask test`: host tests, then scenarios in QEMU.

use std::io::{BufRead, BufReader};
use std::process::{ExitCode, Stdio};

use anyhow::Context;
use clap::Args;
use skink_qemu::cases;
use skink_qemu::runner::{self, Tally};

use crate::setup::{self, Tool};
use crate::workspace::Workspace;
use crate::{artefacts, image};

/// Options of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Runs only scenarios whose name contains this text, and no host tests. `host` stands for
    /// the host tests alone.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Lists the scenarios.
    #[arg(long)]
    list: bool,
}

/// Runs the tests. The last line says how many passed and failed.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let scenarios = cases::all();
    if options.list {
        scenarios
            .iter()
            .for_each(|scenario| println!("{}", scenario.name()));
        return Ok(ExitCode::SUCCESS);
    }
    let only = options.only.as_deref();
    let workspace = Workspace::load()?;
    let mut tally = Tally::default();
    if only.is_none_or(|only| only == "host") {
        tally = host_tests(&workspace)?;
    }
    if only != Some("host") {
        let mut artefacts = artefacts::prepare(&workspace)?;
        artefacts::make_sample_disk(&artefacts)?;
        artefacts.iso = Some(image::make(&workspace, &artefacts)?);
        artefacts.uefi = artefacts::uefi_firmware()?;
        let in_qemu = runner::run(&scenarios, &artefacts, only);
        tally.passed += in_qemu.passed;
        tally.failed += in_qemu.failed;
    }
    if tally == Tally::default() {
        anyhow::bail!("no test has {:?} in its name", only.unwrap_or_default());
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs `cargo test` and counts what it reports.
fn host_tests(workspace: &Workspace) -> anyhow::Result<Tally> {
    setup::need(&[Tool::Spin])?;
    let mut child = workspace
        .cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let mut tally = Tally::default();
    let stdout = child
        .stdout
        .take()
        .context("cargo has no standard output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        if let Some((passed, failed)) = test_result(&line) {
            tally.passed += passed;
            tally.failed += failed;
        }
    }
    // Tests that do not compile are not counted by anyone else.
    if !child.wait()?.success() && tally.failed == 0 {
        println!("FAILED host tests: cargo test failed");
        tally.failed = 1;
    }
    Ok(tally)
}

/// Reads the numbers of `test result: ok. 3 passed; 0 failed; …`.
fn test_result(line: &str) -> Option<(u32, u32)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut numbers = counts
        .split("; ")
        .map(|part| part.split(' ').next()?.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::test_result;

    #[test]
    fn results_of_cargo_are_counted() {
        let line = "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 1 filtered out";
        assert_eq!(test_result(line), Some((5, 2)));
        assert_eq!(
            test_result("test result: ok. 17 passed; 0 failed; 0 ignored"),
            Some((17, 0))
        );
        assert_eq!(test_result("test it ... ok"), None);
    }
}
