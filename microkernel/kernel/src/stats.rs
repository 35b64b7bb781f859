//! What the kernel counts over all processors.

use core::sync::atomic::{AtomicU64, Ordering};

use skink_abi::KernelStats;

use crate::arch::x86_64::{cpu, time};
use crate::endpoint::{ENDPOINTS, SENDERS};
use crate::interrupt::INTERRUPTS;
use crate::lock::Held;
use crate::memory::{MAPPINGS, MEMORIES};
use crate::notification::NOTIFICATIONS;
use crate::pool;
use crate::process::PROCESSES;
use crate::thread::THREADS;

/// Requests put back because their server died.
pub(crate) static REDELIVERED: AtomicU64 = AtomicU64::new(0);
/// Requests failed because they crashed their server too often.
pub(crate) static POISONED: AtomicU64 = AtomicU64::new(0);

/// Sums the counters of all processors, and counts objects and handles.
pub(crate) fn collect(held: &mut Held<0>) -> KernelStats {
    let (pool_bytes, pool_used) = pool::usage();
    let mut stats = KernelStats {
        pool_bytes,
        pool_used,
        redelivered: REDELIVERED.load(Ordering::Relaxed),
        poisoned: POISONED.load(Ordering::Relaxed),
        processes: PROCESSES.used(),
        threads: THREADS.used(),
        endpoints: ENDPOINTS.used(),
        senders: SENDERS.used(),
        notifications: NOTIFICATIONS.used(),
        memories: MEMORIES.used(),
        mappings: MAPPINGS.used(),
        interrupt_objects: INTERRUPTS.used(),
        ..KernelStats::default()
    };
    for id in 0..PROCESSES.made() {
        let handles = PROCESSES.get(id).handles.lock(held).used();
        stats.handles += u64::from(handles);
    }
    for cpu in cpu::all() {
        stats.switches += cpu.sched.switches.load(Ordering::Relaxed);
        stats.interrupts += cpu.sched.interrupts.load(Ordering::Relaxed);
        stats.syscalls += cpu.sched.syscalls.load(Ordering::Relaxed);
        stats.idle_ns += time::to_ns(cpu.sched.idle_ticks.load(Ordering::Relaxed));
        let longest = cpu.sched.longest_entry.load(Ordering::Relaxed);
        stats.longest_entry_ticks = stats.longest_entry_ticks.max(longest);
    }
    stats
}
