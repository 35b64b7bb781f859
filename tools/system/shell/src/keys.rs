//! From bytes to keys: control characters, escape sequences, UTF-8.

use alloc::vec::Vec;

/// A key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    Character(char),
    Enter,
    Tab,
    Interrupt,
    EndOfInput,
    Backspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    KillToStart,
    KillToEnd,
    KillWord,
    ClearScreen,
}

/// Longest escape sequence that is collected; a longer one is thrown away.
const MAX_SEQUENCE: usize = 16;

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Plain,
    /// After `ESC`.
    Escape,
    /// After `ESC [`: the parameters so far.
    Sequence(Vec<u8>),
    /// After `ESC O`.
    Single,
    /// Within a character of several bytes.
    Character(Vec<u8>),
}

/// Collects bytes until they are a key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decoder {
    state: State,
}

impl Decoder {
    /// Takes a byte; returns the key that it completes.
    pub(crate) fn push(&mut self, byte: u8) -> Option<Key> {
        match core::mem::take(&mut self.state) {
            State::Plain => self.plain(byte),
            State::Escape => match byte {
                b'[' => self.go_on(State::Sequence(Vec::new())),
                b'O' => self.go_on(State::Single),
                b'b' => Some(Key::WordLeft),
                b'f' => Some(Key::WordRight),
                0x7f => Some(Key::KillWord),
                0x1b => self.go_on(State::Escape),
                _ => None,
            },
            State::Single => final_byte(byte, &[]),
            State::Sequence(mut parameters) => match byte {
                0x40..=0x7e => final_byte(byte, &parameters),
                0x20..=0x3f if parameters.len() < MAX_SEQUENCE => {
                    parameters.push(byte);
                    self.go_on(State::Sequence(parameters))
                }
                _ => None,
            },
            State::Character(mut bytes) => {
                if byte & 0xc0 != 0x80 {
                    // The character was cut off; this byte starts anew.
                    return self.plain(byte);
                }
                bytes.push(byte);
                match core::str::from_utf8(&bytes) {
                    Ok(text) => text.chars().next().map(Key::Character),
                    Err(_) if bytes.len() < 4 => self.go_on(State::Character(bytes)),
                    Err(_) => None,
                }
            }
        }
    }

    fn go_on(&mut self, state: State) -> Option<Key> {
        self.state = state;
        None
    }

    fn plain(&mut self, byte: u8) -> Option<Key> {
        Some(match byte {
            1 => Key::Home,
            2 => Key::Left,
            3 => Key::Interrupt,
            4 => Key::EndOfInput,
            5 => Key::End,
            6 => Key::Right,
            8 | 0x7f => Key::Backspace,
            b'\t' => Key::Tab,
            b'\r' | b'\n' => Key::Enter,
            11 => Key::KillToEnd,
            12 => Key::ClearScreen,
            14 => Key::Down,
            16 => Key::Up,
            21 => Key::KillToStart,
            23 => Key::KillWord,
            0x1b => return self.go_on(State::Escape),
            0x20..0x7f => Key::Character(char::from(byte)),
            0xc2..=0xf4 => {
                return self.go_on(State::Character([byte].into()));
            }
            _ => return None,
        })
    }
}

/// Returns the key of an escape sequence (ECMA-48 and the customs of xterm and the VT220).
fn final_byte(byte: u8, parameters: &[u8]) -> Option<Key> {
    let has_control = parameters.ends_with(b";5") || parameters.ends_with(b";3");
    Some(match (byte, parameters) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) if has_control => Key::WordRight,
        (b'D', _) if has_control => Key::WordLeft,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'~', b"3") => Key::Delete,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Decoder, Key};

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        bytes
            .iter()
            .filter_map(|&byte| decoder.push(byte))
            .collect()
    }

    #[test]
    fn sequences_become_keys() {
        assert_eq!(
            keys(b"\x1b[A\x1bOB\x1b[3~\x1b[1;5C\x1bb"),
            [
                Key::Up,
                Key::Down,
                Key::Delete,
                Key::WordRight,
                Key::WordLeft
            ]
        );
    }

    #[test]
    fn characters_of_several_bytes_become_one_key() {
        assert_eq!(
            keys("aä€🦎".as_bytes()),
            ['a', 'ä', '€', '🦎'].map(Key::Character)
        );
        assert_eq!(keys(b"\xc3a\xff\x80"), [Key::Character('a')]);
    }

    #[test]
    fn unknown_sequences_are_swallowed_whole() {
        assert_eq!(
            keys(b"\x1b[200~x\x1b[?25hy"),
            [Key::Character('x'), Key::Character('y')]
        );
    }
}
