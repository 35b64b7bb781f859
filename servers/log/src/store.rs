//! The state region: a slot for each service.

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use libsys::gate;
use libsys::service::Trouble;

use crate::slot::{SLOT_BYTES, SLOT_WORDS, Slot};

/// Most services whose lines are kept.
pub const MAX_SERVICES: usize = 30;
/// Words at the start of the region.
pub const REGION_WORDS: usize = 8 + MAX_SERVICES * SLOT_WORDS;
/// Bytes of the region, words included.
pub const REGION_BYTES: usize = REGION_WORDS * 8 + MAX_SERVICES * SLOT_BYTES;

/// The schema of the region, which marks it. Change the name when the words of a slot or the
/// bytes of a line mean something else.
pub const SCHEMA: u64 = libsys::state::layout_hash(
    "log.1",
    &[MAX_SERVICES as u64, SLOT_WORDS as u64, SLOT_BYTES as u64],
);

/// The lines of all services.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    words: &'a [AtomicU64],
    data: &'a [AtomicU8],
}

impl<'a> Store<'a> {
    /// Opens the region; one that holds something else is emptied. `None` when it is too small.
    pub fn open(words: &'a [AtomicU64], data: &'a [AtomicU8]) -> Option<Self> {
        let store = Store {
            words: words.get(..REGION_WORDS)?,
            data: data.get(..MAX_SERVICES * SLOT_BYTES)?,
        };
        let found = store.words[0].load(Ordering::Acquire);
        if found != SCHEMA {
            if found != 0 && gate::is_trial() {
                gate::fail(Trouble::UnknownSchema);
            }
            for word in store.words {
                word.store(0, Ordering::Release);
            }
            store.words[0].store(SCHEMA, Ordering::Release);
        }
        Some(store)
    }

    fn slots(&self) -> impl Iterator<Item = Slot<'a>> + use<'a> {
        let words = self.words[8..].chunks_exact(SLOT_WORDS);
        words
            .zip(self.data.chunks_exact(SLOT_BYTES))
            .map(|(words, data)| Slot::new(words, data))
    }

    /// Returns the slot of a service.
    pub fn find(&self, name: &str) -> Option<Slot<'a>> {
        self.slots()
            .find(|slot| slot.name().as_deref() == Some(name.as_bytes()))
    }

    /// Returns the slot of a service, a new one if it has none; `None` when all are taken.
    pub fn find_or_start(&self, name: &str) -> Option<Slot<'a>> {
        self.find(name).or_else(|| {
            let slot = self.slots().find(|slot| slot.name().is_none())?;
            slot.start(name.as_bytes());
            Some(slot)
        })
    }

    /// Returns the names of all services that have a slot.
    pub fn names(&self) -> Vec<String> {
        self.slots()
            .filter_map(|slot| slot.name())
            .map(|name| String::from_utf8_lossy(&name).into_owned())
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use core::sync::atomic::{AtomicU8, AtomicU64};

    use proptest::prelude::*;

    use super::{MAX_SERVICES, REGION_WORDS, Store};
    use crate::slot::{Line, SLOT_BYTES};

    pub(crate) struct Region {
        pub(crate) words: Vec<AtomicU64>,
        pub(crate) data: Vec<AtomicU8>,
    }

    impl Region {
        pub(crate) fn new() -> Self {
            Region {
                words: (0..REGION_WORDS).map(|_| AtomicU64::new(0)).collect(),
                data: (0..MAX_SERVICES * SLOT_BYTES)
                    .map(|_| AtomicU8::new(0))
                    .collect(),
            }
        }
    }

    pub(crate) fn line(number: u64, text: &[u8]) -> Line {
        Line {
            time_ns: number * 10,
            level: 3,
            target: b"vfs".to_vec(),
            text: text.to_vec(),
            source: number * 100,
            number,
        }
    }

    #[test]
    fn schema_changes_only_with_the_layout() {
        assert_eq!(super::SCHEMA, 0x38607a5729bfb697);
    }

    #[test]
    fn lines_are_found_again_by_a_new_instance() {
        let region = Region::new();
        let store = Store::open(&region.words, &region.data).unwrap();
        store.find_or_start("vfs").unwrap().push(&line(1, b"one"));
        store
            .find_or_start("ext4")
            .unwrap()
            .push(&line(1, b"other"));
        let store = Store::open(&region.words, &region.data).unwrap();
        assert_eq!(store.names(), ["vfs", "ext4"]);
        let lines: Vec<_> = store.find("vfs").unwrap().lines().collect();
        assert_eq!(lines, [line(1, b"one")]);
        assert!(store.find("nobody").is_none());
    }

    #[test]
    fn a_full_store_refuses_a_further_service() {
        let region = Region::new();
        let store = Store::open(&region.words, &region.data).unwrap();
        for number in 0..MAX_SERVICES {
            assert!(store.find_or_start(&format!("service-{number}")).is_some());
        }
        assert!(store.find_or_start("one-more").is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn the_last_lines_are_kept_in_order(
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..480), 1..300),
        ) {
            let region = Region::new();
            let store = Store::open(&region.words, &region.data).unwrap();
            let slot = store.find_or_start("s").unwrap();
            for (number, text) in texts.iter().enumerate() {
                slot.push(&line(number as u64 + 1, text));
            }
            let kept: Vec<Line> = slot.lines().collect();
            let first = texts.len() - kept.len();
            for (at, kept) in kept.iter().enumerate() {
                prop_assert_eq!(kept, &line((first + at) as u64 + 1, &texts[first + at]));
            }
            prop_assert!(kept.len() == texts.len() || kept.len() >= SLOT_BYTES / 600);
        }

        #[test]
        fn a_damaged_region_never_panics(
            words in proptest::collection::vec(any::<u64>(), 1..40),
            lengths in proptest::collection::vec((0..40_000_u64, 0..40_000_u64), 1..4),
            bytes in proptest::collection::vec(any::<u8>(), 1..400),
        ) {
            let region = Region::new();
            Store::open(&region.words, &region.data).unwrap().find_or_start("s").unwrap();
            for (place, word) in region.words[9..].iter().zip(words) {
                place.store(word, core::sync::atomic::Ordering::Relaxed);
            }
            for (slot, (begin, end)) in lengths.into_iter().enumerate() {
                let first = 8 + slot * crate::slot::SLOT_WORDS;
                region.words[first].store(1, core::sync::atomic::Ordering::Relaxed);
                region.words[first + 5].store(begin, core::sync::atomic::Ordering::Relaxed);
                region.words[first + 6].store(end, core::sync::atomic::Ordering::Relaxed);
            }
            for (place, byte) in region.data.iter().zip(bytes.iter().cycle()) {
                place.store(*byte, core::sync::atomic::Ordering::Relaxed);
            }
            let store = Store::open(&region.words, &region.data).unwrap();
            for name in store.names() {
                if let Some(slot) = store.find(&name) {
                    slot.lines().count();
                    slot.push(&line(1, b"x"));
                }
            }
        }
    }
}
