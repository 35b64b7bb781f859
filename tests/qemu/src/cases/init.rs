//! `init` is killed and comes back in place; it finds servers that hang.

use anyhow::{Context, ensure};

use super::recovery::{ALL, LARGE, expect_one_campaign, sum_line};
use crate::{Disk, Scenario};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![in_place(), among_others(), no_handle_left(), hangs()]
}

fn in_place() -> Scenario {
    Scenario::new("init comes back in place and nobody notices")
        .smp(&[1, 4])
        .disk(Disk::User)
        .time_limit(180)
        .exec(&format!(
            "chaos -n 20 -g 0..40 -k init sha256sum /{LARGE}; svc list"
        ))
        .expect(|run| {
            let rest = expect_one_campaign(&run.output, &["init"], 20, &sum_line()?)?;
            expect_restarts(rest, |name| if name == "init" { 20 } else { 0 })
        })
}

fn among_others() -> Scenario {
    Scenario::new("init dies while the services that it restarts die too")
        .smp(&[1, 4])
        .disk(Disk::User)
        .time_limit(180)
        .exec(&format!(
            "chaos -n 10 -g 0..5 -k init,{} sha256sum /{LARGE}; svc list",
            ALL.join(",")
        ))
        .expect(|run| {
            let killed: Vec<&str> = ["init"].into_iter().chain(ALL).collect();
            let rest = expect_one_campaign(&run.output, &killed, 10, &sum_line()?)?;
            // Each kill is one restart: no request was carried out twice.
            expect_restarts(rest, |name| if killed.contains(&name) { 10 } else { 0 })
        })
}

fn no_handle_left() -> Scenario {
    Scenario::new("a hundred restarts of init leave no handle behind")
        .time_limit(120)
        .exec(&format!(
            "ps; svc restart{}; ps; svc list",
            " init".repeat(100)
        ))
        .expect(|run| {
            run.expect_code(0)?;
            let lines = run.output.lines();
            let handles: Vec<&str> = lines
                .filter(|line| line.split_whitespace().nth(1) == Some("init"))
                .filter_map(|line| line.split_whitespace().rev().nth(4))
                .collect();
            ensure!(
                matches!(handles[..], [before, after] if before == after),
                "init had {handles:?} handles"
            );
            let (_, list) = run
                .output
                .rsplit_once("NAME ")
                .context("there is no list of services")?;
            expect_restarts(list, |name| if name == "init" { 100 } else { 0 })
        })
}

fn hangs() -> Scenario {
    // One CPU: under this clock time passes on all of them while one works.
    Scenario::new("a server that loops is found within 100 ms")
        .smp(&[1])
        .virtual_time()
        .time_limit(180)
        .exec("system-tests init.finds")
        .expect(|run| {
            run.expect_code(0)?;
            let hang = note(&run.output, "longest hang: ")?;
            ensure!(hang <= 100_000, "a hang lasted {hang} us");
            Ok(())
        })
}

/// Returns the microseconds that a guest test noted behind some words.
fn note(output: &str, words: &str) -> anyhow::Result<u64> {
    let mut lines = output.lines().map(str::trim_start);
    let us = lines.find_map(|line| line.strip_prefix(words)?.strip_suffix(" us"));
    us.context(format!("nothing was said of {words:?}"))?
        .parse()
        .context("not a number")
}

/// Checks the restarts in the table of `svc list`, and that all services run.
fn expect_restarts(table: &str, expected: impl Fn(&str) -> u32) -> anyhow::Result<()> {
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    ensure!(rows.len() > ALL.len(), "there are only {} rows", rows.len());
    for row in rows {
        let &[name, _, state, _, _, restarts, ..] = &row[..] else {
            anyhow::bail!("not a row of the table: {row:?}");
        };
        ensure!(
            state == "running" && restarts == expected(name).to_string(),
            "{name} is {state} after {restarts} restarts"
        );
    }
    Ok(())
}
