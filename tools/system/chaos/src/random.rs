//! Chance that a seed repeats.

/// The xorshift64* generator (Vigna 2016).
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts the row of numbers that belongs to a seed.
    pub fn new(seed: u64) -> Self {
        // The generator stands still at 0; the odd factor keeps small seeds apart.
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The low bits of the product are the weaker ones.
        (self.number() >> 16).checked_rem(bound).unwrap_or(0)
    }

    /// Puts items into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let place = self.below(end as u64 + 1) as usize;
            items.swap(end, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Random;

    #[test]
    fn nothing_is_below_zero() {
        assert_eq!(Random::new(1).below(0), 0);
    }

    proptest! {
        #[test]
        fn numbers_stay_below_their_bound(seed in any::<u64>(), bound in 1..u64::MAX) {
            prop_assert!(Random::new(seed).below(bound) < bound);
        }

        #[test]
        fn shuffling_keeps_every_item(seed in any::<u64>(), count in 0..50_usize) {
            let mut items: Vec<usize> = (0..count).collect();
            Random::new(seed).shuffle(&mut items);
            items.sort_unstable();
            prop_assert_eq!(items, (0..count).collect::<Vec<_>>());
        }
    }
}
