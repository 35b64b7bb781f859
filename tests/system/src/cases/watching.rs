//! Places in processes that are watched.

use alloc::string::String;

use libsys::abi::{ExitReason, WatchKind};
use libsys::{Error, Rights, time};

use super::stepper::Stepper;
use crate::Test;
use crate::context::{Context, because, ending, ensure};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "watching.a-place-is-reached-only-by-its-process",
        run: places,
    },
    Test {
        name: "watching.a-place-may-be-reached-beside-a-fault",
        run: beside_a_fault,
    },
    Test {
        name: "watching.only-who-may-debug-watches",
        run: rights,
    },
    Test {
        name: "watching.programs-make-nobody-urgent",
        run: urgency,
    },
];

fn places(context: &Context) -> Result<(), String> {
    let system = context.system();
    for kind in [WatchKind::Execution, WatchKind::Access] {
        let (watched, other) = (Stepper::start(context)?, Stepper::start(context)?);
        let address = if kind == WatchKind::Execution {
            watched.instruction(0)?
        } else {
            watched.counted_word()?
        };
        let watch = |kind| {
            let reached = system.watch_place(&watched.process, address, kind);
            reached.map_err(because("watch"))
        };
        watch(WatchKind::None)?;
        let before = watch(kind)?;
        ensure!(!before, "{kind:?}: reached before it was watched");
        // The other one has the same instruction at the same address.
        other.go(0)?;
        time::sleep(30 * time::MS);
        let by_other = watch(kind)?;
        ensure!(!by_other, "{kind:?}: reached by another process");
        watched.go(0)?;
        time::sleep(30 * time::MS);
        let reached = watch(WatchKind::None)?;
        // Where several CPUs run, it may run on another one than this thread.
        ensure!(
            reached || context.cpus()? > 1,
            "{kind:?}: not reached, {} rounds",
            watched.count(0)?
        );
        let again = watch(WatchKind::None)?;
        ensure!(!again, "{kind:?}: reached while nothing was watched");
        let count = watched.count(0)?;
        time::sleep(30 * time::MS);
        ensure!(watched.count(0)? > count, "{kind:?}: it does not go on");
    }
    Ok(())
}

/// An instruction that reads the place and then faults: the debug exception comes when the kernel has
/// been entered for the fault, and has no stack yet.
fn beside_a_fault(context: &Context) -> Result<(), String> {
    let system = context.system();
    for is_watched in [true, false] {
        let (leaper, other) = (Stepper::leaper(context)?, Stepper::start(context)?);
        let target = if is_watched { &leaper } else { &other };
        let place = leaper.counted_word()?;
        let watched = system.watch_place(&target.process, place, WatchKind::Access);
        watched.map_err(because("watch"))?;
        leaper.go(0)?;
        let end = leaper.ended()?;
        let is_fault = end.reason == ExitReason::Fault as u32;
        ensure!(is_fault, "it ended by {}", ending(&end));
        let reached = system.watch_place(&target.process, 0, WatchKind::None);
        let reached = reached.map_err(because("look"))?;
        ensure!(
            reached == is_watched || context.cpus()? > 1,
            "reached: {reached}, watched: {is_watched}"
        );
    }
    Ok(())
}

fn rights(context: &Context) -> Result<(), String> {
    let stepper = Stepper::start(context)?;
    let duplicate = context.system().duplicate(Rights::INSPECT);
    let looker = duplicate.map_err(because("duplicate"))?;
    let duplicate = stepper.process.duplicate(Rights::INSPECT);
    let look = duplicate.map_err(because("duplicate"))?;
    let place = stepper.counted_word()?;
    for refused in [
        looker.watch_place(&stepper.process, place, WatchKind::Access),
        context
            .system()
            .watch_place(&look, place, WatchKind::Access),
    ] {
        ensure!(refused == Err(Error::MissingRight), "{refused:?}");
    }
    for nowhere in [1 << 47, u64::MAX, 0xffff_8000_0000_0000] {
        let refused = context
            .system()
            .watch_place(&stepper.process, nowhere, WatchKind::Access);
        ensure!(
            refused == Err(Error::InvalidArgument),
            "{nowhere:#x}: {refused:?}"
        );
    }
    stepper.process.kill(0).map_err(because("kill"))?;
    stepper.end()?;
    let system = context.system();
    let dead = system.watch_place(&stepper.process, place, WatchKind::Access);
    ensure!(dead == Err(Error::Dead), "a dead one gives {dead:?}");
    let nothing = system.watch_place(&stepper.process, 0, WatchKind::None);
    ensure!(
        nothing == Ok(false),
        "nothing of a dead one gives {nothing:?}"
    );
    Ok(())
}

fn urgency(context: &Context) -> Result<(), String> {
    let stepper = Stepper::start(context)?;
    // This program may look into the machine, and not say how it is shared out.
    let refused = context.system().set_urgent(&stepper.process);
    ensure!(refused == Err(Error::MissingRight), "{refused:?}");
    Ok(())
}
