//! Any change right behind an allocation is found; nothing else is.

use std::alloc::System;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use proptest::prelude::{Strategy, any, prop, proptest};

use super::{Damage, GUARD_BYTES, GlobalAlloc, Guarded, Layout, guard};

/// Lets the test see the damage that ends a process.
fn found(damage: &Damage) -> ! {
    resume_unwind(Box::new(*damage))
}

fn guarded(secret: u64) -> Guarded<System> {
    let heap = Guarded::new(System, found);
    heap.set_secret(secret);
    heap
}

/// Runs something and returns the damage that it found.
fn damage_in(f: impl FnOnce()) -> Option<Damage> {
    let cause = catch_unwind(AssertUnwindSafe(f)).err()?;
    match cause.downcast::<Damage>() {
        Ok(damage) => Some(*damage),
        Err(other) => resume_unwind(other),
    }
}

fn layout() -> impl Strategy<Value = Layout> {
    (0_usize..300, 0_u32..13)
        .prop_map(|(size, align)| Layout::from_size_align(size, 1 << align).unwrap())
}

/// Allocates, and changes a byte of the guard behind it.
fn overrun(heap: &impl GlobalAlloc, layout: Layout, place: usize, mask: u8) -> *mut u8 {
    // SAFETY: there is room for the guard behind it.
    unsafe {
        let address = heap.alloc(layout);
        *address.add(layout.size() + place) ^= mask;
        address
    }
}

/// Frees what a test has damaged.
fn free(address: *mut u8, layout: Layout) {
    // SAFETY: the layout is that with which it was allocated, and it was not freed.
    unsafe { System.dealloc(address, super::with_guard(layout)) };
}

proptest! {
    #[test]
    fn a_changed_byte_right_behind_an_allocation_is_found(
        secret in any::<u64>(),
        layout in layout(),
        place in 0..GUARD_BYTES,
        mask in 1_u8..,
    ) {
        let heap = guarded(secret);
        let address = overrun(&heap, layout, place, mask);
        let damage = damage_in(|| {
            // SAFETY: it was allocated with this layout.
            unsafe { heap.dealloc(address, layout) }
        });
        let damage = damage.expect("not found");
        assert_eq!((damage.address, damage.size), (address.addr(), layout.size()));
        assert_eq!(damage.expected ^ damage.found, u64::from(mask) << (8 * place));
        free(address, layout);
    }

    #[test]
    fn a_changed_byte_is_found_before_the_size_is_changed(
        secret in any::<u64>(),
        layout in layout(),
        size in 1_usize..600,
        place in 0..GUARD_BYTES,
        mask in 1_u8..,
    ) {
        let heap = guarded(secret);
        let address = overrun(&heap, layout, place, mask);
        let damage = damage_in(|| {
            // SAFETY: it was allocated with this layout.
            let _ = unsafe { heap.realloc(address, layout, size) };
        });
        assert!(damage.is_some());
        free(address, layout);
    }

    /// Every byte of an allocation may be written, whatever sizes it has had.
    #[test]
    fn who_stays_within_an_allocation_is_left_alone(
        secret in any::<u64>(),
        layout in layout(),
        is_zeroed in any::<bool>(),
        sizes in prop::collection::vec(1_usize..3000, 0..6),
        content in any::<u8>(),
    ) {
        let heap = guarded(secret);
        let mut layout = layout;
        // SAFETY: only bytes of the allocation are written, and the last layout is told each time.
        let damage = damage_in(|| unsafe {
            let mut address = if is_zeroed {
                heap.alloc_zeroed(layout)
            } else {
                heap.alloc(layout)
            };
            if is_zeroed {
                assert!((0..layout.size()).all(|at| *address.add(at) == 0));
            }
            assert!(address.addr().is_multiple_of(layout.align()));
            address.write_bytes(content, layout.size());
            for size in sizes {
                let kept = layout.size().min(size);
                address = heap.realloc(address, layout, size);
                layout = Layout::from_size_align(size, layout.align()).unwrap();
                assert!((0..kept).all(|at| *address.add(at) == content));
                address.write_bytes(content, size);
            }
            heap.dealloc(address, layout);
        });
        assert_eq!(damage, None);
    }

    /// A guard that was copied with what is in front of it is no guard there.
    #[test]
    fn a_guard_is_good_in_one_place_only(
        secret in any::<u64>(),
        address in any::<usize>(),
        size in 0_usize..1 << 32,
        distance in 1_usize..,
    ) {
        let expected = guard(secret, address, size);
        assert_ne!(guard(secret, address.wrapping_add(distance), size), expected);
        assert_ne!(guard(secret, address, size.wrapping_add(distance)), expected);
    }
}

#[test]
fn what_is_freed_twice_is_found() {
    /// Keeps what it is given back.
    struct Keeping;

    // SAFETY: it gives out what the system does, and takes nothing back.
    unsafe impl GlobalAlloc for Keeping {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's contract is the system's.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, _address: *mut u8, _layout: Layout) {}
    }

    let heap = Guarded::new(Keeping, found);
    heap.set_secret(7);
    let layout = Layout::new::<[u8; 24]>();
    // SAFETY: the memory stays allocated, so the second call reads what the first one left.
    let (address, first) = unsafe {
        let address = heap.alloc(layout);
        (address, damage_in(|| heap.dealloc(address, layout)))
    };
    assert_eq!(first, None);
    // SAFETY: as above.
    let second = damage_in(|| unsafe { heap.dealloc(address, layout) });
    let second = second.expect("not found");
    assert_eq!(second.found, !second.expected);
    free(address, layout);
}

#[test]
fn sizes_that_nothing_can_have_are_refused() {
    let heap = guarded(1);
    let huge = Layout::from_size_align(isize::MAX as usize, 1).unwrap();
    // SAFETY: the size is not 0.
    assert!(unsafe { heap.alloc(huge) }.is_null());
    // SAFETY: as above.
    assert!(unsafe { heap.alloc_zeroed(huge) }.is_null());
    let layout = Layout::new::<u64>();
    // SAFETY: the allocation is as it was when it cannot be made that long.
    unsafe {
        let address = heap.alloc(layout);
        assert!(heap.realloc(address, layout, huge.size()).is_null());
        assert_eq!(damage_in(|| heap.dealloc(address, layout)), None);
    }
}
