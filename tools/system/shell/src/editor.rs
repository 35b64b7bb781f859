//! The line editor: keys in, terminal output out, a line at the end.
//!
//! It asks the terminal nothing, so it works the same through a pipe. What is typed at the end is
//! echoed as it is. To change a line elsewhere it is drawn anew within [`COLUMNS`] columns, which
//! the terminal should have; of a longer line the part around the cursor is shown.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use editline::{History, LineBuffer};

use crate::keys::{Decoder, Key};

/// Columns that are used.
pub const COLUMNS: usize = 80;
/// Longest line in bytes.
pub const MAX_LINE: usize = 2048;
/// Lines that the history keeps.
pub const HISTORY_LINES: usize = 200;

/// What came of a byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Nothing yet.
    Nothing,
    /// The line is complete.
    Line(String),
    /// The interrupt key: the line was dropped.
    Interrupted,
    /// The end of input was typed on an empty line.
    EndOfInput,
    /// The completion key: answer with [`Editor::complete`]. The text before the cursor.
    Complete(String),
}

/// A line that is being edited, and the lines before it.
pub struct Editor {
    line: LineBuffer,
    history: History,
    entries: Vec<String>,
    decoder: Decoder,
    prompt: String,
    last_was_return: bool,
    out: Vec<u8>,
}

impl core::fmt::Debug for Editor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Editor")
            .field("prompt", &self.prompt)
            .finish_non_exhaustive()
    }
}

impl Default for Editor {
    fn default() -> Self {
        Editor {
            line: LineBuffer::new(256),
            history: History::new(HISTORY_LINES),
            entries: Vec::new(),
            decoder: Decoder::default(),
            prompt: String::new(),
            last_was_return: false,
            out: Vec::new(),
        }
    }
}

impl Editor {
    /// Begins a line.
    pub fn start(&mut self, prompt: &str) {
        self.line.clear();
        self.history.reset_view();
        self.prompt = prompt.to_string();
        self.out.extend_from_slice(prompt.as_bytes());
    }

