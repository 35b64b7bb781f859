//! Reads what `writer` writes. Any bytes give a value or an error.

use core::fmt::Display;

use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeSeed, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde::{Deserializer, de};

/// The bytes are no value of the type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

impl Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the bytes are no value of the type")
    }
}

impl core::error::Error for Malformed {}

impl Error for Malformed {
    fn custom<T: Display>(_message: T) -> Self {
        Malformed
    }
}

/// Reads from the start of a buffer.
pub(super) struct Reader<'de> {
    rest: &'de [u8],
}

impl<'de> Reader<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// Returns how many bytes were not read.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline]
    fn take_byte(&mut self) -> Result<u8, Malformed> {
        self.take().map(|[byte]| byte)
    }

    /// Reads a number of seven bits per byte that has at most `bits` bits.
    #[inline]
    fn take_variable(&mut self, bits: u32) -> Result<u64, Malformed> {
        let first = self.take_byte()?;
        if first < 0x80 {
            return Ok(first.into());
        }
        let (value, rest) = take_long(self.rest, first, bits)?;
        self.rest = rest;
        Ok(value)
    }

    #[inline]
    fn take_length(&mut self) -> Result<usize, Malformed> {
        let length = self.take_variable(usize::BITS)?;
        usize::try_from(length).map_err(|_| Malformed)
    }

    #[inline]
    fn take_slice(&mut self) -> Result<&'de [u8], Malformed> {
        let length = self.take_length()?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn take_text(&mut self) -> Result<&'de str, Malformed> {
        core::str::from_utf8(self.take_slice()?).map_err(|_| Malformed)
    }
}

/// Reads what follows the first byte of a number of seven bits per byte. It takes and returns the
/// rest by value: behind a reference it could not stay in registers.
#[cold]
fn take_long(mut rest: &[u8], first: u8, bits: u32) -> Result<(u64, &[u8]), Malformed> {
    let mut value = u64::from(first & 0x7f);
    let mut shift = 7;
    while shift < bits {
        let (&byte, behind) = rest.split_first().ok_or(Malformed)?;
        rest = behind;
        let part = u64::from(byte & 0x7f);
        if bits - shift < 7 && part >> (bits - shift) != 0 {
            return Err(Malformed);
        }
        value |= part << shift;
        if byte < 0x80 {
            return Ok((value, rest));
        }
        shift += 7;
    }
    Err(Malformed)
}

macro_rules! in_full {
    ($($method:ident: $visit:ident, $ty:ty);* $(;)?) => {
        $(
            #[inline]
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
                let value = <$ty>::from_le_bytes(self.take()?);
                visitor.$visit(value)
            }
        )*
    };
}

/// What the format does not say by itself, or no message may have.
macro_rules! refused {
    ($($method:ident),*) => {
        $(
            fn $method<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Malformed> {
                Err(Malformed)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Malformed;

    in_full! {
        deserialize_i8: visit_i8, i8;
        deserialize_i32: visit_i32, i32;
        deserialize_i64: visit_i64, i64;
        deserialize_i128: visit_i128, i128;
        deserialize_u8: visit_u8, u8;
        deserialize_u32: visit_u32, u32;
        deserialize_u64: visit_u64, u64;
        deserialize_u128: visit_u128, u128;
    }

    refused! {
        deserialize_any, deserialize_identifier, deserialize_ignored_any, deserialize_f32,
        deserialize_f64
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        match self.take_byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            _ => Err(Malformed),
        }
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        let value = self.take_variable(u16::BITS)? as u16;
        let sign = 0_u16.wrapping_sub(value & 1);
        visitor.visit_i16((value >> 1 ^ sign).cast_signed())
    }

    #[inline]
    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        visitor.visit_u16(self.take_variable(u16::BITS)? as u16)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        let mut text = self.take_text()?.chars();
        match (text.next(), text.next()) {
            (Some(char), None) => visitor.visit_char(char),
            _ => Err(Malformed),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        visitor.visit_borrowed_str(self.take_text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        visitor.visit_borrowed_bytes(self.take_slice()?)
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        match self.take_byte()? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self),
            _ => Err(Malformed),
        }
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        let left = self.take_length()?;
        visitor.visit_seq(Parts { reader: self, left })
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        visitor.visit_seq(Parts {
            reader: self,
            left: length,
        })
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        let left = self.take_length()?;
        visitor.visit_map(Parts { reader: self, left })
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        visitor.visit_enum(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Values one behind the other.
struct Parts<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: usize,
}

impl Parts<'_, '_> {
    /// Counts a value; returns whether there is one more.
    #[inline]
    fn next(&mut self) -> bool {
        let has_next = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_next
    }

    /// Returns how many values to make room for: most take a byte at least, so no sender can ask
    /// for more room than its message has bytes.
    #[inline]
    fn expected(&self) -> usize {
        self.left.min(self.reader.rest.len())
    }
}

impl<'de> SeqAccess<'de> for Parts<'_, 'de> {
    type Error = Malformed;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Malformed> {
        if !self.next() {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.expected())
    }
}

impl<'de> MapAccess<'de> for Parts<'_, 'de> {
    type Error = Malformed;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Malformed> {
        if !self.next() {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Malformed> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.expected())
    }
}

impl<'de> EnumAccess<'de> for &mut Reader<'de> {
    type Error = Malformed;
    type Variant = Self;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Malformed> {
        let index = self.take_variable(u32::BITS)? as u32;
        let index: U32Deserializer<Malformed> = index.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Reader<'de> {
    type Error = Malformed;

    #[inline]
    fn unit_variant(self) -> Result<(), Malformed> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Malformed> {
        seed.deserialize(self)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        self.deserialize_tuple(length, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        de::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}
