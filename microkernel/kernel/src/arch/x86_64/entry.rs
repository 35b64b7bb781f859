//! Entries from Ring 3: the saved registers and what the assembly calls.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use skink_abi::{ObjectKind, Syscall, ThreadControl};
use skink_kcore::handles::Entry;

use super::cpu::offsets as cpu;
use crate::arena::{Arena, Object};
use crate::endpoint::{Endpoint, Sender, offsets as endpoint};
use crate::thread::{THREADS, Thread, offsets as thread};

core::arch::global_asm!(
    include_str!("entry.s"),
    include_str!("fastpath.s"),
    AT_R15 = const at(offset_of!(Registers, r15)),
    AT_R14 = const at(offset_of!(Registers, r14)),
    AT_R13 = const at(offset_of!(Registers, r13)),
    AT_R12 = const at(offset_of!(Registers, r12)),
    AT_R10 = const at(offset_of!(Registers, r10)),
    AT_R9 = const at(offset_of!(Registers, r9)),
    AT_R8 = const at(offset_of!(Registers, r8)),
    AT_RBP = const at(offset_of!(Registers, rbp)),
    AT_RDI = const at(offset_of!(Registers, rdi)),
    AT_RSI = const at(offset_of!(Registers, rsi)),
    AT_RDX = const at(offset_of!(Registers, rdx)),
    AT_RBX = const at(offset_of!(Registers, rbx)),
    AT_RAX = const at(offset_of!(Registers, rax)),
    AT_ERROR = const at(offset_of!(Registers, error)),
    AT_RIP = const at(offset_of!(Registers, rip)),
    AT_FLAGS = const at(offset_of!(Registers, flags)),
    AT_RSP = const at(offset_of!(Registers, rsp)),
    REGISTERS = const thread::END,
    CPU_STACK = const cpu::STACK,
    CPU_SCRATCH = const cpu::SCRATCH,
    CPU_ENTRY_STACK = const cpu::ENTRY_STACK,
    CPU_INDEX = const cpu::INDEX,
    CPU_SPACE = const cpu::SPACE,
    CPU_LOADED = const cpu::LOADED,
    CPU_PAYER = const cpu::PAYER,
    CPU_SWITCHES = const cpu::SWITCHES,
    CALL = const Syscall::Call as u64,
    REPLY_RECEIVE = const Syscall::ReplyReceive as u64,
    NOTIFY = const Syscall::Notify as u64,
    REGISTER_BYTES = const skink_abi::REGISTER_BYTES,
    MAX_MESSAGE_BYTES = const skink_abi::MAX_MESSAGE_BYTES,
    SEQUENCE = const offset_of!(ThreadControl, sequence),
    PAGE = const skink_abi::PAGE_SIZE,
    HANDLE_PAGES = const crate::process::HANDLE_PAGES,
    USABLE_SENDER = const Entry::usable(ObjectKind::Sender),
    USABLE_ENDPOINT = const Entry::usable(ObjectKind::Endpoint),
    SENDER_BYTES = const Arena::<Sender>::BYTES,
    SENDER_ENDPOINT = const in_arena::<Sender>(endpoint::SENDER_ENDPOINT),
    SENDER_BADGE = const in_arena::<Sender>(endpoint::SENDER_BADGE),
    ENDPOINT_BYTES = const Arena::<Endpoint>::BYTES,
    ENDPOINTS = const in_arena::<Endpoint>(0),
    FIRST_CALLER = const endpoint::FIRST_CALLER,
    NEXT_RECEIVER = const endpoint::NEXT_RECEIVER,
    NEXT_TICKET = const endpoint::NEXT_TICKET,
    HAS_NEWS = const endpoint::HAS_NEWS,
    REPLY_WAIT = const endpoint::REPLY_WAIT,
    MESSAGE_WAIT = const endpoint::MESSAGE_WAIT,
    THREAD_BYTES = const Arena::<Thread>::BYTES,
    // From a thread's offset in its arena to the end of its registers.
    THREADS = const in_arena::<Thread>(0) + thread::END as i64,
    THREAD_ARENA = sym THREADS,
    THREADS_MADE = const Arena::<Thread>::MADE,
    DOOMED = const crate::thread::DOOMED,
    SPECIAL = const thread::SPECIAL,
    ID = const thread::ID,
    PROCESS = const thread::PROCESS,
    DUTY = const thread::DUTY,
    HANDLES = const thread::HANDLES,
    ROOT = const thread::ROOT,
    CALLS = const thread::CALLS,
    FAULTS = const thread::FAULTS,
    IS_FAULT = const crate::thread::IS_FAULT,
    WAIT = const thread::WAIT,
    WAIT_NUMBER = const thread::WAIT_NUMBER,
    CPU = const thread::CPU,
    NEXT = const thread::NEXT,
    CLIENT = const thread::CLIENT,
    CONTROL = const thread::CONTROL,
    FS_LOW = const thread::FS_LOW,
    FS_HIGH = const thread::FS_HIGH,
    CALL_REPLY = const thread::CALL_REPLY,
    CALL_DUTY = const thread::CALL_DUTY,
    CALL_CRASHES = const thread::CALL_CRASHES,
    CALL_BADGE = const thread::CALL_BADGE,
    CALL_TICKET = const thread::CALL_TICKET,
    answer_fault = sym crate::fault::answer_at_once,
    end_doomed_caller = sym crate::fastpath::end_doomed_caller,
    end_doomed_server = sym crate::fastpath::end_doomed_server,
);

/// Returns the offset of a register from the end of the registers.
const fn at(register: usize) -> isize {
    register as isize - thread::END
}

/// Returns the address of a field of the first object of an arena, as a displacement of 32 bits
/// that the processor extends.
const fn in_arena<T: Object>(field: usize) -> i64 {
    let address = (Arena::<T>::BASE + field as u64).cast_signed();
    assert!(address >= i32::MIN as i64 && address < 0);
    address
}

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

    /// Sets bits. The one exception to the rule: the others stay as the owner leaves them.
    pub(crate) fn insert(&self, bits: u64) {
        self.0.fetch_or(bits, Ordering::Relaxed);
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

    /// Sets the registers that carry the payload of a message; those behind it are 0.
    pub(crate) fn set_payload(&self, words: &[u64]) {
        let mut words = words.iter();
        for register in self.payload() {
            register.set(words.next().copied().unwrap_or(0));
        }
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
    /// Stub of the debug exception.
    pub(super) fn debug_entry();
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
