//! Random system calls: whatever happens to their program, the system lives on.

use alloc::format;
use alloc::string::String;

use libsys::{Endpoint, Handle, Notification, Rights, time};

use crate::Test;
use crate::context::{Context, because, ensure};
use crate::wire::{self, Server, ask};

pub(super) const TESTS: &[Test] = &[Test {
    name: "fuzz.random-calls-harm-only-their-program",
    run: random_calls,
}];

/// Programs that are run.
const RUNS: u64 = 12;
/// Calls that each tries.
const CALLS: u64 = 4_000;
/// Longest time for one, ns.
const LIMIT: u64 = 3_000 * time::MS;
/// Kernel memory that may be in use more than before, bytes: others work at the same time.
const SLACK: u64 = 512 << 10;

fn random_calls(context: &Context) -> Result<(), String> {
    // The victim may be talked into anything; the bystander must not notice.
    let (victim, bystander) = (Server::start(context)?, Server::start(context)?);
    let before = context.kernel_stats()?.pool_used;
    let first_seed = time::now() | 1;
    context.note(format!(
        "seeds {first_seed:#x} and the {} behind it",
        RUNS - 1
    ));
    for run in 0..RUNS {
        let seed = first_seed.wrapping_add(run);
        one_run(context, &victim, &bystander, seed)
            .map_err(|why| format!("seed {seed:#x}: {why}"))?;
    }
    let after = context.kernel_stats()?.pool_used;
    ensure!(
        after < before + SLACK,
        "kernel memory in use grew from {before} to {after} bytes"
    );
    Ok(())
}

fn one_run(
    context: &Context,
    victim: &Server,
    bystander: &Server,
    seed: u64,
) -> Result<(), String> {
    let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let bits = Handle::<Notification>::create().map_err(because("notification"))?;
    let memory = wire::object(context, 4)?;
    let own = endpoint.mint(9).map_err(because("mint"))?;
    let spawn = context
        .role("fuzz", &[seed, CALLS])
        .handle("endpoint", &endpoint, Rights::ALL)
        .handle("sender", &own, Rights::ALL)
        .handle("server", &victim.sender, Rights::CALL)
        .handle("bits", &bits, Rights::ALL)
        .handle("object", &memory, Rights::ALL);
    let child = context.start(spawn)?;
    let deadline = time::after(LIMIT);
    while child.info()?.reason == 0 && time::now() < deadline {
        time::sleep(time::MS);
    }
    if child.info()?.reason == 0 {
        child.kill()?;
    } else {
        child.end()?;
    }
    let answer = wire::call(&bystander.sender, ask::ECHO, b"ab").map_err(because("a bystander"))?;
    ensure!(answer.bytes == b"ba", "a bystander gives wrong answers");
    context.totals().map(|_| ())
}
