//! The line discipline: from typed bytes to a line and its echo.

use alloc::vec::Vec;

/// Longest line in bytes, its end included; what is typed beyond it rings the bell.
pub const MAX_LINE: usize = 1024;
/// The interrupt key, `^C`.
pub const INTERRUPT: u8 = 3;

const END_OF_INPUT: u8 = 4;
const BACKSPACE: u8 = 8;
const KILL_LINE: u8 = 21;
const DELETE: u8 = 127;

/// What came of a typed byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The line goes on.
    More,
    /// The line is complete.
    Complete,
}

/// A line while it is typed.
#[derive(Clone, Debug, Default)]
pub struct Line {
    bytes: Vec<u8>,
}

impl Line {
    /// Returns the bytes typed so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the line.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Takes a byte and tells what came of it; adds what the terminal must show to `echo`.
    pub fn push(&mut self, byte: u8, echo: &mut Vec<u8>) -> Outcome {
        match byte {
            b'\r' | b'\n' => {
                self.bytes.push(b'\n');
                echo.push(b'\n');
                return Outcome::Complete;
            }
            END_OF_INPUT => return Outcome::Complete,
            BACKSPACE | DELETE => self.erase(echo),
            KILL_LINE => {
                while !self.bytes.is_empty() {
                    self.erase(echo);
                }
            }
            b'\t' | 32.. if self.bytes.len() + 1 < MAX_LINE => {
                self.bytes.push(byte);
                echo.push(byte);
            }
            b'\t' | 32.. => echo.push(7),
            _ => {}
        }
        Outcome::More
    }

    /// Takes the last character away, all bytes of it.
    fn erase(&mut self, echo: &mut Vec<u8>) {
        while let Some(byte) = self.bytes.pop() {
            // Continuation bytes of UTF-8 belong to the character before them.
            if byte & 0xc0 != 0x80 {
                echo.extend_from_slice(b"\x08 \x08");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Line, MAX_LINE, Outcome};

    fn typed(bytes: &[u8]) -> (Line, Vec<u8>, Outcome) {
        let (mut line, mut echo) = (Line::default(), Vec::new());
        let mut outcome = Outcome::More;
        for &byte in bytes {
            outcome = line.push(byte, &mut echo);
        }
        (line, echo, outcome)
    }

    #[test]
    fn a_line_ends_at_return_and_is_echoed() {
        let (line, echo, outcome) = typed(b"ls /\r");
        assert_eq!(
            (line.bytes(), &echo[..], outcome),
            (&b"ls /\n"[..], &b"ls /\n"[..], Outcome::Complete)
        );
    }

    #[test]
    fn backspace_takes_whole_characters() {
        let (line, echo, _) = typed("aä\u{7f}\u{8}\u{8}b".as_bytes());
        assert_eq!(line.bytes(), b"b");
        assert_eq!(echo, "aä\u{8} \u{8}\u{8} \u{8}b".as_bytes());
    }

    #[test]
    fn kill_line_empties_it_and_end_of_input_gives_what_is_there() {
        let (line, _, outcome) = typed(b"abc\x15de\x04");
        assert_eq!((line.bytes(), outcome), (&b"de"[..], Outcome::Complete));
        assert_eq!(typed(b"\x04").0.bytes(), b"");
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_bounded_line(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let (mut line, mut echo) = (Line::default(), Vec::new());
            for byte in bytes {
                if line.push(byte, &mut echo) == Outcome::Complete {
                    line = Line::default();
                }
                prop_assert!(line.bytes().len() < MAX_LINE);
            }
        }
    }
}
