//! The memory manager is killed while programs need it most.

use anyhow::ensure;

use super::recovery::expect_campaign;
use crate::{Run, Scenario};

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
                "memtest 8 1; chaos -n 5 -k memory-manager memtest 8 1; {MEMORY_USE}; \
                 chaos -n 60 -g 0..8 -k memory-manager memtest 8 1; {MEMORY_USE}"
            ))
            .expect(expect_no_leak),
    ]
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
