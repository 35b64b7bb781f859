//! Turns values into bytes as postcard does, with integers of four and more bytes in full.

use core::fmt::Display;

use serde::ser::{
    Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Serialize, Serializer};

use super::EncodeError;

impl Error for EncodeError {
    fn custom<T: Display>(_message: T) -> Self {
        EncodeError::Unsupported
    }
}

type Written = Result<(), EncodeError>;

/// Where bytes go. There is no error to look for behind each number: a sink knows in the end.
pub(super) trait Sink {
    /// Takes the bytes of a number.
    fn put<const N: usize>(&mut self, bytes: [u8; N]);

    /// Takes the content of something long.
    fn put_slice(&mut self, bytes: &[u8]);
}

/// The start of a buffer. What does not fit is counted and not written.
pub(super) struct Room<'a> {
    buffer: &'a mut [u8],
    used: usize,
}

impl<'a> Room<'a> {
    pub(super) fn new(buffer: &'a mut [u8]) -> Self {
        Room { buffer, used: 0 }
    }

    /// Returns how many bytes were written.
    ///
    /// # Errors
    ///
    /// `NoRoom` when there was not enough room.
    pub(super) fn finish(self) -> Result<usize, EncodeError> {
        let Room { buffer, used } = self;
        if used > buffer.len() {
            return Err(EncodeError::NoRoom { needed: used });
        }
        Ok(used)
    }
}

impl Sink for Room<'_> {
    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        let end = self.used + N;
        if let Some(place) = self.buffer.get_mut(self.used..end) {
            place.copy_from_slice(&bytes);
        }
        self.used = end;
    }

    fn put_slice(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        if let Some(place) = self.buffer.get_mut(self.used..end) {
            place.copy_from_slice(bytes);
        }
        self.used = end;
    }
}

/// Gives the bytes of values to a sink.
pub(super) struct Writer<S>(pub(super) S);

impl<S: Sink> Writer<S> {
    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.0.put(bytes);
    }

    /// Writes seven bits in each byte, the lowest first; all but the last byte have bit 7 set.
    #[inline]
    fn put_variable(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put([value as u8 | 0x80]);
            value >>= 7;
        }
        self.put([value as u8]);
    }
}

/// Moves the sign to bit 0, so that small negative numbers are short.
fn zigzag(value: i16) -> u64 {
    (value.unsigned_abs() << 1)
        .wrapping_sub(u16::from(value < 0))
        .into()
}

macro_rules! in_full {
    ($($method:ident: $ty:ty),*) => {
        $(
            #[inline]
            fn $method(self, value: $ty) -> Written {
                self.put(value.to_le_bytes());
                Ok(())
            }
        )*
    };
}

impl<S: Sink> Serializer for &mut Writer<S> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    in_full! {
        serialize_i8: i8, serialize_u8: u8,
        serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Written {
        self.put([value.into()]);
        Ok(())
    }

    fn serialize_i16(self, value: i16) -> Written {
        self.put_variable(zigzag(value));
        Ok(())
    }

    #[inline]
    fn serialize_u16(self, value: u16) -> Written {
        self.put_variable(value.into());
        Ok(())
    }

    /// There are no floating point registers in the guest.
    fn serialize_f32(self, _value: f32) -> Written {
        Err(EncodeError::Unsupported)
    }

    fn serialize_f64(self, _value: f64) -> Written {
        Err(EncodeError::Unsupported)
    }

    fn serialize_char(self, value: char) -> Written {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Written {
        self.serialize_bytes(value.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Written {
        self.put_variable(value.len() as u64);
        self.0.put_slice(value);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Written {
        self.put([0]);
        Ok(())
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        self.put([1]);
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Written {
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Written {
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
    ) -> Written {
        self.put_variable(index.into());
        Ok(())
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Written {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Written {
        self.put_variable(index.into());
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Self, EncodeError> {
        self.put_variable(length.ok_or(EncodeError::Unsupported)? as u64);
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
        self.put_variable(index.into());
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
        self.put_variable(index.into());
        Ok(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Compound values are their parts one behind the other.
macro_rules! parts {
    ($($compound:ident::$method:ident($($key:ident)?)),* $(,)?) => {
        $(
            impl<S: Sink> $compound for &mut Writer<S> {
                type Ok = ();
                type Error = EncodeError;

                #[inline]
                fn $method<T: Serialize + ?Sized>(
                    &mut self,
                    $($key: &'static str,)?
                    value: &T,
                ) -> Written {
                    $(let _ = $key;)?
                    value.serialize(&mut **self)
                }

                #[inline]
                fn end(self) -> Written {
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

impl<S: Sink> SerializeMap for &mut Writer<S> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        key.serialize(&mut **self)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(&mut **self)
    }

    #[inline]
    fn end(self) -> Written {
        Ok(())
    }
}
