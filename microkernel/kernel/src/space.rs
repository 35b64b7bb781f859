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
        load_none(here);
    }
    flush_others(held, process);
}

fn load_none(here: &CpuLocal) {
    here.space.store(NONE, Ordering::SeqCst);
    paging::load_kernel();
    here.loaded.store(NONE, Ordering::SeqCst);
}

fn flush_others(_held: &mut Held<0>, process: Id) {
    let here = cpu::this();
    core::sync::atomic::fence(Ordering::SeqCst);
    let mut asked = [(0, 0); cpu::MAX_CPUS];
    let mut count = 0;
    for other in cpu::all().filter(|other| other.index() != here.index()) {
        let uses = other.space.load(Ordering::SeqCst) == process
            || other.loaded.load(Ordering::SeqCst) == process;
        if uses {
            let wish = other.flushes_wanted.fetch_add(1, Ordering::SeqCst) + 1;
            apic::send(other.apic_id.load(Ordering::Relaxed), apic::WAKE);
            asked[count] = (other.index(), wish);
            count += 1;
        }
    }
    for &(index, wish) in &asked[..count] {
        while cpu::by_index(index).flushes_done.load(Ordering::SeqCst) < wish {
            // The other may be waiting for this one.
            answer_flush(here);
            core::hint::spin_loop();
        }
    }
}

/// Drops this processor's translations if another asked for it.
pub(crate) fn answer_flush(here: &CpuLocal) {
    let wish = here.flushes_wanted.load(Ordering::SeqCst);
    if wish == here.flushes_done.load(Ordering::SeqCst) {
        return;
    }
    if here.current().is_none() {
        // Idle: the tables may be about to be freed.
        load_none(here);
    } else {
        paging::flush_all();
    }
    // Wishes that came after the first line are answered next time.
    here.flushes_done.store(wish, Ordering::SeqCst);
}
