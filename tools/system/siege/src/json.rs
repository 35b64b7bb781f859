//! One JSON object per line, behind a word by which the host finds it.

use alloc::string::String;
use core::fmt::Write;

/// Start of each line.
pub const PREFIX: &str = "#siege ";
/// Start of the lines of the workload that counts lines; a number follows.
pub const LINE_PREFIX: &str = "#line ";

/// A JSON object that is put together field by field.
#[derive(Clone, Debug)]
pub struct Object {
    text: String,
}

impl Object {
    /// Begins the object of an event.
    pub fn new(event: &str) -> Self {
        let text = String::from("{");
        Object { text }.text("event", event)
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, name: &str, value: u64) -> Self {
        self.key(name);
        // Writing to a string cannot fail, here and below.
        let _ = write!(self.text, "{value}");
        self
    }

    /// Adds a text.
    #[must_use]
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.key(name);
        self.quote(value);
        self
    }

    /// Returns the whole line with its end.
    pub fn line(mut self) -> String {
        self.text.push('}');
        let mut line = String::from(PREFIX);
        line.push_str(&self.text);
        line.push('\n');
        line
    }

    fn key(&mut self, name: &str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        self.quote(name);
        self.text.push(':');
    }

    fn quote(&mut self, value: &str) {
        self.text.push('"');
        for c in value.chars() {
            match c {
                '"' | '\\' => {
                    self.text.push('\\');
                    self.text.push(c);
                }
                c if c.is_control() => {
                    let _ = write!(self.text, "\\u{:04x}", u32::from(c));
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::Object;

    #[test]
    fn fields_stand_in_their_order_and_texts_are_quoted() {
        let line = Object::new("strike")
            .number("gap_ns", 5)
            .text("why", "a \"b\"\n\\")
            .line();
        let expected =
            "#siege {\"event\":\"strike\",\"gap_ns\":5,\"why\":\"a \\\"b\\\"\\u000a\\\\\"}\n";
        assert_eq!(line, expected);
    }
}
