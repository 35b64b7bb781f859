//! Encodes records as postcard does, in a third of the instructions.
//!
//! A server encodes a record for most of what it does, so this is most of what it costs that it can
//! be restarted. Postcard copies each number byte by byte and looks each time whether there is
//! room; here is room for any number before it is written. What comes out is the same, which the
//! tests check, and postcard reads it.

use core::fmt;

use serde::Serialize;
use serde::ser::{self, Serializer};

/// Bytes of the longest number.
const LONGEST: usize = 10;

/// Why a value was not encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EncodeError {
    /// There is not enough room.
    NoRoom,
    /// It has a part of unknown length or a floating-point number, which no record has.
    Unsupported,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EncodeError::NoRoom => "no room",
            EncodeError::Unsupported => "not supported",
        })
    }
}

impl core::error::Error for EncodeError {}

impl ser::Error for EncodeError {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        EncodeError::Unsupported
    }
}

/// Encodes a value at the start of `room` and returns its length. The last bytes of the room stay
/// unused.
///
/// # Errors
///
/// See [`EncodeError`].
pub(super) fn encode_into<T: Serialize>(value: &T, room: &mut [u8]) -> Result<usize, EncodeError> {
    let mut encoder = Encoder { room, at: 0 };
    value.serialize(&mut encoder)?;
    Ok(encoder.at)
}

struct Encoder<'a> {
    room: &'a mut [u8],
    at: usize,
}

impl Encoder<'_> {
    /// Returns the next place, which is long enough for any number.
    #[inline]
    fn place(&mut self) -> Result<&mut [u8; LONGEST], EncodeError> {
        let rest = self.room.get_mut(self.at..);
        rest.and_then(<[u8]>::first_chunk_mut::<LONGEST>)
            .ok_or(EncodeError::NoRoom)
    }

    #[inline]
    fn byte(&mut self, byte: u8) -> Result<(), EncodeError> {
        self.place()?[0] = byte;
        self.at += 1;
        Ok(())
    }

    /// Writes a number in groups of seven bits, the lowest first.
    #[inline]
    fn number(&mut self, number: u64) -> Result<(), EncodeError> {
        if number < 0x80 {
            return self.byte(number as u8);
        }
        self.long_number(number)
    }

    #[inline(never)]
    fn long_number(&mut self, mut number: u64) -> Result<(), EncodeError> {
        let mut used = 0;
        for byte in self.place()? {
            used += 1;
            if number < 0x80 {
                *byte = number as u8;
                break;
            }
            *byte = number as u8 | 0x80;
            number >>= 7;
        }
        self.at += used;
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.number(bytes.len() as u64)?;
        let place = self.room.get_mut(self.at..self.at + bytes.len());
        place.ok_or(EncodeError::NoRoom)?.copy_from_slice(bytes);
        self.at += bytes.len();
        Ok(())
    }
}

/// Makes the sign the lowest bit.
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

type Encoded = Result<(), EncodeError>;

