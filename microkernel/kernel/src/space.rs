//! Translations that processors keep: dropping them when page tables change.

use core::sync::atomic::Ordering;

use skink_kcore::range::UserRange;
use skink_kcore::{Id, NONE};

use crate::arch::x86_64::cpu::{self, CpuLocal};
use crate::arch::x86_64::{apic, paging};
use crate::lock::Held;

/// Up to this many pages are dropped one by one: it costs less than dropping all.
const FLUSH_SINGLY: u64 = 16;

/// Makes sure that no processor uses old translations of a range. The caller holds no lock: this
/// waits for other processors, which may wait for locks.
pub(crate) fn flush(held: &mut Held<0>, process: Id, range: UserRange) {
    let here = cpu::this();
    if here.space.load(Ordering::Relaxed) == process {
        if range.pages() <= FLUSH_SINGLY {
            for page in 0..range.pages() {
                paging::flush_page(range.start() + page * skink_abi::PAGE_SIZE as u64);
            }
        } else {
            paging::flush_all();
        }
    }
    flush_others(held, process);
}

/// Makes sure that no processor has a dying process's page tables loaded.
pub(crate) fn unload(held: &mut Held<0>, process: Id) {
    let here = cpu::this();
    if here.space.load(Ordering::Relaxed) == process {
        paging::load_kernel();
        here.space.store(NONE, Ordering::SeqCst);
    }
    flush_others(held, process);
}

fn flush_others(_held: &mut Held<0>, process: Id) {
    let here = cpu::this();
    core::sync::atomic::fence(Ordering::SeqCst);
    let mut asked = 0_u64;
    for other in cpu::all() {
        if other.index() != here.index() && other.space.load(Ordering::SeqCst) == process {
            other.flush_wanted.store(true, Ordering::SeqCst);
            apic::send(other.apic_id.load(Ordering::Relaxed), apic::WAKE);
            asked |= 1 << other.index();
        }
    }
    for other in cpu::all() {
        if asked & 1 << other.index() == 0 {
            continue;
        }
        while other.flush_wanted.load(Ordering::SeqCst) {
            // The other may be waiting for this one.
            answer_flush(here);
            core::hint::spin_loop();
        }
    }
}

/// Drops this processor's translations if another asked for it.
pub(crate) fn answer_flush(here: &CpuLocal) {
    if !here.flush_wanted.load(Ordering::SeqCst) {
        return;
    }
    if here.current().is_none() {
        // Idle: the tables may be about to be freed.
        paging::load_kernel();
        here.space.store(NONE, Ordering::SeqCst);
    } else {
        paging::flush_all();
    }
    here.flush_wanted.store(false, Ordering::SeqCst);
}
