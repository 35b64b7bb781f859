//! Programs that do what they must not. None of them should get behind its one instruction.

use alloc::vec::Vec;
use core::arch::asm;
use core::hint::black_box;

use libsys::abi::layout::{IMAGE_BASE, USER_END};

use super::{BAD_ROLE, SURVIVED, WRONG};

/// An address where no program has anything.
pub(crate) const NOWHERE: u64 = 0x5000_0000_0000;
/// An address of the kernel's half.
pub(crate) const KERNEL: u64 = 0xffff_8000_0000_0000;
/// An address of neither half.
pub(crate) const NON_CANONICAL: u64 = 0x0000_9000_0000_0000;
/// Exit code of the program that tried to turn interrupts off by its flags.
pub(crate) const FLAG_IGNORED: i32 = 7;

/// Runs one instruction that must end this process.
macro_rules! forbidden {
    ($($instruction:expr),+ $(; $($operand:tt)+)?) => {{
        // SAFETY: it is meant to end this process; if it should not, nothing of Rust's is touched
        // before the process ends by itself.
        unsafe { asm!($($instruction),+ $(, $($operand)+)?) };
        Ok(SURVIVED)
    }};
}

/// Ends this process by an invalid instruction.
pub(super) fn crash() -> ! {
    // SAFETY: it ends this process, which is what it is for.
    unsafe { asm!("ud2", options(noreturn)) }
}

/// Does the forbidden thing of this name.
pub(super) fn run(name: &str) -> Result<i32, i32> {
    match name {
        "cli" => forbidden!("cli"),
        "hlt" => forbidden!("hlt"),
        "in" => forbidden!("in al, dx"; in("dx") 0x64_u16, out("al") _),
        "out" => forbidden!("out dx, al"; in("dx") 0xf4_u16, in("al") 0_u8),
        "rdmsr" => forbidden!("rdmsr"; in("ecx") 0xc000_0080_u32, out("eax") _, out("edx") _),
        "mov-cr3" => forbidden!("mov cr3, {}"; in(reg) 0_u64),
        "lgdt" => forbidden!("lgdt [{}]"; in(reg) IMAGE_BASE),
        "swapgs" => forbidden!("swapgs"),
        "sysret" => forbidden!("sysretq"),
        "int-80" => forbidden!("int 0x80"),
        "int-14" => forbidden!("int 14"),
        "int3" => forbidden!("int3"),
        "ud2" => forbidden!("ud2"),
        "divide" => {
            forbidden!("div {0:e}"; in(reg) 0_u32, inout("eax") 1 => _, inout("edx") 0 => _)
        }
        "trap-flag" => forbidden!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop"),
        "interrupt-flag" => interrupt_flag(),
        "read-null" => read(8),
        "read-kernel" => read(KERNEL),
        "read-end" => read(USER_END),
        "write-nowhere" => write(NOWHERE),
        "write-kernel" => write(KERNEL),
        "write-text" => write(crash as *const () as u64),
        "write-non-canonical" => write(NON_CANONICAL),
        "jump-nowhere" => jump(NOWHERE),
        "jump-kernel" => jump(KERNEL),
        "jump-non-canonical" => jump(NON_CANONICAL),
        "jump-stack" => {
            let code = [0xc3_u8; 16];
            jump(black_box(&raw const code) as u64)
        }
        "jump-data" => jump(black_box(&raw const DATA) as u64),
        "stack-overflow" => Ok(recurse(0)),
        "panic" => panic!("a test wants this"),
        "overrun" => overrun(1),
        "overrun-none" => overrun(0),
        "spin" => spin(),
        "bad-stack-syscall" => forbidden!("xor esp, esp", "syscall", "push rax"; in("rax") 0_u64),
        _ => Err(BAD_ROLE),
    }
}

/// A `ret` in a segment that is not executable.
static DATA: [u8; 16] = [0xc3; 16];

fn read(address: u64) -> Result<i32, i32> {
    forbidden!("mov {0}, [{0}]"; inout(reg) address => _)
}

fn write(address: u64) -> Result<i32, i32> {
    forbidden!("mov byte ptr [{}], 1"; in(reg) address)
}

fn jump(address: u64) -> Result<i32, i32> {
    forbidden!("call {}"; in(reg) address, clobber_abi("C"))
}

/// `popf` in Ring 3 leaves the interrupt flag alone, so this must return with it set.
fn interrupt_flag() -> Result<i32, i32> {
    let flags: u64;
    // SAFETY: reads and writes the flags; the direction flag and all status flags are put back.
    unsafe {
        asm!("pushfq", "and qword ptr [rsp], ~0x200", "popfq", "pushfq", "pop {}", out(reg) flags);
    }
    Ok(if flags & 0x200 != 0 {
        FLAG_IGNORED
    } else {
        WRONG
    })
}

/// Uses the stack until there is no more.
fn recurse(depth: u64) -> i32 {
    let frame = black_box([depth; 32]);
    if frame[31] == u64::MAX {
        return SURVIVED;
    }
    // Adding behind the call keeps it from becoming a loop.
    recurse(depth + 1) + black_box(frame[0] as i32 & 1)
}

/// Writes so many bytes behind an allocation, and frees it then.
fn overrun(bytes: usize) -> Result<i32, i32> {
    // An odd size, so that there is no filling behind it.
    let mut memory: Vec<u8> = Vec::with_capacity(37);
    let room = memory.spare_capacity_mut().len();
    let end = memory.as_mut_ptr().wrapping_add(room) as u64;
    for at in end - 1..end + bytes as u64 {
        // Not by a reference: the compiler must not know whose it is.
        // SAFETY: the last byte is the allocation's; behind it comes its guard, which nothing of
        // Rust's refers to, and if it is not found this process ends by itself.
        unsafe { asm!("xor byte ptr [{}], 0x5a", in(reg) at) };
    }
    drop(black_box(memory));
    Ok(SURVIVED)
}

fn spin() -> ! {
    loop {
        core::hint::spin_loop();
    }
}
