//! The kernel log: a ring in memory, and the serial port until `init` runs.

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Mutex;

use crate::arch::x86_64::serial::Serial;
use crate::arch::x86_64::time;

const BYTES: usize = 32 * 1024;

struct Ring {
    bytes: [u8; BYTES],
    /// Bytes ever written.
    written: u64,
}

/// A leaf lock.
static RING: Mutex<Ring> = Mutex::new(Ring {
    bytes: [0; BYTES],
    written: 0,
});
/// Whether lines also go to the serial port.
static ON_SERIAL: AtomicBool = AtomicBool::new(true);

struct KernelLogger;

impl Ring {
    fn push(&mut self, byte: u8) {
        self.bytes[(self.written % BYTES as u64) as usize] = byte;
        self.written += 1;
    }

    /// Copies what follows a position that is still there. Returns how many bytes there were.
    fn copy(&self, position: u64, buffer: &mut [u8]) -> usize {
        let mut count = 0;
        for (at, byte) in (position..self.written).zip(buffer) {
            *byte = self.bytes[(at % BYTES as u64) as usize];
            count += 1;
        }
        count
    }
}

impl Write for Ring {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

impl log::Log for KernelLogger {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // The arguments are formatted outside of the lock: if that panics, the panic can log.
        let mut text = heapless::String::<256>::new();
        let _ = text.write_fmt(*record.args());
        line("kernel", &text);
    }

    fn flush(&self) {}
}

/// Sets the logger; once, at boot.
pub(crate) fn init() {
    static LOGGER: KernelLogger = KernelLogger;
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
}

/// Keeps lines from the serial port from now on.
pub(crate) fn leave_serial() {
    ON_SERIAL.store(false, Ordering::Relaxed);
}

/// Adds a line.
pub(crate) fn line(source: &str, text: &str) {
    let us = time::now() / 1000;
    let (seconds, fraction) = (us / 1_000_000, us % 1_000_000);
    let mut ring = RING.lock();
    let _ = writeln!(ring, "[{seconds}.{fraction:06}] {source}: {text}");
    if ON_SERIAL.load(Ordering::Relaxed) {
        let _ = writeln!(Serial, "[{seconds}.{fraction:06}] {source}: {text}");
    }
}

/// Writes the last lines to the serial port if they did not go there when they were added: what
/// led to the end of the system.
pub(crate) fn report() {
    const REPORT_BYTES: u64 = 1024;
    if ON_SERIAL.load(Ordering::Relaxed) {
        return;
    }
    // This CPU may have ended while it held the lock.
    let Some(ring) = RING.try_lock() else { return };
    let first = ring.written.saturating_sub(REPORT_BYTES);
    let mut bytes = [0; REPORT_BYTES as usize];
    let count = ring.copy(first, &mut bytes);
    let mut lines = &bytes[..count];
    if first > 0 {
        // Only whole lines.
        let start = lines.iter().position(|&byte| byte == b'\n');
        lines = &lines[start.map_or(0, |at| at + 1)..];
    }
    for chunk in lines.utf8_chunks() {
        let _ = Serial.write_str(chunk.valid());
    }
}

/// Copies what follows a position: the bytes copied, and the position behind them. What has been
/// overwritten is skipped.
pub(crate) fn read(position: u64, buffer: &mut [u8]) -> (usize, u64) {
    let ring = RING.lock();
    let at = position.clamp(ring.written.saturating_sub(BYTES as u64), ring.written);
    let count = ring.copy(at, buffer);
    (count, at + count as u64)
}
