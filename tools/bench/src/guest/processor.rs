//! The time stamp counter, the number of the CPU, and loops of known length.

use core::arch::asm;

use bench::Benchmark;
use skink_program::Failed;

/// Instructions in each turn of [`count_down`].
pub(crate) const COUNT_DOWN_INSTRUCTIONS: u64 = 2;

/// Reads the time stamp counter when everything before it is done (Intel SDM vol. 2B, RDTSC).
pub(crate) fn read() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: both instructions may be used in Ring 3 and touch no memory.
    unsafe {
        asm!("lfence", "rdtsc", out("rax") low, out("rdx") high, options(nostack, preserves_flags));
    }
    high << 32 | low
}

/// Returns a number of the CPU that runs this: its APIC id (Intel SDM vol. 2A, CPUID leaf 1).
pub(crate) fn cpu_number() -> u32 {
    core::arch::x86_64::__cpuid(1).ebx >> 24
}

/// Counts down from `turns`, which is not 0.
pub(crate) fn count_down(turns: u64) {
    // SAFETY: only a register and the flags change.
    unsafe {
        asm!("2:", "dec {0}", "jnz 2b", inout(reg) turns.max(1) => _, options(nomem, nostack));
    }
}

/// A loop around nothing, which costs what the loops of the benchmarks cost.
#[derive(Debug)]
pub(crate) struct EmptyLoop;

impl Benchmark for EmptyLoop {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            // SAFETY: there is no instruction. It only keeps the loop from being left out.
            unsafe { asm!("", options(nomem, nostack, preserves_flags)) };
        }
        Ok(())
    }
}
