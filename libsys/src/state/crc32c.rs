//! CRC-32C (Castagnoli), the checksum of state regions and of ext4 metadata.

/// The reversed polynomial.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The remainder of each byte.
static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let is_odd = remainder & 1 == 1;
            remainder >>= 1;
            if is_odd {
                remainder ^= POLYNOMIAL;
            }
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

/// Returns the checksum of `bytes`, going on from `previous` (0 at the start), so that
/// `crc32c(crc32c(0, a), b)` is the checksum of `a` followed by `b`.
pub fn crc32c(previous: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!previous, |crc, &byte| {
        TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
    })
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn agrees_with_the_check_value_of_the_standard() {
        // RFC 3720, B.4, and the catalogue's check value.
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(0, &[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn can_be_continued() {
        assert_eq!(
            crc32c(crc32c(0, b"12345"), b"6789"),
            crc32c(0, b"123456789")
        );
    }
}
