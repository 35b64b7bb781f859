//! What each processor keeps for itself, found through `gs`.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use skink_kcore::{Id, NONE};
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::{GsBase, KernelGsBase, LStar, Msr, SFMask};
use x86_64::registers::rflags::RFlags;

use super::entry::{Registers, syscall_entry};
use super::tables::{DescriptorTables, TrapStacks};
use crate::cell::Field;
use crate::sched::CpuSched;
use crate::thread::Thread;

/// Most processors. Sets of processors are one word.
pub(crate) const MAX_CPUS: usize = 64;

/// One processor's own data. What code in assembly uses of it is in [`offsets`].
///
/// Which thread runs here is kept in one place only: where traps from Ring 3 push their frames
/// (TSS.rsp0) is the end of its registers, or 0 if none runs.
#[repr(C)]
pub(crate) struct CpuLocal {
    this: AtomicPtr<CpuLocal>,
    stack_top: AtomicU64,
    scratch: AtomicU64,
    /// Index in [`CPUS`].
    index: AtomicU32,
    /// Its number on the interrupt bus.
    pub(crate) apic_id: AtomicU32,
    /// Run queue and deadlines.
    pub(crate) sched: CpuSched,
    /// The process whose page tables are loaded, or [`NONE`].
    pub(crate) space: AtomicU32,
    /// The process whose page tables the processor really uses: behind `space` for a moment
    /// during a switch.
    pub(crate) loaded: AtomicU32,
    /// How often others wanted this CPU to drop its address translations.
    pub(crate) flushes_wanted: AtomicU64,
    /// Up to which of those wishes it did.
    pub(crate) flushes_done: AtomicU64,
    /// Whether the FPU may be used (CR0.TS clear).
    pub(crate) fpu_on: AtomicBool,
    /// The process that pays for the time of the running thread.
    pub(crate) payer: Field,
    /// Time stamp at which the running thread's time was last billed.
    pub(crate) billed_until: AtomicU64,
    /// Time stamp of the current entry, for the longest stretch with interrupts off.
    pub(crate) entered_at: AtomicU64,
    tables: UnsafeCell<DescriptorTables>,
}

// SAFETY: `tables` is touched only by `init` on its own CPU and, for rsp0, by the same CPU with
// interrupts off; all other fields are atomics or locks.
unsafe impl Sync for CpuLocal {}

/// Where code in assembly finds the fields of a processor's data, from `gs`.
pub(super) mod offsets {
    use core::mem::offset_of;

    use super::{CpuLocal, CpuSched, DescriptorTables};

    pub(crate) const STACK: usize = offset_of!(CpuLocal, stack_top);
    pub(crate) const SCRATCH: usize = offset_of!(CpuLocal, scratch);
    pub(crate) const INDEX: usize = offset_of!(CpuLocal, index);
    pub(crate) const SPACE: usize = offset_of!(CpuLocal, space);
    pub(crate) const LOADED: usize = offset_of!(CpuLocal, loaded);
    pub(crate) const PAYER: usize = offset_of!(CpuLocal, payer);
    pub(crate) const SWITCHES: usize = offset_of!(CpuLocal, sched) + CpuSched::SWITCHES;
    pub(crate) const ENTRY_STACK: usize =
        offset_of!(CpuLocal, tables) + DescriptorTables::ENTRY_STACK;
}

/// All processors; those not started are never looked at.
static CPUS: [CpuLocal; MAX_CPUS] = [const { CpuLocal::new() }; MAX_CPUS];

/// The number of processors that run.
static COUNT: AtomicU32 = AtomicU32::new(0);

impl CpuLocal {
    const fn new() -> CpuLocal {
        CpuLocal {
            this: AtomicPtr::new(core::ptr::null_mut()),
            stack_top: AtomicU64::new(0),
            scratch: AtomicU64::new(0),
            index: AtomicU32::new(0),
            apic_id: AtomicU32::new(0),
            sched: CpuSched::new(),
            space: AtomicU32::new(NONE),
            loaded: AtomicU32::new(NONE),
            flushes_wanted: AtomicU64::new(0),
            flushes_done: AtomicU64::new(0),
            fpu_on: AtomicBool::new(false),
            payer: Field::new(NONE),
            billed_until: AtomicU64::new(0),
            entered_at: AtomicU64::new(0),
            tables: UnsafeCell::new(DescriptorTables::new()),
        }
    }

