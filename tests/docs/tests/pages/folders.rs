//! Every folder two levels deep says what lives in it.

use std::path::Path;

use skink_docs::pages::names;
use skink_docs::{read, root};

/// Most lines of a folder's README.
const MOST_LINES: usize = 15;
/// Folders of the tree.
const TOP: [&str; 8] = [
    "docs",
    "init",
    "libipc",
    "libsys",
    "microkernel",
    "servers",
    "tests",
    "tools",
];
/// Folders whose meaning cargo gives.
const CARGO: [&str; 3] = ["src", "tests", "target"];

#[test]
fn folders_have_short_readmes() {
    for top in TOP {
        check(Path::new(top));
        for name in names(Path::new(top)) {
            let folder = Path::new(top).join(&name);
            if root().join(&folder).is_dir() && !CARGO.contains(&name.as_str()) {
                check(&folder);
            }
        }
    }
}

fn check(folder: &Path) {
    let readme = folder.join("README.md");
    assert!(
        root().join(&readme).is_file(),
        "{} has no README.md",
        folder.display()
    );
    // The contents of the book are as long as the book is.
    let lines = read(&readme).lines().count();
    let is_list = folder.starts_with("docs");
    assert!(
        is_list || lines <= MOST_LINES,
        "{} has {lines} lines",
        readme.display()
    );
}

#[test]
fn the_tree_has_the_folders_that_the_tour_knows() {
    let found: Vec<String> = names(Path::new(""))
        .into_iter()
        .filter(|name| root().join(name).is_dir() && !name.starts_with('.') && name != "target")
        .collect();
    assert_eq!(found, TOP);
}
