//! Links between pages.

use std::path::Path;

use skink_docs::pages::{all, anchors, links};
use skink_docs::{read, root};

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in all() {
        let text = read(&page);
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = page.parent().unwrap_or(Path::new(""));
            let target = if file.is_empty() {
                page.clone()
            } else {
                folder.join(file)
            };
            if !root().join(&target).exists() {
                broken.push(format!("{}: {link}: no such file", page.display()));
            } else if !anchor.is_empty() && !anchors(&read(&target)).contains(&anchor.to_owned()) {
                broken.push(format!("{}: {link}: no such heading", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn every_page_of_the_book_can_be_reached_from_its_contents() {
    let contents = links(&read("docs/README.md"));
    for page in all()
        .iter()
        .filter_map(|page| page.strip_prefix("docs").ok())
    {
        let name = page.to_string_lossy();
        if name.ends_with("README.md") {
            continue;
        }
        // A listed folder stands for its pages: its README lists them.
        let in_folder = page.parent().is_some_and(|folder| {
            let index = Path::new("docs").join(folder).join("README.md");
            let page_name = page
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            root().join(&index).exists() && links(&read(index)).contains(&page_name)
        });
        let is_listed = contents.iter().any(|link| *link == name) || in_folder;
        assert!(is_listed, "docs/{name} is in no list of contents");
    }
}
