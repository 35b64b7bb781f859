//! Content that tells where it belongs: each word depends on a seed and on its place.

/// Bytes in a word.
pub const WORD_BYTES: u64 = 8;

/// Returns the word at a place (SplitMix64).
pub const fn word(seed: u64, place: u64) -> u64 {
    let state = seed.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Fills bytes.
pub fn fill(seed: u64, bytes: &mut [u8]) {
    for (place, chunk) in bytes.chunks_mut(WORD_BYTES as usize).enumerate() {
        let word = word(seed, place as u64).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::{fill, word};

    #[test]
    fn places_and_seeds_differ() {
        assert_ne!(word(1, 0), word(1, 1));
        assert_ne!(word(1, 0), word(2, 0));
        let mut bytes = [0; 11];
        fill(9, &mut bytes);
        assert_eq!(bytes[..8], word(9, 0).to_le_bytes());
        assert_eq!(bytes[8..], word(9, 1).to_le_bytes()[..3]);
    }
}
