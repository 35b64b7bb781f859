//! Values written to QEMU's `isa-debug-exit` device; QEMU then exits with `(value << 1) | 1`.

/// I/O port of the device.
pub const PORT: u16 = 0xf4;
/// Base of an orderly power-off: the value is `ORDERLY + min(exit code, MAX_CODE)`.
pub const ORDERLY: u32 = 0x10;
/// Highest exit code that can be told apart.
pub const MAX_CODE: u32 = 15;
/// The kernel panicked.
pub const PANIC: u32 = 0x7f;
/// The loader could not start the kernel.
pub const LOADER: u32 = 0x7e;

/// Returns the value that stands for the exit code of an orderly power-off.
pub const fn orderly(code: u32) -> u32 {
    ORDERLY + if code > MAX_CODE { MAX_CODE } else { code }
}
