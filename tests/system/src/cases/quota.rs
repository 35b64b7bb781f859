//! Kernel memory: nobody gets more of it than was given, and all of it comes back.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use libsys::ipc::{self, Outgoing, Received};
use libsys::{Endpoint, Error, Handle, Process, Rights, time};

use crate::Test;
use crate::context::{Context, SOON, because, ensure, own};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "quota.what-a-grandchild-has-comes-back-with-it-only",
        run: grandchildren,
    },
    Test {
        name: "quota.a-process-that-nobody-can-reach-keeps-nothing",
        run: unreachable,
    },
    Test {
        name: "quota.absurd-quotas-are-refused",
        run: absurd,
    },
];

/// Kernel memory of a child that gives most of it away, bytes.
const CHILD: u64 = 512 << 10;
/// How much it gives away, bytes.
const HEIR: u64 = 384 << 10;
/// Own use of kernel memory that may come and go during a test, bytes.
const SLACK: u64 = 64 << 10;

/// Has a child make a process with most of its quota and end. The process is given to this
/// program, or to nobody.
fn bequeath(context: &Context, to_nobody: u64) -> Result<Option<Handle<Process>>, String> {
    let reports = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
    let reporter = reports.mint(0).map_err(because("mint"))?;
    let spawn = context
        .role("bequeath", &[HEIR, to_nobody])
        .handle("report", &reporter, Rights::ALL)
        .kernel_quota(CHILD);
    let child = context.start(spawn)?;
    let received = ipc::receive(&reports, time::after(SOON)).map_err(because("no report"))?;
    let Received::Request(mut request) = received else {
        return Err(format!("not a report: {received:?}"));
    };
    let heir = request.handles.take::<Process>(0);
    ipc::reply(request.reply, 0, 0, &Outgoing::NONE).map_err(because("child gone"))?;
    child.succeed()?;
    Ok(heir)
}

/// Waits until as little kernel memory is in use as before.
fn comes_back(before: u64) -> Result<(), String> {
    let deadline = time::after(SOON);
    loop {
        let used = own()?.kernel_bytes;
        if used <= before + SLACK {
            return Ok(());
        }
        ensure!(
            time::now() < deadline,
            "{used} bytes are in use, before it were {before}"
        );
        time::sleep(time::MS);
    }
}

fn grandchildren(context: &Context) -> Result<(), String> {
    let start = own()?;
    let (before, limit) = (start.kernel_bytes, start.kernel_quota);
    let mut heirs = Vec::new();
    while own()?.kernel_bytes + CHILD + SLACK <= limit {
        let heir = bequeath(context, 0)?.ok_or("no process came")?;
        heirs.push(heir);
        let used = own()?.kernel_bytes;
        let theirs = HEIR * heirs.len() as u64;
        ensure!(
            used >= before + theirs,
            "{used} bytes are in use, but others have {theirs} of them"
        );
        ensure!(
            theirs <= limit,
            "{theirs} bytes were given away, {limit} were there"
        );
    }
    ensure!(heirs.len() > 1, "there is too little for this test");
    context.note(format!("{} processes of {HEIR} bytes", heirs.len()));
    for heir in &heirs {
        heir.kill(0).map_err(because("kill"))?;
    }
    comes_back(before)
}

fn unreachable(context: &Context) -> Result<(), String> {
    let before = own()?.kernel_bytes;
    for round in 0..3 {
        ensure!(
            bequeath(context, 1)?.is_none(),
            "a process came that was for nobody"
        );
        comes_back(before).map_err(|why| format!("round {round}: {why}"))?;
    }
    Ok(())
}

fn absurd(_context: &Context) -> Result<(), String> {
    let before = own()?;
    let room = before.kernel_quota - before.kernel_bytes;
    for quota in [
        u64::MAX,
        u64::MAX - before.kernel_bytes + 1,
        u64::MAX - before.kernel_bytes - 1,
        u64::MAX - 4095,
        1 << 63,
        room + 1,
        1,
        0,
    ] {
        let made = Handle::<Process>::create("absurd", quota);
        ensure!(
            matches!(made, Err(Error::NoMemory)),
            "a quota of {quota:#x} gives {made:?}"
        );
        let used = own()?.kernel_bytes;
        ensure!(
            used == before.kernel_bytes,
            "{used} bytes are in use after a quota of {quota:#x}, before it were {}",
            before.kernel_bytes
        );
    }
    let made = Handle::<Process>::create("sensible", 64 << 10).map_err(because("process"))?;
    made.kill(0).map_err(because("kill"))?;
    comes_back(before.kernel_bytes)
}
