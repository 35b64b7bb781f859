//! Servers are killed and come back; their clients see no more than a pause.
//!
//! The program `chaos` kills at random moments while another one runs. What it says is checked
//! here: the host knows what the other one must print.

use anyhow::{Context, ensure};

use crate::disk;
use crate::{Disk, Exit, PROMPT, Run, Scenario, Session};

/// A file of 64 MiB: a reader takes a second for it.
pub(super) const LARGE: &str = "sizes/64m";
/// How often the driver of a slow disk and its user are ended with reads at the device.
const LATE_ROUNDS: u32 = 100;
/// Lines with numbers: none may be missing or come twice.
const LINES: &str = "lines.txt";
/// Every server between a reader and the disk, and between its output and the terminal.
const IN_THE_WAY: [&str; 7] = [
    "memory-manager",
    "virtio-blk",
    "block",
    "ext4",
    "vfs",
    "console",
    "log",
];
/// Every service that can be killed but the shell, which starts the programs.
pub(super) const ALL: [&str; 9] = [
    "memory-manager",
    "pci",
    "log",
    "virtio-blk",
    "block",
    "ext4",
    "tmpfs",
    "vfs",
    "console",
];

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("ten kills of each server do not disturb a reader")
            .smp(&[1, 4])
            .disk(Disk::User)
            .time_limit(180)
            .exec(&format!(
                "chaos -n 10 -k {} sha256sum /{LARGE}",
                IN_THE_WAY.join(",")
            ))
            .expect(|run| expect_campaign(run, &IN_THE_WAY, 10, &sum_line()?)),
        Scenario::new("ten kills of each server in quick succession do not disturb a reader")
            .smp(&[1, 4])
            .disk(Disk::User)
            .time_limit(180)
            .exec(&format!(
                "chaos -n 10 -g 0..5 -k {} sha256sum /{LARGE}",
                ALL.join(",")
            ))
            .expect(|run| expect_campaign(run, &ALL, 10, &sum_line()?)),
        each_alone(),
        siege(),
        faults_that_pass(),
        Scenario::new("a killed console neither loses nor repeats output")
            .smp(&[1, 4])
            .disk(Disk::User)
            .time_limit(120)
            .exec(&format!("chaos -n 20 -g 0..20 -k console cat /{LINES}"))
            .expect(|run| {
                let lines = String::from_utf8(disk::made_user()?.content(LINES)?)?;
                expect_campaign(run, &["console"], 20, &lines)
            }),
        Scenario::new("files in memory outlive their server")
            .smp(&[1, 4])
            .disk(Disk::User)
            .time_limit(120)
            .exec("chaos -n 20 -g 0..10 -k tmpfs,vfs cp /sizes/7m /tmp/copy; sha256sum /tmp/copy")
            .expect(|run| {
                let sum = disk::made_user()?.sum("sizes/7m")?;
                let campaign = run
                    .output
                    .strip_suffix(&format!("{sum}  /tmp/copy\n"))
                    .context("the copy is not what was copied")?;
                let run = Run {
                    output: campaign.to_owned(),
                    ..run.clone()
                };
                expect_campaign(&run, &["tmpfs", "vfs"], 20, "")
            }),
        late_dma(),
        Scenario::new("a killed console loses nothing that is typed")
            .smp(&[1, 4])
            .interact(type_through_kills),
        Scenario::new("a killed shell comes back with a prompt")
            .smp(&[1, 4])
            .interact(kill_the_shell),
    ]
}

/// All services, all workloads, kills of each kind.
fn siege() -> Scenario {
    Scenario::new("a seeded campaign of 300 kills loses nothing")
        .smp(&[2])
        .disk(Disk::Siege)
        .time_limit(240)
        .exec("siege -n 300 -s 4 -p single,pair,again -g 0..8000")
        .expect(|run| {
            for name in ["init", "memory-manager", "vfs", "virtio-blk"] {
                let kill = format!("#siege {{\"event\":\"kill\",\"service\":\"{name}\",");
                ensure!(run.output.contains(&kill), "{name} was not killed");
            }
            expect_nothing_lost(run, "\"kills\":300,\"faults\":0,\"recovered\":300,")
        })
}

/// Services that answer late or not at all, and programs that take all there is.
fn faults_that_pass() -> Scenario {
    Scenario::new("late and lost answers, and greedy programs, lose nothing")
        .smp(&[2])
        .disk(Disk::Siege)
        .time_limit(240)
        .exec("siege -n 48 -s 5 -p slow,drop,duplicate,exhaust -g 0..4000")
        .expect(|run| {
            for kind in ["slow", "drop", "duplicate", "exhaust-frames"] {
                let fault = format!("\"kind\":\"{kind}\",");
                ensure!(run.output.contains(&fault), "there was no {kind}");
            }
            expect_nothing_lost(run, "\"kills\":0,\"faults\":48,\"recovered\":0,")
        })
}

/// A disk that is still busy with the reads of a driver and a file system that have ended.
fn late_dma() -> Scenario {
    Scenario::new("a disk never writes to memory that was given to others")
        .smp(&[2, 4])
        .disk(Disk::User)
        .slow_disk(40)
        .time_limit(240)
        .exec(&format!("system-tests --late-dma {LATE_ROUNDS} /{LARGE}"))
        .expect(|run| {
            run.expect_code(0)?;
            let line = sum_line()?;
            let mut rest = run.output.as_str();
            let mut readers = 0;
            while let Some(after) = rest.strip_prefix(line.as_str()) {
                (rest, readers) = (after, readers + 1);
            }
            ensure!(readers > 0, "no reader came to its end");
            ensure!(
                rest.starts_with(&format!("{LATE_ROUNDS} rounds, "))
                    && rest.ends_with(" passes, 0 readers failed\n"),
                "the output ends with {rest:?}"
            );
            Ok(())
        })
}

