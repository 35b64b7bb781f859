//! Names in columns, read from top to bottom.

use alloc::string::String;

/// Columns of a terminal, when nobody knows better.
pub const WIDTH: usize = 80;

/// Returns the names in as many columns as fit into `width`.
pub fn render(names: &[String], width: usize) -> String {
    let longest = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0);
    let column = longest + 2;
    let columns = ((width + 2) / column).max(1);
    let rows = names.len().div_ceil(columns);
    let mut out = String::new();
    for row in 0..rows {
        for (at, name) in names.iter().skip(row).step_by(rows).enumerate() {
            if at > 0 {
                let before = names[row + (at - 1) * rows].chars().count();
                out.extend(core::iter::repeat_n(' ', column - before));
            }
            out.push_str(name);
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::render;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn names_run_down_the_columns() {
        assert_eq!(render(&names("a bbb c d e"), 11), "a    d\nbbb  e\nc\n");
        assert_eq!(render(&names("a b c"), 1), "a\nb\nc\n");
        assert_eq!(render(&[], 80), "");
    }

    proptest! {
        #[test]
        fn every_name_is_there_once_and_lines_fit(
            names in proptest::collection::vec("[a-zä]{1,20}", 1..60),
            width in 22..100_usize,
        ) {
            let text = render(&names, width);
            let mut shown: Vec<String> = text.split_whitespace().map(Into::into).collect();
            let mut expected = names.clone();
            shown.sort();
            expected.sort();
            prop_assert_eq!(shown, expected);
            prop_assert!(text.lines().all(|line| line.chars().count() <= width));
        }
    }
}
