//! Examples of any type that can be decoded.
//!
//! [`Maker`] is a deserializer that reads nothing: it answers each question for a value with the
//! next one of a row in which no two neighbours have a byte in common. Where the type has a
//! choice (a variant, an option, whether a list is empty, a truth value) it takes what it was told
//! and notes how many there were, so that [`examples`] can go through all of them.

use alloc::borrow::ToOwned as _;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt::Display;

use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeSeed, EnumAccess, Error, IntoDeserializer as _, SeqAccess, VariantAccess, Visitor,
};
use serde::{Deserializer, Serialize};

use serde::de::DeserializeOwned;

/// An example of a type.
#[derive(Debug)]
pub struct Example<T> {
    /// The value.
    pub value: T,
    /// What it is made of.
    pub shape: String,
    /// Named types that were met, each variant of an enum by itself.
    pub types: BTreeMap<String, String>,
}

/// Most examples of one type: beyond that it is a tree without end.
const MAX_EXAMPLES: usize = 1000;

/// Returns examples of a type: the first with the first choice everywhere, then one for each
/// other choice, with the choices behind that one gone through in the same way.
///
/// # Panics
///
/// When no value of the type can be made, or it has too many choices.
pub fn examples<T: Serialize + DeserializeOwned>() -> Vec<Example<T>> {
    let mut found = Vec::new();
    let mut todo: Vec<Vec<u32>> = Vec::from([Vec::new()]);
    while let Some(told) = todo.pop() {
        assert!(found.len() < MAX_EXAMPLES, "a type has too many choices");
        let mut maker = Maker::new(told);
        let value = T::deserialize(&mut maker).expect("any type of a message can be made");
        todo.extend(maker.others());
        let shape = maker.shapes.pop().unwrap_or_default();
        found.push(Example {
            value,
            shape,
            types: maker.types,
        });
    }
    found
}

/// A place where a type has a choice.
struct Choice {
    taken: u32,
    of: u32,
    /// The choice inside of which this one is.
    inside: Option<usize>,
}

struct Maker {
    told: Vec<u32>,
    choices: Vec<Choice>,
    /// The choice in which values are made just now.
    inside: Option<usize>,
    /// The last byte that was used.
    last: u8,
    shapes: Vec<String>,
    types: BTreeMap<String, String>,
}

/// Never happens: a maker makes what it is asked for.
#[derive(Debug)]
struct CannotMake(String);

impl Display for CannotMake {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for CannotMake {}

impl Error for CannotMake {
    fn custom<T: Display>(message: T) -> Self {
        CannotMake(message.to_string())
    }
}

type Made<T> = Result<T, CannotMake>;

impl Maker {
    fn new(told: Vec<u32>) -> Self {
        Maker {
            told,
            choices: Vec::new(),
            inside: None,
            last: 0,
            shapes: Vec::new(),
            types: BTreeMap::new(),
        }
    }

    /// Returns the next bytes of the row.
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| {
            self.last = self.last % 0x7f + 1;
            self.last
        })
    }

    /// Takes one of so many ways.
    fn choose(&mut self, of: u32) -> u32 {
        let told = self.told.get(self.choices.len());
        let taken = told.copied().unwrap_or(0);
        self.choices.push(Choice {
            taken,
            of,
            inside: self.inside,
        });
        taken
    }

    /// Makes what is inside of the last choice.
    fn within<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.inside.replace(self.choices.len() - 1);
        let made = make(self);
        self.inside = outer;
        made
    }

    /// Returns what else can be told: the other ways of the choices that are new here.
    fn others(&self) -> Vec<Vec<u32>> {
        // What was told ends with the choice whose ways are gone through.
        let last_told = self.told.len().checked_sub(1);
        let is_new = |choice: &Choice| last_told.is_none() || self.is_inside(choice, last_told);
        let mut others = Vec::new();
        for (at, choice) in self.choices.iter().enumerate().skip(self.told.len()).rev() {
            if !is_new(choice) {
                continue;
            }
            for way in (choice.taken + 1..choice.of).rev() {
                let before = self.choices.iter().take(at).map(|choice| choice.taken);
                others.push(before.chain([way]).collect());
            }
        }
        others
    }

    fn is_inside(&self, choice: &Choice, outer: Option<usize>) -> bool {
        let mut inside = choice.inside;
        while let Some(at) = inside {
            if Some(at) == outer {
                return true;
            }
            inside = self.choices.get(at).and_then(|choice| choice.inside);
        }
        false
    }

    fn shape(&mut self, shape: impl Into<String>) {
        self.shapes.push(shape.into());
    }

    /// Makes `count` values in a row, and takes their shapes.
    fn parts<'de, V: Visitor<'de>>(
        &mut self,
        count: usize,
        visitor: V,
    ) -> Made<(V::Value, Vec<String>)> {
        let before = self.shapes.len();
        let value = visitor.visit_seq(Parts {
            maker: self,
            left: count,
        })?;
        Ok((value, self.shapes.split_off(before)))
    }

    /// Writes a type with its fields.
    fn named(&self, name: &str, fields: &[&str], shapes: &[String]) -> String {
        let types = shapes.iter().map(|shape| without_variants(shape));
        if fields.is_empty() {
            return format!("{name}({})", types.collect::<Vec<_>>().join(","));
        }
        let fields = fields.iter().zip(types);
        let fields: Vec<_> = fields.map(|(field, ty)| format!("{field}:{ty}")).collect();
        format!("{name}{{{}}}", fields.join(","))
    }
}

