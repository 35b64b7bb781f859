//! The Markdown files of the tree, and the links in them.

use std::path::{Path, PathBuf};

use crate::root;

/// Folders that hold no documentation of ours.
const LEFT_OUT: [&str; 2] = ["target", ".git"];

/// Returns all Markdown files, as paths from the root, sorted.
///
/// # Panics
///
/// When a folder cannot be read.
#[must_use]
pub fn all() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    collect(Path::new(""), &mut pages);
    pages.sort();
    pages
}

fn collect(folder: &Path, pages: &mut Vec<PathBuf>) {
    for name in names(folder) {
        let path = folder.join(&name);
        if root().join(&path).is_dir() {
            if !LEFT_OUT.contains(&name.as_str()) {
                collect(&path, pages);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
}

/// Returns the names in a folder of the tree, sorted.
///
/// # Panics
///
/// When the folder cannot be read.
#[must_use]
pub fn names(folder: &Path) -> Vec<String> {
    let path = root().join(folder);
    let entries =
        std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut names: Vec<String> = entries
        .map(|entry| {
            let entry = entry.expect("a readable folder has readable entries");
            entry.file_name().to_string_lossy().into_owned()
        })
        .collect();
    names.sort();
    names
}

/// Returns the targets of the links and images in a text, those in code left out.
#[must_use]
pub fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            // Text between backquotes is every second part.
            for part in line.split('`').step_by(2) {
                links_in_part(part, &mut found);
            }
            // A link whose text is code is cut by the above: its target follows the backquote.
            for part in line.split("`](").skip(1) {
                found.extend(part.split_once(')').map(|(target, _)| target.to_owned()));
            }
        }
    }
    found
}

fn links_in_part(part: &str, found: &mut Vec<String>) {
    for rest in part.split("](").skip(1).filter(|_| !part.starts_with("](")) {
        found.extend(rest.split_once(')').map(|(target, _)| target.to_owned()));
    }
    for attribute in ["src=\"", "srcset=\"", "href=\""] {
        for rest in part.split(attribute).skip(1) {
            found.extend(rest.split_once('"').map(|(target, _)| target.to_owned()));
        }
    }
}

/// Returns the anchors of a page: its headings as the usual renderers name them.
#[must_use]
pub fn anchors(text: &str) -> Vec<String> {
    let mut is_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        } else if !is_code && line.starts_with('#') {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let anchor: String = heading
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect();
            found.push(anchor);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{anchors, links};

    #[test]
    fn links_are_found_but_not_in_code() {
        let text =
            "See [a](x.md), [`b`](y.md#z) and `[c](no)`.\n```\n[d](no)\n```\n<img src=\"p.svg\">";
        assert_eq!(links(text), ["x.md", "y.md#z", "p.svg"]);
    }

    #[test]
    fn headings_are_anchors() {
        assert_eq!(
            anchors("# A b\n```\n# no\n```\n## `call`: it's"),
            ["a-b", "call-its"]
        );
    }
}
