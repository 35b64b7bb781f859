//! `init` and its services under faults that only a debugger can make: deaths at any instruction,
//! and servers that loop.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use libipc::Failure;
use libipc::proto::init::{InitError, ServiceInfo, ServiceState};
use libsys::abi::{MapFlags, PAGE_SIZE, PageRun, layout};
use libsys::{Handle, Memory, Process, time};

use crate::context::{Context, SOON, because, ensure};
use crate::{Test, wire};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "init.dies-at-any-instruction-and-goes-on",
        run: dies_anywhere,
    },
    Test {
        name: "init.finds-servers-that-loop",
        run: finds_loops,
    },
];

/// Number of `init`.
const INIT: u64 = 1;
/// A server that can be called from here and whose text is its own: a pinned one.
const PINNED: &str = "log";
/// Deaths of `init`, and hangs of a server.
const ROUNDS: u64 = 24;
const PAGE: u64 = PAGE_SIZE as u64;
/// Exit code of those that are killed here.
const KILLED: u64 = 99;

fn service(context: &Context, name: &str) -> Result<ServiceInfo, String> {
    for service in context.init().services() {
        let service = service.map_err(because("services"))?;
        if service.name == name {
            return Ok(service);
        }
    }
    Err(format!("no {name}"))
}

fn open(context: &Context, number: u64) -> Result<Handle<Process>, String> {
    let process = context.system().open_process(number);
    process.map_err(because("open"))
}

/// Waits until all services run.
fn wait_for_all(context: &Context) -> Result<(), String> {
    let deadline = time::after(SOON);
    loop {
        let services = context.init().services().collect::<Result<Vec<_>, _>>();
        let services = services.map_err(because("services"))?;
        let is_running = |service: &ServiceInfo| service.state == ServiceState::Running;
        let Some(away) = services.iter().find(|service| !is_running(service)) else {
            return Ok(());
        };
        ensure!(time::now() < deadline, "{} is {:?}", away.name, away.state);
        time::sleep(time::MS);
    }
}

/// Asks for an end of a service, and kills `init` a bit later, wherever it is in dealing with it.
fn dies_anywhere(context: &Context) -> Result<(), String> {
    wait_for_all(context)?;
    let init = open(context, INIT)?;
    let handles = || {
        init.info()
            .map(|info| info.handles)
            .map_err(because("info"))
    };
    // Ends of other causes do not count: on a loaded host a service may be taken for hung.
    let statistics = |name: &str| {
        let found = context.init().statistics(name);
        found.map_err(because("statistics"))
    };
    let before = (statistics(PINNED)?.asked, statistics("tmpfs")?.asked);
    let (killed_before, handles_before) = (statistics("init")?.killed, handles()?);
    for round in 0..ROUNDS {
        // A pinned one, which `init` starts itself, and one that its second thread starts.
        let victim = if round % 2 == 0 { PINNED } else { "tmpfs" };
        while let Err(failure) = context.init().kill(victim) {
            ensure!(
                failure == Failure::Server(InitError::NotRunning),
                "kill: {failure}"
            );
            wait_for_all(context)?;
        }
        // Up to 2 ms: as long as `init` needs for a restart.
        time::sleep(round * 7919 % ROUNDS * 2 * time::MS / ROUNDS);
        init.kill(KILLED).map_err(because("kill init"))?;
        wait_for_all(context)?;
    }
    let after = (statistics(PINNED)?.asked, statistics("tmpfs")?.asked);
    let own = u64::from(statistics("init")?.killed - killed_before);
    ensure!(own == ROUNDS, "init was killed {own} times");
    let half = (ROUNDS / 2) as u32;
    for (before, after) in [(before.0, after.0), (before.1, after.1)] {
        let more = after - before;
        ensure!(more == half, "one was ended {more} times");
    }
    // What is being torn down still has a handle for a while.
    let deadline = time::after(SOON);
    while handles()? > handles_before {
        ensure!(
            time::now() < deadline,
            "{} handles, now {}",
            handles_before,
            handles()?
        );
        context.init().kill(PINNED).map_err(because("kill"))?;
        wait_for_all(context)?;
    }
    Ok(())
}

/// Returns where the code of a process lies.
fn code_of(process: &Handle<Process>) -> Result<Vec<PageRun>, String> {
    let mut code = Vec::new();
    let mut runs = [PageRun::default(); 16];
    let mut address = 0;
    while address < layout::USER_END {
        let found = process.mappings(address, &mut runs);
        let (count, next) = found.map_err(because("mappings"))?;
        address = next;
        let runs = runs[..count].iter();
        code.extend(runs.filter(|run| run.flags.contains(MapFlags::EXECUTE)));
    }
    Ok(code)
}

/// Has a process loop for ever as soon as it runs: in place of its code, which it shares with its
/// later instances, one long loop that does nothing is mapped. That lasts as long as what is returned.
fn hang(context: &Context, process: &Handle<Process>) -> Result<Vec<Handle<Memory>>, String> {
    let mut loops = Vec::new();
    for run in code_of(process)? {
        let memory = wire::object(context, run.pages)?;
        let written = memory.write(0, &endless((run.pages * PAGE) as usize));
        written.map_err(because("write"))?;
        let flags = MapFlags::READ | MapFlags::EXECUTE | MapFlags::REPLACE;
        let mapped = process.map_one(run.address, &memory, 0, run.pages, flags);
        mapped.map_err(because("map"))?;
        loops.push(memory);
    }
    Ok(loops)
}

/// Returns so many bytes of `nop`, with a jump from the end to the start.
fn endless(bytes: usize) -> Vec<u8> {
    const NOP: u8 = 0x90;
    const JUMP: u8 = 0xe9;
    let mut code = vec![NOP; bytes];
    let jump = bytes - 5;
    code[jump] = JUMP;
    // Relative to the end of the jump.
    code[jump + 1..].copy_from_slice(&(-(bytes as i32)).to_le_bytes());
    code
}

fn finds_loops(context: &Context) -> Result<(), String> {
    wait_for_all(context)?;
    let hung = |name| {
        context
            .init()
            .statistics(name)
            .map(|statistics| statistics.hung)
    };
    let before = hung(PINNED).map_err(because("statistics"))?;
    let mut longest = 0;
    for round in 0..ROUNDS {
        // So many hangs in a row would slow its restarts down: that is forgotten with this.
        let restarted = context.init().restart(PINNED);
        restarted.map_err(because("restart"))?;
        wait_for_all(context)?;
        // At other moments of the time between two looks of `init`.
        time::sleep(round * 1_300_000);
        let server = open(context, service(context, PINNED)?.process)?;
        let _loops = hang(context, &server)?;
        let start = time::now();
        // The next instance answers.
        let read = context.log().read("kernel", 0);
        read.map_err(because("log"))?;
        longest = longest.max(time::now() - start);
    }
    let found = hung(PINNED).map_err(because("statistics"))? - before;
    ensure!(u64::from(found) == ROUNDS, "{found} hangs were found");
    context.note(format!("longest hang: {} us", longest / 1_000));
    Ok(())
}
