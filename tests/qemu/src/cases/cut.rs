//! Servers end at chosen instructions of the requests that they deal with, and no instruction is a bad
//! one. Each run begins somewhere else, so that many runs hit every instruction.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};

use crate::{Disk, Run, Scenario};

/// The servers, in the order in which they are dealt with.
const SERVERS: [&str; 10] = [
    "tmpfs",
    "vfs",
    "ext4",
    "block",
    "virtio-blk",
    "pci",
    "console",
    "log",
    "init",
    "memory-manager",
];
/// Ends of each server, about.
const CUTS: u64 = 150;

pub(super) fn scenarios() -> Vec<Scenario> {
    // What goes wrong is repeated with the seed that the guest prints.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = now.map_or(0, |now| now.as_millis() % 1_000_000);
    vec![
        // One CPU and virtual time: then a server that is stepped does not hang for a slow host.
        Scenario::new("a server may end at any instruction of a request")
            .smp(&[1])
            .virtual_time()
            .disk(Disk::User)
            .time_limit(400)
            .exec(&format!("system-tests --cut --cuts {CUTS} --seed {seed}"))
            .expect(expect_no_fault),
    ]
}

/// Checks the rows of the servers, and the lines that the console wrote meanwhile.
fn expect_no_fault(run: &Run) -> anyhow::Result<()> {
    run.expect_code(0)?;
    let (_, rows) = run
        .output
        .split_once("SERVER ")
        .context("there is no table")?;
    let mut rows = rows.lines().skip(1);
    for server in SERVERS {
        let row = rows.next().unwrap_or_default();
        let columns: Vec<&str> = row.split_whitespace().collect();
        let &[name, _, _, cuts, restarts, "0", "0", "0", _] = &columns[..] else {
            anyhow::bail!("not a good row for {server}: {row:?}");
        };
        let count: u64 = cuts.parse()?;
        ensure!(
            name == server && cuts == restarts && count >= CUTS / 2,
            "not a good row for {server}: {row:?}"
        );
        if name == "console" {
            expect_lines(run, count)?;
        }
    }
    let summary = rows.next().unwrap_or_default();
    ensure!(
        summary.contains(" cuts, 0 faults; seed "),
        "the summary is {summary:?}"
    );
    Ok(())
}

/// Checks that the console wrote every line once and in order: one for each cut at least.
fn expect_lines(run: &Run, cuts: u64) -> anyhow::Result<()> {
    let lines = run.output.lines();
    let numbers = lines.filter_map(|line| line.strip_prefix("console line "));
    let mut expected = 0;
    for number in numbers {
        ensure!(
            number == expected.to_string(),
            "line {number} of the console comes where {expected} should"
        );
        expected += 1;
    }
    ensure!(expected > cuts, "the console wrote {expected} lines only");
    Ok(())
}