    /// Returns the bytes that the terminal must show, and forgets them.
    pub fn take_output(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.out)
    }

    /// Returns the lines before, oldest first.
    pub fn history(&self) -> &[String] {
        &self.entries
    }

    /// Takes a byte from the terminal.
    pub fn push(&mut self, byte: u8) -> Event {
        // A terminal that ends lines with both sends one line, not two.
        let is_second_half = byte == b'\n' && self.last_was_return;
        self.last_was_return = byte == b'\r';
        if is_second_half {
            return Event::Nothing;
        }
        match self.decoder.push(byte) {
            Some(key) => self.key(key),
            None => Event::Nothing,
        }
    }

    fn key(&mut self, key: Key) -> Event {
        match key {
            Key::Character(c) => self.insert(c),
            Key::Enter => return self.enter(),
            Key::Tab => return Event::Complete(self.before_cursor().to_string()),
            Key::Interrupt => {
                self.line.clear();
                self.out.extend_from_slice(b"^C\r\n");
                return Event::Interrupted;
            }
            Key::EndOfInput if self.line.is_empty() => return Event::EndOfInput,
            Key::EndOfInput | Key::Delete => self.delete_at_cursor(),
            Key::Up => self.recall_older(),
            Key::Down => self.recall_newer(),
            Key::ClearScreen => {
                self.out.extend_from_slice(b"\x1b[H\x1b[2J");
                self.refresh();
            }
            Key::Backspace | Key::KillWord | Key::KillToStart | Key::KillToEnd => self.erase(key),
            Key::Left | Key::Right | Key::WordLeft | Key::WordRight | Key::Home | Key::End => {
                self.go(key);
            }
        }
        Event::Nothing
    }

    fn insert(&mut self, c: char) {
        if self.line.len() + c.len_utf8() > MAX_LINE {
            self.out.push(7);
            return;
        }
        let is_at_end = self.line.cursor_pos() == self.line.len();
        self.line.insert_char(c);
        if is_at_end {
            // Whatever the width: the terminal wraps by itself.
            self.out
                .extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            self.refresh();
        }
    }

    fn enter(&mut self) -> Event {
        self.line.move_cursor_to_end();
        let line = self.text().to_string();
        self.out.extend_from_slice(b"\r\n");
        self.history.add(&line);
        let entry = line.trim();
        if !entry.is_empty() && self.entries.last().is_none_or(|last| last != entry) {
            if self.entries.len() == HISTORY_LINES {
                self.entries.remove(0);
            }
            self.entries.push(entry.to_string());
        }
        self.line.clear();
        Event::Line(line)
    }

    fn recall_older(&mut self) {
        let current = self.text().to_string();
        let entry = self.history.previous(&current).map(ToString::to_string);
        self.recall(entry);
    }

    fn recall_newer(&mut self) {
        let entry = self.history.next_entry().map(ToString::to_string);
        self.recall(entry);
    }

    fn recall(&mut self, entry: Option<String>) {
        match entry {
            Some(entry) => {
                self.line.load(&entry);
                self.refresh();
            }
            None => self.out.push(7),
        }
    }

    fn erase(&mut self, key: Key) {
        match key {
            Key::KillWord => {
                while self.before_cursor().ends_with(' ') {
                    self.line.delete_before_cursor();
                }
                while self
                    .before_cursor()
                    .chars()
                    .next_back()
                    .is_some_and(|c| c != ' ')
                {
                    self.delete_before_cursor();
                }
            }
            Key::KillToStart => {
                while self.line.cursor_pos() > 0 {
                    self.line.delete_before_cursor();
                }
            }
            Key::KillToEnd => while self.line.delete_at_cursor() {},
            _ => self.delete_before_cursor(),
        }
        self.refresh();
    }

    fn go(&mut self, key: Key) {
        match key {
            Key::Left => self.left(),
            Key::Right => self.right(),
            Key::WordLeft => {
                self.line.move_cursor_word_left();
            }
            Key::WordRight => {
                self.line.move_cursor_word_right();
            }
            Key::Home => {
                self.line.move_cursor_to_start();
            }
            _ => {
                self.line.move_cursor_to_end();
            }
        }
        // The buffer knows bytes only.
        while !self.text().is_char_boundary(self.line.cursor_pos()) {
            self.line.move_cursor_left();
        }
        self.refresh();
    }

    fn left(&mut self) {
        for _ in 0..self
            .before_cursor()
            .chars()
            .next_back()
            .map_or(0, char::len_utf8)
        {
            self.line.move_cursor_left();
        }
    }

    fn right(&mut self) {
        for _ in 0..self.after_cursor().chars().next().map_or(0, char::len_utf8) {
            self.line.move_cursor_right();
        }
    }

    fn delete_before_cursor(&mut self) {
        for _ in 0..self
            .before_cursor()
            .chars()
            .next_back()
            .map_or(0, char::len_utf8)
        {
            self.line.delete_before_cursor();
        }
    }

    fn delete_at_cursor(&mut self) {
        for _ in 0..self.after_cursor().chars().next().map_or(0, char::len_utf8) {
            self.line.delete_at_cursor();
        }
        self.refresh();
    }

    /// Inserts the rest of a word that was completed, or shows the choices when there is none.
    pub fn complete(&mut self, insertion: &str, choices: &[String]) {
        for c in insertion.chars() {
            self.insert(c);
        }
        if !insertion.is_empty() {
            return;
        }
        if choices.len() < 2 {
            self.out.push(7);
            return;
        }
        self.out.extend_from_slice(b"\r\n");
        let width = choices
            .iter()
            .map(|choice| choice.chars().count())
            .max()
            .unwrap_or(0)
            + 2;
        let per_line = (COLUMNS / width).max(1);
        for row in choices.chunks(per_line) {
            for choice in row {
                self.out.extend_from_slice(choice.as_bytes());
                let padding = width - choice.chars().count();
                self.out.extend(core::iter::repeat_n(b' ', padding));
            }
            self.out.extend_from_slice(b"\r\n");
        }
        self.refresh();
    }

    /// Draws the line anew: prompt, the part of the text around the cursor, the cursor.
    fn refresh(&mut self) {
        let room = COLUMNS
            .saturating_sub(self.prompt.chars().count() + 1)
            .max(16);
        let cursor = self.before_cursor().chars().count();
        let first = cursor.saturating_sub(room);
        let shown: String = self.text().chars().skip(first).take(room).collect();
        let behind = shown.chars().count() - (cursor - first);
        let drawing = alloc::format!("\r{}{shown}\x1b[K", self.prompt);
        self.out.extend_from_slice(drawing.as_bytes());
        if behind > 0 {
            self.out
                .extend_from_slice(alloc::format!("\x1b[{behind}D").as_bytes());
        }
    }

    fn text(&self) -> &str {
        // Whole characters go in and come out.
        self.line.as_str().unwrap_or_default()
    }

    fn before_cursor(&self) -> &str {
        self.text()
            .get(..self.line.cursor_pos())
            .unwrap_or_default()
    }

    fn after_cursor(&self) -> &str {
        self.text()
            .get(self.line.cursor_pos()..)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Editor, Event};

    fn type_text(editor: &mut Editor, bytes: &[u8]) -> Event {
        let mut last = Event::Nothing;
        for &byte in bytes {
            last = editor.push(byte);
        }
        last
    }

    fn line(bytes: &[u8]) -> Event {
        let mut editor = Editor::default();
        editor.start("$ ");
        type_text(&mut editor, bytes)
    }

    #[test]
    fn typed_text_is_echoed_as_it_is() {
        let mut editor = Editor::default();
        editor.start("skink:/# ");
        assert_eq!(
            type_text(&mut editor, b"ls /\r"),
            Event::Line("ls /".into())
        );
        assert_eq!(editor.take_output(), b"skink:/# ls /\r\n");
        assert_eq!(editor.push(b'\n'), Event::Nothing);
    }

    #[test]
    fn keys_move_and_erase_whole_characters() {
        assert_eq!(
            line("äb\x1b[D\x1b[D\x1b[3~x\r".as_bytes()),
            Event::Line("xb".into())
        );
        assert_eq!(
            line("aö\u{7f}\u{7f}\u{7f}z\r".as_bytes()),
            Event::Line("z".into())
        );
        assert_eq!(line(b"one two\x17\x17x\r"), Event::Line("x".into()));
        assert_eq!(line(b"abc\x01\x0bd\x05e\r"), Event::Line("de".into()));
        assert_eq!(line(b"abc\x02\x15\r"), Event::Line("c".into()));
        assert_eq!(line("aé b\x1b[1;5D\x1b[1;5Dx\r".as_bytes()).clone(), {
            Event::Line("axé b".into())
        });
    }

    #[test]
    fn history_is_recalled_and_kept() {
        let mut editor = Editor::default();
        for text in [&b"first\r"[..], b"second\r", b"second\r", b"  \r"] {
            editor.start("$ ");
            type_text(&mut editor, text);
        }
        assert_eq!(editor.history(), ["first", "second"]);
        editor.start("$ ");
        assert_eq!(
            type_text(&mut editor, b"\x1b[A\x1b[A\r"),
            Event::Line("first".into())
        );
        editor.start("$ ");
        assert_eq!(
            type_text(&mut editor, b"draft\x10\x0e!\r"),
            Event::Line("draft!".into())
        );
    }

    #[test]
    fn interrupt_and_end_of_input_are_told() {
        assert_eq!(line(b"abc\x03"), Event::Interrupted);
        assert_eq!(line(b"\x04"), Event::EndOfInput);
        assert_eq!(line(b"ab\x01\x04\r"), Event::Line("b".into()));
    }

    #[test]
    fn completion_inserts_or_shows_choices() {
        let mut editor = Editor::default();
        editor.start("$ ");
        assert_eq!(
            type_text(&mut editor, b"ec\t"),
            Event::Complete("ec".into())
        );
        editor.complete("ho ", &[]);
        assert_eq!(type_text(&mut editor, b"x\r"), Event::Line("echo x".into()));
        editor.start("$ ");
        type_text(&mut editor, b"s\t");
        editor.take_output();
        editor.complete("", &["sha256sum".into(), "shell".into()]);
        assert_eq!(
            editor.take_output(),
            b"\r\nsha256sum  shell      \r\n\r$ s\x1b[K"
        );
    }

    #[test]
    fn a_long_line_is_echoed_and_drawn_anew_within_the_columns() {
        let mut editor = Editor::default();
        editor.start("$ ");
        type_text(&mut editor, &[b'x'; 200]);
        assert_eq!(
            editor.take_output(),
            format!("$ {}", "x".repeat(200)).as_bytes()
        );
        editor.push(0x7f);
        let drawn = editor.take_output();
        assert!(drawn.starts_with(b"\r$ x") && drawn.len() <= super::COLUMNS + 4);
        assert_eq!(type_text(&mut editor, b"\r"), Event::Line("x".repeat(199)));
    }

    proptest! {
        #[test]
        fn any_bytes_keep_the_line_valid(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0..32_u8, Just(0x1b), Just(b'[')], 0..400),
        ) {
            let mut editor = Editor::default();
            editor.start("$ ");
            for byte in bytes {
                editor.push(byte);
                prop_assert!(editor.line.as_str().is_ok());
                prop_assert!(editor.text().is_char_boundary(editor.line.cursor_pos()));
            }
        }
    }
}
