//! Entries from Ring 3: the saved registers and what the assembly calls.

use core::sync::atomic::{AtomicU64, Ordering};

core::arch::global_asm!(include_str!("entry.s"));

/// One saved register. Only the owner of the thread touches it (see `thread`), so plain loads and
/// stores are enough; the atomic type makes the rule checkable without unsafe code.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct Word(AtomicU64);

impl Word {
    /// A register that holds 0.
    #[expect(
        clippy::declare_interior_mutable_const,
        reason = "a value to begin with, copied"
    )]
    pub(crate) const ZERO: Word = Word(AtomicU64::new(0));

    /// Reads it.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Writes it.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// The registers of a thread that is not running, in the order of `entry.s`.
#[derive(Debug, Default)]
#[repr(C, align(16))]
pub(crate) struct Registers {
    pub(crate) r15: Word,
    pub(crate) r14: Word,
    pub(crate) r13: Word,
    pub(crate) r12: Word,
    pub(crate) r11: Word,
    pub(crate) r10: Word,
    pub(crate) r9: Word,
    pub(crate) r8: Word,
    pub(crate) rbp: Word,
    pub(crate) rdi: Word,
    pub(crate) rsi: Word,
    pub(crate) rdx: Word,
    pub(crate) rcx: Word,
    pub(crate) rbx: Word,
    pub(crate) rax: Word,
    /// Vector of the trap that saved these.
    pub(crate) vector: Word,
    /// Its error code, or [`BY_SYSCALL`]: then rcx and r11 need not be restored.
    pub(crate) error: Word,
    pub(crate) rip: Word,
    pub(crate) cs: Word,
    pub(crate) flags: Word,
    pub(crate) rsp: Word,
    pub(crate) ss: Word,
}

/// In [`Registers::error`]: the thread came by `syscall`.
pub(crate) const BY_SYSCALL: u64 = u64::MAX;
/// Code segment selector of Ring 3 in 64-bit mode.
pub(crate) const USER_CODE: u64 = 0x2b;
/// Data segment selector of Ring 3.
pub(crate) const USER_DATA: u64 = 0x23;
/// Flags of a new thread: interrupts on.
pub(crate) const USER_FLAGS: u64 = 0x202;

const _: () = assert!(size_of::<Registers>() == 176);
const _: () = assert!(core::mem::offset_of!(Registers, r12) == 24);
const _: () = assert!(core::mem::offset_of!(Registers, r8) == 56);
const _: () = assert!(core::mem::offset_of!(Registers, rdx) == 88);
const _: () = assert!(core::mem::offset_of!(Registers, rbx) == 104);
const _: () = assert!(core::mem::offset_of!(Registers, error) == 128);
const _: () = assert!(core::mem::offset_of!(Registers, rsp) == 160);

impl Registers {
    /// Registers of a thread that has not run.
    pub(crate) const fn new() -> Registers {
        Registers {
            r15: Word::ZERO,
            r14: Word::ZERO,
            r13: Word::ZERO,
            r12: Word::ZERO,
            r11: Word::ZERO,
            r10: Word::ZERO,
            r9: Word::ZERO,
            r8: Word::ZERO,
            rbp: Word::ZERO,
            rdi: Word::ZERO,
            rsi: Word::ZERO,
            rdx: Word::ZERO,
            rcx: Word::ZERO,
            rbx: Word::ZERO,
            rax: Word::ZERO,
            vector: Word::ZERO,
            error: Word::ZERO,
            rip: Word::ZERO,
            cs: Word::ZERO,
            flags: Word::ZERO,
            rsp: Word::ZERO,
            ss: Word::ZERO,
        }
    }

    /// Sets the registers of a thread that starts.
    pub(crate) fn start(&self, entry: u64, stack: u64, argument: u64) {
        for register in self.general() {
            register.set(0);
        }
        self.vector.set(0);
        self.error.set(0);
        self.rip.set(entry);
        self.cs.set(USER_CODE);
        self.flags.set(USER_FLAGS);
        self.rsp.set(stack);
        self.ss.set(USER_DATA);
        self.rdi.set(argument);
    }

    /// Returns the registers that carry the payload of a message.
    pub(crate) fn payload(&self) -> [&Word; 8] {
        [
            &self.r8, &self.r9, &self.r10, &self.r12, &self.r13, &self.r14, &self.r15, &self.rbx,
        ]
    }

    fn general(&self) -> [&Word; 15] {
        [
            &self.r15, &self.r14, &self.r13, &self.r12, &self.r11, &self.r10, &self.r9, &self.r8,
            &self.rbp, &self.rdi, &self.rsi, &self.rdx, &self.rcx, &self.rbx, &self.rax,
        ]
    }
}

unsafe extern "C" {
    /// Where `syscall` enters.
    pub(super) fn syscall_entry();
    /// The 256 stubs, 16 bytes each.
    pub(super) static trap_stubs: u8;
    /// Stub of the non-maskable interrupt.
    pub(super) fn nmi_entry();
    /// Stub of the double fault.
    pub(super) fn double_fault_entry();
    /// Stub of the machine check.
    pub(super) fn machine_check_entry();
    /// Loads the current thread's registers and goes to Ring 3.
    pub(super) fn return_to_user() -> !;
}

/// Goes to the current thread for the first time, leaving the boot stack for good.
pub(crate) fn enter_user() -> ! {
    // SAFETY: the scheduler has set this CPU's current thread, whose registers are complete.
    unsafe { return_to_user() }
}
