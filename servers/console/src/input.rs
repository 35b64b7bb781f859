//! Input that is neither lost nor given twice, whenever the server is killed.
//!
//! Received bytes lie in a ring in the state region; the kernel raises its head as it fills it.
//! What a read was given is remembered with who read, so that the same read, delivered again,
//! gets the same bytes. [`State::tail`] moves only after that.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;

use libipc::proto::console::InputMode;

use crate::line::{INTERRUPT, Line, MAX_LINE, Outcome};
use crate::output::RequestId;
use crate::state::{NOBODY, READ_SLOTS, RING_BYTES, State};
use crate::uart::{DeviceError, Uart};

/// Bytes that can wait for a reader. The rest of the ring keeps what was read last, for a reader
/// whose answer got lost.
const WAITING_BYTES: u64 = (RING_BYTES - MAX_LINE) as u64;

/// What the reader of a line must do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LineStep {
    /// Write these bytes as the echo of the byte at the position, then say
    /// [`Input::was_echoed`].
    Echo(u64, Vec<u8>),
    /// The line is complete and goes up to here: [`Input::take_line`].
    Complete(u64),
    /// Wait for more input.
    Wait,
}

/// The input side of the terminal.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    state: State<'a>,
}

impl<'a> Input<'a> {
    /// Makes the input side over the state.
    pub fn new(state: State<'a>) -> Self {
        Input { state }
    }

