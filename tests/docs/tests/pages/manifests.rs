//! The reference of manifests.

use std::path::Path;

use skink_docs::pages::names;
use skink_docs::read;

const PAGE: &str = "docs/reference/manifest.md";

#[test]
fn every_field_in_use_is_explained() {
    let page = read(PAGE);
    for name in names(Path::new("init/services"))
        .iter()
        .filter(|name| name.ends_with(".toml"))
    {
        let manifest = read(Path::new("init/services").join(name));
        for line in manifest.lines() {
            let field = match line.split_once(" = ") {
                Some((field, _)) if !line.starts_with('#') => field,
                _ => line.trim_matches(['[', ']']),
            };
            if !line.starts_with('#') && !line.is_empty() {
                let is_there =
                    page.contains(&format!("`{field}`")) || page.contains(&format!("`[{field}]`"));
                assert!(is_there, "{PAGE} lacks `{field}` of {name}");
            }
        }
    }
}

#[test]
fn every_service_is_listed_with_its_level() {
    let page = read(PAGE);
    for name in names(Path::new("init/services"))
        .iter()
        .filter(|name| name.ends_with(".toml"))
    {
        let manifest = read(Path::new("init/services").join(name));
        let level = manifest
            .lines()
            .find_map(|line| line.strip_prefix("level = "));
        let level = level.expect("every manifest has a level");
        let service = name.trim_end_matches(".toml");
        let row = format!("| {level} | [`{service}`](../../init/services/{name}) |");
        assert!(page.contains(&row), "{PAGE} lacks the row {row}");
    }
}