    /// Returns the index of this processor.
    pub(crate) fn index(&self) -> u32 {
        self.index.load(Ordering::Relaxed)
    }

    /// Returns the thread that runs here, or `None`. Only for the processor itself.
    #[inline]
    pub(crate) fn current(&self) -> Option<&'static Thread> {
        // SAFETY: this CPU's own tables, interrupts are off, and no other reference to them lives.
        let end = unsafe { (*self.tables.get()).entry_stack() };
        if end == 0 {
            return None;
        }
        // SAFETY: `set_current` and code in assembly set it to the end of the registers of a
        // thread, which come first in it; threads stay where they are for ever.
        Some(unsafe { thread_at(end) })
    }

    /// Returns whether another processor waits for this one to drop translations.
    pub(crate) fn must_flush(&self) -> bool {
        self.flushes_wanted.load(Ordering::SeqCst) != self.flushes_done.load(Ordering::SeqCst)
    }

    /// Sets the thread that runs here; entries from Ring 3 save into its registers from now on.
    #[inline(always)]
    pub(crate) fn set_current(&self, thread: Option<&'static Thread>) {
        let end = thread.map_or(0, |thread| {
            (&raw const thread.registers)
                .wrapping_add(1)
                .expose_provenance() as u64
        });
        // SAFETY: this CPU's own tables, interrupts are off, and no reference to them lives.
        unsafe { (*self.tables.get()).set_entry_stack(end) };
    }
}

/// Returns the thread whose registers end at an address.
///
/// # Safety
///
/// There is one.
#[inline]
pub(crate) unsafe fn thread_at(end: u64) -> &'static Thread {
    let registers = end as usize - size_of::<Registers>();
    // SAFETY: by the caller's duty; registers come first in a thread, which stays where it is.
    unsafe { &*core::ptr::with_exposed_provenance(registers) }
}

/// Returns the data of the processor that runs this.
#[inline]
pub(crate) fn this() -> &'static CpuLocal {
    let this: *const CpuLocal;
    // SAFETY: in the kernel, gs points to a `CpuLocal` whose first word is its own address.
    unsafe {
        core::arch::asm!("mov {}, gs:0", out(reg) this, options(nostack, readonly, preserves_flags));
        &*this
    }
}

/// Returns the data of the processor with an index.
pub(crate) fn by_index(index: u32) -> &'static CpuLocal {
    &CPUS[index as usize % MAX_CPUS]
}

/// Returns the number of processors that run.
pub(crate) fn count() -> u32 {
    COUNT.load(Ordering::Acquire)
}

/// Returns all processors that run.
pub(crate) fn all() -> impl Iterator<Item = &'static CpuLocal> {
    CPUS.iter().take(count() as usize)
}

/// Makes the calling processor number `index`: descriptor tables, `gs`, system call entry, and
/// every protection that it has.
///
/// # Safety
///
/// 1. Each index is used once, each processor calls this once.
/// 2. `stack_top` is the end of a mapped stack that is this processor's alone, and `trap_stacks`
///    are the ends of more.
pub(crate) unsafe fn init(index: u32, apic_id: u32, stack_top: u64, trap_stacks: TrapStacks) {
    let cpu = by_index(index);
    cpu.this
        .store(core::ptr::from_ref(cpu).cast_mut(), Ordering::Relaxed);
    cpu.index.store(index, Ordering::Relaxed);
    cpu.apic_id.store(apic_id, Ordering::Relaxed);
    cpu.stack_top.store(stack_top, Ordering::Relaxed);
    // SAFETY: by caller's duty 1 nobody else looks at these tables; they are never moved.
    let tables = unsafe { &mut *cpu.tables.get() };
    // SAFETY: the tables live for ever, the stacks are by caller's duty 2.
    unsafe { tables.load(trap_stacks) };
    GsBase::write(VirtAddr::from_ptr(cpu));
    KernelGsBase::write(VirtAddr::zero());
    enable_protection();
    enable_syscall();
    number_processor(index);
    COUNT.fetch_add(1, Ordering::Release);
}

