//! Keeps the documentation true: what can be computed from the code is computed and compared.
//!
//! [`pages`] finds the Markdown files and their links, [`interface`] reads the interfaces'
//! sources, [`lines`] counts the kernel. The tests themselves are in `tests/pages`.

pub mod interface;
pub mod lines;
pub mod pages;

use std::path::{Path, PathBuf};

/// Returns the folder of the whole tree.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap_or(Path::new("."))
        .to_path_buf()
}

/// Returns the text of a file, named from the root of the tree.
///
/// # Panics
///
/// When it cannot be read: each caller names a file that must be there.
#[must_use]
pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Tells whether the tests shall rewrite what they would compare.
#[must_use]
pub fn is_blessing() -> bool {
    std::env::var_os("SKINK_BLESS").is_some()
}

/// Compares a file with what it should be, or makes it so when blessing.
///
/// # Panics
///
/// When it differs, naming the file and the first line that does.
pub fn expect_content(path: &str, wanted: &str) {
    let found = read(path);
    if found == wanted {
        return;
    }
    if is_blessing() {
        let file = root().join(path);
        std::fs::write(&file, wanted).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        return;
    }
    let differing = found.lines().zip(wanted.lines()).position(|(a, b)| a != b);
    let line = differing.unwrap_or_else(|| found.lines().count().min(wanted.lines().count()));
    panic!(
        "{path} is out of date at line {}:\n  is   {:?}\n  want {:?}\nrun SKINK_BLESS=1 cargo test -p skink-docs",
        line + 1,
        found.lines().nth(line).unwrap_or("(end)"),
        wanted.lines().nth(line).unwrap_or("(end)"),
    );
}
