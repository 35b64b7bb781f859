//! Names of the kernel's functions, read from its own image (System V ABI, chapter 4).

use spin::Once;

static IMAGE: Once<&'static [u8]> = Once::new();

/// Gives this module the kernel's image.
pub(crate) fn init(image: &'static [u8]) {
    IMAGE.call_once(|| image);
}

fn word<const N: usize>(bytes: &[u8], at: u64) -> Option<[u8; N]> {
    let at = usize::try_from(at).ok()?;
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u32_at(bytes: &[u8], at: u64) -> Option<u32> {
    word(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: u64) -> Option<u64> {
    word(bytes, at).map(u64::from_le_bytes)
}

/// Finds the function that contains an address: its name and its first address.
pub(crate) fn find(address: u64) -> Option<(&'static str, u64)> {
    const SYMBOL_BYTES: u64 = 24;
    let image = *IMAGE.get()?;
    let sections = u64_at(image, 0x28)?;
    let section_bytes = u64::from(u16::from_le_bytes(word(image, 0x3a)?));
    let count = u64::from(u16::from_le_bytes(word(image, 0x3c)?));
    // Section type 2 is the symbol table.
    let table = (0..count)
        .map(|index| sections + index * section_bytes)
        .find(|&section| u32_at(image, section + 4) == Some(2))?;
    let (start, bytes) = (u64_at(image, table + 0x18)?, u64_at(image, table + 0x20)?);
    let strings = sections + u64::from(u32_at(image, table + 0x28)?) * section_bytes;
    let strings = u64_at(image, strings + 0x18)?;
    for symbol in (0..bytes / SYMBOL_BYTES).map(|index| start + index * SYMBOL_BYTES) {
        let (value, size) = (u64_at(image, symbol + 8)?, u64_at(image, symbol + 16)?);
        if (value..value + size).contains(&address) {
            let name = strings + u64::from(u32_at(image, symbol)?);
            let name = image.get(usize::try_from(name).ok()?..)?;
            let end = name.iter().position(|&byte| byte == 0)?;
            return Some((core::str::from_utf8(&name[..end]).ok()?, value));
        }
    }
    None
}
