//! The two checksums of ext4: CRC-32C (Castagnoli) and, for old group descriptors, CRC-16.
//!
//! Both run without final inversion, as ext4 chains them over several ranges.

const POLYNOMIAL_16: u16 = 0xa001;

/// Continues a CRC-32C over `bytes`. ext4 starts with `!0` or with a seed.
#[inline]
pub fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !libsys::state::crc32c(!seed, bytes)
}

/// Continues a CRC-16 (polynomial 0x8005, reflected) over `bytes`.
pub fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    let mut crc = seed;
    for &byte in bytes {
        crc ^= u16::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ POLYNOMIAL_16
            } else {
                crc >> 1
            };
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::{crc16, crc32c};

    #[test]
    fn check_values_of_the_catalogue() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
    }

    #[test]
    fn chaining_equals_one_run() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for cut in 0..40 {
            let (left, right) = bytes.split_at(cut);
            assert_eq!(crc32c(crc32c(7, left), right), crc32c(7, &bytes));
        }
    }
}
