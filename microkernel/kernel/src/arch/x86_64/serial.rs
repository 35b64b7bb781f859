//! The first serial port, for the kernel's own messages: polled, no state.

use core::fmt;

use x86_64::instructions::port::Port;

const DATA: u16 = 0x3f8;
const LINE_STATUS: u16 = DATA + 5;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// A port that is not there reads as ones; one that is stuck must not hang the kernel.
const PATIENCE: u32 = 100_000;

/// Writes to the serial port; use one at a time (the log holds a lock, a panic is alone).
pub(crate) struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if byte == b'\n' {
                send(b'\r');
            }
            send(byte);
        }
        Ok(())
    }
}

fn send(byte: u8) {
    let mut status = Port::<u8>::new(LINE_STATUS);
    let mut data = Port::<u8>::new(DATA);
    for _ in 0..PATIENCE {
        // SAFETY: reading the line status has no effect on a 16550.
        if unsafe { status.read() } & TRANSMITTER_EMPTY != 0 {
            break;
        }
        core::hint::spin_loop();
    }
    // SAFETY: the data register takes any byte.
    unsafe { data.write(byte) };
}
