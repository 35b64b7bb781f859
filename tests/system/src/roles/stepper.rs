//! A program that can count its own instructions.

use core::arch::asm;

use libsys::abi::{FOREVER, Syscall};
use libsys::mappings::Mapping;
use libsys::thread::{self, ThreadPlace};
use libsys::{Handle, MapFlags, Memory, Notification, ipc};

use super::{BAD_ROLE, NON_CANONICAL, Role, WRONG};

/// Where the second thread lives.
const SECOND: u64 = 0x61_0000_0000;
const STACK_PAGES: u64 = 6;

/// Waits for the notification `go0`, and in a second thread for `go1`; then each adds 1 to its word of
/// the object `counts` with every second instruction, for ever. The two words behind these tell where
/// the instructions are that do so, the next one where the first word is here.
pub(super) fn run(role: &Role<'_>) -> Result<i32, i32> {
    let counts = counts(role)?;
    let word = |index: usize| {
        counts
            .atomic_u64(index * 8)
            .map(|word| word.as_ptr() as u64)
    };
    let (first, second) = (word(0).map_err(|_| WRONG)?, word(1).map_err(|_| WRONG)?);
    // A page fault is no instruction, but the page shall be there all the same.
    super::memory::put(first, 0);
    super::memory::put(first + 32, first);
    let (go, other): (Handle<Notification>, Handle<Notification>) =
        (role.take("go0")?, role.take("go1")?);
    let memory = role.program.memory().map_err(|_| BAD_ROLE)?;
    let memory = memory.create_object(STACK_PAGES).map_err(|_| WRONG)?;
    let place = ThreadPlace {
        memory: &memory,
        first_page: 0,
        pages: STACK_PAGES,
        address: SECOND,
    };
    let _second = thread::spawn(&place, move || count(&other, second)).map_err(|_| WRONG)?;
    count(&go, first)
}

/// Waits for the notification `go0`; then it goes to where the first word of the object `counts` says,
/// which is nowhere. The fifth word tells where the first one is here.
pub(super) fn leap(role: &Role<'_>) -> Result<i32, i32> {
    let counts = counts(role)?;
    let first = counts.atomic_u64(0).map_err(|_| WRONG)?.as_ptr() as u64;
    super::memory::put(first, NON_CANONICAL);
    super::memory::put(first + 32, first);
    let go: Handle<Notification> = role.take("go0")?;
    ipc::wait(&go, FOREVER).map_err(|_| WRONG)?;
    // SAFETY: the process ends here.
    unsafe { asm!("jmp qword ptr [{}]", in(reg) first, options(noreturn)) }
}

fn counts(role: &Role<'_>) -> Result<Mapping, i32> {
    let counts: Handle<Memory> = role.take("counts")?;
    Mapping::map(&counts, MapFlags::READ | MapFlags::WRITE).map_err(|_| WRONG)
}

/// Waits, and counts from then on.
fn count(go: &Handle<Notification>, word: u64) -> ! {
    // SAFETY: a system call that waits, and then a word of shared memory that lives as long as the
    // process and that nobody here refers to.
    unsafe {
        asm!(
            "lea rcx, [rip + 2f]",
            "mov [r12 + 16], rcx",
            "syscall",
            "2:",
            "inc qword ptr [r12]",
            "jmp 2b",
            in("r12") word,
            in("rax") Syscall::Wait as u64,
            in("rdi") u64::from(go.raw().0),
            in("rsi") FOREVER,
            options(noreturn),
        )
    }
}