impl Serializer for &mut Encoder<'_> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Encoded {
        self.byte(value.into())
    }

    #[inline]
    fn serialize_i8(self, value: i8) -> Encoded {
        self.byte(value.cast_unsigned())
    }

    #[inline]
    fn serialize_i16(self, value: i16) -> Encoded {
        self.number(zigzag(value.into()))
    }

    #[inline]
    fn serialize_i32(self, value: i32) -> Encoded {
        self.number(zigzag(value.into()))
    }

    #[inline]
    fn serialize_i64(self, value: i64) -> Encoded {
        self.number(zigzag(value))
    }

    #[inline]
    fn serialize_u8(self, value: u8) -> Encoded {
        self.byte(value)
    }

    #[inline]
    fn serialize_u16(self, value: u16) -> Encoded {
        self.number(value.into())
    }

    #[inline]
    fn serialize_u32(self, value: u32) -> Encoded {
        self.number(value.into())
    }

    #[inline]
    fn serialize_u64(self, value: u64) -> Encoded {
        self.number(value)
    }

    fn serialize_f32(self, _value: f32) -> Encoded {
        Err(EncodeError::Unsupported)
    }

    fn serialize_f64(self, _value: f64) -> Encoded {
        Err(EncodeError::Unsupported)
    }

    fn serialize_char(self, value: char) -> Encoded {
        self.bytes(value.encode_utf8(&mut [0; 4]).as_bytes())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Encoded {
        self.bytes(value.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Encoded {
        self.bytes(value)
    }

    #[inline]
    fn serialize_none(self) -> Encoded {
        self.byte(0)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Encoded {
        self.byte(1)?;
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Encoded {
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Encoded {
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
    ) -> Encoded {
        self.number(index.into())
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Encoded {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Encoded {
        self.number(index.into())?;
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Self, EncodeError> {
        self.number(length.ok_or(EncodeError::Unsupported)? as u64)?;
        Ok(self)
    }

    #[inline]
    fn serialize_tuple(self, _length: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _length: usize,
    ) -> Result<Self, EncodeError> {
        Ok(self)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, EncodeError> {
        self.number(index.into())?;
        Ok(self)
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Self, EncodeError> {
        self.serialize_seq(length)
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, EncodeError> {
        self.number(index.into())?;
        Ok(self)
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, _value: &T) -> Encoded {
        Err(EncodeError::Unsupported)
    }
}

/// Compound values are their parts one behind the other.
macro_rules! parts {
    ($($compound:ident::$method:ident($($key:ident)?)),* $(,)?) => {
        $(
            impl ser::$compound for &mut Encoder<'_> {
                type Ok = ();
                type Error = EncodeError;

                #[inline]
                fn $method<T: Serialize + ?Sized>(
                    &mut self,
                    $($key: &'static str,)?
                    value: &T,
                ) -> Encoded {
                    $(let _ = $key;)?
                    value.serialize(&mut **self)
                }

                #[inline]
                fn end(self) -> Encoded {
                    Ok(())
                }
            }
        )*
    };
}

parts! {
    SerializeSeq::serialize_element(),
    SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(),
    SerializeTupleVariant::serialize_field(),
    SerializeStruct::serialize_field(key),
    SerializeStructVariant::serialize_field(key),
}

impl ser::SerializeMap for &mut Encoder<'_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Encoded {
        key.serialize(&mut **self)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Encoded {
        value.serialize(&mut **self)
    }

    #[inline]
    fn end(self) -> Encoded {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Serialize;

    use super::{EncodeError, encode_into};

    #[derive(Clone, Debug, Serialize)]
    enum Part {
        Unit,
        One(u64),
        Two(i64, i32),
        Named {
            text: String,
            bytes: Vec<u8>,
            flag: Option<bool>,
        },
        Map(BTreeMap<u16, (i16, char)>),
        Small(u8, i8, u32, ()),
    }

    fn part() -> impl Strategy<Value = Part> {
        prop_oneof![
            Just(Part::Unit),
            // Of all lengths.
            (any::<u64>(), 0..64).prop_map(|(number, shift)| Part::One(number >> shift)),
            (any::<i64>(), 0..64, any::<i32>())
                .prop_map(|(number, shift, other)| Part::Two(number >> shift, other)),
            (
                ".{0,9}",
                prop::collection::vec(any::<u8>(), 0..200),
                any::<Option<bool>>()
            )
                .prop_map(|(text, bytes, flag)| Part::Named { text, bytes, flag }),
            prop::collection::btree_map(any::<u16>(), any::<(i16, char)>(), 0..5)
                .prop_map(Part::Map),
            any::<(u8, i8, u32)>().prop_map(|(a, b, c)| Part::Small(a, b, c, ())),
        ]
    }

    proptest! {
        #[test]
        fn it_is_what_postcard_makes(parts in prop::collection::vec(part(), 0..6)) {
            let expected = postcard::to_allocvec(&parts).unwrap();
            let mut room = vec![0xaa; expected.len() + super::LONGEST];
            let bytes = encode_into(&parts, &mut room).unwrap();
            prop_assert_eq!(&room[..bytes], &expected[..]);
        }

        #[test]
        fn without_room_it_says_so(parts in prop::collection::vec(part(), 1..6), short in 1_usize..9) {
            let bytes = postcard::to_allocvec(&parts).unwrap().len();
            let mut room = vec![0; bytes.saturating_sub(short)];
            prop_assert_eq!(encode_into(&parts, &mut room), Err(EncodeError::NoRoom));
        }
    }

    #[test]
    fn what_no_record_has_is_refused() {
        assert_eq!(
            encode_into(&1.5_f64, &mut [0; 20]),
            Err(EncodeError::Unsupported)
        );
    }
}
