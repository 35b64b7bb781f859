//! The kernel log is a stream of bytes: this cuts it into lines.

use alloc::vec::Vec;

use crate::slot::Line;

/// Longest line; a longer one is cut into several.
const MAX_TEXT: usize = 480;
/// [`log::Level::Info`] as a number.
const INFO: u8 = 3;

/// The lines of the kernel log, as they are read.
#[derive(Clone, Debug, Default)]
pub struct KernelLines {
    position: u64,
    next_number: u64,
    rest: Vec<u8>,
}

impl KernelLines {
    /// Goes on behind the last line that was kept.
    pub fn after(last: Option<&Line>) -> Self {
        KernelLines {
            position: last.map_or(0, |line| line.source),
            next_number: last.map_or(1, |line| line.number.saturating_add(1)),
            rest: Vec::new(),
        }
    }

    /// Returns where to read on.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Takes bytes that were read; `next` is the position behind them. Gives out every line that
    /// is complete.
    pub fn push(&mut self, bytes: &[u8], next: u64, time_ns: u64, mut sink: impl FnMut(Line)) {
        let first = next.saturating_sub(bytes.len() as u64);
        for (at, &byte) in bytes.iter().enumerate() {
            if byte != b'\n' {
                self.rest.push(byte);
            }
            let is_complete = byte == b'\n' || self.rest.len() >= MAX_TEXT;
            if is_complete && !self.rest.is_empty() {
                let number = self.next_number;
                self.next_number += 1;
                let mut text = core::mem::take(&mut self.rest);
                let source = first + at as u64 + 1;
                let time_ns = take_time(&mut text).unwrap_or(time_ns);
                sink(Line {
                    time_ns,
                    level: INFO,
                    target: Vec::new(),
                    text,
                    source,
                    number,
                });
            }
        }
        self.position = next;
    }
}

/// Takes the time off a line that starts with it, as `[seconds.microseconds] `.
fn take_time(text: &mut Vec<u8>) -> Option<u64> {
    let end = text.iter().position(|&byte| byte == b']')?;
    let time = core::str::from_utf8(text.get(1..end)?).ok()?;
    let (seconds, micros) = time.trim_start().split_once('.')?;
    if text[0] != b'[' || micros.len() != 6 {
        return None;
    }
    let seconds: u64 = seconds.parse().ok()?;
    let micros: u64 = micros.parse().ok()?;
    let rest = &text[end + 1..];
    *text = rest.strip_prefix(b" ").unwrap_or(rest).to_vec();
    seconds
        .checked_mul(1_000_000_000)?
        .checked_add(micros * 1000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::KernelLines;

    #[test]
    fn a_restarted_reader_goes_on_behind_the_last_whole_line() {
        let mut lines = Vec::new();
        KernelLines::after(None).push(b"one\n\ntwo\nthr", 12, 7, |line| lines.push(line));
        assert_eq!(
            lines.iter().map(|line| &line.text[..]).collect::<Vec<_>>(),
            [b"one", b"two"]
        );
        let again = KernelLines::after(lines.last());
        assert_eq!(again.position(), 9);
    }

    #[test]
    fn the_kernels_own_time_is_taken() {
        let mut lines = Vec::new();
        let text = b"[    1.000007] kernel: up\n[x] y\n[1.5] z\n";
        KernelLines::after(None).push(text, text.len() as u64, 9, |line| lines.push(line));
        let lines: Vec<_> = lines
            .iter()
            .map(|line| (line.time_ns, &line.text[..]))
            .collect();
        assert_eq!(
            lines,
            [
                (1_000_007_000, &b"kernel: up"[..]),
                (9, b"[x] y"),
                (9, b"[1.5] z")
            ]
        );
    }

    proptest! {
        #[test]
        fn the_cuts_between_reads_do_not_matter(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..2000),
            cuts in proptest::collection::vec(1..300_usize, 1..20),
        ) {
            let mut whole = Vec::new();
            KernelLines::after(None).push(&text, text.len() as u64, 0, |line| whole.push(line));
            let (mut parts, mut reader, mut at) = (Vec::new(), KernelLines::after(None), 0);
            for cut in cuts.iter().cycle() {
                if at == text.len() {
                    break;
                }
                let end = text.len().min(at + cut);
                reader.push(&text[at..end], end as u64, 0, |line| parts.push(line));
                at = end;
            }
            prop_assert_eq!(parts, whole);
        }
    }
}