    /// Moves what the device has into the ring, as far as there is room. What finds none stays
    /// in the device.
    ///
    /// # Errors
    ///
    /// When the device refuses.
    pub fn receive(&self, uart: &impl Uart) -> Result<(), DeviceError> {
        while self.room() > 0 {
            let start = (self.head() % RING_BYTES as u64) as usize;
            let length = self.room().min(RING_BYTES - start);
            let segment = &self.state.ring()[start..start + length];
            if uart.receive(segment, self.state.head())? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Returns how many bytes more can wait.
    pub fn room(&self) -> usize {
        WAITING_BYTES.saturating_sub(self.head() - self.tail()) as usize
    }

    /// Looks for the interrupt key among the bytes that came since it was last looked for:
    /// returns where the input after it begins. Deal with it, then call [`Input::was_checked`].
    pub fn interrupt(&self) -> Option<u64> {
        if self.state.by_line().get() == 0 {
            return None;
        }
        let from = self.state.checked().get().max(self.tail());
        let key = (from..self.head())
            .rev()
            .find(|&at| self.byte(at) == INTERRUPT)?;
        Some(key + 1)
    }

    /// Notes that all bytes were looked at, and throws away those before `discard`.
    pub fn was_checked(&self, discard: Option<u64>) {
        if let Some(to) = discard {
            self.state.tail().set(to.clamp(self.tail(), self.head()));
        }
        self.state.checked().set(self.head());
    }

    /// Returns the answer that a redelivered read was to get, if an earlier instance had taken
    /// bytes for it.
    pub fn replay(&self, request: RequestId) -> Option<Vec<u8>> {
        if !request.is_redelivered {
            return None;
        }
        let slot = (0..READ_SLOTS)
            .map(|slot| self.state.read_slot(slot))
            .find(|slot| {
                slot.badge().get() == request.badge && slot.sequence().get() == request.sequence
            })?;
        let (from, to) = (slot.from().get(), slot.to().get());
        if from > to || to > self.head() || self.head() - from > RING_BYTES as u64 {
            return None;
        }
        self.state.tail().set(to.max(self.tail()));
        let mode = if slot.by_line().get() == 0 {
            InputMode::Raw
        } else {
            InputMode::Line
        };
        Some(self.answer(from..to, mode))
    }

    /// Takes bytes as they are, at most `max`; `None` when there are none.
    pub fn take_raw(&self, request: RequestId, max: usize) -> Option<Vec<u8>> {
        let from = self.tail();
        let to = self.head().min(from + max.clamp(1, MAX_LINE) as u64);
        (from < to).then(|| self.take(request, from..to, InputMode::Raw))
    }

    /// Tells what is to be done for the line that is being typed.
    pub fn line_step(&self) -> LineStep {
        let mut line = Line::default();
        let echoed = self.state.echoed().get().max(self.tail());
        for at in self.tail()..self.head() {
            let mut echo = Vec::new();
            let outcome = line.push(self.byte(at), &mut echo);
            if at >= echoed {
                return LineStep::Echo(at, echo);
            }
            if outcome == Outcome::Complete {
                return LineStep::Complete(at + 1);
            }
        }
        LineStep::Wait
    }

    /// Notes that the byte at the position was echoed.
    pub fn was_echoed(&self, at: u64) {
        self.state.echoed().set((at + 1).min(self.head()));
    }

    /// Takes the line that ends before `to`.
    pub fn take_line(&self, request: RequestId, to: u64) -> Vec<u8> {
        let end = to.clamp(self.tail(), self.head());
        self.take(request, self.tail()..end, InputMode::Line)
    }

    fn take(&self, request: RequestId, bytes: Range<u64>, mode: InputMode) -> Vec<u8> {
        let answer = self.answer(bytes.clone(), mode);
        let next = self.state.next_read().get() as usize % READ_SLOTS;
        self.state.next_read().set(((next + 1) % READ_SLOTS) as u64);
        let slot = self.state.read_slot(next);
        slot.badge().set(NOBODY);
        slot.sequence().set(request.sequence);
        slot.from().set(bytes.start);
        slot.to().set(bytes.end);
        slot.by_line().set((mode == InputMode::Line).into());
        self.forget(request);
        slot.badge().set(request.badge);
        self.state.tail().set(bytes.end);
        answer
    }

    /// Forgets an older request with the same number, of an earlier life of the client.
    fn forget(&self, request: RequestId) {
        for slot in (0..READ_SLOTS).map(|slot| self.state.read_slot(slot)) {
            if slot.badge().get() == request.badge && slot.sequence().get() == request.sequence {
                slot.badge().set(NOBODY);
            }
        }
    }

    fn answer(&self, bytes: Range<u64>, mode: InputMode) -> Vec<u8> {
        let bytes = bytes.map(|at| self.byte(at));
        if mode == InputMode::Raw {
            return bytes.collect();
        }
        let mut line = Line::default();
        let mut echo = Vec::new();
        for byte in bytes {
            line.push(byte, &mut echo);
            echo.clear();
        }
        line.into_bytes()
    }

    fn byte(&self, at: u64) -> u8 {
        self.state.ring()[(at % RING_BYTES as u64) as usize].load(Ordering::Acquire)
    }

    fn head(&self) -> u64 {
        self.state.head().load(Ordering::Acquire)
    }

    fn tail(&self) -> u64 {
        self.state.tail().get()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Input, LineStep, WAITING_BYTES};
    use crate::fake::{FakeUart, Region};
    use crate::output::RequestId;
    use crate::state::State;

    fn fresh(sequence: u64) -> RequestId {
        RequestId {
            badge: 9,
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

    fn type_text(input: &Input<'_>, text: &[u8]) {
        let uart = FakeUart::default();
        uart.type_in(text);
        input.receive(&uart).unwrap();
    }

    #[test]
    fn raw_reads_take_what_is_there() {
        let region = Region::new();
        let input = Input::new(State::open(&region.words, &region.ring).unwrap().0);
        assert_eq!(input.take_raw(fresh(1), 10), None);
        type_text(&input, b"abc\x03");
        assert_eq!(input.interrupt(), None);
        assert_eq!(input.take_raw(fresh(1), 3).unwrap(), b"abc");
        assert_eq!(input.take_raw(fresh(2), 3).unwrap(), b"\x03");
    }

    #[test]
    fn a_redelivered_read_gets_the_same_bytes_and_the_next_gets_the_rest() {
        let region = Region::new();
        let input = Input::new(State::open(&region.words, &region.ring).unwrap().0);
        type_text(&input, b"abcdef");
        assert_eq!(input.replay(again(5)), None);
        assert_eq!(input.take_raw(again(5), 2).unwrap(), b"ab");
        let input = Input::new(State::open(&region.words, &region.ring).unwrap().0);
        assert_eq!(input.replay(again(5)).unwrap(), b"ab");
        assert_eq!(input.replay(fresh(5)), None);
        assert_eq!(input.take_raw(fresh(6), 9).unwrap(), b"cdef");
    }

    #[test]
    fn a_line_is_echoed_byte_by_byte_then_complete() {
        let region = Region::new();
        let (state, _) = State::open(&region.words, &region.ring).unwrap();
        state.by_line().set(1);
        let input = Input::new(state);
        type_text(&input, b"ab\x7f\rrest");
        let mut echo = Vec::new();
        let end = loop {
            match input.line_step() {
                LineStep::Echo(at, bytes) => {
                    echo.extend(bytes);
                    input.was_echoed(at);
                }
                LineStep::Complete(to) => break to,
                LineStep::Wait => panic!("the line is there"),
            }
        };
        assert_eq!(echo, b"ab\x08 \x08\n");
        assert_eq!(input.take_line(fresh(1), end), b"a\n");
        assert_eq!(input.replay(again(1)).unwrap(), b"a\n");
        assert_eq!(input.line_step(), LineStep::Echo(4, b"r".to_vec()));
    }

    #[test]
    fn the_interrupt_key_throws_away_what_was_typed_before_it() {
        let region = Region::new();
        let (state, _) = State::open(&region.words, &region.ring).unwrap();
        state.by_line().set(1);
        let input = Input::new(state);
        type_text(&input, b"abc\x03de");
        let after = input.interrupt();
        assert_eq!(after, Some(4));
        assert_eq!(
            input.interrupt(),
            after,
            "a crash before it was dealt with finds it again"
        );
        input.was_checked(after);
        assert_eq!(input.interrupt(), None);
        assert_eq!(input.take_raw(fresh(1), 10).unwrap(), b"de");
    }

    #[test]
    fn what_finds_no_room_stays_in_the_device() {
        let region = Region::new();
        let input = Input::new(State::open(&region.words, &region.ring).unwrap().0);
        let uart = FakeUart::default();
        uart.type_in(&vec![b'x'; 5000]);
        input.receive(&uart).unwrap();
        assert_eq!(
            (input.room(), uart.waiting()),
            (0, 5000 - WAITING_BYTES as usize)
        );
        input.take_raw(fresh(1), 100).unwrap();
        input.receive(&uart).unwrap();
        assert_eq!(uart.waiting(), 4900 - WAITING_BYTES as usize);
    }

    proptest! {
        /// However reads and crashes fall, the answers put together are what was typed.
        #[test]
        fn no_byte_is_lost_or_given_twice(
            steps in proptest::collection::vec((0..3_u8, 1..200_usize), 1..200),
        ) {
            let region = Region::new();
            let uart = FakeUart::default();
            let (mut typed, mut got, mut sequence) = (Vec::new(), Vec::new(), 1);
            let mut unanswered: Option<Vec<u8>> = None;
            for (step, count) in steps {
                // Each round opens the state anew: a server that was killed after the last one.
                let input = Input::new(State::open(&region.words, &region.ring).unwrap().0);
                match step {
                    0 => {
                        let text: Vec<u8> = (0..count).map(|i| (typed.len() + i) as u8).collect();
                        typed.extend_from_slice(&text);
                        uart.type_in(&text);
                        input.receive(&uart).unwrap();
                    }
                    // A read whose answer is lost when `count` is odd.
                    _ => {
                        let is_redelivered = unanswered.is_some();
                        let request = RequestId { is_redelivered, ..fresh(sequence) };
                        let answer =
                            input.replay(request).or_else(|| input.take_raw(request, count));
                        if let (Some(before), Some(now)) = (&unanswered, &answer) {
                            prop_assert_eq!(before, now);
                        }
                        if count % 2 == 1 {
                            unanswered = answer;
                        } else if let Some(answer) = answer {
                            got.extend(answer);
                            sequence += 1;
                            unanswered = None;
                        }
                    }
                }
            }
            let input = Input::new(State::open(&region.words, &region.ring).unwrap().0);
            if unanswered.is_some() {
                got.extend(input.replay(again(sequence)).unwrap());
                sequence += 1;
            }
            loop {
                input.receive(&uart).unwrap();
                let Some(answer) = input.take_raw(fresh(sequence), 512) else { break };
                got.extend(answer);
                sequence += 1;
            }
            prop_assert_eq!(got, typed);
        }
    }
}
