//! The memory manager is killed while programs need it most.

use anyhow::ensure;

use super::recovery::{ALL, LARGE, expect_campaign, expect_one_campaign, sum_line};
use crate::{Disk, Exit, PROMPT, Run, Scenario, Session, disk};

/// Shows what the memory manager has and uses.
const MEMORY_USE: &str = "free; ps";

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("a killed memory manager loses no page and shows none to others")
            .smp(&[1, 4])
            .time_limit(180)
            .exec("chaos -n 40 -g 0..30 -k memory-manager memtest 24 3")
            .expect(|run| {
                let line = "3 passes over 24 MiB: 0 words wrong\n";
                expect_campaign(run, &["memory-manager"], 40, line)
            }),
        Scenario::new("programs start and end while the memory manager is killed")
            .smp(&[1, 4])
            .time_limit(180)
            .exec("chaos -n 60 -g 0..4 -k memory-manager echo started")
            .expect(|run| expect_campaign(run, &["memory-manager"], 60, "started\n")),
        Scenario::new("a memory manager that is killed often leaks neither frames nor handles")
            .smp(&[1, 4])
            .time_limit(180)
            .exec(&format!(
                "memtest 8 1; chaos -n 5 -k memory-manager memtest 8 1; {settle}; {MEMORY_USE}; \
                 chaos -n 60 -g 0..8 -k memory-manager memtest 8 1; {settle}; {MEMORY_USE}",
                // What ended last may still be taken apart when the next one runs.
                settle = "memtest 8 1; echo settled"
            ))
            .expect(expect_no_leak),
        Scenario::new("a memory manager whose state is damaged beyond repair starts over")
            .smp(&[1, 4])
            .disk(Disk::User)
            .time_limit(300)
            .interact(|session| lose_the_records(session, "state", 2)),
        Scenario::new("a memory manager that crashes in a row starts over with fresh state")
            .smp(&[1, 4])
            .disk(Disk::User)
            .time_limit(300)
            // State is given up once in a row of crashes.
            .interact(|session| lose_the_records(session, "crashes", 1)),
    ]
}

/// Has the memory manager lose what it wrote down: all that has a space ends, the services come
/// back with their state, and then no frame has two users, nor after further deaths.
fn lose_the_records(session: &mut Session, harm: &str, rounds: usize) -> anyhow::Result<()> {
    session.wait_for(PROMPT)?;
    session.command("cp /sizes/7m /tmp/copy")?;
    let sum = disk::made_user()?.sum("sizes/7m")?;
    let copy = format!("{sum}  /tmp/copy\n");
    // From now on its state region is an object of the memory manager's.
    session.command("svc swap tmpfs tmpfs")?;
    for round in 1..=rounds {
        session.send(&format!("system-tests --harm {harm} memory-manager\n"))?;
        // The shell of before may have shown a prompt yet.
        let rest = session.wait_for("Type help for help.")?;
        session.wait_for(PROMPT)?;
        ensure!(!rest.contains("still there"), "it goes on: {rest:?}");
        let log = session.command("svc logs memory-manager")?;
        let losses = log.matches("IT IS LOST WHO HAS WHICH MEMORY").count();
        ensure!(losses == round, "the log is {log:?}");
        // What is in objects and state regions is as it was.
        let output = session.command("sha256sum /tmp/copy")?;
        ensure!(output == copy, "the copy became {output:?}");
        let line = "2 passes over 64 MiB: 0 words wrong\n";
        let output = session.command("memtest 64 2")?;
        ensure!(output == line, "the system printed {output:?}");
    }
    // The start after that one has records again, and everything can be killed.
    let names = ALL.join(",");
    let output = session.command(&format!("chaos -n 1 -k {names} sha256sum /{LARGE}"))?;
    let rest = expect_one_campaign(&output, &ALL, 1, &sum_line()?)?;
    ensure!(rest.is_empty(), "the output ends with {rest:?}");
    let output = session.command("sha256sum /tmp/copy")?;
    ensure!(output == copy, "the copy became {output:?}");
    session.send("shutdown\n")?;
    let exit = session.wait_for_end(|_| {})?;
    ensure!(exit == Exit::Orderly(0), "the machine ended with {exit:?}");
    Ok(())
}

/// Compares what the memory manager had before and after a campaign.
fn expect_no_leak(run: &Run) -> anyhow::Result<()> {
    run.expect_code(0)?;
    let lines_with = |place: usize, word: &str| -> Vec<Vec<&str>> {
        let lines = run.output.lines();
        let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines
            .filter(|words| words.get(place) == Some(&word))
            .collect()
    };
    // "free 183.8 MiB", twice.
    let free = lines_with(0, "free");
    let [before, after] = free.as_slice() else {
        anyhow::bail!("{free:?} are not two lines of free memory");
    };
    let mib = |line: &[&str]| -> anyhow::Result<f64> {
        ensure!(line.get(2) == Some(&"MiB"), "{line:?} are no MiB");
        Ok(line[1].parse()?)
    };
    // A frame lost by each kill were 0.24 MiB; the others may use some pages more meanwhile.
    let lost = mib(before)? - mib(after)?;
    ensure!(lost < 0.15, "{lost} MiB less are free");
    // Number, name, state, CPU time in two words, time for others in two, faults, calls, handles.
    let processes = lines_with(1, "memory-manager");
    let processes: Vec<_> = processes.iter().filter(|line| line.len() > 9).collect();
    let handles: Vec<&str> = processes.iter().map(|line| line[9]).collect();
    ensure!(
        handles.len() == 2 && handles[0] == handles[1],
        "the handles of {processes:?} differ"
    );
    Ok(())
}