/// One campaign for each service, one after the other.
fn each_alone() -> Scenario {
    let campaigns: Vec<String> = ALL
        .iter()
        .map(|name| format!("chaos -n 3 -k {name} sha256sum /{LARGE}"))
        .collect();
    Scenario::new("each service alone is killed while a reader runs")
        .disk(Disk::User)
        .time_limit(180)
        .exec(&campaigns.join("; "))
        .expect(|run| {
            run.expect_code(0)?;
            let mut rest = run.output.as_str();
            for name in ALL {
                rest = expect_one_campaign(rest, &[name], 3, &sum_line()?)?;
            }
            ensure!(rest.is_empty(), "the output ends with {rest:?}");
            Ok(())
        })
}

pub(super) fn sum_line() -> anyhow::Result<String> {
    let sum = disk::made_user()?.sum(LARGE)?;
    Ok(format!("{sum}  /{LARGE}\n"))
}

/// Fails unless the output is that of one campaign that went well.
pub(super) fn expect_campaign(
    run: &Run,
    services: &[&str],
    kills: u32,
    each: &str,
) -> anyhow::Result<()> {
    run.expect_code(0)?;
    let rest = expect_one_campaign(&run.output, services, kills, each)?;
    ensure!(rest.is_empty(), "the output ends with {rest:?}");
    Ok(())
}

/// Checks a campaign at the start of the output and returns what follows it: what the runs
/// printed, each exactly the same; the table with the kills of each service; the summary.
pub(super) fn expect_one_campaign<'a>(
    output: &'a str,
    services: &[&str],
    kills: u32,
    each: &str,
) -> anyhow::Result<&'a str> {
    let (mut rest, mut runs) = (output, 0_u32);
    while !each.is_empty()
        && let Some(after) = rest.strip_prefix(each)
    {
        rest = after;
        runs += 1;
    }
    let mut lines = rest.split_inclusive('\n');
    let titles = lines.next().unwrap_or_default();
    ensure!(
        titles.starts_with("SERVICE "),
        "after {runs} good runs comes {titles:?}"
    );
    for service in services {
        let line = lines.next().unwrap_or_default();
        let mut columns = line.split_whitespace();
        ensure!(
            columns.next() == Some(service) && columns.next() == Some(&kills.to_string()),
            "{line:?} does not tell of {kills} kills of {service}"
        );
    }
    let summary = lines.next().unwrap_or_default();
    let count = if runs == 1 {
        "1 run".to_owned()
    } else {
        format!("{runs} runs")
    };
    let total = kills as usize * services.len();
    let good = if each.is_empty() {
        summary.starts_with(&format!("{total} kills in ")) && summary.contains(", 0 failed, ")
    } else {
        summary.starts_with(&format!("{total} kills in {count}, 0 failed, "))
    };
    ensure!(good, "after {runs} good runs the summary is {summary:?}");
    let after = output.len() - lines.map(str::len).sum::<usize>();
    Ok(&output[after..])
}

/// Fails unless `siege` has done what was asked for, all came back, and nothing went wrong: neither by
/// its own count nor in the numbered lines that it printed.
fn expect_nothing_lost(run: &Run, done: &str) -> anyhow::Result<()> {
    let end = run
        .output
        .lines()
        .find(|line| line.starts_with("#siege {\"event\":\"end\""))
        .context("the campaign did not end")?;
    let complaints: Vec<&str> = run
        .output
        .lines()
        .filter(|line| line.starts_with("siege: "))
        .collect();
    for expected in [
        "\"client_errors\":0,\"wrong\":0,\"lost\":0,\"duplicated\":0,",
        done,
        "\"leaks\":0,\"problems\":0,",
    ] {
        ensure!(end.contains(expected), "{end}: {complaints:?}");
    }
    let mut next = 0_u64;
    for line in run.output.lines() {
        if line == "#siege {\"event\":\"loads\"}" {
            next = 0;
        }
        if let Some(number) = line.strip_prefix("#line ") {
            ensure!(
                number == next.to_string(),
                "line {number} in place of {next}"
            );
            next += 1;
        }
    }
    ensure!(next > 0, "there are no numbered lines");
    run.expect_code(0)
}

/// Types ahead of the commands that kill the console: nobody listens to a part of it.
fn type_through_kills(session: &mut Session) -> anyhow::Result<()> {
    session.wait_for(PROMPT)?;
    let rounds = 1..=20;
    for round in rounds.clone() {
        session.send(&format!("svc kill console; echo round {round}\n"))?;
    }
    // Split, so that the echo of what is typed does not look like it.
    session.send("echo all' 'done\n")?;
    let output = session.wait_for("\nall done\r\n")?;
    let said: Vec<&str> = output
        .lines()
        .filter(|line| line.starts_with("round "))
        .collect();
    let expected: Vec<String> = rounds.map(|round| format!("round {round}")).collect();
    ensure!(said == expected, "the system printed {output:?}");
    Ok(())
}

fn kill_the_shell(session: &mut Session) -> anyhow::Result<()> {
    session.wait_for(PROMPT)?;
    for _ in 0..3 {
        session.send("svc kill shell\n")?;
        session.wait_for(PROMPT)?;
        let output = session.command("echo back again")?;
        ensure!(output == "back again\n", "the system printed {output:?}");
    }
    session.send("shutdown\n")?;
    let exit = session.wait_for_end(|_| {})?;
    ensure!(exit == Exit::Orderly(0), "the machine ended with {exit:?}");
    Ok(())
}
