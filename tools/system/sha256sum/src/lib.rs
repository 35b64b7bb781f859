//! Lists of checksums, as `sha256sum` prints and checks them: hexadecimal digits, a blank, a mark
//! (a blank or `*`), the name, one file a line.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// Bytes of a checksum.
pub const SUM_BYTES: usize = 32;

/// What stands in a line of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed<'a> {
    /// The checksum that the file should have.
    pub sum: [u8; SUM_BYTES],
    /// The file.
    pub name: &'a [u8],
}

/// Parses a line without its end; `None` if it is not one of a list.
pub fn parse_line(line: &[u8]) -> Option<Listed<'_>> {
    let (digits, rest) = line.split_at_checked(2 * SUM_BYTES)?;
    let name = rest.strip_prefix(b" ")?;
    let name = name.strip_prefix(b" ").or(name.strip_prefix(b"*"))?;
    if name.is_empty() {
        return None;
    }
    let mut sum = [0; SUM_BYTES];
    for (byte, pair) in sum.iter_mut().zip(digits.chunks_exact(2)) {
        for &digit in pair {
            let value = char::from(digit).to_digit(16)?;
            *byte = *byte << 4 | value as u8;
        }
    }
    Some(Listed { sum, name })
}

#[cfg(test)]
mod tests {
    use super::parse_line;

    const DIGITS: &str = "00ff1234567890abcdefABCDEF00000000000000000000000000000000000080";

    #[test]
    fn a_line_is_a_sum_and_a_name() {
        for mark in ["  ", " *"] {
            let line = format!("{DIGITS}{mark}a name.txt");
            let listed = parse_line(line.as_bytes()).unwrap();
            assert_eq!(listed.name, b"a name.txt");
            assert_eq!(listed.sum[..4], [0, 0xff, 0x12, 0x34]);
            assert_eq!(listed.sum[31], 0x80);
        }
    }

    #[test]
    fn anything_else_is_no_line_of_a_list() {
        assert_eq!(parse_line(b""), None);
        assert_eq!(parse_line(DIGITS.as_bytes()), None);
        assert_eq!(parse_line(format!("{DIGITS}  ").as_bytes()), None);
        assert_eq!(parse_line(format!("{DIGITS} name").as_bytes()), None);
        assert_eq!(parse_line(format!("x{DIGITS}  name").as_bytes()), None);
        let odd = DIGITS.replace('f', "g");
        assert_eq!(parse_line(format!("{odd}  name").as_bytes()), None);
    }
}
