//! The shape of a serialised type, found by decoding made-up values.
//!
//! A type's own `Deserialize` says what it expects, field by field. The tracer notes that and
//! answers with the smallest value that shows what comes next: one element for a sequence, `Some`
//! for an option. Of an enum it takes another variant in each pass, until all have been seen.
//! What is noted is what postcard's bytes depend on, and the names of fields and variants besides:
//! two fields of one type that change places are a change of layout. Names of types do not
//! count, so that an old layout keeps its shape when its types are moved out of the way.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::{format, vec};
use core::fmt;

use serde::de::value::U32Deserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};

/// Deepest nesting: a type that contains itself has no end.
const MAX_DEPTH: usize = 64;
/// Most passes, each of which sees at least one variant that no pass before it saw.
const MAX_PASSES: usize = 4096;

/// Why the shape of a type cannot be told.
#[derive(Debug)]
pub struct Untraceable(String);

impl fmt::Display for Untraceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Untraceable {}

impl de::Error for Untraceable {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Untraceable(message.to_string())
    }
}

/// Returns the shape of a type: a line for each place in it, sorted.
///
/// # Errors
///
/// [`Untraceable`] for types that contain themselves, that decode differently from format to
/// format, or that accept no made-up value.
pub(super) fn of<T: DeserializeOwned>() -> Result<String, Untraceable> {
    let mut trace = Trace::default();
    for _ in 0..MAX_PASSES {
        trace.is_pending = false;
        T::deserialize(&mut trace)?;
        if !trace.is_pending {
            return Ok(trace.text());
        }
    }
    Err(Untraceable("too many variants".to_string()))
}

/// What is known so far, and where in the type the decoder is.
#[derive(Default)]
struct Trace {
    lines: BTreeMap<String, String>,
    path: String,
    depth: usize,
    /// Variants, by path, below which nothing is left to see.
    seen: BTreeSet<String>,
    /// Whether the place just left has variants that were not seen.
    is_pending: bool,
}

impl Trace {
    fn text(&self) -> String {
        let lines = self.lines.iter();
        lines
            .map(|(path, what)| format!("{path}: {what}\n"))
            .collect()
    }

    fn note(&mut self, what: &str) {
        self.lines.insert(self.path.clone(), what.to_string());
    }

    /// Decodes something one step further in.
    fn inside<R>(
        &mut self,
        step: &str,
        f: impl FnOnce(&mut Self) -> Result<R, Untraceable>,
    ) -> Result<R, Untraceable> {
        if self.depth == MAX_DEPTH {
            return Err(Untraceable(format!("nested too deeply: {}", self.path)));
        }
        let length = self.path.len();
        self.path.push_str(step);
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        self.path.truncate(length);
        result
    }

    /// Decodes one of the variants of an enum, preferably one that was not seen.
    fn variant<R>(
        &mut self,
        names: &'static [&'static str],
        f: impl FnOnce(&mut Self, u32) -> Result<R, Untraceable>,
    ) -> Result<R, Untraceable> {
        let path = |trace: &Trace, name: &str| format!("{}::{name}", trace.path);
        let was_pending = self.is_pending;
        let next = names
            .iter()
            .position(|name| !self.seen.contains(&path(self, name)))
            .unwrap_or(0);
        let name = *names
            .get(next)
            .ok_or_else(|| Untraceable("an enum without variants".to_string()))?;
        self.is_pending = false;
        let result = self.inside(&format!("::{name}"), |trace| f(trace, next as u32))?;
        if !self.is_pending {
            self.seen.insert(path(self, name));
        }
        let is_done = names
            .iter()
            .all(|name| self.seen.contains(&path(self, name)));
        self.is_pending = was_pending || !is_done;
        Ok(result)
    }
}

/// Answers with a fixed value of a primitive type.
macro_rules! primitives {
    ($($method:ident $visit:ident $value:expr, $what:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untraceable> {
            self.note($what);
            visitor.$visit($value)
        })*
    };
}

impl<'de> Deserializer<'de> for &mut Trace {
    type Error = Untraceable;

