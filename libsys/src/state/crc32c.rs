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
            remainder = step(remainder);
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

/// Goes on with a remainder by one bit that is 0.
pub(super) const fn step(remainder: u32) -> u32 {
    if remainder & 1 == 1 {
        remainder >> 1 ^ POLYNOMIAL
    } else {
        remainder >> 1
    }
}

/// Returns the checksum of `bytes`, going on from `previous` (0 at the start), so that
/// `crc32c(crc32c(0, a), b)` is the checksum of `a` followed by `b`.
pub fn crc32c(previous: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if instruction::is_there() {
        return !instruction::go_on(!previous, bytes);
    }
    !go_on(!previous, bytes)
}

/// As [`crc32c`] of the bytes of one word, lowest first.
#[inline]
pub(super) fn crc32c_of_word(previous: u32, word: u64) -> u32 {
    crc32c_of_words(previous, &[word.to_le_bytes()])
}

/// As [`crc32c`] of words: without a rest, so that it is short enough to stand where it is needed.
#[inline]
pub(super) fn crc32c_of_words(previous: u32, words: &[[u8; 8]]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if instruction::is_there() {
        return !instruction::go_on_with_words(!previous, words);
    }
    !go_on(!previous, words.as_flattened())
}

/// Returns [`crc32c_of_words`] of the first and [`crc32c_of_word`] of the second. How to is asked once.
#[inline]
pub(super) fn crc32c_of_both(first: (u32, &[[u8; 8]]), second: (u32, u64)) -> (u32, u32) {
    let word = [second.1.to_le_bytes()];
    #[cfg(target_arch = "x86_64")]
    if instruction::is_there() {
        return (
            !instruction::go_on_with_words(!first.0, first.1),
            !instruction::go_on_with_words(!second.0, &word),
        );
    }
    (
        !go_on(!first.0, first.1.as_flattened()),
        !go_on(!second.0, word.as_flattened()),
    )
}

/// Goes on with a remainder, by the table.
#[cold]
fn go_on(remainder: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(remainder, |crc, &byte| {
        TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
    })
}

/// The instruction of SSE 4.2 for it (Intel SDM vol. 2A, CRC32). It works on general registers, so
/// servers need no vector state for it.
#[cfg(target_arch = "x86_64")]
mod instruction {
    use core::arch::asm;
    use core::arch::x86_64::__cpuid;
    use core::sync::atomic::{AtomicU8, Ordering};

    /// Bit of `ecx` of leaf 1.
    const SSE4_2: u32 = 1 << 20;
    const UNKNOWN: u8 = 0;
    const MISSING: u8 = 1;
    const THERE: u8 = 2;

    /// What CPUID said, which is slow, and slower still in a virtual machine.
    static ANSWER: AtomicU8 = AtomicU8::new(UNKNOWN);

    /// Returns whether this CPU has it.
    #[inline]
    pub(super) fn is_there() -> bool {
        ANSWER.load(Ordering::Relaxed) == THERE || ask()
    }

    #[cold]
    fn ask() -> bool {
        if ANSWER.load(Ordering::Relaxed) == MISSING {
            return false;
        }
        let is_there = __cpuid(1).ecx & SSE4_2 != 0;
        let answer = if is_there { THERE } else { MISSING };
        ANSWER.store(answer, Ordering::Relaxed);
        is_there
    }

    /// Goes on with a remainder by whole words. The CPU must have the instruction.
    #[inline]
    pub(super) fn go_on_with_words(remainder: u32, words: &[[u8; 8]]) -> u32 {
        let mut crc = u64::from(remainder);
        let (fours, words) = words.as_chunks::<4>();
        for four in fours {
            // SAFETY: reads the 32 bytes of the array and changes one general register; without
            // the instruction it faults, which is defined.
            unsafe {
                asm!(
                    "crc32 {crc}, qword ptr [{at}]",
                    "crc32 {crc}, qword ptr [{at} + 8]",
                    "crc32 {crc}, qword ptr [{at} + 16]",
                    "crc32 {crc}, qword ptr [{at} + 24]",
                    crc = inout(reg) crc,
                    at = in(reg) four.as_ptr(),
                    options(pure, readonly, nostack, preserves_flags)
                );
            }
        }
        for word in words {
            let word = u64::from_le_bytes(*word);
            // SAFETY: touches two general registers and nothing else; without the instruction it
            // faults, which is defined.
            unsafe {
                asm!("crc32 {crc}, {word}", crc = inout(reg) crc, word = in(reg) word,
                    options(pure, nomem, nostack, preserves_flags));
            }
        }
        crc as u32
    }

    /// Goes on with a remainder. The CPU must have the instruction.
    pub(super) fn go_on(remainder: u32, bytes: &[u8]) -> u32 {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut crc = go_on_with_words(remainder, words);
        let (halves, rest) = rest.as_chunks::<4>();
        for half in halves {
            let half = u32::from_le_bytes(*half);
            // SAFETY: as above.
            unsafe {
                asm!("crc32 {crc:e}, {half:e}", crc = inout(reg) crc, half = in(reg) half,
                    options(pure, nomem, nostack, preserves_flags));
            }
        }
        for byte in rest {
            // SAFETY: as above.
            unsafe {
                asm!("crc32 {crc:e}, {byte}", crc = inout(reg) crc, byte = in(reg_byte) *byte,
                    options(pure, nomem, nostack, preserves_flags));
            }
        }
        crc
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{crc32c, crc32c_of_word, crc32c_of_words};

    #[test]
    fn agrees_with_the_check_value_of_the_standard() {
        // RFC 3720, B.4, and the catalogue's check value.
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(0, &[0xff; 32]), 0x62a8_ab43);
        // By the table, whatever the CPU has.
        assert_eq!(!super::go_on(!0, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn can_be_continued() {
        assert_eq!(
            crc32c(crc32c(0, b"12345"), b"6789"),
            crc32c(0, b"123456789")
        );
    }

    proptest! {
        #[test]
        fn the_instruction_gives_what_the_table_gives(
            previous: u32,
            bytes in prop::collection::vec(any::<u8>(), 0..70),
        ) {
            prop_assert_eq!(crc32c(previous, &bytes), !super::go_on(!previous, &bytes));
            let (words, rest) = bytes.as_chunks();
            let checksum = crc32c(crc32c_of_words(previous, words), rest);
            prop_assert_eq!(checksum, crc32c(previous, &bytes));
        }

        #[test]
        fn a_word_is_its_bytes(previous: u32, word: u64) {
            let checksum = crc32c(previous, &word.to_le_bytes());
            prop_assert_eq!(crc32c_of_word(previous, word), checksum);
        }
    }
}
