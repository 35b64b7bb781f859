//! Services are swapped to other versions; what cannot take over leaves them unharmed.

use alloc::format;
use alloc::string::{String, ToString};

use libipc::proto::file_system::FileKind;
use libipc::proto::init::{Cause, SwapOutcome, SwapPhase, SwapReason, SwapReport};
use libipc::proto::vfs::LastLink;
use libsys::abi::PAGE_SIZE;
use libsys::{Handle, Memory};
use sha2::{Digest as _, Sha256};

use crate::Test;
use crate::context::{Context, because, ensure};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "swap.a-listed-image-in-memory-takes-over-and-goes-back",
        run: from_memory,
    },
    Test {
        name: "swap.images-that-are-not-what-was-said-are-refused",
        run: refused,
    },
    Test {
        name: "swap.a-version-that-answers-rubbish-is-reported-and-goes",
        run: rubbish,
    },
    Test {
        name: "swap.a-program-that-is-no-server-leaves-the-old-version-alone",
        run: no_server,
    },
];

/// The service that is swapped: the programs of this test need it for nothing.
const SERVICE: &str = "tmpfs";

/// Returns an image of the boot bundle, in a memory object of its own.
fn image(context: &Context, name: &str) -> Result<(Handle<Memory>, &'static [u8]), String> {
    let bytes = context.find_image(name)?;
    let pages = bytes.len().div_ceil(PAGE_SIZE) as u64;
    let memory = context
        .memory()
        .create_object(pages)
        .map_err(because("no memory for an image"))?;
    memory
        .write(0, bytes)
        .map_err(because("image not written"))?;
    Ok((memory, bytes))
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Returns the number of the process that serves.
fn process(context: &Context) -> Result<u64, String> {
    for service in context.init().services() {
        let service = service.map_err(because("services not listed"))?;
        if service.name == SERVICE {
            return Ok(service.process);
        }
    }
    Err("the service is not listed".to_string())
}

fn from_memory(context: &Context) -> Result<(), String> {
    let (memory, bytes) = image(context, SERVICE)?;
    let init = context.init();
    let before = process(context)?;
    let report = init
        .swap_memory(SERVICE, &memory, bytes.len() as u64, digest(bytes))
        .map_err(because("swap"))?;
    expect(&report, SwapOutcome::Committed)?;
    let after = process(context)?;
    ensure!(before != after, "process {before} still serves");
    let report = init.rollback(SERVICE).map_err(because("roll-back"))?;
    expect(&report, SwapOutcome::Committed)?;
    ensure!(report.pause_ns.is_some(), "no pause was measured");
    Ok(())
}

fn refused(context: &Context) -> Result<(), String> {
    let (memory, bytes) = image(context, SERVICE)?;
    let before = process(context)?;
    let length = bytes.len() as u64;
    let mut changed = bytes[..PAGE_SIZE].to_vec();
    changed[PAGE_SIZE - 1] ^= 1;
    let tries = [
        (length, digest(&changed), SwapReason::WrongDigest),
        (
            PAGE_SIZE as u64,
            digest(&bytes[..PAGE_SIZE]),
            SwapReason::NotListed,
        ),
        (0, digest(&[]), SwapReason::NotAProgram),
        (1 << 40, digest(&[]), SwapReason::NotAProgram),
    ];
    for (length, sum, reason) in tries {
        let report = context
            .init()
            .swap_memory(SERVICE, &memory, length, sum)
            .map_err(because("swap"))?;
        let phase = SwapPhase::Verify;
        expect(&report, SwapOutcome::RolledBack { phase, reason })?;
        ensure!(report.pause_ns.is_none(), "the service was stopped");
    }
    let after = process(context)?;
    ensure!(
        before == after,
        "process {after} took the place of {before}"
    );
    Ok(())
}

/// The clients of the new version find it out, `init` takes it back, and whoever asks them gets the
/// right answer.
fn rubbish(context: &Context) -> Result<(), String> {
    const DIRECTORY: &[u8] = b"/tmp/answered-rightly";
    let (init, vfs) = (context.init(), context.vfs());
    let reported = || {
        let told = init.statistics(SERVICE).map_err(because("statistics"))?;
        Ok::<_, String>(told.reported)
    };
    let before = reported()?;
    vfs.make_dir(DIRECTORY)
        .map_err(because("directory not made"))?;
    let report = init
        .swap(SERVICE, "broken-rubbish")
        .map_err(because("swap"))?;
    expect(&report, SwapOutcome::Committed)?;
    let found = vfs
        .stat(DIRECTORY, LastLink::Follow)
        .map_err(because("no answer"))?;
    ensure!(found.kind == FileKind::Directory, "{found:?}");
    vfs.remove_dir(DIRECTORY)
        .map_err(because("directory not removed"))?;
    let after = reported()?;
    ensure!(after == before + 1, "reported {before} times, then {after}");
    for version in init.versions() {
        let version = version.map_err(because("versions not listed"))?;
        ensure!(
            version.name != SERVICE || version.image == SERVICE,
            "{} still serves",
            version.image
        );
    }
    Ok(())
}

fn no_server(context: &Context) -> Result<(), String> {
    let before = process(context)?;
    let report = context
        .init()
        .swap(SERVICE, "echo")
        .map_err(because("swap"))?;
    match report.outcome {
        SwapOutcome::RolledBack {
            phase: SwapPhase::Announce,
            reason: SwapReason::NewDied(Cause::Exited(_)),
        } => {}
        other => return Err(format!("{other:?}")),
    }
    let after = process(context)?;
    ensure!(
        before == after,
        "process {after} took the place of {before}"
    );
    Ok(())
}

fn expect(report: &SwapReport, outcome: SwapOutcome) -> Result<(), String> {
    ensure!(
        report.outcome == outcome,
        "expected {outcome:?}, got {:?}",
        report.outcome
    );
    Ok(())
}
