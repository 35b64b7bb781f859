//! Files of a disk that the host has made, read through every server in between.

use crate::disk::{SAMPLE_FILES, SAMPLE_LINKS, sha256};
use crate::{Disk, Run, Scenario};

pub(super) fn scenarios() -> Vec<Scenario> {
    let commands: Vec<String> = SAMPLE_FILES
        .iter()
        .map(|(name, _)| format!("sha256sum /{name}"))
        .collect();
    let links: Vec<String> = SAMPLE_LINKS
        .iter()
        .map(|(link, _)| format!("cat /{link}"))
        .collect();
    vec![
        Scenario::new("checksums of a disk's files agree with the host's")
            .smp(&[1, 4])
            .disk(Disk::Sample)
            .time_limit(120)
            .exec(&commands.join("; "))
            .expect(|run| {
                run.expect_code(0)?;
                SAMPLE_FILES.iter().try_for_each(|(name, content)| {
                    expect_sum(run, name, &sha256(&content.bytes()))
                })
            }),
        Scenario::new("symbolic links lead to their files")
            .disk(Disk::Sample)
            .exec(&links.join("; "))
            .expect(|run| {
                run.expect_code(0)?;
                anyhow::ensure!(
                    run.output == "Hello from the disk.\nNames may be written in any script.\n",
                    "the output is {:?}",
                    run.output
                );
                Ok(())
            }),
        Scenario::new("a folder lists its files")
            .disk(Disk::Sample)
            .exec("ls /docs")
            .expect(|run| {
                run.expect_code(0)?;
                ["one.txt", "two.txt", "deep", "up"]
                    .iter()
                    .try_for_each(|name| run.expect_text(name))
            }),
        Scenario::new("a tree is copied but for what cannot be")
            .exec(
                "mkdir -p /tmp/a/x /tmp/a/y /tmp/a/z /tmp/b; echo 1 > /tmp/a/x/f; \
                 echo 2 > /tmp/a/z/f; mkdir /tmp/b/a; echo > /tmp/b/a/y; cp -r /tmp/a /tmp/b; \
                 cat /tmp/b/a/x/f /tmp/b/a/z/f",
            )
            .expect(|run| {
                run.expect_code(1)?;
                run.expect_text("cp: /tmp/b/a/y: ")?;
                run.expect_text("\n1\n2\n")
            }),
    ]
}

fn expect_sum(run: &Run, name: &str, sum: &str) -> anyhow::Result<()> {
    run.expect_text(&format!("{sum}  /{name}\n"))
}
