//! Faults that nobody is told of: the list of them that the host makes.
//!
//! A line with two words is a fault: service and class. The lines below it, with three, are the places
//! that will do for it: address, the bytes that are there, the bytes that shall be there instead, all
//! in hexadecimal. A fault in data has no places: they are only known when the service runs.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::harm::Area;

/// Longest change of an instruction, bytes.
pub const MAX_BYTES: usize = 15;

/// Where a fault may be, in a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Address of the first byte.
    pub address: u64,
    /// What is there.
    pub old: Vec<u8>,
    /// What shall be there: as many bytes.
    pub new: Vec<u8>,
}

/// A fault to inject.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The service.
    pub service: String,
    /// What kind of mistake it imitates.
    pub class: String,
    /// Places to choose from; none for a fault in data.
    pub places: Vec<Place>,
}

impl Fault {
    /// Returns the part of memory that is named by the class, if it is none of code.
    pub fn area(&self) -> Option<Area> {
        Area::named(&self.class)
    }
}

/// Reads a list.
///
/// # Errors
///
/// Which line makes no sense.
pub fn parse(text: &str) -> Result<Vec<Fault>, String> {
    let mut faults: Vec<Fault> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let wrong = || format!("line {} of the faults: {line:?}", number + 1);
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), faults.last_mut()) {
            ([], _) => {}
            ([service, class], _) => faults.push(Fault {
                service: (*service).to_string(),
                class: (*class).to_string(),
                places: Vec::new(),
            }),
            ([address, old, new], Some(fault)) => {
                let place = place(address, old, new).ok_or_else(wrong)?;
                fault.places.push(place);
            }
            _ => return Err(wrong()),
        }
    }
    let is_empty = |fault: &&Fault| fault.area().is_none() && fault.places.is_empty();
    match faults.iter().find(is_empty) {
        Some(fault) => Err(format!("a fault of class {} has no place", fault.class)),
        None => Ok(faults),
    }
}

fn place(address: &str, old: &str, new: &str) -> Option<Place> {
    let place = Place {
        address: u64::from_str_radix(address, 16).ok()?,
        old: bytes(old)?,
        new: bytes(new)?,
    };
    let is_good = place.old.len() == place.new.len()
        && (1..=MAX_BYTES).contains(&place.old.len())
        && place.address.checked_add(MAX_BYTES as u64).is_some();
    is_good.then_some(place)
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some((digit(*high)? << 4 | digit(*low)?) as u8),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Place, parse};
    use crate::harm::Area;

    #[test]
    fn places_belong_to_the_fault_above_them() {
        let faults = parse("vfs branch\n401000 7405 7505\n40a0 90 cc\n\nlog heap\n").unwrap();
        assert_eq!(faults.len(), 2);
        assert_eq!((&*faults[0].service, &*faults[0].class), ("vfs", "branch"));
        let place = Place {
            address: 0x40_1000,
            old: vec![0x74, 5],
            new: vec![0x75, 5],
        };
        assert_eq!((&faults[0].places[0], faults[0].places.len()), (&place, 2));
        assert_eq!(faults[0].area(), None);
        assert_eq!(faults[1].area(), Some(Area::Heap));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for text in [
            "1 2 3",
            "vfs nop\n1 22 333",
            "vfs nop\n1 22 3344",
            "vfs nop\n1 x0 33",
            "vfs nop\nffffffffffffffff 90 91",
            "vfs nop",
            "vfs",
            "a b c d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-f0-9 \n]{0,60}") {
            let _ = parse(&text);
        }
    }
}
