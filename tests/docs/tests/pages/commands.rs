//! The reference of commands.

use std::path::Path;

use skink_docs::pages::names;
use skink_docs::{read, root};

const PAGE: &str = "docs/reference/commands.md";

#[test]
fn every_program_has_a_row() {
    let page = read(PAGE);
    for name in names(Path::new("tools/system")) {
        if root()
            .join("tools/system")
            .join(&name)
            .join("src/main.rs")
            .is_file()
        {
            assert!(
                page.contains(&format!("\n| `{name}")),
                "{PAGE} lacks the program {name}"
            );
        }
    }
}

#[test]
fn every_xtask_command_has_a_row() {
    let page = read(PAGE);
    let source = read("tools/host/xtask/src/main.rs");
    let (_, commands) = source
        .split_once("enum Command {")
        .expect("the commands are an enum");
    let (commands, _) = commands.split_once("\n}").expect("the enum ends");
    let mut count = 0;
    for line in commands
        .lines()
        .map(str::trim)
        .filter(|line| line.ends_with(','))
    {
        let name = line
            .split(['(', ','])
            .next()
            .unwrap_or_default()
            .to_lowercase();
        assert!(
            page.contains(&format!("| `cargo xtask {name}` |")),
            "{PAGE} lacks xtask {name}"
        );
        count += 1;
    }
    assert!(count > 0, "no command was found");
}
