//! System calls with any registers, below the stubs of `libsys` that only make sensible ones.

/// What a call left in the first registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Outcome {
    /// `rax`: 0 or an error code.
    pub(crate) status: u64,
    /// `rdx`.
    pub(crate) first: u64,
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
    let (status, first);
    // SAFETY: all registers that a call may change are named, rbx is kept on the stack; memory is
    // the caller's duty.
    unsafe {
        core::arch::asm!(
            "push rbx",
            "syscall",
            "pop rbx",
            inlateout("rax") number => status,
            inlateout("rdi") a0 => _,
            inlateout("rsi") a1 => _,
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
    Outcome { status, first }
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
    }
}
