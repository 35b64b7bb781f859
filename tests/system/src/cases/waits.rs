//! Threads that wait for bits.

use alloc::format;
use alloc::string::String;

use libsys::ipc::{self, Outgoing, Received};
use libsys::{Endpoint, Handle, Notification, Rights, time};

use crate::Test;
use crate::context::{Context, SOON, because, ensure, expect_exit};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "waits.a-notification-that-is-waited-for-is-not-used-again",
        run: closed_while_waited_for,
    },
    Test {
        name: "waits.nobody-is-woken-for-bits-that-were-taken",
        run: taken_before_woken,
    },
];

const ROUNDS: u64 = 8;

fn closed_while_waited_for(context: &Context) -> Result<(), String> {
    for round in 0..ROUNDS {
        one_round(context).map_err(|why| format!("round {round}: {why}"))?;
    }
    Ok(())
}

/// A child closes the last handle of a notification for which one of its threads waits. Would
/// its place be free now, the notification made here would get it, and the end of the thread's
/// wait would take this wait away with it.
fn one_round(context: &Context) -> Result<(), String> {
    let reports = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let reporter = reports.mint(0).map_err(because("mint"))?;
    let spawn = context
        .role("close-waited", &[])
        .handle("report", &reporter, Rights::ALL);
    let child = context.start(spawn)?;
    let received = ipc::receive(&reports, time::after(SOON)).map_err(because("no report"))?;
    let Received::Request(request) = received else {
        return Err(format!("not a report: {received:?}"));
    };
    let ours = Handle::<Notification>::create().map_err(because("notification"))?;
    let theirs = ours.mint(0b100).map_err(because("mint"))?;
    let mut outgoing = Outgoing::NONE;
    outgoing.pass(theirs.into_raw()).map_err(because("pass"))?;
    ipc::reply(request.reply, 0, 0, &outgoing).map_err(because("child gone"))?;
    let bits = ipc::wait(&ours, time::after(SOON)).map_err(because("our wait was lost"))?;
    ensure!(bits == 0b100, "bits {bits:#b} came");
    child.succeed()
}

/// Threads on all CPUs set bits for one that waits. It may take bits before the CPU that set them
/// comes to look for a waiter, and wait again: then there is nothing to wake it for.
fn taken_before_woken(context: &Context) -> Result<(), String> {
    let ended = context.run("wait-for-many", &[context.cpus()?])?;
    expect_exit(&ended, 0)
}
