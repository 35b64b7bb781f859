//! Conversion between counter ticks and nanoseconds by one multiplication and one shift.

/// Converts ticks of a counter with a known frequency.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    multiplier: u64,
    inverse: u64,
}

const SHIFT: u32 = 32;
const NS_PER_MS: u64 = 1_000_000;

impl Scale {
    /// Makes the scale of a counter with `ticks_per_ms` ticks in a millisecond (at least 1).
    pub const fn from_ticks_per_ms(ticks_per_ms: u64) -> Scale {
        let ticks = if ticks_per_ms == 0 { 1 } else { ticks_per_ms };
        Scale {
            multiplier: (((NS_PER_MS as u128) << SHIFT) / ticks as u128) as u64,
            inverse: (((ticks as u128) << SHIFT) / NS_PER_MS as u128) as u64,
        }
    }

    /// Returns what ticks are multiplied with, and by how many bits the product is then shifted
    /// right, for others who convert in the same way.
    pub const fn parts(self) -> (u64, u32) {
        (self.multiplier, SHIFT)
    }

    /// Converts ticks to nanoseconds, rounded down.
    pub const fn to_ns(self, ticks: u64) -> u64 {
        ((ticks as u128 * self.multiplier as u128) >> SHIFT) as u64
    }

    /// Converts nanoseconds to ticks, rounded down; huge spans saturate.
    pub const fn to_ticks(self, ns: u64) -> u64 {
        let ticks = (ns as u128 * self.inverse as u128) >> SHIFT;
        if ticks > u64::MAX as u128 {
            u64::MAX
        } else {
            ticks as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Scale;

    #[test]
    fn one_gigahertz_is_the_identity() {
        let scale = Scale::from_ticks_per_ms(1_000_000);
        assert_eq!(scale.to_ns(123_456_789), 123_456_789);
        assert_eq!(scale.to_ticks(123_456_789), 123_456_789);
    }

    proptest! {
        #[test]
        fn error_stays_below_a_millionth(ticks_per_ms in 1_000_u64..10_000_000, ms in 1_u64..10_000_000) {
            let scale = Scale::from_ticks_per_ms(ticks_per_ms);
            let exact = u128::from(ms) * 1_000_000;
            let got = u128::from(scale.to_ns(ms * ticks_per_ms));
            prop_assert!(got <= exact && exact - got <= exact / 1_000_000 + 1);
        }
    }
}
