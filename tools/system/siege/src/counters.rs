//! Numbered records: each must be there exactly once, in the order in which they were written.

use alloc::vec::Vec;

use crate::Verdict;

/// Bytes of a record: its number, and the number turned over, so that a torn one is noticed.
pub const RECORD_BYTES: usize = 16;

/// Returns the record of a number.
pub fn record(number: u64) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&(!number).to_le_bytes());
    bytes
}

/// Judges what was read back of the records `first..next`.
pub fn judge(bytes: &[u8], first: u64, next: u64) -> Verdict {
    let expected = next.saturating_sub(first);
    let mut seen: Vec<u64> = Vec::new();
    let mut torn = 0;
    for chunk in bytes.chunks(RECORD_BYTES) {
        match number_of(chunk) {
            Some(number) => seen.push(number),
            None => torn += chunk.len() as u64,
        }
    }
    let is_in_order = seen.iter().copied().eq(first..next);
    if torn > 0 {
        return Verdict::Wrong(torn);
    }
    if is_in_order {
        return Verdict::Good;
    }
    let read = seen.len() as u64;
    seen.sort_unstable();
    seen.dedup();
    seen.retain(|number| (first..next).contains(number));
    let there = seen.len() as u64;
    if there < expected {
        Verdict::Lost(expected - there)
    } else if read > expected {
        Verdict::Duplicated(read - expected)
    } else {
        // All are there, but not in their order.
        Verdict::Wrong(read * RECORD_BYTES as u64)
    }
}

fn number_of(chunk: &[u8]) -> Option<u64> {
    let (number, turned) = chunk.split_at_checked(8)?;
    let number = u64::from_le_bytes(number.try_into().ok()?);
    let turned = u64::from_le_bytes(turned.try_into().ok()?);
    (turned == !number).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{judge, record};
    use crate::Verdict;

    fn written(numbers: &[u64]) -> Vec<u8> {
        numbers.iter().flat_map(|number| record(*number)).collect()
    }

    #[test]
    fn each_way_to_go_wrong_is_told_apart() {
        assert_eq!(judge(&written(&[3, 4, 5]), 3, 6), Verdict::Good);
        assert_eq!(judge(&written(&[3, 5]), 3, 6), Verdict::Lost(1));
        assert_eq!(judge(&written(&[3, 4, 4, 5]), 3, 6), Verdict::Duplicated(1));
        assert_eq!(judge(&written(&[3, 5, 4]), 3, 6), Verdict::Wrong(48));
        assert_eq!(judge(&written(&[2, 3, 4, 5]), 3, 6), Verdict::Duplicated(1));
        assert_eq!(judge(&written(&[3, 4])[..20], 3, 5), Verdict::Wrong(4));
        assert_eq!(judge(&[], 3, 3), Verdict::Good);
    }

    proptest! {
        #[test]
        fn one_bit_is_noticed(count in 1..40_u64, bit in any::<prop::sample::Index>()) {
            let mut bytes = written(&(0..count).collect::<Vec<_>>());
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(matches!(judge(&bytes, 0, count), Verdict::Wrong(_)));
        }
    }
}