    primitives! {
        deserialize_bool visit_bool true, "bool";
        deserialize_i8 visit_i8 1, "i8";
        deserialize_i16 visit_i16 1, "i16";
        deserialize_i32 visit_i32 1, "i32";
        deserialize_i64 visit_i64 1, "i64";
        deserialize_i128 visit_i128 1, "i128";
        deserialize_u8 visit_u8 1, "u8";
        deserialize_u16 visit_u16 1, "u16";
        deserialize_u32 visit_u32 1, "u32";
        deserialize_u64 visit_u64 1, "u64";
        deserialize_u128 visit_u128 1, "u128";
        deserialize_f32 visit_f32 1.0, "f32";
        deserialize_f64 visit_f64 1.0, "f64";
        deserialize_char visit_char 'a', "char";
        deserialize_str visit_str "", "str";
        deserialize_string visit_str "", "str";
        deserialize_bytes visit_bytes &[], "bytes";
        deserialize_byte_buf visit_bytes &[], "bytes";
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Untraceable> {
        Err(Untraceable("a type that asks the format".to_string()))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untraceable> {
        self.deserialize_any(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untraceable> {
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untraceable> {
        self.note("option");
        self.inside("?", |trace| visitor.visit_some(trace))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untraceable> {
        self.note("unit");
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Untraceable> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Untraceable> {
        // Postcard writes what is in it, as if it stood there alone.
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untraceable> {
        self.note("sequence");
        visitor.visit_seq(Steps::new(self, vec!["[]".to_string()]))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Untraceable> {
        self.note(&format!("tuple of {length}"));
        let steps = (0..length).map(|place| format!(".{place}")).collect();
        visitor.visit_seq(Steps::new(self, steps))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Untraceable> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untraceable> {
        self.note("map");
        let steps = vec!["[key]".to_string(), "[value]".to_string()];
        visitor.visit_map(Steps::new(self, steps))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Untraceable> {
        self.note(&format!("struct {{ {} }}", fields.join(", ")));
        let steps = fields.iter().map(|field| format!(".{field}")).collect();
        visitor.visit_seq(Steps::new(self, steps))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Untraceable> {
        self.note(&format!("enum {{ {} }}", variants.join(", ")));
        self.variant(variants, |trace, index| {
            visitor.visit_enum(Variant { trace, index })
        })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Parts that follow each other.
struct Steps<'a> {
    trace: &'a mut Trace,
    steps: vec::IntoIter<String>,
}

impl<'a> Steps<'a> {
    fn new(trace: &'a mut Trace, steps: vec::Vec<String>) -> Self {
        let steps = steps.into_iter();
        Steps { trace, steps }
    }

    fn next<'de, T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Untraceable> {
        let Some(step) = self.steps.next() else {
            return Ok(None);
        };
        let decode = |trace: &mut Trace| seed.deserialize(trace);
        self.trace.inside(&step, decode).map(Some)
    }
}

impl<'de> SeqAccess<'de> for Steps<'_> {
    type Error = Untraceable;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Untraceable> {
        self.next(seed)
    }
}

impl<'de> MapAccess<'de> for Steps<'_> {
    type Error = Untraceable;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Untraceable> {
        self.next(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Untraceable> {
        let value = self.next(seed)?;
        value.ok_or_else(|| Untraceable("a value without a key".to_string()))
    }
}

/// The variant that this pass takes.
struct Variant<'a> {
    trace: &'a mut Trace,
    index: u32,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Untraceable;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), Untraceable> {
        let index: U32Deserializer<Untraceable> = self.index.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Untraceable;

    fn unit_variant(self) -> Result<(), Untraceable> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, Untraceable> {
        seed.deserialize(self.trace)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Untraceable> {
        self.trace.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Untraceable> {
        self.trace.deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::num::NonZeroU32;

    use serde::{Deserialize, Serialize};

    use super::of;

    #[derive(Serialize, Deserialize)]
    enum Inner {
        Nothing,
        One(u8),
        Two(u8, Option<Colour>),
        Named { left: Colour, right: Colour },
    }

    #[derive(Serialize, Deserialize)]
    enum Colour {
        Red,
        Green(NonZeroU32),
    }

    #[derive(Serialize, Deserialize)]
    struct Outer {
        map: BTreeMap<u64, Vec<Inner>>,
        text: String,
    }

    #[test]
    fn all_variants_of_all_enums_are_seen() {
        let expected = "\
: struct { map, text }
.map: map
.map[key]: u64
.map[value]: sequence
.map[value][]: enum { Nothing, One, Two, Named }
.map[value][]::Named: struct { left, right }
.map[value][]::Named.left: enum { Red, Green }
.map[value][]::Named.left::Green: u32
.map[value][]::Named.right: enum { Red, Green }
.map[value][]::Named.right::Green: u32
.map[value][]::One: u8
.map[value][]::Two: tuple of 2
.map[value][]::Two.0: u8
.map[value][]::Two.1: option
.map[value][]::Two.1?: enum { Red, Green }
.map[value][]::Two.1?::Green: u32
.text: str
";
        assert_eq!(of::<Outer>().unwrap(), expected);
    }

    /// A shape differs from another one whenever the bytes would be read differently.
    #[test]
    fn every_change_of_the_layout_shows() {
        #[derive(Serialize, Deserialize)]
        struct Base {
            a: u32,
            b: u32,
        }
        #[derive(Serialize, Deserialize)]
        struct Swapped {
            b: u32,
            a: u32,
        }
        #[derive(Serialize, Deserialize)]
        struct Wider {
            a: u64,
            b: u32,
        }
        #[derive(Serialize, Deserialize)]
        struct Longer {
            a: u32,
            b: u32,
            c: (),
        }
        #[derive(Serialize, Deserialize)]
        struct Fixed {
            #[serde(with = "postcard::fixint::le")]
            a: u32,
            b: u32,
        }
        #[derive(Serialize, Deserialize)]
        struct SameUnderAnotherName {
            a: u32,
            b: u32,
        }
        let shapes = [
            of::<Base>().unwrap(),
            of::<Swapped>().unwrap(),
            of::<Wider>().unwrap(),
            of::<Longer>().unwrap(),
            of::<Fixed>().unwrap(),
        ];
        for (place, shape) in shapes.iter().enumerate() {
            assert!(!shapes[..place].contains(shape), "{shape}");
        }
        assert_eq!(shapes[0], of::<SameUnderAnotherName>().unwrap());
    }

    #[test]
    fn a_type_that_contains_itself_is_refused() {
        #[derive(Serialize, Deserialize)]
        struct Chain(Option<Box<Chain>>);
        assert!(of::<Chain>().is_err());
    }
}
