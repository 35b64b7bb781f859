//! Which bit is wrong, by the checksum alone.
//!
//! Of what is not longer than [`LONGEST_MENDED`] every single wrong bit changes the CRC-32C in
//! another way, so that the difference of the checksums says which it was. That costs nothing
//! until something is read that is damaged. Two wrong bits are never taken for one, since
//! any two contents with the same checksum differ in four bits at least (Koopman, "32-bit cyclic
//! redundancy codes for Internet applications", DSN 2002); what is damaged all over looks like one
//! wrong bit once in 100,000 times at the greatest length.

use alloc::vec::Vec;

use super::crc32c::step;

/// Longest payload that is mended: finding the bit takes time, and the longer it is the likelier
/// is some bit that fits by chance.
const LONGEST_MENDED: usize = 4096;

/// Returns the bit of `bytes` that is wrong, by the difference between its checksum and the right
/// one; `None` when it is more than one bit, or the payload is long.
pub(super) fn flipped_bit(bytes: &[u8], difference: u32) -> Option<usize> {
    if bytes.len() > LONGEST_MENDED {
        return None;
    }
    // What the last bit changes, then the one before it, and so on.
    let mut change = step(1);
    for bit in (0..8 * bytes.len()).rev() {
        if change == difference {
            return Some(bit);
        }
        change = step(change);
    }
    None
}

/// Returns a copy with one bit changed.
pub(super) fn with_bit_flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{flipped_bit, with_bit_flipped};
    use crate::state::crc32c;

    proptest! {
        #[test]
        fn a_wrong_bit_is_found(
            bytes in prop::collection::vec(any::<u8>(), 1..300),
            at: prop::sample::Index,
        ) {
            let bit = at.index(8 * bytes.len());
            let damaged = with_bit_flipped(&bytes, bit);
            let difference = crc32c(7, &bytes) ^ crc32c(7, &damaged);
            prop_assert_eq!(flipped_bit(&damaged, difference), Some(bit));
        }

        #[test]
        fn two_wrong_bits_are_not_taken_for_one(
            bytes in prop::collection::vec(any::<u8>(), 1..300),
            first: prop::sample::Index,
            second: prop::sample::Index,
        ) {
            let (first, second) = (first.index(8 * bytes.len()), second.index(8 * bytes.len()));
            prop_assume!(first != second);
            let damaged = with_bit_flipped(&with_bit_flipped(&bytes, first), second);
            let difference = crc32c(0, &bytes) ^ crc32c(0, &damaged);
            prop_assert_eq!(flipped_bit(&damaged, difference), None);
        }
    }
}
