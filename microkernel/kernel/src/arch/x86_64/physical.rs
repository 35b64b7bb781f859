//! Physical memory, reached through the loader's linear mapping.

use core::sync::atomic::{AtomicU64, Ordering};

/// Where physical address 0 is mapped. Asked for in the kernel's boot configuration.
pub(crate) const PHYSICAL_MAP: u64 = 0xffff_8000_0000_0000;

/// First physical address that is not in the linear mapping.
static END: AtomicU64 = AtomicU64::new(0);

/// Notes how far the linear mapping reaches.
pub(crate) fn set_end(end: u64) {
    END.store(end, Ordering::Relaxed);
}

/// Returns the first physical address behind the linear mapping.
pub(crate) fn end() -> u64 {
    END.load(Ordering::Relaxed)
}

/// Returns where a physical address is mapped.
pub(crate) const fn pointer<T>(physical: u64) -> *mut T {
    core::ptr::with_exposed_provenance_mut((PHYSICAL_MAP + physical) as usize)
}

/// Fills frames with zeros.
///
/// # Safety
///
/// `bytes` bytes from `physical`, whole words, are RAM that the caller may overwrite.
#[inline]
pub(crate) unsafe fn zero(physical: u64, bytes: u64) {
    // One instruction a word, like any loop without vector registers, and quick on processors that
    // do better than that.
    // SAFETY: by the caller's duty; the linear mapping covers all RAM, and the direction flag is
    // clear in the kernel.
    unsafe {
        core::arch::asm!(
            "rep stosq",
            inout("rcx") bytes / 8 => _,
            inout("rdi") pointer::<u64>(physical) => _,
            in("rax") 0_u64,
            options(nostack, preserves_flags),
        );
    }
}

/// Copies between frames, or within one.
///
/// # Safety
///
/// Both ranges are RAM; `to` may be overwritten. Programs may write both at the same time: bytes
/// are bytes, nothing is concluded from them here.
pub(crate) unsafe fn copy(from: u64, to: u64, bytes: u64) {
    // SAFETY: by the caller's duty.
    unsafe { core::ptr::copy(pointer::<u8>(from), pointer::<u8>(to), bytes as usize) };
}

/// Copies out of a frame.
///
/// # Safety
///
/// The range is RAM.
pub(crate) unsafe fn read(from: u64, buffer: &mut [u8]) {
    // SAFETY: by the caller's duty.
    unsafe { core::ptr::copy(pointer::<u8>(from), buffer.as_mut_ptr(), buffer.len()) };
}

/// Copies into a frame.
///
/// # Safety
///
/// The range is RAM that may be overwritten.
pub(crate) unsafe fn write(to: u64, bytes: &[u8]) {
    // SAFETY: by the caller's duty.
    unsafe { core::ptr::copy(bytes.as_ptr(), pointer::<u8>(to), bytes.len()) };
}
