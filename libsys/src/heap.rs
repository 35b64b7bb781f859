//! Guards behind what is allocated: whoever writes past its end is found when it is given back.
//!
//! Behind the last byte of each allocation comes a word that depends on a secret of the process
//! and on its place, so on address and size. It is looked at when the allocation is freed or
//! gets another size; if a bit of it is not as it was, something was written there that belongs
//! to nobody, and the process ends: `init` starts the next instance with a new heap, from what is
//! in the state region ([ADR 24](../../../docs/adr/0024-heap-guards-and-starting-over.md)). What is
//! freed twice is found by the same word, as long as its place was not given out again.
//!
//! In front there is no guard: there is the end of the allocation before, which has one.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

/// Exit code of a process that found its heap damaged.
pub const DAMAGE_EXIT_CODE: i32 = 102;

/// Bytes of a guard.
const GUARD_BYTES: usize = size_of::<u64>();
/// Most bytes of an allocation: far more than any program has, so that a guard behind it is no
/// overflow.
const MAX_BYTES: usize = 1 << 46;
/// Highest alignment, for the same reason.
const MAX_ALIGN: usize = 1 << 46;

/// An allocation behind which something was written, or that was freed twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Where it lies.
    pub address: usize,
    /// Its bytes.
    pub size: usize,
    /// What the guard should be.
    pub expected: u64,
    /// What it is.
    pub found: u64,
}

impl core::fmt::Display for Damage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Damage {
            address,
            size,
            expected,
            found,
        } = self;
        write!(
            f,
            "heap damage: behind {size} bytes at {address:#x} is {found:#x}, not {expected:#x}"
        )
    }
}

/// Returns the guard behind an allocation: where it is comes from address and size.
#[inline]
const fn guard(secret: u64, address: usize, size: usize) -> u64 {
    secret ^ address.wrapping_add(size) as u64
}

/// Returns whether there can be an allocation like this.
#[inline]
const fn is_possible(size: usize, align: usize) -> bool {
    size <= MAX_BYTES && align <= MAX_ALIGN
}

/// Returns the layout with room for a guard.
///
/// # Safety
///
/// It must be a [possible](is_possible) one.
#[inline]
const unsafe fn with_guard(layout: Layout) -> Layout {
    // SAFETY: the alignment is that of a layout, and the size is far from the largest one, by the
    // contract of this function.
    unsafe { Layout::from_size_align_unchecked(layout.size() + GUARD_BYTES, layout.align()) }
}

/// An allocator with guards.
#[derive(Debug)]
pub struct Guarded<A> {
    inner: A,
    secret: AtomicU64,
    on_damage: fn(&Damage) -> !,
}

impl<A> Guarded<A> {
    /// Puts guards behind all that an allocator gives out.
    pub const fn new(inner: A, on_damage: fn(&Damage) -> !) -> Self {
        Guarded {
            inner,
            secret: AtomicU64::new(0),
            on_damage,
        }
    }

    /// Returns the allocator.
    pub const fn inner(&self) -> &A {
        &self.inner
    }

    /// Chooses the secret; before anything is allocated, as guards made before would be wrong.
    pub fn set_secret(&self, secret: u64) {
        self.secret.store(secret, Ordering::Relaxed);
    }

    #[inline]
    fn guard(&self, address: *mut u8, size: usize) -> u64 {
        guard(self.secret.load(Ordering::Relaxed), address.addr(), size)
    }

    /// Writes the guard of an allocation.
    ///
    /// # Safety
    ///
    /// So many bytes and a guard must have been allocated there.
    #[inline]
    unsafe fn seal(&self, address: *mut u8, size: usize) {
        let guard = self.guard(address, size);
        // SAFETY: there is room for it, by the contract of this function.
        unsafe {
            address
                .add(size)
                .cast::<[u8; GUARD_BYTES]>()
                .write(guard.to_ne_bytes())
        }
    }

    /// Checks the guard of an allocation. It is not good a second time.
    ///
    /// # Safety
    ///
    /// As [`Guarded::seal`].
    #[inline]
    unsafe fn open(&self, address: *mut u8, size: usize) {
        let expected = self.guard(address, size);
        // SAFETY: as in `seal`. What others write to their own memory meanwhile is elsewhere.
        let found = unsafe {
            let place = address.add(size).cast::<[u8; GUARD_BYTES]>();
            let found = u64::from_ne_bytes(place.read());
            place.write((!expected).to_ne_bytes());
            found
        };
        if found != expected {
            self.report(address, size, found);
        }
    }

    #[cold]
    #[inline(never)]
    fn report(&self, address: *mut u8, size: usize, found: u64) -> ! {
        (self.on_damage)(&Damage {
            address: address.addr(),
            size,
            expected: self.guard(address, size),
            found,
        })
    }
}

// SAFETY: what is returned is the inner allocator's, with the alignment that was asked for and room
// for more bytes than that; the same longer layout is told to it later, as it is a function of the
// layout that callers must repeat.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Guarded<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_possible(layout.size(), layout.align()) {
            return ptr::null_mut();
        }
        // SAFETY: it is possible, and the size is not 0, as there is room for a guard.
        let address = unsafe { self.inner.alloc(with_guard(layout)) };
        if !address.is_null() {
            // SAFETY: this layout has been allocated just now.
            unsafe { self.seal(address, layout.size()) };
        }
        address
    }

    #[inline]
    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: the caller got it from here with this layout, so it is possible, and the inner one
        // knows it with a guard.
        unsafe {
            self.open(address, layout.size());
            self.inner.dealloc(address, with_guard(layout));
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !is_possible(layout.size(), layout.align()) {
            return ptr::null_mut();
        }
        // SAFETY: as in `alloc`.
        let address = unsafe { self.inner.alloc_zeroed(with_guard(layout)) };
        if !address.is_null() {
            // SAFETY: as in `alloc`.
            unsafe { self.seal(address, layout.size()) };
        }
        address
    }

    #[inline]
    unsafe fn realloc(&self, address: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !is_possible(new_size, layout.align()) {
            return ptr::null_mut();
        }
        // SAFETY: as in `dealloc`. If there is no memory, the allocation stays as it is and its
        // guard is made good again.
        unsafe {
            self.open(address, layout.size());
            let new_bytes = new_size + GUARD_BYTES;
            let moved = self.inner.realloc(address, with_guard(layout), new_bytes);
            if moved.is_null() {
                self.seal(address, layout.size());
            } else {
                self.seal(moved, new_size);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests;
