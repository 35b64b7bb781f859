//! Plain tables with aligned columns.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// On which side of its column a text stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Left, for names.
    Left,
    /// Right, for numbers.
    Right,
}

/// Rows of texts under a row of titles.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes an empty table with these titles.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        Table {
            columns: columns
                .iter()
                .map(|&(title, align)| (title.to_string(), align))
                .collect(),
            rows: Vec::new(),
        }
    }

    /// Makes a table without titles.
    pub fn without_titles(columns: &[Align]) -> Self {
        Table {
            columns: columns
                .iter()
                .map(|&align| (String::new(), align))
                .collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing texts are empty, surplus ones are left out.
    pub fn row(&mut self, texts: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = texts.into_iter().take(self.columns.len()).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// Returns the table as lines, each with its `\n`.
    pub fn render(&self) -> String {
        let titles: Vec<String> = self
            .columns
            .iter()
            .map(|(title, _)| title.clone())
            .collect();
        let has_titles = titles.iter().any(|title| !title.is_empty());
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let texts = self.rows.iter().chain(core::iter::once(&titles));
                texts.map(|row| width(&row[column])).max().unwrap_or(0)
            })
            .collect();
        let mut out = String::new();
        for row in has_titles.then_some(&titles).into_iter().chain(&self.rows) {
            self.render_row(row, &widths, &mut out);
        }
        out
    }

    fn render_row(&self, row: &[String], widths: &[usize], out: &mut String) {
        let start = out.len();
        for (column, text) in row.iter().enumerate() {
            if column > 0 {
                out.push_str("  ");
            }
            let padding = widths[column] - width(text);
            if self.columns[column].1 == Align::Right {
                out.extend(core::iter::repeat_n(' ', padding));
            }
            out.push_str(text);
            if self.columns[column].1 == Align::Left {
                out.extend(core::iter::repeat_n(' ', padding));
            }
        }
        let end = start + out[start..].trim_end().len();
        out.truncate(end);
        out.push('\n');
    }
}

/// Returns how many columns a text takes, one for each character.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::{Align, Table};

    #[test]
    fn columns_are_aligned_and_lines_have_no_blanks_at_the_end() {
        let mut table = Table::new(&[
            ("NAME", Align::Left),
            ("SIZE", Align::Right),
            ("", Align::Left),
        ]);
        table.row(["vfs".into(), "12".into(), "x".into()]);
        table.row(["größer".into(), "1234".into()]);
        assert_eq!(
            table.render(),
            "NAME    SIZE\nvfs       12  x\ngrößer  1234\n"
        );
    }

    #[test]
    fn a_table_without_titles_has_no_empty_first_line() {
        let mut table = Table::without_titles(&[Align::Right, Align::Left]);
        table.row(["1".into(), "a".into()]);
        table.row(["10".into(), "b".into()]);
        assert_eq!(table.render(), " 1  a\n10  b\n");
    }
}
