//! The `syscall` instruction: all assembly of user space is here.

use core::mem::MaybeUninit;

use skink_abi::{Error, Syscall};

/// What an IPC call passes and returns in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IpcRegisters {
    /// `rdi`: handles in, reply handle out.
    pub(crate) handles: u64,
    /// `rsi`: message info.
    pub(crate) info: u64,
    /// `rdx`: deadline in, badge out.
    pub(crate) deadline_or_badge: u64,
    /// The payload words. Those behind a short payload need not be set: the kernel clears them
    /// before anybody else sees them.
    pub(crate) words: [MaybeUninit<u64>; 8],
}

impl Default for IpcRegisters {
    #[inline(always)]
    fn default() -> Self {
        IpcRegisters {
            handles: 0,
            info: 0,
            deadline_or_badge: 0,
            words: [MaybeUninit::uninit(); 8],
        }
    }
}

impl IpcRegisters {
    /// Sets the payload, at most eight words.
    #[inline(always)]
    pub(crate) fn set_words(&mut self, words: &[u64]) {
        for (place, word) in self.words.iter_mut().zip(words) {
            *place = MaybeUninit::new(*word);
        }
    }
}

/// Makes a plain call with up to six arguments: `Ok((rdx, rsi))` or the error. What is left out is
/// whatever the registers hold; the kernel does not look at it.
#[cfg(bare)]
#[inline(always)]
pub(crate) fn plain<const N: usize>(
    call: Syscall,
    arguments: [u64; N],
) -> Result<(u64, u64), Error> {
    const { assert!(N <= 6) };
    // Known at compile time where the call is.
    assert!(N >= call.arguments(), "too few arguments");
    let argument = |at: usize| {
        arguments
            .get(at)
            .copied()
            .map_or(MaybeUninit::uninit(), MaybeUninit::new)
    };
    let (status, first, second): (u64, u64, u64);
    // SAFETY: the kernel keeps all registers but those named; it writes memory only through
    // pointers in the arguments, which the callers of this function own.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") call as u64 => status,
            inlateout("rdi") argument(0) => _,
            inlateout("rsi") argument(1) => second,
            inlateout("rdx") argument(2) => first,
            inlateout("r8") argument(3) => _,
            inlateout("r9") argument(4) => _,
            inlateout("r10") argument(5) => _,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    if status == 0 {
        return Ok((first, second));
    }
    Err(failed(status))
}

/// Makes a plain call: on the host there is no kernel.
#[cfg(not(bare))]
pub(crate) fn plain<const N: usize>(
    _call: Syscall,
    _arguments: [u64; N],
) -> Result<(u64, u64), Error> {
    Err(Error::InvalidSyscall)
}

/// Makes an IPC call; the registers hold the answer afterwards, and its payload words are returned.
#[cfg(bare)]
#[inline(always)]
pub(crate) fn ipc(call: Syscall, registers: &mut IpcRegisters) -> Result<[u64; 8], Error> {
    let status: u64;
    let [w0, w1, w2, w3, w4, w5, w6, w7] = &mut registers.words;
    // SAFETY: as in `plain`; in addition the kernel may write the thread's control and IPC pages,
    // to which no reference lives across this call. rbx cannot be named as an operand, so it is
    // swapped in and out by hand.
    unsafe {
        core::arch::asm!(
            "xchg rbx, {w7}",
            "syscall",
            "xchg rbx, {w7}",
            w7 = inout(reg) *w7,
            inlateout("rax") call as u64 => status,
            inlateout("rdi") registers.handles,
            inlateout("rsi") registers.info,
            inlateout("rdx") registers.deadline_or_badge,
            inlateout("r8") *w0,
            inlateout("r9") *w1,
            inlateout("r10") *w2,
            inlateout("r12") *w3,
            inlateout("r13") *w4,
            inlateout("r14") *w5,
            inlateout("r15") *w6,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    if status != 0 {
        return Err(failed(status));
    }
    // SAFETY: the instructions above have written all of them.
    Ok(registers.words.map(|word| unsafe { word.assume_init() }))
}

/// Makes an error of a status that is not 0. The kernel knows no others than these.
#[cfg(bare)]
#[cold]
fn failed(status: u64) -> Error {
    Error::from_code(status).unwrap_or(Error::InvalidSyscall)
}

/// Makes an IPC call: on the host there is no kernel.
#[cfg(not(bare))]
pub(crate) fn ipc(_call: Syscall, _registers: &mut IpcRegisters) -> Result<[u64; 8], Error> {
    Err(Error::InvalidSyscall)
}

/// Reads the time stamp counter when everything before it is done (Intel SDM vol. 2B, RDTSC).
#[cfg(bare)]
#[inline]
pub(crate) fn ticks() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: both instructions may be used in Ring 3 and touch no memory.
    unsafe {
        core::arch::asm!(
            "lfence",
            "rdtsc",
            out("rax") low,
            out("rdx") high,
            options(nostack, preserves_flags),
        );
    }
    high << 32 | low
}

/// Returns the number of the CPU that runs this; for processors that have `rdtscp`.
#[cfg(bare)]
pub(crate) fn processor_number() -> u32 {
    let number: u32;
    // SAFETY: the instruction may be used in Ring 3 and touches no memory; the kernel has set
    // what it returns in ecx (Intel SDM vol. 2B, RDTSCP).
    unsafe {
        core::arch::asm!(
            "rdtscp",
            out("eax") _,
            out("edx") _,
            out("ecx") number,
            options(nomem, nostack, preserves_flags),
        );
    }
    number
}

/// Returns the address of the thread's control page.
#[cfg(bare)]
#[inline(always)]
pub(crate) fn thread_control() -> *mut skink_abi::ThreadControl {
    let control: *mut skink_abi::ThreadControl;
    // SAFETY: the kernel points fs at the control page of the running thread, whose first word is
    // its own address; it never changes while the thread lives.
    unsafe {
        core::arch::asm!("mov {}, fs:0", out(reg) control, options(nostack, pure, readonly, preserves_flags));
    }
    control
}
