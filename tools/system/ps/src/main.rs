//! Lists processes.
#![cfg_attr(bare, no_std, no_main)]

extern crate alloc;

use alloc::string::{String, ToString};

use libsys::abi::{PAGE_SIZE, ProcessInfo, ProcessState};
use skink_program::files::printable;
use skink_program::{Align, Failed, Outcome, Program, Table, human};

const HELP: &str = "\
Usage: ps

Lists the processes: number, name, state, CPU time (of it for callers), page
faults, calls, handles, memory mapped and kernel memory.
";

skink_program::program!(HELP, run);

fn run(program: &mut Program) -> Outcome {
    use Align::{Left, Right};
    if !program.options(&[])?.operands.is_empty() {
        return Err(Failed::usage("too many arguments"));
    }
    let system = program.system()?;
    let mut table = Table::new(&[
        ("ID", Right),
        ("NAME", Left),
        ("STATE", Left),
        ("CPU", Right),
        ("SERVED", Right),
        ("FAULTS", Right),
        ("CALLS", Right),
        ("HANDLES", Right),
        ("MEMORY", Right),
        ("KERNEL", Right),
    ]);
    let mut next = 0;
    while let Some(info) = system.next_process(next)? {
        table.row([
            info.id.to_string(),
            name(&info),
            state(&info).to_string(),
            human::duration(info.cpu_ns),
            human::duration(info.served_ns),
            info.faults.to_string(),
            info.calls.to_string(),
            info.handles.to_string(),
            human::size(info.mapped_pages.saturating_mul(PAGE_SIZE as u64)),
            human::size(info.kernel_bytes),
        ]);
        let Some(following) = info.id.checked_add(1) else {
            break;
        };
        next = following;
    }
    program.out().write_bytes(table.render().as_bytes())?;
    program.finish()
}

fn name(info: &ProcessInfo) -> String {
    let length = info
        .name
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(info.name.len());
    printable(&info.name[..length])
}

fn state(info: &ProcessInfo) -> &'static str {
    if info.state == ProcessState::Dead as u32 {
        "dead"
    } else if info.state == ProcessState::Dying as u32 {
        "dying"
    } else if info.receiving != 0 || info.waiting != 0 {
        "idle"
    } else if info.calling != 0 {
        "calling"
    } else {
        "running"
    }
}
