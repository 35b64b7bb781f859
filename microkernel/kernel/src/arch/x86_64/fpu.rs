//! The FPU and vector registers: for threads that use them, nothing for all others.
//!
//! A thread opts in by its first FPU instruction, which faults (#NM). From then on its registers
//! are saved when it stops running and loaded when it runs again, eagerly: a lazy switch would
//! leak one program's registers into another's speculation. A thread that never touched the FPU
//! costs one comparison per switch.

use core::sync::atomic::Ordering;

use spin::Once;
use x86_64::registers::control::{Cr0, Cr0Flags};
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

use super::cpu::{self, CpuLocal};
use super::physical;
use crate::pool;
use crate::thread::Thread;

/// Which state components are saved.
static COMPONENTS: Once<Option<u64>> = Once::new();

/// Sets the calling processor up.
pub(crate) fn init() {
    let has_xsave = core::arch::x86_64::__cpuid(1).ecx & 1 << 26 != 0;
    let components = COMPONENTS.call_once(|| {
        let leaf = has_xsave.then(|| core::arch::x86_64::__cpuid_count(13, 0))?;
        let supported = u64::from(leaf.eax) | u64::from(leaf.edx) << 32;
        // x87, SSE and AVX. More than a page of state is not supported: such components stay off.
        Some(supported & 0b111)
    });
    if let Some(mask) = components {
        // SAFETY: CR4.OSXSAVE is on where XSAVE exists; the mask has only supported components
        // and x87 always.
        unsafe { XCr0::write(XCr0Flags::from_bits_truncate(*mask)) };
    }
}

/// Lets the current thread use the FPU. Returns whether it may go on.
pub(crate) fn first_use(thread: &'static Thread) -> bool {
    if thread.fpu.get() != 0 {
        return false;
    }
    let Ok(frame) = pool::allocate_zeroed() else {
        return false;
    };
    // The initial control words by Intel SDM vol. 1, 13.6: x87 0x37f at 0, MXCSR 0x1f80 at 24.
    // SAFETY: a fresh frame of the pool; both fields are within it.
    unsafe {
        physical::pointer::<u16>(frame).write(0x37f);
        physical::pointer::<u32>(frame + 24).write(0x1f80);
        if COMPONENTS.get().is_some_and(Option::is_some) {
            // XSTATE_BV: x87 and SSE are in the area.
            physical::pointer::<u64>(frame + 512).write(0b11);
        }
    }
    thread.fpu.set(frame);
    thread.set_special(crate::thread::HAS_FPU);
    load(cpu::this(), thread);
    true
}

/// Saves the registers of a thread that stops running here, before any other processor can run
/// it.
#[inline]
pub(crate) fn save(thread: &Thread) {
    let frame = thread.fpu.get();
    if frame == 0 {
        return;
    }
    let area = physical::pointer::<u8>(frame);
    // SAFETY: the area is a page of the thread's own, aligned to 64 bytes and large enough for
    // the enabled components; CR0.TS is clear while a thread with an area runs.
    unsafe {
        match COMPONENTS.get() {
            Some(Some(mask)) => core::arch::asm!(
                "xsave64 [{}]", in(reg) area, in("eax") *mask as u32, in("edx") (*mask >> 32) as u32,
                options(nostack, preserves_flags)
            ),
            _ => core::arch::asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags)),
        }
    }
}

/// Prepares the FPU for a thread that will run here.
#[inline]
pub(crate) fn load(cpu: &CpuLocal, thread: &Thread) {
    let frame = thread.fpu.get();
    let is_on = cpu.fpu_on.load(Ordering::Relaxed);
    if frame == 0 {
        if is_on {
            cpu.fpu_on.store(false, Ordering::Relaxed);
            // SAFETY: the kernel itself does not use the FPU.
            unsafe { Cr0::update(|flags| flags.insert(Cr0Flags::TASK_SWITCHED)) };
        }
        return;
    }
    if !is_on {
        cpu.fpu_on.store(true, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { Cr0::update(|flags| flags.remove(Cr0Flags::TASK_SWITCHED)) };
    }
    let area = physical::pointer::<u8>(frame);
    // SAFETY: the area holds what `save` or `first_use` put there.
    unsafe {
        match COMPONENTS.get() {
            Some(Some(mask)) => core::arch::asm!(
                "xrstor64 [{}]", in(reg) area, in("eax") *mask as u32, in("edx") (*mask >> 32) as u32,
                options(nostack, preserves_flags)
            ),
            _ => {
                core::arch::asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags))
            }
        }
    }
}
