//! The two checksums of ext4: CRC-32C (Castagnoli) and, for old group descriptors, CRC-16.
//!
//! Both run without final inversion, as ext4 chains them over several ranges.

const POLYNOMIAL_32C: u32 = 0x82f6_3b78;
const POLYNOMIAL_16: u16 = 0xa001;

/// `TABLES[k][b]` is the remainder of byte `b` followed by `k` zero bytes: eight bytes at a time
/// keep the checksum of a 4 KiB block at a few microseconds without vector instructions.
static TABLES: [[u32; 256]; 8] = tables();

/// Continues a CRC-32C over `bytes`. ext4 starts with `!0` or with a seed.
pub fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    let mut crc = seed;
    let mut words = bytes.chunks_exact(8);
    for word in words.by_ref() {
        let mut next = 0;
        for (i, &byte) in word.iter().enumerate() {
            let byte = if i < 4 {
                byte ^ crc.to_le_bytes()[i]
            } else {
                byte
            };
            next ^= TABLES[7 - i][usize::from(byte)];
        }
        crc = next;
    }
    for &byte in words.remainder() {
        let [low, ..] = crc.to_le_bytes();
        crc = (crc >> 8) ^ TABLES[0][usize::from(low ^ byte)];
    }
    crc
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

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ POLYNOMIAL_32C
            } else {
                crc >> 1
            };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[zeros - 1][byte];
            tables[zeros][byte] = (crc >> 8) ^ tables[0][(crc & 0xff) as usize];
            byte += 1;
        }
        zeros += 1;
    }
    tables
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