/// Sets where `fs` points in Ring 3, to an address of the lower half.
#[inline(always)]
pub(crate) fn set_fs_base(base: u64) {
    // SAFETY: the kernel itself does not use fs, and the address is canonical.
    unsafe { Msr::new(0xc000_0100).write(base) };
}

/// Returns the `ebx`, `ecx` and `edx` of a CPUID leaf.
fn cpuid(leaf: u32) -> (u32, u32, u32) {
    let result = core::arch::x86_64::__cpuid_count(leaf, 0);
    (result.ebx, result.ecx, result.edx)
}

/// Turns on what keeps Ring 0 from touching Ring 3's memory by mistake (Intel SDM vol. 3A, 4.1).
fn enable_protection() {
    let (features, features_c, _) = cpuid(7);
    let mut cr4 = Cr4::read() | Cr4Flags::PAGE_GLOBAL;
    for (has, flag) in [
        (
            features & 1 << 7 != 0,
            Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION,
        ),
        (
            features & 1 << 20 != 0,
            Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION,
        ),
        (
            features_c & 1 << 2 != 0,
            Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION,
        ),
    ] {
        cr4.set(flag, has);
    }
    // Ring 3 must not move fs or gs behind the kernel's back.
    cr4.remove(Cr4Flags::FSGSBASE | Cr4Flags::TIMESTAMP_DISABLE);
    cr4.insert(Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE);
    let (_, leaf1_c, _) = cpuid(1);
    cr4.set(Cr4Flags::OSXSAVE, leaf1_c & 1 << 26 != 0);
    // SAFETY: each flag that was set is one that the processor has; none changes how the kernel's
    // own memory is mapped.
    unsafe { Cr4::write(cr4) };
    let mut cr0 = Cr0::read();
    cr0.insert(Cr0Flags::WRITE_PROTECT | Cr0Flags::TASK_SWITCHED | Cr0Flags::MONITOR_COPROCESSOR);
    cr0.insert(Cr0Flags::NUMERIC_ERROR);
    cr0.remove(Cr0Flags::EMULATE_COPROCESSOR);
    // SAFETY: the kernel neither writes read-only pages nor uses the FPU.
    unsafe { Cr0::write(cr0) };
}

/// Points `syscall` at its entry with interrupts, direction and alignment checks off.
fn enable_syscall() {
    // SAFETY: long mode is on already; NX is used by all page tables.
    unsafe {
        Efer::update(|flags| {
            flags.insert(EferFlags::SYSTEM_CALL_EXTENSIONS | EferFlags::NO_EXECUTE_ENABLE);
        });
    }
    // Selectors by AMD64 APM vol. 2, 6.1.1: syscall loads 0x08/0x10, sysret 0x18+16/0x18+8.
    // SAFETY: the descriptors at these places have the kinds that the instructions expect.
    unsafe { Msr::new(0xc000_0081).write(0x18 << 48 | 0x08 << 32) };
    LStar::write(VirtAddr::new(syscall_entry as *const () as u64));
    SFMask::write(
        RFlags::INTERRUPT_FLAG
            | RFlags::DIRECTION_FLAG
            | RFlags::TRAP_FLAG
            | RFlags::ALIGNMENT_CHECK
            | RFlags::NESTED_TASK,
    );
}

/// Lets `rdtscp` return the number of the processor, if there is that instruction (Intel SDM
/// vol. 3B, 18.17.2).
fn number_processor(index: u32) {
    if has_rdtscp() {
        // SAFETY: IA32_TSC_AUX exists where the instruction does; the kernel does not use it.
        unsafe { Msr::new(0xc000_0103).write(index.into()) };
    }
}

/// Returns whether there is `rdtscp`.
pub(crate) fn has_rdtscp() -> bool {
    // Every processor with long mode has this leaf.
    let (_, _, features) = cpuid(0x8000_0001);
    features & 1 << 27 != 0
}

/// Returns the object index in an id, or `None` for [`NONE`].
pub(crate) fn some_id(id: Id) -> Option<Id> {
    (id != NONE).then_some(id)
}
