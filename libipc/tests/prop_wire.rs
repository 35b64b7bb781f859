//! The wire format is postcard's for types whose long integers are all marked as fixed.

use std::collections::BTreeMap;

use libipc::wire::{ByteVec, Bytes, decode, encode};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// A type as interfaces have them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Plain {
    small: (u8, i8, u16, i16),
    long: (u32, i32, u64, i64),
    longest: (u128, i128),
    is_set: bool,
    letter: char,
    name: String,
    nested: Nested,
    many: Vec<Nested>,
    perhaps: Option<u64>,
    map: BTreeMap<u32, String>,
    unit: (),
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum Nested {
    Unit,
    New(u32),
    Tuple(u64, bool),
    Struct { a: i64, b: Option<u8> },
}

/// A number as postcard writes it when told to write it in full.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct U32(#[serde(with = "postcard::fixint::le")] u32);
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct I32(#[serde(with = "postcard::fixint::le")] i32);
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct U64(#[serde(with = "postcard::fixint::le")] u64);
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct I64(#[serde(with = "postcard::fixint::le")] i64);
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct U128(#[serde(with = "postcard::fixint::le")] u128);
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct I128(#[serde(with = "postcard::fixint::le")] i128);

/// The same type with marks.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Marked {
    small: (u8, i8, u16, i16),
    long: (U32, I32, U64, I64),
    longest: (U128, I128),
    is_set: bool,
    letter: char,
    name: String,
    nested: MarkedNested,
    many: Vec<MarkedNested>,
    perhaps: Option<U64>,
    map: BTreeMap<U32, String>,
    unit: (),
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum MarkedNested {
    Unit,
    New(U32),
    Tuple(U64, bool),
    Struct { a: I64, b: Option<u8> },
}

impl From<Nested> for MarkedNested {
    fn from(nested: Nested) -> Self {
        match nested {
            Nested::Unit => MarkedNested::Unit,
            Nested::New(a) => MarkedNested::New(U32(a)),
            Nested::Tuple(a, b) => MarkedNested::Tuple(U64(a), b),
            Nested::Struct { a, b } => MarkedNested::Struct { a: I64(a), b },
        }
    }
}

impl From<Plain> for Marked {
    fn from(plain: Plain) -> Self {
        let (a, b, c, d) = plain.long;
        Marked {
            small: plain.small,
            long: (U32(a), I32(b), U64(c), I64(d)),
            longest: (U128(plain.longest.0), I128(plain.longest.1)),
            is_set: plain.is_set,
            letter: plain.letter,
            name: plain.name,
            nested: plain.nested.into(),
            many: plain.many.into_iter().map(Into::into).collect(),
            perhaps: plain.perhaps.map(U64),
            map: plain
                .map
                .into_iter()
                .map(|(key, value)| (U32(key), value))
                .collect(),
            unit: (),
        }
    }
}

fn nested() -> impl Strategy<Value = Nested> {
    prop_oneof![
        Just(Nested::Unit),
        any::<u32>().prop_map(Nested::New),
        any::<(u64, bool)>().prop_map(|(a, b)| Nested::Tuple(a, b)),
        any::<(i64, Option<u8>)>().prop_map(|(a, b)| Nested::Struct { a, b }),
    ]
}

prop_compose! {
    fn plain()(
        small in any::<(u8, i8, u16, i16)>(),
        long in any::<(u32, i32, u64, i64)>(),
        longest in any::<(u128, i128)>(),
        is_set: bool,
        letter: char,
        name in ".{0,200}",
        (nested, many) in (nested(), vec(nested(), 0..5)),
        perhaps in option::of(any::<u64>()),
        map in btree_map(any::<u32>(), ".{0,9}", 0..4),
    ) -> Plain {
        Plain { small, long, longest, is_set, letter, name, nested, many, perhaps, map, unit: () }
    }
}

proptest! {
    #[test]
    fn bytes_are_those_of_postcard(value in plain()) {
        let mut buffer = [0; 4096];
        let used = encode(&value, &mut buffer).unwrap();
        let expected = postcard::to_allocvec(&Marked::from(value.clone())).unwrap();
        prop_assert_eq!(&buffer[..used], &expected);
        prop_assert_eq!(decode::<Plain>(&buffer[..used]), Some(value));
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused(value in plain()) {
        let mut buffer = [0; 4096];
        let used = encode(&value, &mut buffer).unwrap();
        for end in 0..used {
            prop_assert_eq!(decode::<Plain>(&buffer[..end]), None);
            prop_assert!(encode(&value, &mut [0; 4096][..end]).is_err());
        }
        prop_assert_eq!(decode::<Plain>(&buffer[..=used]), None);
    }

    #[test]
    fn any_bytes_are_read_as_postcard_reads_them(bytes in vec(any::<u8>(), 0..120)) {
        let expected = match postcard::take_from_bytes::<Marked>(&bytes) {
            Ok((value, [])) => Some(value),
            _ => None,
        };
        prop_assert_eq!(decode::<Plain>(&bytes).map(Marked::from), expected);
    }

    #[test]
    fn short_numbers_are_read_as_postcard_reads_them(bytes in vec(any::<u8>(), 0..6)) {
        fn reference<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Option<T> {
            match postcard::take_from_bytes(bytes) {
                Ok((value, [])) => Some(value),
                _ => None,
            }
        }
        prop_assert_eq!(decode::<u16>(&bytes), reference(&bytes));
        prop_assert_eq!(decode::<i16>(&bytes), reference(&bytes));
        prop_assert_eq!(decode::<Vec<bool>>(&bytes), reference(&bytes));
        prop_assert_eq!(decode::<String>(&bytes), reference(&bytes));
        // postcard itself reads the first of several characters and forgets the others.
        let text: Option<String> = reference(&bytes);
        let letter = text.and_then(|text| text.parse::<char>().ok());
        prop_assert_eq!(decode::<char>(&bytes), letter);
        prop_assert_eq!(
            decode::<Nested>(&bytes).map(MarkedNested::from),
            reference(&bytes)
        );
    }

    #[test]
    fn bytes_are_read_as_they_were_written(bytes in vec(any::<u8>(), 0..400)) {
        let mut buffer = [0; 4096];
        let used = encode(&Bytes(&bytes), &mut buffer).unwrap();
        prop_assert_eq!(decode::<ByteVec>(&buffer[..used]), Some(ByteVec(bytes)));
    }
}
