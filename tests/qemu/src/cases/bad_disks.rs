//! No disk, and disks that are damaged: clear errors, and nothing worse.

use std::fs;

use anyhow::ensure;

use crate::{Disk, Exit, Run, Scenario, disk};

/// Words with which the complaints of the programs begin that are run here.
const COMPLAINTS: [&str; 3] = ["cat: /", "ls: /", "sha256sum: /"];

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut scenarios = vec![
        Scenario::new("a machine without a disk says so")
            .exec("cat /hello.txt; ls /tmp; svc list")
            .expect(|run| {
                run.expect_code(1)?;
                run.expect_text("cat: /hello.txt: disk missing or failed\n")?;
                expect_no_crashes(run)
            }),
    ];
    scenarios.extend(fixtures::bad_image_names().map(|name| {
        Scenario::new(&format!("a damaged disk does no harm: {name}"))
            .disk(Disk::Bad(name))
            .exec(
                "cat /hello.txt; ls /parent/child; sha256sum /file.bin; ls /; svc list; \
                 echo alive",
            )
            .expect(move |run| expect_no_harm(run, name))
    }));
    scenarios
}

/// What cannot be read is an error, nothing is wrong without one, and nothing ends.
fn expect_no_harm(run: &Run, name: &str) -> anyhow::Result<()> {
    let Some(output) = run.output.strip_suffix("\nalive\n") else {
        anyhow::bail!("the last command did not run");
    };
    ensure!(
        matches!(run.exit, Exit::Orderly(_)),
        "the machine ended with {:?}",
        run.exit
    );
    expect_no_crashes(run)?;
    let has_error = output
        .lines()
        .any(|line| COMPLAINTS.iter().any(|start| line.starts_with(start)));
    ensure!(has_error, "the output is {:?}", run.output);
    let sum = disk::sha256(&fs::read(disk::made_bad(name)?.tree.join("file.bin"))?);
    let mut sums = output.lines().filter(|line| line.ends_with("  /file.bin"));
    ensure!(
        sums.all(|line| line.starts_with(&sum)),
        "a wrong checksum was printed as if it were right"
    );
    Ok(())
}

/// What `svc list` says of a service that was not believed. A disk that is damaged looks like a server
/// that is: the file system has another instance look at it, once a minute (ADR 25).
const DOUBTED: &str = "had its next instance answer";
const MAX_DOUBTS: u32 = 1;

/// Fails unless `svc list` in the output shows that no service has crashed, or was doubted too often.
fn expect_no_crashes(run: &Run) -> anyhow::Result<()> {
    let services: Vec<Vec<&str>> = run
        .output
        .lines()
        .skip_while(|line| !line.starts_with("NAME "))
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .take_while(|columns: &Vec<&str>| columns.len() >= 7)
        .collect();
    ensure!(services.len() >= 10, "svc lists only {services:?}");
    for service in services {
        // NAME LEVEL STATE PROCESS VERSION RESTARTS
        let restarts: u32 = service[5].parse()?;
        let is_doubted = restarts <= MAX_DOUBTS && service.join(" ").ends_with(DOUBTED);
        ensure!(
            service[2] == "running" && (restarts == 0 || is_doubted),
            "a service did not live through it: {service:?}"
        );
    }
    Ok(())
}
