//! The page by which the loader hands the boot command line to the kernel.
//!
//! `bootloader_api::BootInfo` has no field for it, so the loader puts it on the page
//! [`PAGE_OFFSET`] bytes after the page that `BootInfo` starts on: magic, length as a
//! little-endian `u64`, then the text. A kernel started by another loader finds no magic there,
//! or nothing mapped; look only when the `BootInfo` has a ramdisk that is a boot bundle.

/// Distance of the page from the start of `BootInfo`, which is page aligned, in bytes.
pub const PAGE_OFFSET: u64 = 3 * 4096;
/// First eight bytes of the page.
pub const MAGIC: [u8; 8] = *b"CMDLINE1";
/// Longest command line in bytes; the loader cuts longer ones at a character boundary.
pub const MAX_BYTES: usize = PAGE_BYTES - HEADER_BYTES;
/// Size of the page in bytes.
pub const PAGE_BYTES: usize = 4096;

const HEADER_BYTES: usize = 16;

/// Reads the command line from the bytes of the page. `None` when there is none.
#[must_use]
pub fn read(page: &[u8]) -> Option<&str> {
    let (magic, rest) = page.split_first_chunk::<8>()?;
    let (len, text) = rest.split_first_chunk::<8>()?;
    if *magic != MAGIC {
        return None;
    }
    let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
    core::str::from_utf8(text.get(..len)?).ok()
}

/// Writes a command line to the bytes of the page and returns how much of it found room.
pub fn write(page: &mut [u8; PAGE_BYTES], text: &str) -> usize {
    let mut len = text.len().min(MAX_BYTES);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    page[..8].copy_from_slice(&MAGIC);
    page[8..HEADER_BYTES].copy_from_slice(&(len as u64).to_le_bytes());
    page[HEADER_BYTES..HEADER_BYTES + len].copy_from_slice(&text.as_bytes()[..len]);
    len
}

/// Returns the value of `key=value` among the words of a command line, or `""` for a bare `key`.
/// The last one wins.
#[must_use]
pub fn option<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_whitespace()
        .rev()
        .find_map(|word| match word.strip_prefix(key)? {
            "" => Some(""),
            rest => rest.strip_prefix('='),
        })
}

/// Decodes a value written as `hex:…` (as `exec=` is) byte by byte; `None` if it is not such.
pub fn hex_bytes(value: &str) -> Option<impl Iterator<Item = u8> + '_> {
    let digits = value.strip_prefix("hex:")?.as_bytes();
    if digits.len() % 2 != 0 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    Some(digits.chunks_exact(2).map(|pair| {
        pair.iter().fold(0, |byte, &digit| {
            (byte << 4) | (digit as char).to_digit(16).unwrap_or(0) as u8
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_line_is_read_back() {
        let mut page = [0xaa; PAGE_BYTES];
        assert_eq!(write(&mut page, "log=debug exec=hex:6c73"), 23);
        assert_eq!(read(&page), Some("log=debug exec=hex:6c73"));
    }

    #[test]
    fn a_line_too_long_is_cut_between_characters() {
        let text = "é".repeat(4000);
        let mut page = [0; PAGE_BYTES];
        assert_eq!(write(&mut page, &text), MAX_BYTES);
        assert_eq!(write(&mut page, &format!("x{text}")), MAX_BYTES - 1);
        assert!(read(&page).is_some_and(|line| line.ends_with('é')));
    }

    #[test]
    fn other_pages_have_no_command_line() {
        assert_eq!(read(&[0; PAGE_BYTES]), None);
        assert_eq!(read(b"CMDLINE1"), None);
        assert_eq!(read(b"CMDLINE1\xff\xff\xff\xff\xff\xff\xff\xffabc"), None);
        assert_eq!(read(b"CMDLINE1\x01\0\0\0\0\0\0\0\xff"), None);
    }

    #[test]
    fn options_are_found_by_key() {
        let line = "quiet log=info log=debug execute=1";
        assert_eq!(option(line, "log"), Some("debug"));
        assert_eq!(option(line, "quiet"), Some(""));
        assert_eq!(option(line, "exec"), None);
    }

    #[test]
    fn hex_values_decode_or_are_refused() {
        let text: Vec<u8> = hex_bytes("hex:6c73202f").expect("valid").collect();
        assert_eq!(text, b"ls /");
        assert!(hex_bytes("6c73").is_none());
        assert!(hex_bytes("hex:6c7").is_none());
        assert!(hex_bytes("hex:zz").is_none());
    }
}
