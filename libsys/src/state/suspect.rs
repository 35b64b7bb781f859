//! What a server does when its memory holds what cannot be.

use core::cell::Cell;

use super::half::Half;
use super::recover::recover;
use super::{Region, Report, State, StateMemory, counting_half, encode, schema};

/// Of how many suspicions one is looked into after the first: looking takes as long as a restart,
/// and a client could ask for nonsense all day.
const LOOK_EVERY: u32 = 64;

/// How often something was suspicious.
#[derive(Debug, Default)]
pub(super) struct Suspicions(Cell<u32>);

impl Suspicions {
    /// Counts one and returns whether to look into it.
    fn count(&self) -> bool {
        let count = self.0.get();
        self.0.set(count.wrapping_add(1));
        count.is_multiple_of(LOOK_EVERY)
    }
}

impl<S: State, M: StateMemory> Region<S, M> {
    /// Looks whether the state is still what the region says, because of something that is there
    /// or missing: the first time and then once in a while.
    ///
    /// # Panics
    ///
    /// When it is not: bits have flipped in the heap, or something wrote there. The next instance
    /// is made from the region and gets the request again. If the region says the same as the
    /// state, then it is the client that is wrong or the region was damaged before, and nothing
    /// is gained by dying.
    pub fn suspect(&self, what: &str) {
        if self.suspicions.count() {
            assert!(
                self.is_as_kept(),
                "memory is damaged: {what}, but the region knows better"
            );
        }
    }

    /// Changes the state behind the region's back, as a flipped bit in the heap does.
    #[cfg(any(test, feature = "fake"))]
    pub fn corrupt(&mut self, change: impl FnOnce(&mut S)) {
        change(&mut self.state);
    }

    /// Returns whether the state is the one that the next instance would find. Where it would not
    /// find all, that is no reason to become it.
    fn is_as_kept(&self) -> bool {
        if self.memory.is_volatile() || self.is_exported {
            return true;
        }
        let mut report = Report::default();
        let kept = self.read_again(&mut report);
        let is_complete = !report.has_losses();
        match (kept.as_ref().map(encode), encode(&self.state)) {
            (Some(Ok(kept)), Ok(own)) if is_complete => kept == own,
            _ => true,
        }
    }

    /// Reads the region as the next instance would.
    fn read_again(&self, report: &mut Report) -> Option<S> {
        let mut half: Half = counting_half(&self.memory, report)?;
        let (header, _) = half.header(&self.memory)?;
        let found = schema::Found {
            memory: &self.memory,
            half: &mut half,
            header,
            may_fall_back: true,
        };
        recover(found, report)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::LOOK_EVERY;
    use crate::state::fake::FakeMemory;
    use crate::state::tests::{Row, TestRegion};
    use crate::state::{MIN_REGION_BYTES, Purpose};

    fn region() -> TestRegion {
        let (mut region, _) = TestRegion::open(FakeMemory::new(MIN_REGION_BYTES)).unwrap();
        for key in 0..3 {
            region
                .append(Row::Put(key, vec![key; 8]), Purpose::Grow)
                .unwrap();
        }
        region
    }

    #[test]
    fn a_state_like_the_region_is_no_reason_to_die() {
        region().suspect("nothing");
    }

    #[test]
    fn a_state_unlike_the_region_is() {
        let mut region = region();
        region.corrupt(|table| table.rows.get_mut(&1).unwrap()[3] ^= 4);
        let result = catch_unwind(AssertUnwindSafe(|| region.suspect("a row")));
        assert!(result.is_err());
        // Not each time: a client must not be able to keep a server busy with it.
        for _ in 1..LOOK_EVERY {
            region.suspect("a row");
        }
        assert!(catch_unwind(AssertUnwindSafe(|| region.suspect("a row"))).is_err());
    }

    #[test]
    fn a_region_that_has_lost_something_is_not_trusted_more() {
        let mut region = region();
        let place = crate::state::tests::damage::position(&region.memory, &[1; 8]);
        region.memory.damage(place, 0xff);
        region.corrupt(|table| table.rows.clear());
        region.suspect("a row");
    }
}
