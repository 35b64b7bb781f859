//! Whether a run printed what it should have.

use alloc::format;
use alloc::string::String;

/// Longest piece of output that is shown in a complaint, bytes.
const SHOWN_BYTES: usize = 64;

/// Returns what is wrong with the output of a run: it must be that of the first run and have the
/// expected text in it, each if there is one.
pub fn fault(output: &[u8], first: Option<&[u8]>, expected: Option<&str>) -> Option<String> {
    if let Some(first) = first
        && let Some(at) = difference(first, output)
    {
        return Some(format!(
            "its output differs from that of the first run at byte {at}: \"{}\" in place of \"{}\"",
            piece(output, at),
            piece(first, at)
        ));
    }
    let expected = expected.filter(|text| !contains(output, text.as_bytes()))?;
    Some(format!("its output lacks \"{expected}\""))
}

/// Returns where two outputs begin to differ.
fn difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    (common < a.len() || common < b.len()).then_some(common)
}

fn contains(output: &[u8], text: &[u8]) -> bool {
    text.is_empty() || output.windows(text.len()).any(|part| part == text)
}

/// Returns a short piece of output for people.
fn piece(output: &[u8], at: usize) -> String {
    let rest = output.get(at..).unwrap_or_default();
    let shown = &rest[..rest.len().min(SHOWN_BYTES)];
    format!("{}", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::fault;

    #[test]
    fn output_must_be_as_before_and_have_the_text() {
        assert_eq!(fault(b"sum x\n", Some(b"sum x\n"), Some("sum")), None);
        assert_eq!(fault(b"", None, None), None);
        assert_eq!(fault(b"x", None, Some("")), None);
        assert_eq!(
            fault(b"sum x\n", None, Some("total")).unwrap(),
            "its output lacks \"total\""
        );
    }

    #[test]
    fn the_first_difference_is_shown() {
        for (first, again, shown) in [
            (&b"ab"[..], &b"ac"[..], "byte 1: \"c\" in place of \"b\""),
            (b"ab", b"a", "byte 1: \"\" in place of \"b\""),
            (b"ab", b"abb", "byte 2: \"b\" in place of \"\""),
        ] {
            let said = fault(again, Some(first), None).unwrap();
            assert!(said.ends_with(shown), "{said}");
        }
    }
}
