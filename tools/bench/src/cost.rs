//! What one operation costs, without floating point.

use core::fmt;

const PARTS: u128 = 1000;

/// Ticks or nanoseconds of one operation, to a thousandth.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Cost {
    thousandths: u64,
}

impl Cost {
    /// Divides the ticks of a batch by its operations. No operations cost nothing.
    #[must_use]
    pub fn per_operation(ticks: u64, operations: u64) -> Cost {
        let thousandths = (u128::from(ticks) * PARTS)
            .checked_div(operations.into())
            .unwrap_or(0);
        Cost::new(thousandths)
    }

    /// Turns ticks into nanoseconds with a clock of so many ticks in a millisecond.
    #[must_use]
    pub fn to_ns(self, ticks_per_ms: u64) -> Cost {
        let scaled = u128::from(self.thousandths) * 1_000_000;
        Cost::new(scaled.checked_div(ticks_per_ms.into()).unwrap_or(0))
    }

    /// Returns thousandths of a tick or nanosecond.
    #[must_use]
    pub fn thousandths(self) -> u64 {
        self.thousandths
    }

    fn new(thousandths: u128) -> Cost {
        Cost {
            thousandths: u64::try_from(thousandths).unwrap_or(u64::MAX),
        }
    }
}

/// Shows three figures at least: whole numbers from 100 on, one place below.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.thousandths >= 99_950 {
            write!(f, "{}", (self.thousandths.saturating_add(500)) / 1000)
        } else {
            let tenths = (self.thousandths + 50) / 100;
            write!(f, "{}.{}", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Cost;

    #[test]
    fn shows_three_figures() {
        let shown = |ticks, operations| Cost::per_operation(ticks, operations).to_string();
        assert_eq!(shown(1234, 100), "12.3");
        assert_eq!(shown(9_996, 100), "100");
        assert_eq!(shown(123_456, 100), "1235");
        assert_eq!(shown(5, 0), "0.0");
        assert_eq!(shown(u64::MAX, 1), "18446744073709551");
    }

    #[test]
    fn a_clock_of_one_gigahertz_ticks_in_nanoseconds() {
        let cost = Cost::per_operation(4321, 10);
        assert_eq!(cost.to_ns(1_000_000), cost);
        assert_eq!(cost.to_ns(2_000_000).thousandths(), 216_050);
        assert_eq!(cost.to_ns(0), Cost::default());
    }

    proptest! {
        #[test]
        fn no_numbers_overflow(ticks: u64, operations: u64, ticks_per_ms: u64) {
            let cost = Cost::per_operation(ticks, operations);
            let shown = cost.to_ns(ticks_per_ms).to_string();
            prop_assert!(shown.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
        }

        #[test]
        fn more_ticks_never_cost_less(ticks in 0_u64..1 << 40, more: u32, operations in 1_u64..1 << 20) {
            let cost = Cost::per_operation(ticks, operations);
            prop_assert!(Cost::per_operation(ticks + u64::from(more), operations) >= cost);
        }
    }
}
