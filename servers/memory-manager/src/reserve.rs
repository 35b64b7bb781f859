//! The last frames, which are for those who have little.
//!
//! Frames are promised to nobody: a program can touch as many pages as there are. Were it to get the
//! last one, whoever touched a page next would be ended in its place. So who has much already gets
//! none of the last frames, and all others, the services among them, go on with these.

/// One frame of so many is among the last.
const LAST_OF: u64 = 16;
/// Who has one frame of so many has much: more than the heaps that services may have.
const MUCH_OF: u64 = 4;

/// Returns whether somebody who has `held` of `total` frames may take `wanted` more when `free` are
/// free.
pub const fn may_take(total: u64, free: u64, held: u64, wanted: u64) -> bool {
    free.saturating_sub(wanted) >= total / LAST_OF || held.saturating_add(wanted) <= total / MUCH_OF
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::may_take;

    #[test]
    fn the_last_frames_are_for_those_who_have_little() {
        assert!(may_take(1600, 101, 1499, 1));
        assert!(!may_take(1600, 100, 1500, 1));
        assert!(may_take(1600, 1, 399, 1));
        assert!(!may_take(1600, 1, 400, 1));
    }

    proptest! {
        #[test]
        fn one_alone_leaves_some(total in 16..1_000_000_u64, wanted in 1..100_u64) {
            let mut held = 0;
            while held + wanted <= total && may_take(total, total - held, held, wanted) {
                held += wanted;
            }
            prop_assert!(total - held >= total / 16);
        }
    }
}
