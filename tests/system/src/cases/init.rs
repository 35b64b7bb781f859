//! `init` and its services under faults that only a debugger can make: deaths at any instruction,
//! and servers that loop.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use libipc::proto::init::{Cause, ServiceInfo, ServiceState};
use libsys::abi::{MapFlags, PAGE_SIZE, PageRun, layout};
use libsys::{Handle, Process, time};

use crate::Test;
use crate::context::{Context, SOON, because, ensure};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "init.dies-at-any-instruction-and-goes-on",
        run: dies_anywhere,
    },
    Test {
        name: "init.finds-servers-that-loop",
        run: finds_loops,
    },
    Test {
        name: "init.is-ended-when-it-loops-itself",
        run: loops_itself,
    },
];

/// Number of `init`.
const INIT: u64 = 1;
/// A server that can be called from here and whose text is its own: a pinned one.
const PINNED: &str = "log";
/// Deaths of `init`, and hangs of a server.
const ROUNDS: u64 = 24;
const PAGE: u64 = PAGE_SIZE as u64;
/// Pages of the stack of `init`'s main thread that are looked at: it is small.
const STACK_PAGES: u64 = 16;
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
    let before = (service(context, PINNED)?, service(context, "tmpfs")?);
    let (restarts, handles_before) = (service(context, "init")?.restarts, handles()?);
    for round in 0..ROUNDS {
        // A pinned one, which `init` starts itself, and one that its second thread starts.
        let victim = if round % 2 == 0 { PINNED } else { "tmpfs" };
        let killed = context.init().kill(victim);
        killed.map_err(because("kill"))?;
        // Up to 2 ms: as long as `init` needs for a restart.
        time::sleep(round * 7919 % ROUNDS * 2 * time::MS / ROUNDS);
        init.kill(KILLED).map_err(because("kill init"))?;
        wait_for_all(context)?;
    }
    let after = (service(context, PINNED)?, service(context, "tmpfs")?);
    let own = service(context, "init")?;
    let half = (ROUNDS / 2) as u32;
    ensure!(
        u64::from(own.restarts - restarts) == ROUNDS
            && own.last_cause == Some(Cause::Killed(KILLED)),
        "init: {own:?}"
    );
    for (before, after) in [(before.0, after.0), (before.1, after.1)] {
        let more = after.restarts - before.restarts;
        ensure!(more == half, "{} was started {more} times", after.name);
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

/// Has a process loop for ever as soon as it runs: all its code becomes one long loop that does
/// nothing.
fn hang(context: &Context, process: &Handle<Process>) -> Result<(), String> {
    for run in code_of(process)? {
        let code = endless(run.pages as usize * PAGE_SIZE);
        let poked = context.system().poke(process, run.address, &code);
        poked.map_err(because("poke"))?;
    }
    Ok(())
}

/// Has the main thread of `init` loop for ever as soon as it returns from the function in which it
/// waits: all return addresses in its stack become that of a jump to itself.
fn hang_main_thread(context: &Context) -> Result<(), String> {
    const JUMP_TO_ITSELF: [u8; 2] = [0xeb, 0xfe];
    let init = open(context, INIT)?;
    let system = context.system();
    let code = code_of(&init)?;
    let run = code.first().ok_or("init has no code")?;
    // The end of the last page is filling.
    let loops = run.address + run.pages * PAGE - 2;
    let poked = system.poke(&init, loops, &JUMP_TO_ITSELF);
    poked.map_err(because("poke"))?;
    let in_code = run.address..loops;
    for page in 1..=STACK_PAGES {
        let address = layout::STACK_TOP - page * PAGE;
        let mut bytes = [0; PAGE_SIZE];
        let peeked = system.peek(&init, address, &mut bytes);
        peeked.map_err(because("peek"))?;
        for word in bytes.as_chunks_mut::<8>().0 {
            if in_code.contains(&u64::from_le_bytes(*word)) {
                *word = loops.to_le_bytes();
            }
        }
        let poked = system.poke(&init, address, &bytes);
        poked.map_err(because("poke"))?;
    }
    Ok(())
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
        wait_for_all(context)?;
        // At other moments of the time between two looks of `init`.
        time::sleep(round * 1_300_000);
        hang(context, &open(context, service(context, PINNED)?.process)?)?;
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

fn loops_itself(context: &Context) -> Result<(), String> {
    wait_for_all(context)?;
    let before = context
        .init()
        .statistics("init")
        .map_err(because("statistics"))?;
    hang_main_thread(context)?;
    let after = context
        .init()
        .statistics("init")
        .map_err(because("statistics"))?;
    ensure!(
        after.hung == before.hung + 1,
        "init hung {} times",
        after.hung
    );
    context.note(format!(
        "init was away: {} us",
        after.downtime_last_ns / 1_000
    ));
    Ok(())
}
