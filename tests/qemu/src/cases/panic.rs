//! What the kernel says when it must give up.

use crate::{Exit, Run, Scenario};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("a kernel panic is reported with the names of functions")
            .smp(&[1, 4])
            .words("panic-test")
            .expect(expect_report),
        Scenario::new("a kernel panic is reported in spite of quiet")
            .words("panic-test quiet")
            .expect(expect_report),
        Scenario::new("a machine with too little memory says so")
            .memory("28M")
            .exec("ls /")
            .expect(|run| {
                anyhow::ensure!(run.exit == Exit::Panic, "it ended with {:?}", run.exit);
                run.expect_text("cannot start the system: not enough memory")?;
                run.expect_text("init has ended: Exited, code 1")
            }),
    ]
}

/// Checks exit code, message, and that the backtrace names the functions in their order, each
/// behind its frame's number and address.
fn expect_report(run: &Run) -> anyhow::Result<()> {
    anyhow::ensure!(
        run.exit == Exit::Panic,
        "the machine ended with {:?}",
        run.exit
    );
    let (_, report) = run
        .output
        .split_once("KERNEL PANIC on CPU 0: ")
        .ok_or_else(|| anyhow::anyhow!("there is no report"))?;
    anyhow::ensure!(
        report.contains("panic-test was asked for (5)"),
        "the report lacks the message"
    );
    let names = ["test_inner", "test_middle", "test_outer", "test"];
    let mut frames = report.lines().filter_map(name_in_frame);
    for name in names {
        let full = format!("skink_kernel::panic::{name}");
        anyhow::ensure!(
            frames.any(|frame| frame == full),
            "the backtrace lacks {full}, or has it in the wrong place"
        );
    }
    Ok(())
}

/// Returns the function in a line such as `   2: 0xffffffff80001234 name+0x10`.
fn name_in_frame(line: &str) -> Option<&str> {
    let (number, rest) = line.trim_start().split_once(": 0x")?;
    number.parse::<u32>().ok()?;
    let (address, function) = rest.split_once(' ')?;
    u64::from_str_radix(address, 16).ok()?;
    function.rsplit_once("+0x").map(|(name, _)| name)
}
