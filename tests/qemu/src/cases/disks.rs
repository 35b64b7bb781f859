//! A user's own disk with everything in it.

use std::fmt::Write as _;

use anyhow::{Context, ensure};

use crate::disk::{self, GIGANTIC, SUMS};
use crate::{Disk, PROMPT, Run, Scenario, Session};

/// Files whose checksums the host compares itself, by their folder.
const FOLDERS: [&str; 2] = ["sizes", "names"];
const FILES_IN_ONE_FOLDER: usize = 1000;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("every file of a user's disk has the host's checksum")
            .smp(&[1, 4])
            .disk(Disk::User)
            .time_limit(180)
            .exec(&format!("cd /; sha256sum -c {SUMS}"))
            .expect(expect_all_sums),
        Scenario::new("files of all sizes and names have the host's checksums")
            .disk(Disk::User)
            .time_limit(120)
            .interact(compare_sums),
        Scenario::new("a folder of a thousand files is listed in full")
            .disk(Disk::User)
            .exec("ls /many")
            .expect(|run| {
                run.expect_code(0)?;
                let mut words: Vec<&str> = run.output.split_whitespace().collect();
                words.sort_unstable();
                let names: Vec<String> = (0..FILES_IN_ONE_FOLDER)
                    .map(|index| format!("file-{index:04}"))
                    .collect();
                ensure!(words == names, "the list is {words:?}");
                Ok(())
            }),
        Scenario::new("deep paths and links are followed")
            .disk(Disk::User)
            .exec(&format!(
                "cat /{}bottom.txt; cat /links/directory/file-0007; \
                 sha256sum /links/short /links/long",
                "a-directory/".repeat(40)
            ))
            .expect(|run| {
                run.expect_code(0)?;
                let sum = disk::made_user()?.sum("sizes/4096")?;
                let expected = format!(
                    "forty levels down\nnumber 7\n{sum}  /links/short\n{sum}  /links/long\n"
                );
                ensure!(
                    run.output == expected,
                    "the output is {:?}, not {expected:?}",
                    run.output
                );
                Ok(())
            }),
        Scenario::new("links to nowhere and in circles are errors")
            .disk(Disk::User)
            .exec("cat /links/dangling; cat /links/loop")
            .expect(|run| {
                run.expect_code(1)?;
                run.expect_text("cat: /links/dangling: no such file or directory\n")?;
                run.expect_text("cat: /links/loop: too many symbolic links\n")
            }),
        Scenario::new("a file of gigabytes tells its size")
            .disk(Disk::User)
            .exec(&format!("ls -l /{GIGANTIC}"))
            .expect(|run| {
                run.expect_code(0)?;
                run.expect_text(&(1_u64 << 33).to_string())
            }),
    ]
}

fn expect_all_sums(run: &Run) -> anyhow::Result<()> {
    run.expect_code(0)?;
    let sums = &disk::made_user()?.sums;
    ensure!(
        sums.len() > FILES_IN_ONE_FOLDER,
        "only {} files are on the disk",
        sums.len()
    );
    let mut expected = String::new();
    for (name, _) in sums {
        writeln!(expected, "{name}: OK")?;
    }
    ensure!(
        run.output == expected,
        "not all is as the host says; the end of the output is {:?}",
        run.output.lines().last()
    );
    Ok(())
}

/// Has the checksums of some folders printed and compares them here. The names are typed.
fn compare_sums(session: &mut Session) -> anyhow::Result<()> {
    session.wait_for(PROMPT)?;
    let disk = disk::made_user()?;
    for folder in FOLDERS {
        let files = disk
            .sums
            .iter()
            .filter(|(path, _)| path.split('/').next() == Some(folder));
        for (path, sum) in files {
            let output = session.command(&format!("sha256sum '/{path}'"))?;
            let printed = output.lines().last().context("nothing was printed")?;
            ensure!(
                printed == format!("{sum}  /{path}"),
                "for /{path} the system printed {output:?}, not {sum}"
            );
        }
    }
    Ok(())
}
