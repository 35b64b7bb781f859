//! The memory functions that the compiler calls (`memcpy` and its kin), without vector registers.
//!
//! The prebuilt `core` of the Linux target leaves them to the C library. Name this crate
//! (`use skink_mem as _;`) in a binary that is built without one. Copies run by 8-byte words with
//! `rep movsq`: under emulation eight times as fast as bytes, and within reach of `rep movsb` on
//! processors with fast strings (Intel SDM vol. 1, 7.3.9.3).
#![cfg_attr(not(test), no_std)]

#[cfg(bare)]
mod functions {
    use core::arch::asm;

    /// Copies `bytes` bytes upwards.
    ///
    /// # Safety
    ///
    /// 1. Both ranges are valid for `bytes` bytes.
    /// 2. `to` does not lie within the `bytes` bytes behind `from`.
    #[inline]
    unsafe fn copy_up(to: *mut u8, from: *const u8, bytes: usize) {
        // SAFETY: by the caller's duties; the direction flag is clear by the calling convention.
        unsafe {
            asm!(
                "rep movsq",
                "mov ecx, {rest:e}",
                "rep movsb",
                rest = in(reg) bytes & 7,
                inout("rcx") bytes >> 3 => _,
                inout("rdi") to => _,
                inout("rsi") from => _,
                options(nostack, preserves_flags),
            );
        }
    }

    /// C `memcpy`.
    ///
    /// # Safety
    ///
    /// As in C: valid ranges that do not overlap.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
        // SAFETY: by the caller's duties.
        unsafe { copy_up(to, from, bytes) };
        to
    }

    /// C `memmove`.
    ///
    /// # Safety
    ///
    /// As in C: valid ranges.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
        if to.addr().wrapping_sub(from.addr()) >= bytes {
            // SAFETY: `to` lies before `from` or behind its end.
            unsafe { copy_up(to, from, bytes) };
        } else {
            // SAFETY: valid ranges; downwards, since `to` lies within the source. The direction
            // flag is cleared again as the calling convention wants it.
            unsafe {
                asm!(
                    "std",
                    "rep movsb",
                    "lea rsi, [rsi - 7]",
                    "lea rdi, [rdi - 7]",
                    "mov rcx, {words}",
                    "rep movsq",
                    "cld",
                    words = in(reg) bytes >> 3,
                    inout("rcx") bytes & 7 => _,
                    inout("rdi") to.wrapping_add(bytes).wrapping_sub(1) => _,
                    inout("rsi") from.wrapping_add(bytes).wrapping_sub(1) => _,
                    options(nostack),
                );
            }
        }
        to
    }

    /// C `memset`.
    ///
    /// # Safety
    ///
    /// As in C: a valid range.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8 {
        let word = u64::from(value as u8) * 0x0101_0101_0101_0101;
        // SAFETY: by the caller's duties; the direction flag is clear by the calling convention.
        unsafe {
            asm!(
                "rep stosq",
                "mov ecx, {rest:e}",
                "rep stosb",
                rest = in(reg) bytes & 7,
                inout("rcx") bytes >> 3 => _,
                inout("rdi") to => _,
                in("rax") word,
                options(nostack, preserves_flags),
            );
        }
        to
    }

    /// C `memcmp`.
    ///
    /// # Safety
    ///
    /// As in C: valid ranges.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
        let mut at = 0;
        while bytes - at >= 8 {
            // SAFETY: eight bytes from `at` lie within both ranges.
            let (l, r) = unsafe {
                (
                    left.add(at).cast::<u64>().read_unaligned(),
                    right.add(at).cast::<u64>().read_unaligned(),
                )
            };
            if l != r {
                return if l.swap_bytes() < r.swap_bytes() {
                    -1
                } else {
                    1
                };
            }
            at += 8;
        }
        while at < bytes {
            // SAFETY: `at` lies within both ranges.
            let (l, r) = unsafe { (*left.add(at), *right.add(at)) };
            if l != r {
                return i32::from(l) - i32::from(r);
            }
            at += 1;
        }
        0
    }

    /// C `bcmp`.
    ///
    /// # Safety
    ///
    /// As in C: valid ranges.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
        // SAFETY: by the caller's duties.
        unsafe { memcmp(left, right, bytes) }
    }

    /// C `strlen`.
    ///
    /// # Safety
    ///
    /// As in C: a string that ends with a zero byte.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn strlen(text: *const u8) -> usize {
        let mut bytes = 0;
        // SAFETY: the string goes on until its zero byte.
        while unsafe { *text.add(bytes) } != 0 {
            bytes += 1;
        }
        bytes
    }
}
