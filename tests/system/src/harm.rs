//! Does harm to a server that costs more than a restart, this program itself perhaps included: the
//! host looks at what is left.

use alloc::string::String;
use alloc::vec;

use libipc::proto::init::{InitClient, ServiceInfo, ServiceState};
use libsys::abi::layout::{STACK_BYTES, STACK_TOP, STATE_REGION};
use libsys::abi::{MAX_PAGE_RUNS, PAGE_SIZE, PageRun};
use libsys::{Handle, Process, System, time};
use skink_program::{FAILURE, Failed, Outcome, Program};

/// Exit code of what is ended.
const ENDED: u64 = 99;
/// A state region has two wrong bits in each so many bytes: nothing in it can be mended.
const HARM_EVERY: usize = 24;
/// More crashes than `init` takes before it suspects the state.
const CRASHES: u32 = 12;
/// How often a server is looked at, ns.
const LOOK: u64 = time::MS;
/// Longest time until the next instance runs: delays grow from crash to crash.
const SOON: u64 = 30_000 * time::MS;
/// How long this program lives on to be ended, ns.
const WAIT: u64 = 2_000 * time::MS;

/// Runs it: what harm, and to whom.
pub(crate) fn run(program: &mut Program, arguments: &[String]) -> Outcome {
    let [harm, server] = arguments else {
        return Err(Failed::usage("which harm, to which server?"));
    };
    let (init, system) = (program.init()?, program.system()?);
    match harm.as_str() {
        "state" => {
            let process = system.open_process(find(&init, server)?.process)?;
            damage_state(&system, &process)?;
            process.kill(ENDED)?;
        }
        "crashes" => crash(program, &init, &system, server)?,
        _ => return Err(Failed::usage("harm is `state` or `crashes`")),
    }
    time::sleep(WAIT);
    program.complain("still there");
    program.finish()?;
    Ok(FAILURE)
}

fn find(init: &InitClient, name: &str) -> Result<ServiceInfo, Failed> {
    for service in init.services() {
        let service = service.map_err(Failed::new)?;
        if service.name == name {
            return Ok(service);
        }
    }
    Err(Failed::new("there is no such server"))
}

/// Damages all of the state region of a process beyond repair.
fn damage_state(system: &Handle<System>, process: &Handle<Process>) -> Result<(), Failed> {
    let mut runs = [PageRun::default(); MAX_PAGE_RUNS];
    let (count, _) = process.mappings(STATE_REGION, &mut runs)?;
    let region = runs[..count]
        .first()
        .filter(|run| run.address == STATE_REGION)
        .ok_or_else(|| Failed::new("it has no state region"))?;
    let mut page = vec![0; PAGE_SIZE];
    for at in 0..region.pages {
        let address = region.address + at * PAGE_SIZE as u64;
        system.peek(process, address, &mut page)?;
        for byte in page.iter_mut().step_by(HARM_EVERY) {
            *byte ^= 0x24;
        }
        system.poke(process, address, &page)?;
    }
    Ok(())
}

/// Overwrites the stack of a process, with all places to which it could come back when it is woken.
fn damage_stack(system: &Handle<System>, process: &Handle<Process>) -> Result<(), Failed> {
    let mut runs = [PageRun::default(); MAX_PAGE_RUNS];
    let (count, _) = process.mappings(STACK_TOP - STACK_BYTES, &mut runs)?;
    let page = vec![0xff; PAGE_SIZE];
    for run in runs[..count].iter().filter(|run| run.address < STACK_TOP) {
        for at in 0..run.pages {
            system.poke(process, run.address + at * PAGE_SIZE as u64, &page)?;
        }
    }
    Ok(())
}

/// Has one instance after the other crash: who is ended from outside is no crash loop. The memory
/// manager, as it is called to wake it.
fn crash(
    program: &Program,
    init: &InitClient,
    system: &Handle<System>,
    name: &str,
) -> Result<(), Failed> {
    let memory = program.memory()?;
    let mut last = 0;
    for _ in 0..CRASHES {
        let deadline = time::after(SOON);
        let running = loop {
            let service = find(init, name)?;
            if service.state == ServiceState::Running && service.generation > last {
                break service;
            }
            if time::now() > deadline {
                return Err(Failed::new("it does not come back"));
            }
            time::sleep(LOOK);
        };
        last = running.generation;
        let process = system.open_process(running.process)?;
        damage_stack(system, &process)?;
        // Answered by the next instance.
        memory.totals().map_err(Failed::new)?;
    }
    Ok(())
}
