//! The map of a process's address space.

use skink_abi::layout;
use skink_docs::read;

const PAGE: &str = "docs/reference/memory-map.md";

#[test]
fn every_place_has_its_address() {
    let page = read(PAGE);
    for (name, address) in [
        ("IMAGE_BASE", layout::IMAGE_BASE),
        ("STARTUP", layout::STARTUP),
        ("SERVICE_PAGE", layout::SERVICE_PAGE),
        ("TIME_PAGE", layout::TIME_PAGE),
        ("LOG_RING", layout::LOG_RING),
        ("STACK_TOP", layout::STACK_TOP),
        ("THREAD_CONTROL", layout::THREAD_CONTROL),
        ("HEAP", layout::HEAP),
        ("HEAP_END", layout::HEAP_END),
        ("STATE_REGION", layout::STATE_REGION),
        ("STATE_REGION_END", layout::STATE_REGION_END),
        ("MAPPINGS", layout::MAPPINGS),
        ("MAPPINGS_END", layout::MAPPINGS_END),
        ("USER_END", layout::USER_END),
    ] {
        let is_there = page
            .lines()
            .any(|line| line.contains(&format!("`{name}`")) && line.contains(&grouped(address)));
        assert!(
            is_there,
            "{PAGE} has no line with `{name}` and {}",
            grouped(address)
        );
    }
}

/// Writes an address with an underscore before every fourth digit from the end.
fn grouped(address: u64) -> String {
    let digits = format!("{address:x}");
    let mut text = String::from("0x");
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(4) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}
