//! What is done about a service that crashes again and again, beyond starting it.
//!
//! The steps, each taken when those before it did not help: start it again (which resets the
//! device of a driver); let the kernel fail a request that crashed two instances (it does so by
//! itself); go back to the version before a swap; start with fresh state. What is left after that
//! is the delay between restarts, which grows to its bound.
//!
//! A version that ran for the quiet time of its manifest has proved itself: from then on a crash
//! loop is no reason to go back.

use serde::{Deserialize, Serialize};

/// Crashes in a row from which on the version before a swap is tried: a request that crashes every
/// instance has been failed by then.
const CRASHES_BEFORE_PREVIOUS: u32 = 3;
/// Crashes in a row from which on the state itself is suspected.
const CRASHES_BEFORE_FRESH: u32 = 8;

/// What to do at the next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Just start it.
    #[default]
    Restart,
    /// Start the version before the last swap, which reads the same state.
    PreviousVersion,
    /// Start it, and swap it back as soon as it serves: it has to write its state for the version
    /// before.
    RollBack,
    /// Start it with an empty state region; say so loudly.
    FreshState,
}

/// The version before the last swap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Previous {
    /// There is none, or there is no reason to go back to it.
    #[default]
    None,
    /// It keeps its state in the same schema.
    SameSchema,
    /// It keeps its state in another schema.
    OtherSchema,
}

/// Where a service is on the ladder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ladder {
    previous: Previous,
    is_fresh: bool,
    due: Step,
}

impl Ladder {
    /// Notes a swap: what was tried before counts no more.
    pub fn swapped(&mut self, previous: Previous) {
        *self = Ladder {
            previous,
            ..Ladder::default()
        };
    }

    /// Notes that an instance ran for the quiet time.
    pub fn proved(&mut self) {
        *self = Ladder::default();
    }

    /// Notes a crash, the last of so many in a row.
    pub fn crashed(&mut self, in_row: u32) {
        if in_row < CRASHES_BEFORE_PREVIOUS {
            return;
        }
        if !self.go_back() && in_row >= CRASHES_BEFORE_FRESH && !self.is_fresh {
            self.is_fresh = true;
            self.due = Step::FreshState;
        }
    }

    /// Notes that an instance was ended because its replies could not be true. A version that has
    /// not proved itself gives way at once: it would not get better by being started again. State
    /// is kept, as the caller may be wrong.
    pub fn reported(&mut self) {
        self.go_back();
    }

    /// Has the version before a swap come back; returns whether there is one.
    fn go_back(&mut self) -> bool {
        self.due = match core::mem::take(&mut self.previous) {
            Previous::SameSchema => Step::PreviousVersion,
            Previous::OtherSchema => Step::RollBack,
            Previous::None => return false,
        };
        true
    }

    /// Returns what to do at a start, once.
    pub fn take(&mut self) -> Step {
        core::mem::take(&mut self.due)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps(ladder: &mut Ladder, crashes: u32) -> Vec<Step> {
        (1..=crashes)
            .map(|in_row| {
                ladder.crashed(in_row);
                ladder.take()
            })
            .collect()
    }

    #[test]
    fn a_version_that_crashes_after_a_swap_gives_way_to_the_one_before() {
        let mut ladder = Ladder::default();
        ladder.swapped(Previous::SameSchema);
        let taken = steps(&mut ladder, 12);
        assert_eq!(
            taken[..3],
            [Step::Restart, Step::Restart, Step::PreviousVersion]
        );
        assert_eq!(taken[7], Step::FreshState);
        let last_steps = taken.iter().filter(|step| **step != Step::Restart);
        assert_eq!(last_steps.count(), 2);
    }

    #[test]
    fn another_schema_takes_a_swap_back() {
        let mut ladder = Ladder::default();
        ladder.swapped(Previous::OtherSchema);
        assert_eq!(steps(&mut ladder, 3)[2], Step::RollBack);
    }

    #[test]
    fn a_version_whose_replies_cannot_be_true_gives_way_at_once_and_state_is_kept() {
        for (previous, step) in [
            (Previous::SameSchema, Step::PreviousVersion),
            (Previous::OtherSchema, Step::RollBack),
        ] {
            let mut ladder = Ladder::default();
            ladder.swapped(previous);
            let taken = [(); 20].map(|()| {
                ladder.reported();
                ladder.take()
            });
            assert_eq!(taken[0], step);
            assert_eq!(taken[1..], [Step::Restart; 19]);
        }
    }

    #[test]
    fn a_version_that_has_proved_itself_is_kept() {
        let mut ladder = Ladder::default();
        ladder.swapped(Previous::SameSchema);
        ladder.proved();
        assert!(!steps(&mut ladder, 20).contains(&Step::PreviousVersion));
    }

    proptest! {
        /// Versions never go back and forth, and state is thrown away at most once in a row and
        /// never before eight crashes.
        #[test]
        fn each_step_is_taken_once(rows in prop::collection::vec((0_u32..20, 0_usize..3), 0..20)) {
            let mut ladder = Ladder::default();
            for (crashes, previous) in rows {
                ladder.swapped([Previous::None, Previous::SameSchema, Previous::OtherSchema][previous]);
                let taken = steps(&mut ladder, crashes);
                let count = |step| taken.iter().filter(|taken| **taken == step).count();
                prop_assert!(count(Step::PreviousVersion) + count(Step::RollBack) <= 1);
                prop_assert!(count(Step::FreshState) <= 1);
                prop_assert!(!taken.iter().take(7).any(|step| *step == Step::FreshState));
            }
        }
    }
}
