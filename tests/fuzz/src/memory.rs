//! Counts what a piece of code has allocated at most.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes allocated in this thread now, and at most since it was last set.
    static USED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// The allocator of the system, with counters for each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(change: impl FnOnce(usize) -> usize) {
    // A thread that ends has no counters any more.
    let _ = USED.try_with(|used| {
        let (now, most) = used.get();
        let now = change(now);
        used.set((now, most.max(now)));
    });
}

// SAFETY: all is left to the allocator of the system.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|now| now.wrapping_add(layout.size()));
        // SAFETY: the caller keeps what the trait asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(|now| now.saturating_sub(layout.size()));
        // SAFETY: the caller keeps what the trait asks for.
        unsafe { System.dealloc(place, layout) }
    }
}

/// Runs code and returns how many bytes more than before it had allocated at most.
pub fn most_during<T>(run: impl FnOnce() -> T) -> (T, usize) {
    USED.set((0, 0));
    let value = run();
    (value, USED.get().1)
}