/// Leaves out which variants of enums were taken.
fn without_variants(shape: &str) -> String {
    let mut parts = shape.split("::");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part
            .find(|c: char| !c.is_alphanumeric())
            .unwrap_or(part.len());
        text.push_str(part.get(end..).unwrap_or_default());
    }
    text
}

macro_rules! numbers {
    ($($method:ident: $visit:ident, $ty:ty);* $(;)?) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Made<V::Value> {
                self.shape(stringify!($ty));
                let value = <$ty>::from_le_bytes(self.bytes());
                visitor.$visit(value)
            }
        )*
    };
}

/// No type of a message asks for these.
macro_rules! refused {
    ($($method:ident),*) => {
        $(
            fn $method<V: Visitor<'de>>(self, _visitor: V) -> Made<V::Value> {
                Err(CannotMake(stringify!($method).to_owned()))
            }
        )*
    };
}

impl<'de> Deserializer<'de> for &mut Maker {
    type Error = CannotMake;

    numbers! {
        deserialize_i8: visit_i8, i8;
        deserialize_i16: visit_i16, i16;
        deserialize_i32: visit_i32, i32;
        deserialize_i64: visit_i64, i64;
        deserialize_i128: visit_i128, i128;
        deserialize_u8: visit_u8, u8;
        deserialize_u16: visit_u16, u16;
        deserialize_u32: visit_u32, u32;
        deserialize_u64: visit_u64, u64;
        deserialize_u128: visit_u128, u128;
    }

    refused! {
        deserialize_any, deserialize_identifier, deserialize_ignored_any, deserialize_f32,
        deserialize_f64, deserialize_map
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Made<V::Value> {
        self.shape("bool");
        let way = self.choose(2);
        visitor.visit_bool(way == 1)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Made<V::Value> {
        self.shape("char");
        visitor.visit_char('é')
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Made<V::Value> {
        self.shape("text");
        let [byte] = self.bytes();
        visitor.visit_string(format!("é{byte}"))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Made<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Made<V::Value> {
        self.shape("bytes");
        visitor.visit_bytes(&self.bytes::<3>())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Made<V::Value> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Made<V::Value> {
        if self.choose(2) == 1 {
            self.shape("none");
            return visitor.visit_none();
        }
        let value = self.within(|maker| visitor.visit_some(maker))?;
        let shape = self.shapes.pop().unwrap_or_default();
        self.shape(format!("some({shape})"));
        Ok(value)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Made<V::Value> {
        self.shape("()");
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Made<V::Value> {
        self.shape(name);
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Made<V::Value> {
        let value = visitor.visit_newtype_struct(&mut *self)?;
        let shape = self.shapes.pop().unwrap_or_default();
        let ty = self.named(name, &[], &[shape]);
        self.types.insert(name.to_owned(), ty);
        self.shape(name);
        Ok(value)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Made<V::Value> {
        let count = if self.choose(2) == 0 { 1 } else { 0 };
        let (value, shapes) = self.within(|maker| maker.parts(count, visitor))?;
        self.shape(format!("[{}]", shapes.join(",")));
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, count: usize, visitor: V) -> Made<V::Value> {
        let (value, shapes) = self.parts(count, visitor)?;
        self.shape(format!("({})", shapes.join(",")));
        Ok(value)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        count: usize,
        visitor: V,
    ) -> Made<V::Value> {
        let (value, shapes) = self.parts(count, visitor)?;
        let shape = self.named(name, &[], &shapes);
        self.types.insert(name.to_owned(), shape);
        self.shape(name);
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Made<V::Value> {
        let (value, shapes) = self.parts(fields.len(), visitor)?;
        let shape = self.named(name, fields, &shapes);
        // Of the examples of a structure the first one is noted: later ones lack something.
        self.types.entry(name.to_owned()).or_insert(shape);
        self.shape(name);
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Made<V::Value> {
        let number = self.choose(variants.len() as u32);
        let variant = variants.get(number as usize).copied().unwrap_or_default();
        let value = self.within(|maker| {
            visitor.visit_enum(Variant {
                maker,
                number,
                variant,
            })
        })?;
        let shape = self.shapes.pop().unwrap_or_default();
        self.types.insert(format!("{name}#{number:02}"), shape);
        self.shape(format!("{name}::{variant}"));
        Ok(value)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Values in a row.
struct Parts<'a> {
    maker: &'a mut Maker,
    left: usize,
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = CannotMake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Made<Option<T::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.maker).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// A variant that was chosen.
struct Variant<'a> {
    maker: &'a mut Maker,
    number: u32,
    variant: &'static str,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = CannotMake;
    type Variant = Variant<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Made<(S::Value, Variant<'a>)> {
        let number: U32Deserializer<CannotMake> = self.number.into_deserializer();
        Ok((seed.deserialize(number)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = CannotMake;

    fn unit_variant(self) -> Made<()> {
        self.maker.shape(self.variant);
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Made<S::Value> {
        let value = seed.deserialize(&mut *self.maker)?;
        let shape = self.maker.shapes.pop().unwrap_or_default();
        let shape = self.maker.named(self.variant, &[], &[shape]);
        self.maker.shape(shape);
        Ok(value)
    }

    fn tuple_variant<V: Visitor<'de>>(self, count: usize, visitor: V) -> Made<V::Value> {
        let (value, shapes) = self.maker.parts(count, visitor)?;
        let shape = self.maker.named(self.variant, &[], &shapes);
        self.maker.shape(shape);
        Ok(value)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Made<V::Value> {
        let (value, shapes) = self.maker.parts(fields.len(), visitor)?;
        let shape = self.maker.named(self.variant, fields, &shapes);
        self.maker.shape(shape);
        Ok(value)
    }
}
