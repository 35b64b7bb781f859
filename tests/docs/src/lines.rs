//! Counts lines of Rust.
//!
//! A line counts if it is neither empty nor only a comment. Tests do not count: files named
//! `tests.rs`, and in other files everything from `#[cfg(test)]` on, which by the house style is
//! the end of the file.

use std::path::Path;

/// Counts the lines of all Rust files in a folder.
///
/// # Panics
///
/// When the folder cannot be read.
#[must_use]
pub fn in_folder(folder: &Path) -> usize {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .map(|entry| {
            let path = entry
                .expect("a readable folder has readable entries")
                .path();
            let is_rust = path.extension().is_some_and(|extension| extension == "rs");
            let is_tests = path.file_name().is_some_and(|name| name == "tests.rs");
            if path.is_dir() {
                in_folder(&path)
            } else if is_rust && !is_tests {
                let text = std::fs::read_to_string(&path)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                in_text(&text)
            } else {
                0
            }
        })
        .sum()
}

/// Counts the lines of one file.
#[must_use]
pub fn in_text(text: &str) -> usize {
    text.lines()
        .map(str::trim)
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

#[cfg(test)]
mod tests {
    use super::in_text;

    #[test]
    fn only_code_counts() {
        let text =
            "//! Docs.\n\nfn f() {\n    // why\n    g(); // how\n}\n\n#[cfg(test)]\nmod tests {}\n";
        assert_eq!(in_text(text), 3);
    }
}
