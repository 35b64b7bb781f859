//! A note of what a server is about to do, which costs two stores.

use super::crc32c::crc32c_of_word;
use super::{MARK_AT, Region, State, StateMemory, word};

/// Set in the first word of a mark.
const IS_SET: u64 = 1 << 63;

impl<S: State, M: StateMemory> Region<S, M> {
    /// Notes that the server is about to do something with number and key, such as to take an
    /// entry of a ring. The note is no part of the state: it is there until [`Region::is_done`],
    /// also for the next instance, whatever the version.
    pub fn about_to(&mut self, number: u32, key: u64) {
        if self.memory.is_volatile() {
            return;
        }
        self.memory.commit(MARK_AT + 8, key);
        self.memory.commit(MARK_AT, first_word(number, key));
    }

    /// Takes the note back.
    pub fn is_done(&mut self) {
        if !self.memory.is_volatile() {
            self.memory.commit(MARK_AT, 0);
        }
    }

    /// Returns number and key of what was begun and is not done: asked first of all, what an
    /// earlier instance died over. A damaged note counts as none.
    pub fn interrupted(&self) -> Option<(u32, u64)> {
        let (first, key) = (word(&self.memory, MARK_AT), word(&self.memory, MARK_AT + 8));
        let number = first as u32;
        (first == first_word(number, key)).then_some((number, key))
    }
}

/// Returns the mark, 31 bits of a checksum, and the number.
fn first_word(number: u32, key: u64) -> u64 {
    let checksum = crc32c_of_word(number, key);
    IS_SET | u64::from(checksum) << 32 | u64::from(number)
}

#[cfg(test)]
mod tests {
    use crate::state::fake::FakeMemory;
    use crate::state::tests::TestRegion;
    use crate::state::{MARK_AT, MIN_REGION_BYTES};

    #[test]
    fn what_was_begun_is_found_by_the_next_instance() {
        let (mut region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
        assert_eq!(region.interrupted(), None);
        region.about_to(7, 1 << 40);
        let (region, _) = TestRegion::open(region.into_memory().survivor()).unwrap();
        assert_eq!(region.interrupted(), Some((7, 1 << 40)));
        let mut damaged = region.memory().survivor();
        damaged.damage(MARK_AT + 8, 1);
        let (region, _) = TestRegion::open(damaged).unwrap();
        assert_eq!(region.interrupted(), None);
    }

    #[test]
    fn a_note_is_there_or_not_wherever_its_writer_dies() {
        let notes = |limit| {
            let (region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
            let memory = region.into_memory().dying_after(limit);
            let (mut region, _) = TestRegion::open(memory).unwrap();
            region.about_to(1, 10);
            region.is_done();
            region.about_to(2, 20);
            let (found, _) = TestRegion::open(region.into_memory().survivor()).unwrap();
            found.interrupted()
        };
        let (first, second) = (Some((1, 10)), Some((2, 20)));
        assert_eq!(
            (0..=5).map(notes).collect::<Vec<_>>(),
            [None, None, first, None, None, second]
        );
    }
}
