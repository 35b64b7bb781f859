//! System calls with any registers, below the stubs of `libsys` that only make sensible ones.

use libsys::abi::Syscall;

/// What a call left in the first registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Outcome {
    /// `rax`: 0 or an error code.
    pub(crate) status: u64,
    /// `rdx`.
    pub(crate) first: u64,
    /// `rsi`.
    pub(crate) second: u64,
}

/// Makes a system call with these values in `rdi rsi rdx r8 r9 r10`.
///
/// # Safety
///
/// 1. What the kernel does for it must not break what Rust relies on in this process: memory in
///    use must not be unmapped, remapped or overwritten. Who cannot promise that (a fuzzer) must
///    be a process that may fail in any way.
#[cfg(bare)]
pub(crate) unsafe fn syscall(number: u64, arguments: [u64; 6]) -> Outcome {
    let [a0, a1, a2, a3, a4, a5] = arguments;
    let (status, first, second);
    // SAFETY: all registers that a call may change are named, rbx is kept on the stack; memory is
    // the caller's duty.
    unsafe {
        core::arch::asm!(
            "push rbx",
            "syscall",
            "pop rbx",
            inlateout("rax") number => status,
            inlateout("rdi") a0 => _,
            inlateout("rsi") a1 => second,
            inlateout("rdx") a2 => first,
            inlateout("r8") a3 => _,
            inlateout("r9") a4 => _,
            inlateout("r10") a5 => _,
            lateout("r12") _,
            lateout("r13") _,
            lateout("r14") _,
            lateout("r15") _,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    Outcome {
        status,
        first,
        second,
    }
}

/// Fails: on the host the kernel is another one.
///
/// # Safety
///
/// None needed.
#[cfg(not(bare))]
pub(crate) unsafe fn syscall(_number: u64, _arguments: [u64; 6]) -> Outcome {
    Outcome {
        status: libsys::Error::InvalidSyscall.code(),
        first: 0,
        second: 0,
    }
}

/// What an IPC call takes and leaves in registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Message {
    /// `rax`: 0 or an error code.
    pub(crate) status: u64,
    /// `rdi`: handles in, reply handle out.
    pub(crate) handles: u64,
    /// `rsi`: message info.
    pub(crate) info: u64,
    /// `rdx`: deadline in, badge out.
    pub(crate) deadline: u64,
    /// The registers of the payload, all of them, however long it is.
    pub(crate) words: [u64; 8],
}

/// Makes an IPC call after `$before`.
#[cfg(bare)]
macro_rules! ipc {
    ($number:expr, $message:expr, $($before:literal),*) => {{
        let message: &mut Message = $message;
        let [w0, w1, w2, w3, w4, w5, w6, w7] = &mut message.words;
        // SAFETY: all registers that the call changes are named, rbx by being swapped in and out;
        // the kernel writes to the control and IPC pages of the thread only, to which no
        // reference exists here.
        unsafe {
            core::arch::asm!(
                $($before,)*
                "xchg rbx, {w7}",
                "syscall",
                "xchg rbx, {w7}",
                w7 = inout(reg) *w7,
                inlateout("rax") $number => message.status,
                inlateout("rdi") message.handles,
                inlateout("rsi") message.info,
                inlateout("rdx") message.deadline,
                inlateout("r8") *w0,
                inlateout("r9") *w1,
                inlateout("r10") *w2,
                inlateout("r12") *w3,
                inlateout("r13") *w4,
                inlateout("r14") *w5,
                inlateout("r15") *w6,
                out("rcx") _,
                out("r11") _,
                options(nostack),
            );
        }
    }};
}

/// Makes an IPC call with these registers and leaves in them what came.
#[cfg(bare)]
pub(crate) fn ipc(call: Syscall, message: &mut Message) {
    ipc!(call as u64, message,);
}

/// As [`ipc`], but loads a selector into `fs` first, which makes its base 0.
///
/// The control page of the calling thread cannot be found afterwards, unless the kernel happened
/// to set the base again: no stub of `libsys` that makes an IPC call may be used any more.
#[cfg(bare)]
pub(crate) fn ipc_without_fs(call: Syscall, message: &mut Message) {
    // The stack's selector is one that a program may load.
    ipc!(call as u64, message, "mov ecx, ss", "mov fs, ecx");
}

/// As [`ipc`], and returns whether the call kept `rbp` and `rsp`, which carry no payload.
#[cfg(bare)]
pub(crate) fn ipc_keeping(number: u64, message: &mut Message) -> bool {
    let [w0, w1, w2, w3, w4, w5, w6, w7] = &mut message.words;
    let distance: u64;
    // SAFETY: as in `ipc!`; rbp is kept on the stack.
    unsafe {
        core::arch::asm!(
            "push rbp",
            // Not by `mov`: rbp is no frame pointer here.
            "lea rbp, [rsp]",
            "xchg rbx, {w7}",
            "syscall",
            "xchg rbx, {w7}",
            "mov rcx, rbp",
            "sub rcx, rsp",
            "pop rbp",
            w7 = inout(reg) *w7,
            inlateout("rax") number => message.status,
            inlateout("rdi") message.handles,
            inlateout("rsi") message.info,
            inlateout("rdx") message.deadline,
            inlateout("r8") *w0,
            inlateout("r9") *w1,
            inlateout("r10") *w2,
            inlateout("r12") *w3,
            inlateout("r13") *w4,
            inlateout("r14") *w5,
            inlateout("r15") *w6,
            out("rcx") distance,
            out("r11") _,
        );
    }
    distance == 0
}

/// Returns the sequence number of the request that this thread received last.
#[cfg(bare)]
pub(crate) fn sequence() -> u64 {
    const OFFSET: usize = core::mem::offset_of!(libsys::abi::ThreadControl, sequence);
    let sequence: u64;
    // SAFETY: fs points to the control page of the thread, which is always mapped.
    unsafe {
        core::arch::asm!(
            "mov {}, fs:[{offset}]",
            out(reg) sequence,
            offset = const OFFSET,
            options(nostack, readonly, preserves_flags),
        );
    }
    sequence
}

/// Fails: on the host the kernel is another one.
#[cfg(not(bare))]
pub(crate) fn ipc_keeping(_number: u64, message: &mut Message) -> bool {
    message.status = libsys::Error::InvalidSyscall.code();
    true
}

/// Returns nothing of use: on the host there are no requests.
#[cfg(not(bare))]
pub(crate) fn sequence() -> u64 {
    0
}

/// Fails: on the host the kernel is another one.
#[cfg(not(bare))]
pub(crate) fn ipc(_call: Syscall, message: &mut Message) {
    message.status = libsys::Error::InvalidSyscall.code();
}

/// Fails: on the host the kernel is another one.
#[cfg(not(bare))]
pub(crate) fn ipc_without_fs(call: Syscall, message: &mut Message) {
    ipc(call, message);
}
