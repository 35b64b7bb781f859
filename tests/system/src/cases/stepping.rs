//! Processes that end after so many instructions.

use alloc::format;
use alloc::string::String;

use libsys::{Error, time};

use super::stepper::Stepper;
use crate::Test;
use crate::context::{Context, because, ending, ensure};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "stepping.a-process-ends-after-exactly-so-many-instructions",
        run: exact,
    },
    Test {
        name: "stepping.threads-count-together",
        run: threads,
    },
    Test {
        name: "stepping.a-running-process-ends-too",
        run: running,
    },
    Test {
        name: "stepping.a-process-goes-on-when-it-is-no-longer-wanted",
        run: disarmed,
    },
    Test {
        name: "stepping.a-new-life-knows-nothing-of-it",
        run: new_life,
    },
];

fn exact(context: &Context) -> Result<(), String> {
    for steps in [1, 2, 3, 4, 5, 6, 100, 1001, 4096] {
        let stepper = Stepper::start(context)?;
        stepper.end_after(steps)?;
        stepper.go(0)?;
        stepper.end()?;
        // The first one is the system call, then every second one counts.
        let count = stepper.count(0)?;
        ensure!(count == steps / 2, "{steps} instructions, {count} rounds");
    }
    Ok(())
}

fn threads(context: &Context) -> Result<(), String> {
    for steps in [3, 10, 2000] {
        let stepper = Stepper::start(context)?;
        stepper.end_after(steps)?;
        stepper.go(0)?;
        stepper.go(1)?;
        stepper.end()?;
        let count = stepper.count(0)? + stepper.count(1)?;
        // Each of them may be in the midst of a round, and be on its way to its end.
        let expected = (steps - 2) / 2..=steps / 2 + 1;
        ensure!(
            expected.contains(&count),
            "{steps} instructions, {count} rounds"
        );
    }
    Ok(())
}

fn running(context: &Context) -> Result<(), String> {
    let stepper = Stepper::start(context)?;
    stepper.go(0)?;
    while stepper.count(0)? == 0 {
        time::sleep(time::MS);
    }
    stepper.end_after(5_000)?;
    stepper.end()?;
    let dead = context.system().end_after(&stepper.process, 1);
    ensure!(dead == Err(Error::Dead), "a dead one gives {dead:?}");
    Ok(())
}

fn disarmed(context: &Context) -> Result<(), String> {
    const MANY: u64 = 1 << 40;
    let stepper = Stepper::start(context)?;
    let before = stepper.end_after(MANY)?;
    ensure!(before == 0, "{before} were left of nothing");
    stepper.go(0)?;
    while stepper.count(0)? < 100 {
        time::sleep(time::MS);
    }
    let left = stepper.end_after(1_000_000_000)?;
    ensure!(
        (1..=MANY - 200).contains(&left),
        "{left} of {MANY} are left"
    );
    let left = stepper.end_after(0)?;
    ensure!((1..=1_000_000_000).contains(&left), "{left} are left");
    let twice = stepper.end_after(0)?;
    ensure!(twice == 0, "{twice} are left of nothing");
    // Both go on, the one that ran and the one that waited.
    let count = stepper.count(0)?;
    stepper.go(1)?;
    while stepper.count(0)? < count + 100_000 || stepper.count(1)? < 100_000 {
        let info = stepper.process.info().map_err(because("info"))?;
        ensure!(info.state == 0, "it ended by {}", ending(&info));
        time::sleep(time::MS);
    }
    Ok(())
}

fn new_life(context: &Context) -> Result<(), String> {
    let stepper = Stepper::start(context)?;
    stepper.process.keep_handles().map_err(because("keep"))?;
    stepper.end_after(1_000)?;
    stepper.process.kill(0).map_err(because("kill"))?;
    stepper.end()?;
    stepper.process.revive().map_err(because("revive"))?;
    let left = stepper.end_after(0)?;
    ensure!(left == 0, "{left} of the last life are left");
    stepper.process.kill(0).map_err(because("kill"))?;
    // What ended by itself would have another reason.
    stepper.end().map_err(|why| format!("second life: {why}"))
}
