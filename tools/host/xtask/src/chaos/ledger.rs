//! The figures of the documentation: a file, a chart, and a table between two marks.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::figures::Figures;
use super::plot;

/// Where the figures are kept.
const FILE: &str = "docs/figures/recovery.json";
const CHART: &str = "docs/images/recovery-gaps.svg";
const PAGE: &str = "docs/recovery.md";
/// Where the table starts and ends.
const BEGIN: &str = "<!-- figures: from here, by `cargo xtask chaos --bless` -->\n";
const END: &str = "<!-- figures: to here -->\n";

/// Writes file, chart and table. A campaign in which something went wrong is kept as well: it is
/// the figures that are to be honest.
///
/// `text` is the file of the campaign; what it says of each boot is left out.
pub(crate) fn bless(root: &Path, text: &str) -> anyhow::Result<()> {
    let figures = &Figures::parse(text)?;
    let mut kept: Value = serde_json::from_str(text)?;
    if let Some(kept) = kept.as_object_mut() {
        kept.remove("batches");
    }
    let write = |name: &str, text: &str| {
        let file = root.join(name);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}", file.display());
        Ok::<_, anyhow::Error>(())
    };
    write(FILE, &(serde_json::to_string_pretty(&kept)? + "\n"))?;
    write(CHART, &plot::svg(figures)?)?;
    let page = root.join(PAGE);
    let old = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    write(PAGE, &replace(&old, &figures.markdown())?)
}

/// Puts a text between the marks of a page.
fn replace(page: &str, text: &str) -> anyhow::Result<String> {
    let marks = page.find(BEGIN).zip(page.find(END));
    let (begin, end) = marks.with_context(|| format!("{PAGE} lacks the marks of the figures"))?;
    let begin = begin + BEGIN.len();
    ensure!(
        begin <= end,
        "{PAGE}: the marks of the figures are in the wrong order"
    );
    Ok(format!("{}\n{text}\n{}", &page[..begin], &page[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page shows what the file says.
    #[test]
    fn the_page_agrees_with_the_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        let figures = Figures::parse(&fs::read_to_string(root.join(FILE)).unwrap()).unwrap();
        let page = fs::read_to_string(root.join(PAGE)).unwrap();
        assert_eq!(replace(&page, &figures.markdown()).unwrap(), page);
        let chart = fs::read_to_string(root.join(CHART)).unwrap();
        assert_eq!(plot::svg(&figures).unwrap(), chart);
    }

    #[test]
    fn the_text_goes_between_the_marks() {
        let page = format!("a\n{BEGIN}old\n{END}b\n");
        let new = replace(&page, "new\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\nnew\n\n{END}b\n"));
        assert_eq!(replace(&new, "new\n").unwrap(), new);
        assert!(replace("a", "b").is_err());
        assert!(replace(&format!("{END}{BEGIN}"), "b").is_err());
    }
}
