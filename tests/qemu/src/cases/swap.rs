//! Services are swapped to other versions while their clients work.

use anyhow::ensure;

use crate::{Disk, Run, Scenario, disk};

/// A file of 64 MiB: a reader takes a second for it.
const LARGE: &str = "sizes/64m";
/// Every service on the way from the disk to a reader that has state or a device.
const IN_THE_WAY: [&str; 3] = ["block", "vfs", "virtio-blk"];
/// How often each is swapped, there and back in turn.
const TIMES: u32 = 6;

/// A file that is copied to memory.
const LINES: &str = "lines.txt";
/// How often `init` is killed during swaps.
const KILLS: u32 = 20;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("swaps there and back do not disturb a reader")
            .smp(&[1, 4])
            .disk(Disk::User)
            .time_limit(180)
            .exec(&format!(
                "chaos -n {TIMES} -w {} sha256sum /{LARGE}",
                IN_THE_WAY.join(",")
            ))
            .expect(expect_swaps),
        Scenario::new("swaps to a second version migrate the state, and swaps back return it")
            .smp(&[1, 4])
            .disk(Disk::User)
            .time_limit(180)
            .exec(&format!(
                "chaos -n {TIMES} -w block=block-2,vfs=vfs-2,virtio-blk=virtio-blk-2 \
                 sha256sum /{LARGE}"
            ))
            .expect(expect_swaps),
        Scenario::new("init may die at any moment of a swap")
            .smp(&[1, 4])
            .disk(Disk::User)
            .time_limit(180)
            .exec(&format!(
                "cp /{LINES} /tmp/x; chaos -n {KILLS} -g 0..20 -k init svc swap tmpfs tmpfs; \
                 chaos -n {KILLS} -g 0..20 -k init svc swap block block; sha256sum /tmp/x"
            ))
            .expect(expect_swaps_without_init),
        Scenario::new("a service that cannot be swapped serves on")
            .smp(&[2])
            .exec(
                "svc info tmpfs; svc swap tmpfs echo; svc swap tmpfs none; \
                 svc rollback tmpfs; svc swap memory-manager tmpfs; svc swap shell tmpfs; \
                 echo text > /tmp/text; svc swap tmpfs /tmp/text; cat /tmp/text; \
                 svc swap tmpfs tmpfs; cat /tmp/text",
            )
            .expect(expect_refusals),
    ]
}

fn expect_swaps(run: &Run) -> anyhow::Result<()> {
    run.expect_code(0)?;
    let sum = disk::made_user()?.sum(LARGE)?;
    let each = format!("{sum}  /{LARGE}\n");
    let mut rest = run.output.as_str();
    while let Some(after) = rest.strip_prefix(each.as_str()) {
        rest = after;
    }
    let mut lines = rest.lines();
    let titles = lines.next().unwrap_or_default();
    ensure!(
        titles.starts_with("SERVICE "),
        "after good runs comes {titles:?}"
    );
    for service in IN_THE_WAY {
        let line = lines.next().unwrap_or_default();
        let columns: Vec<&str> = line.split_whitespace().take(2).collect();
        ensure!(
            columns == [service, &TIMES.to_string()],
            "{line:?} does not tell of {TIMES} swaps of {service}"
        );
    }
    let summary = lines.next().unwrap_or_default();
    let total = TIMES as usize * IN_THE_WAY.len();
    ensure!(
        summary.starts_with(&format!("{total} swaps in ")) && summary.contains(", 0 failed, "),
        "the summary is {summary:?}"
    );
    Ok(())
}

fn expect_swaps_without_init(run: &Run) -> anyhow::Result<()> {
    run.expect_code(0)?;
    let summary = format!("{KILLS} kills in ");
    let summaries: Vec<&str> = run
        .output
        .lines()
        .filter(|line| line.starts_with(&summary))
        .collect();
    ensure!(
        summaries.len() == 2 && summaries.iter().all(|line| line.contains(", 0 failed, ")),
        "the summaries are {summaries:?}"
    );
    let sum = disk::made_user()?.sum(LINES)?;
    run.expect_text(&format!("{sum}  /tmp/x\n"))
}

fn expect_refusals(run: &Run) -> anyhow::Result<()> {
    for text in [
        "the new version ended (exited with 0); the old version serves on, it was never stopped",
        "tmpfs: none: no such image in the boot bundle",
        "tmpfs: no other version has run before",
        "memory-manager: tmpfs: the system cannot run without this service",
        "shell: tmpfs: it does not serve (yet), so it cannot be swapped",
        "the image is not listed in the boot bundle",
        "\ntext\ntmpfs: new version serves; pause ",
    ] {
        run.expect_text(text)?;
    }
    ensure!(
        run.output.ends_with("altogether\ntext\n"),
        "the file is not as it was: {:?}",
        run.output
    );
    Ok(())
}
