//! How values become bytes, in messages and in state regions: postcard, with long integers in full.
//!
//! Values are written as postcard writes types whose integers of 32 bits and more are all marked
//! with `postcard::fixint::le`: they lie there in full, which takes a fraction of the instructions
//! of variable lengths. There are no floating point numbers. Nothing that is read is trusted: any
//! bytes give a value or an error.

use core::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

mod comparer;
mod reader;
mod writer;

use comparer::Comparer;
use reader::Reader;
use writer::{Room, Writer};

/// Why a value was not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EncodeError {
    /// There is not enough room.
    NoRoom {
        /// Bytes that the value takes.
        needed: usize,
    },
    /// It has a part of unknown length or a floating-point number.
    Unsupported,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EncodeError::NoRoom { .. } => "the value does not fit",
            EncodeError::Unsupported => "the value is of a kind that is not supported",
        })
    }
}

impl core::error::Error for EncodeError {}

/// Writes a value to the start of `buffer` and returns its length.
///
/// # Errors
///
/// See [`EncodeError`]; the buffer then holds anything.
#[inline]
pub fn encode<T: Serialize + ?Sized>(value: &T, buffer: &mut [u8]) -> Result<usize, EncodeError> {
    let mut writer = Writer(Room::new(buffer));
    value.serialize(&mut writer)?;
    writer.0.finish()
}

/// Compares bytes with those of a value, and returns how many are left behind them; `None` when they
/// are others.
///
/// Who has just encoded or decoded asks this to find its own mistakes: it is neither of the two, and
/// not inlined, so that it looks at memory and not at what the compiler believes to be there.
#[inline(never)]
pub fn left_behind<T: Serialize + ?Sized>(value: &T, bytes: &[u8]) -> Option<usize> {
    let mut comparer = Writer(Comparer::new(bytes));
    value.serialize(&mut comparer).ok()?;
    comparer.0.finish()
}

/// Reads a value of which the bytes are all.
#[inline]
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (value, left) = decode_prefix(bytes)?;
    (left == 0).then_some(value)
}

/// Reads a value from the start of `bytes`. Returns how many bytes are left, too.
#[inline]
pub fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Option<(T, usize)> {
    let mut reader = Reader::new(bytes);
    let value = T::deserialize(&mut reader).ok()?;
    Some((value, reader.left()))
}

#[cfg(test)]
mod tests {
    use super::{EncodeError, decode, decode_prefix, encode, left_behind};

    #[test]
    fn bytes_left_over_are_counted() {
        assert_eq!(decode::<u8>(&[1]), Some(1));
        assert_eq!(decode::<u8>(&[1, 2]), None);
        assert_eq!(decode_prefix::<u8>(&[1, 2, 3]), Some((1, 2)));
        assert_eq!(decode_prefix::<u8>(&[]), None);
    }

    #[test]
    fn bytes_of_another_value_are_told_from_those_of_this_one() {
        let value = (1_u64, "name", [7_u16, 300], Some(true));
        let mut room = [0; 64];
        let used = encode(&value, &mut room).unwrap();
        assert_eq!(left_behind(&value, &room[..used]), Some(0));
        assert_eq!(left_behind(&value, &room), Some(room.len() - used));
        for at in 0..used {
            assert_eq!(left_behind(&value, &room[..at]), None);
            for bit in 0..8 {
                room[at] ^= 1 << bit;
                assert_eq!(left_behind(&value, &room[..used]), None);
                room[at] ^= 1 << bit;
            }
        }
        assert_eq!(left_behind(&1.5_f64, &room), None);
    }

    #[test]
    fn what_cannot_be_written_is_told_from_what_does_not_fit() {
        let mut room = [0; 8];
        assert_eq!(encode(&1_u64, &mut room), Ok(8));
        let needed = 16;
        for bytes in 0..8 {
            let result = encode(&(1_u64, 2_u64), &mut room[..bytes]);
            assert_eq!(result, Err(EncodeError::NoRoom { needed }));
        }
        assert_eq!(encode(&1.5_f64, &mut room), Err(EncodeError::Unsupported));
    }
}
