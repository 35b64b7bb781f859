//! Answers of bounded size.

use alloc::string::String;
use alloc::vec::Vec;

use libipc::proto::log::{Level, LogLine, LogPage};

use crate::slot::{Line, Slot};

/// Most bytes of text in one answer: with the rest of it a message still fits.
const PAGE_TEXT: usize = 3000;
/// Bytes of an encoded line beside its text, at most.
const LINE_OVERHEAD: usize = 24;

/// Returns the lines of a slot from the one with number `from` on, as many as fit.
pub fn page(slot: Slot<'_>, from: u64) -> LogPage {
    let mut lines = Vec::new();
    let mut next = from.max(1);
    let mut lost = 0;
    let mut used = 0;
    for line in slot.lines().skip_while(|line| line.number < from) {
        used += line.text.len() + line.target.len() + LINE_OVERHEAD;
        if used > PAGE_TEXT && !lines.is_empty() {
            break;
        }
        lost += line.number.saturating_sub(next);
        next = line.number.saturating_add(1);
        lines.push(to_wire(&line));
    }
    LogPage { lines, next, lost }
}

fn to_wire(line: &Line) -> LogLine {
    LogLine {
        time_ns: line.time_ns,
        level: match line.level {
            1 => Level::Error,
            2 => Level::Warn,
            3 => Level::Info,
            4 => Level::Debug,
            _ => Level::Trace,
        },
        target: printable(&line.target, 64),
        text: printable(&line.text, 480),
    }
}

/// Makes text of bytes that a service wrote: control characters, which could steer the terminal
/// of who reads it, become `?`.
fn printable(bytes: &[u8], limit: usize) -> String {
    let bytes = &bytes[..bytes.len().min(limit)];
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .map(|c| if c.is_control() && c != '\t' { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::page;
    use crate::Store;
    use crate::store::tests::{Region, line};

    #[test]
    fn pages_put_together_are_the_log_and_gaps_are_counted() {
        let region = Region::new();
        let store = Store::open(&region.words, &region.data).unwrap();
        let slot = store.find_or_start("s").unwrap();
        for number in (1..60).filter(|number| number % 10 != 0) {
            slot.push(&line(number, &[b'x'; 200]));
        }
        let (mut from, mut numbers, mut lost) = (0, Vec::new(), 0);
        loop {
            let page = page(slot, from);
            if page.lines.is_empty() {
                break;
            }
            numbers.extend(page.lines.iter().map(|line| line.time_ns / 10));
            lost += page.lost;
            from = page.next;
        }
        assert_eq!(
            numbers,
            (1..60)
                .filter(|number| number % 10 != 0)
                .collect::<Vec<_>>()
        );
        assert_eq!(lost, 5);
        assert_eq!(page(slot, from).next, from);
    }

    #[test]
    fn control_characters_do_not_reach_the_reader() {
        let region = Region::new();
        let store = Store::open(&region.words, &region.data).unwrap();
        let slot = store.find_or_start("s").unwrap();
        slot.push(&line(1, b"a\x1b[2Jb\xff"));
        assert_eq!(page(slot, 0).lines[0].text, "a?[2Jb\u{fffd}");
    }
}
