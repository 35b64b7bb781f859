//! Start of the other processors.

use core::sync::atomic::{AtomicU32, Ordering};

use skink_abi::{Error, PAGE_SIZE};

use super::tables::TrapStacks;
use super::{apic, cpu, fpu, paging, physical, time};

core::arch::global_asm!(include_str!("smp.s"));

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline_end: u8;
}

/// Where the trampoline is copied to: below 1 MiB, page aligned. The kernel keeps this page.
pub(crate) const TRAMPOLINE: u64 = 0x8000;
/// Pages of a processor's kernel stack.
pub(crate) const STACK_PAGES: u64 = 8;
/// Pages of the stack of a trap that has one of its own.
pub(crate) const TRAP_STACK_PAGES: u64 = 2;
/// How long a processor may take to start, ms.
const PATIENCE_MS: u64 = 3000;

static STARTING: AtomicU32 = AtomicU32::new(0);
static STARTED: AtomicU32 = AtomicU32::new(0);
static NEXT_TRAP_STACKS: spin::Mutex<TrapStacks> = spin::Mutex::new([0; 4]);
static BOOT_STACK: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// Makes the stacks of a processor for traps that have their own.
///
/// # Errors
///
/// `NoMemory`.
pub(crate) fn make_trap_stacks() -> Result<TrapStacks, Error> {
    let mut stacks = TrapStacks::default();
    for end in &mut stacks {
        *end = paging::make_stack(TRAP_STACK_PAGES)?;
    }
    Ok(stacks)
}

/// Starts a processor and waits until it runs. Returns whether it does.
///
/// # Errors
///
/// `NoMemory` for its stacks.
pub(crate) fn start(index: u32, apic_id: u32) -> Result<bool, Error> {
    let stack = paging::make_stack(STACK_PAGES)?;
    *NEXT_TRAP_STACKS.lock() = make_trap_stacks()?;
    BOOT_STACK.store(stack, Ordering::Relaxed);
    STARTING.store(index, Ordering::Relaxed);
    install(stack);
    apic::send_init(apic_id);
    time::spin_us(200);
    apic::send_startup(apic_id, (TRAMPOLINE / PAGE_SIZE as u64) as u8);
    let deadline = time::now() + PATIENCE_MS * 1_000_000;
    while STARTED.load(Ordering::Acquire) != index {
        if time::now() > deadline {
            return Ok(false);
        }
        core::hint::spin_loop();
    }
    Ok(true)
}

/// Copies the trampoline to its place and fills in its words.
fn install(stack: u64) {
    let (start, end) = (&raw const trampoline_start, &raw const trampoline_end);
    let bytes = end.addr() - start.addr();
    let target = physical::pointer::<u8>(TRAMPOLINE);
    // SAFETY: the page at TRAMPOLINE is kept for this; the trampoline is shorter than a page.
    unsafe { core::ptr::copy_nonoverlapping(start, target, bytes) };
    // The words that smp.s calls ROOT, STACK and ENTRY.
    let words = [paging::kernel_root(), stack, start_here as *const () as u64];
    // SAFETY: three words from the second on, within the copy.
    unsafe { physical::pointer::<[u64; 3]>(TRAMPOLINE + 8).write(words) };
}

/// Where a processor comes out of the trampoline, on its own stack.
extern "C" fn start_here() -> ! {
    let index = STARTING.load(Ordering::Relaxed);
    let trap_stacks = *NEXT_TRAP_STACKS.lock();
    let stack = BOOT_STACK.load(Ordering::Relaxed);
    apic::enable();
    // SAFETY: the starter made the stacks for this index alone and waits until STARTED.
    unsafe { cpu::init(index, apic::id(), stack, trap_stacks) };
    fpu::init();
    STARTED.store(index, Ordering::Release);
    crate::sched::run_processor()
}
