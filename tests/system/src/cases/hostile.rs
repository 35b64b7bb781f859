//! Programs that do what they must not: each ends with a report, and nobody else notices.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use libsys::abi::ExitReason;
use libsys::abi::layout::STACK_TOP;
use libsys::heap::DAMAGE_EXIT_CODE;
use libsys::spawn::DEFAULT_STACK_BYTES;
use libsys::time;

use crate::Test;
use crate::context::{Context, Running, ending, ensure, expect_exit, expect_fault};
use crate::roles::{FLAG_IGNORED, KERNEL, NOWHERE, SURVIVED};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "hostile.privileged-instructions-end-their-program",
        run: privileged,
    },
    Test {
        name: "hostile.bad-instructions-end-their-program",
        run: bad_instructions,
    },
    Test {
        name: "hostile.the-interrupt-flag-cannot-be-cleared",
        run: interrupt_flag,
    },
    Test {
        name: "hostile.wild-reads-and-writes-end-their-program",
        run: wild_access,
    },
    Test {
        name: "hostile.wild-jumps-end-their-program",
        run: wild_jumps,
    },
    Test {
        name: "hostile.data-is-not-code-and-code-is-not-data",
        run: code_and_data,
    },
    Test {
        name: "hostile.a-stack-overflow-hits-the-guard",
        run: stack_overflow,
    },
    Test {
        name: "hostile.a-panic-has-its-exit-code",
        run: panic,
    },
    Test {
        name: "hostile.a-byte-behind-an-allocation-ends-its-program-when-it-is-freed",
        run: overrun,
    },
    Test {
        name: "hostile.a-bad-stack-pointer-harms-nobody-else",
        run: bad_stack,
    },
    Test {
        name: "hostile.endless-loops-stop-nobody",
        run: endless_loops,
    },
    Test {
        name: "hostile.vector-registers-are-kept-apart",
        run: vector_registers,
    },
];

const DIVIDE: u64 = 0;
const DEBUG: u64 = 1;
const BREAKPOINT: u64 = 3;
const INVALID_OPCODE: u64 = 6;
const PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;

fn all_fault(context: &Context, roles: &[&str], vector: u64) -> Result<(), String> {
    for role in roles {
        let end = context.run(role, &[])?;
        expect_fault(&end, vector).map_err(|why| format!("{role}: {why}"))?;
    }
    Ok(())
}

fn privileged(context: &Context) -> Result<(), String> {
    let roles = [
        "cli", "hlt", "in", "out", "rdmsr", "mov-cr3", "lgdt", "swapgs", "int-80", "int-14",
    ];
    all_fault(context, &roles, PROTECTION)?;
    all_fault(context, &["sysret"], PROTECTION)
}

fn bad_instructions(context: &Context) -> Result<(), String> {
    all_fault(context, &["int3"], BREAKPOINT)?;
    all_fault(context, &["divide"], DIVIDE)?;
    all_fault(context, &["ud2"], INVALID_OPCODE)?;
    all_fault(context, &["trap-flag"], DEBUG)
}

fn interrupt_flag(context: &Context) -> Result<(), String> {
    expect_exit(&context.run("interrupt-flag", &[])?, FLAG_IGNORED as u64)
}

fn wild_access(context: &Context) -> Result<(), String> {
    for (role, address) in [
        ("read-null", 8),
        ("read-kernel", KERNEL),
        ("read-end", libsys::abi::layout::USER_END),
        ("write-nowhere", NOWHERE),
        ("write-kernel", KERNEL),
    ] {
        let end = context.run(role, &[])?;
        expect_fault(&end, PAGE_FAULT).map_err(|why| format!("{role}: {why}"))?;
        let at = end.fault_address;
        ensure!(
            at == address,
            "{role}: address {at:#x} is reported, not {address:#x}"
        );
    }
    all_fault(context, &["write-non-canonical"], PROTECTION)
}

fn wild_jumps(context: &Context) -> Result<(), String> {
    all_fault(context, &["jump-nowhere", "jump-kernel"], PAGE_FAULT)?;
    all_fault(context, &["jump-non-canonical"], PROTECTION)
}

fn code_and_data(context: &Context) -> Result<(), String> {
    all_fault(
        context,
        &["write-text", "jump-stack", "jump-data"],
        PAGE_FAULT,
    )
}

fn stack_overflow(context: &Context) -> Result<(), String> {
    let end = context.run("stack-overflow", &[])?;
    expect_fault(&end, PAGE_FAULT)?;
    let bottom = STACK_TOP - DEFAULT_STACK_BYTES;
    let is_guard = (bottom - 4096..bottom).contains(&end.fault_address);
    ensure!(
        is_guard,
        "address {:#x} is not in the guard page",
        end.fault_address
    );
    Ok(())
}

fn panic(context: &Context) -> Result<(), String> {
    expect_exit(&context.run("panic", &[])?, 101)
}

fn overrun(context: &Context) -> Result<(), String> {
    expect_exit(&context.run("overrun-none", &[])?, SURVIVED as u64)?;
    expect_exit(&context.run("overrun", &[])?, DAMAGE_EXIT_CODE as u64)
}

fn bad_stack(context: &Context) -> Result<(), String> {
    let end = context.run("bad-stack-syscall", &[])?;
    ensure!(
        end.reason == ExitReason::Fault as u32,
        "ended by {}",
        ending(&end)
    );
    Ok(())
}

fn endless_loops(context: &Context) -> Result<(), String> {
    let cpus = context.cpus()?;
    let spinning: Result<Vec<Running>, String> = (0..cpus + 1)
        .map(|_| context.start(context.role("spin", &[])))
        .collect();
    let spinning = spinning?;
    for child in &spinning {
        child.until("running", |info| info.cpu_ns > 0)?;
    }
    let start = time::now();
    for _ in 0..10 {
        time::sleep(5 * time::MS);
    }
    let took = time::now() - start;
    ensure!(
        took < 3_000 * time::MS,
        "10 sleeps of 5 ms took {took} ns beside {cpus} + 1 loops"
    );
    for child in &spinning {
        let end = child.kill()?;
        let is_killed = end.reason == ExitReason::Killed as u32;
        ensure!(is_killed, "a loop ended by {}", ending(&end));
    }
    Ok(())
}

fn vector_registers(context: &Context) -> Result<(), String> {
    let count = context.cpus()? + 2;
    let children: Result<Vec<Running>, String> = (0..count)
        .map(|seed| context.start(context.role("vector", &[seed, 20, 200_000])))
        .collect();
    children?.iter().try_for_each(Running::succeed)
}
