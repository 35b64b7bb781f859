//! The size of the kernel as the README has it.

use skink_docs::{expect_content, is_blessing, lines, read, root};

const BEGIN: &str = "<!-- kernel lines -->";
const END: &str = "<!-- end -->";
/// The figure may be this far off (some 3 %), so that not every commit has to touch it.
const TOLERANCE: usize = 200;
/// The promise.
const LIMIT: usize = 10_000;

fn count() -> usize {
    ["microkernel/core/src", "microkernel/kernel/src"]
        .iter()
        .map(|folder| lines::in_folder(&root().join(folder)))
        .sum()
}

#[test]
fn the_kernel_stays_small() {
    let count = count();
    assert!(
        count < LIMIT,
        "the kernel has {count} lines, {LIMIT} are the limit"
    );
}

#[test]
fn the_readme_has_the_right_figure() {
    let readme = read("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("the README has the mark");
    let (figure, after) = rest.split_once(END).expect("the README has the end mark");
    let claimed: usize = figure
        .replace(',', "")
        .trim()
        .parse()
        .expect("a number is between the marks");
    let count = count();
    if claimed.abs_diff(count) <= TOLERANCE && !is_blessing() {
        return;
    }
    let figure = format!("{},{:03}", count / 1000, count % 1000);
    expect_content("README.md", &format!("{before}{BEGIN}{figure}{END}{after}"));
}
