//! Output that is neither lost nor repeated, whenever the server is killed.
//!
//! Each write has a slot in the state region: who, which request, how many bytes the device took.
//! The kernel raises the last of these in the same call that feeds the device. A redelivered
//! write finds its slot and goes on at that byte. Writes run one by one, so that the bytes of two
//! clients never mix within a write.

use alloc::vec::Vec;

use crate::state::{NOBODY, State, WRITE_SLOTS, WriteSlot};
use crate::uart::{DeviceError, Uart};

/// Bytes that go to the device in one system call: it runs with interrupts off, and a byte costs
/// about 4 us in the emulator, so this bounds it to about half a millisecond.
pub const BURST_BYTES: usize = 128;

/// Which request this is: the same when it is redelivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestId {
    /// Badge of the client.
    pub badge: u64,
    /// Number of the client's request.
    pub sequence: u64,
    /// Whether an earlier instance of the server may have begun it.
    pub is_redelivered: bool,
}

/// How far a write is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The device took all bytes.
    Done,
    /// The device is full: try again later.
    Full,
}

/// A write on its way to the device.
#[derive(Debug)]
pub struct Write<'a> {
    slot: WriteSlot<'a>,
    bytes: Vec<u8>,
}

impl<'a> Write<'a> {
    /// Begins a write, or goes on with the one of an earlier instance.
    pub fn begin(state: State<'a>, request: RequestId, bytes: &[u8]) -> Self {
        let known = find(state, request);
        let slot = match known {
            Some(slot) if request.is_redelivered => slot,
            Some(slot) => renew(slot, request),
            None => {
                let next = state.next_write().get() as usize % WRITE_SLOTS;
                state.next_write().set(((next + 1) % WRITE_SLOTS) as u64);
                renew(state.write_slot(next), request)
            }
        };
        Write {
            slot,
            bytes: with_carriage_returns(bytes),
        }
    }

    /// Gives the device as many bytes as it takes.
    ///
    /// # Errors
    ///
    /// When the device refuses.
    pub fn advance(&self, uart: &impl Uart) -> Result<Progress, DeviceError> {
        loop {
            let done = self.slot.done().get().min(self.bytes.len() as u64) as usize;
            let rest = &self.bytes[done..];
            if rest.is_empty() {
                return Ok(Progress::Done);
            }
            let burst = &rest[..rest.len().min(BURST_BYTES)];
            if uart.send(burst, self.slot.done().atomic())? == 0 {
                return Ok(Progress::Full);
            }
        }
    }
}

fn find(state: State<'_>, request: RequestId) -> Option<WriteSlot<'_>> {
    (0..WRITE_SLOTS)
        .map(|slot| state.write_slot(slot))
        .find(|slot| {
            slot.badge().get() == request.badge && slot.sequence().get() == request.sequence
        })
}

fn renew(slot: WriteSlot<'_>, request: RequestId) -> WriteSlot<'_> {
    slot.badge().set(NOBODY);
    slot.sequence().set(request.sequence);
    slot.done().set(0);
    slot.badge().set(request.badge);
    slot
}

/// Puts `\r` before each `\n` that has none.
fn with_carriage_returns(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 64);
    let mut previous = 0;
    for &byte in bytes {
        if byte == b'\n' && previous != b'\r' {
            out.push(b'\r');
        }
        out.push(byte);
        previous = byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Progress, RequestId, Write};
    use crate::fake::{FakeUart, Region};
    use crate::state::State;

    fn fresh(sequence: u64) -> RequestId {
        RequestId {
            badge: 7,
            sequence,
            is_redelivered: false,
        }
    }

    fn again(sequence: u64) -> RequestId {
        RequestId {
            is_redelivered: true,
            ..fresh(sequence)
        }
    }

    #[test]
    fn line_ends_get_carriage_returns_once() {
        let region = Region::new();
        let (state, _) = State::open(&region.words, &region.ring).unwrap();
        let uart = FakeUart::default();
        let write = Write::begin(state, fresh(1), b"a\nb\r\n\n");
        assert_eq!(write.advance(&uart), Ok(Progress::Done));
        assert_eq!(uart.sent(), b"a\r\nb\r\n\r\n");
    }

    #[test]
    fn a_new_request_with_an_old_number_is_written_again() {
        let region = Region::new();
        let (state, _) = State::open(&region.words, &region.ring).unwrap();
        let uart = FakeUart::default();
        for _ in 0..2 {
            let write = Write::begin(state, fresh(1), b"x");
            assert_eq!(write.advance(&uart), Ok(Progress::Done));
        }
        assert_eq!(uart.sent(), b"xx");
    }

    #[test]
    fn a_redelivered_write_that_was_done_is_not_repeated() {
        let region = Region::new();
        let (state, _) = State::open(&region.words, &region.ring).unwrap();
        let uart = FakeUart::default();
        let text = b"hello\n";
        assert_eq!(
            Write::begin(state, fresh(4), text).advance(&uart),
            Ok(Progress::Done)
        );
        let (state, _) = State::open(&region.words, &region.ring).unwrap();
        assert_eq!(
            Write::begin(state, again(4), text).advance(&uart),
            Ok(Progress::Done)
        );
        assert_eq!(uart.sent(), b"hello\r\n");
    }

    proptest! {
        /// However the device stalls and the server is killed, each byte is sent once.
        #[test]
        fn killed_at_any_byte_output_is_exact(
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..20),
            stalls in proptest::collection::vec(0..200_usize, 1..40),
        ) {
            let region = Region::new();
            let uart = FakeUart::default();
            let mut stalls = stalls.into_iter().cycle();
            let mut expected = Vec::new();
            for (number, text) in texts.iter().enumerate() {
                expected.extend(super::with_carriage_returns(text));
                let mut is_redelivered = false;
                for _ in 0..100 {
                    // A stall of the device stands for the moment of the kill.
                    uart.room.set(stalls.next().unwrap() + 8);
                    let (state, _) = State::open(&region.words, &region.ring).unwrap();
                    let write = Write::begin(state, RequestId { is_redelivered, ..fresh(number as u64) }, text);
                    if write.advance(&uart) == Ok(Progress::Done) {
                        break;
                    }
                    is_redelivered = true;
                }
            }
            prop_assert_eq!(uart.sent(), expected);
        }
    }
}
