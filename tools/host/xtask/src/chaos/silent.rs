//! Faults that nobody is told of: lists of them, made from the programs of the services.
//!
//! The classes are those of MINIX 3's `swifi`: mistakes of programmers, put into the code, and bits
//! that are wrong in it; besides, bits that are wrong in each part of a service's memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::profile::image::Image;

mod mutation;
mod random;

use mutation::{CODE_CLASSES, Change, changes};
use random::Random;

/// Parts of memory in which bits are turned over, as `siege` calls them.
pub(crate) const AREAS: [&str; 4] = ["data", "stack", "heap", "state"];
/// Places that a fault in code has to choose from: the first one that is executed gets it.
const PLACES: usize = 40;

/// The code of all services that are besieged.
#[derive(Debug)]
pub(crate) struct Programs {
    /// The workspace's folder.
    root: PathBuf,
    images: BTreeMap<String, Vec<u8>>,
}

/// Changes of a service, by class.
type Known = BTreeMap<&'static str, Vec<Change>>;

impl Programs {
    /// Reads the programs with these names.
    pub(crate) fn read(root: &Path, files: &[PathBuf], names: &[String]) -> anyhow::Result<Self> {
        let mut images = BTreeMap::new();
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            if names.iter().any(|known| *known == name) {
                let bytes = fs::read(file).with_context(|| file.display().to_string())?;
                images.insert(name.into_owned(), bytes);
            }
        }
        Ok(Self {
            root: root.to_owned(),
            images,
        })
    }

    /// Returns a list of faults for each seed and number: classes in turn, services in turn.
    pub(crate) fn lists(&self, wanted: &[(u64, u32)]) -> anyhow::Result<Vec<String>> {
        let mut known: BTreeMap<&str, Known> = BTreeMap::new();
        for (name, bytes) in &self.images {
            let image = Image::parse(name, bytes, &self.root)?;
            known.insert(name, all_changes(&image));
        }
        let list = |(seed, count): &(u64, u32)| list(&known, *seed, *count);
        Ok(wanted.iter().map(list).collect())
    }

    /// Returns function and line of an address of a service.
    pub(crate) fn place(&self, service: &str, address: u64) -> Option<String> {
        let image = Image::parse(service, self.images.get(service)?, &self.root).ok()?;
        image.instruction(address)?;
        let frames = image.frames(address).ok()?;
        let line = frames
            .iter()
            .find(|frame| frame.is_ours)
            .or_else(|| frames.first())
            .and_then(|frame| frame.place.clone());
        Some(format!(
            "{} ({})",
            image.symbol(address),
            line.unwrap_or_else(|| "no line".to_owned())
        ))
    }
}

fn all_changes(image: &Image<'_>) -> Known {
    let mut known = Known::new();
    for (class, change) in image.functions().flat_map(|code| changes(&code)) {
        known.entry(class).or_default().push(change);
    }
    known
}

/// Makes a list: a line for each fault, then one for each place that it may have.
fn list(known: &BTreeMap<&str, Known>, seed: u64, count: u32) -> String {
    let mut random = Random::new(seed);
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for (service, changes) in known {
        let of_code = CODE_CLASSES
            .iter()
            .filter(|class| changes.contains_key(*class));
        let classes = of_code.chain(&AREAS);
        pairs.extend(classes.map(|class| (*service, *class)));
    }
    let mut deck: Vec<(&str, &str)> = Vec::new();
    let mut text = String::new();
    for _ in 0..count {
        if deck.is_empty() {
            deck.clone_from(&pairs);
            random.shuffle(&mut deck);
        }
        let Some((service, class)) = deck.pop() else {
            break;
        };
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(text, "{service} {class}");
        let places = known[service].get(class).map_or(&[][..], Vec::as_slice);
        for _ in 0..PLACES.min(places.len()) {
            let change = &places[random.below(places.len())];
            let _ = writeln!(text, "{change}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_each_class_of_each_service_once_before_any_comes_again() {
        let change = Change {
            address: 0x40_1000,
            old: vec![0x74, 5],
            new: vec![0x75, 5],
        };
        let code = Known::from([("branch", vec![change])]);
        let known = BTreeMap::from([("log", code.clone()), ("vfs", code)]);
        let text = list(&known, 3, 20);
        let heads: Vec<&str> = text
            .lines()
            .filter(|line| line.split(' ').count() == 2)
            .collect();
        assert_eq!(heads.len(), 20);
        for round in heads.chunks(10) {
            let mut round = round.to_vec();
            round.sort_unstable();
            round.dedup();
            assert_eq!(round.len(), 10);
        }
        assert!(text.contains("branch\n401000 7405 7505\n"), "{text}");
        assert_eq!(list(&known, 3, 20), text);
        assert_ne!(list(&known, 4, 20), text);
    }
}
