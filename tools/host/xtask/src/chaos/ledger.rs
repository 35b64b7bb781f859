//! The figures of the documentation: a file, a chart, and a table between two marks.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::figures::Figures;
use super::plot;

const PAGE: &str = "docs/recovery.md";
const CHART: &str = "docs/images/recovery-gaps.svg";
/// Kinds of kills: they share a table.
const KILLS: [&str; 3] = ["single", "pair", "again"];

/// The part for campaigns with thousands of open files.
const CROWD: &str = "crowd";

/// A part of the page, with the file that it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Section {
    /// Name in the marks, and of the file.
    name: &'static str,
    has_chart: bool,
}

const SECTIONS: [Section; 12] = [
    Section {
        name: "recovery",
        has_chart: true,
    },
    Section::plain("matrix"),
    Section::plain("init"),
    Section::plain("swap"),
    Section::plain("broken"),
    Section::plain("hang"),
    Section::plain("slow"),
    Section::plain("drop"),
    Section::plain("duplicate"),
    Section::plain("exhaust"),
    Section::plain("silent"),
    Section::plain(CROWD),
];

impl Section {
    /// A part without a chart.
    const fn plain(name: &'static str) -> Self {
        Self {
            name,
            has_chart: false,
        }
    }

    /// Returns the part for campaigns of a plan (kinds, with commas between them), with so many files
    /// that were kept open besides.
    fn of(plan: &str, open: u64) -> anyhow::Result<Self> {
        let are_kills = plan.split(',').all(|kind| KILLS.contains(&kind));
        let name = match (are_kills, open > 0) {
            (true, true) => CROWD,
            (true, false) => SECTIONS[0].name,
            (false, _) => plan,
        };
        let found = SECTIONS.into_iter().find(|section| section.name == name);
        found.with_context(|| {
            let names = SECTIONS.map(|section| section.name).join(", ");
            format!("{PAGE} has figures of {names} alone, not of {plan}")
        })
    }

    fn file(self) -> String {
        format!("docs/figures/{}.json", self.name)
    }

    /// Returns where the table starts and ends.
    fn marks(self) -> [String; 2] {
        let name = self.name;
        [
            format!("<!-- figures of {name}: from here, by `cargo xtask chaos --bless` -->\n"),
            format!("<!-- figures of {name}: to here -->\n"),
        ]
    }

    /// Puts a text between the marks of a page.
    fn replace(self, page: &str, text: &str) -> anyhow::Result<String> {
        let [begin, end] = self.marks();
        let marks = page
            .find(&begin)
            .map(|at| at + begin.len())
            .zip(page.find(&end));
        let (begin, end) = marks
            .with_context(|| format!("{PAGE} lacks the marks of the figures of {}", self.name))?;
        ensure!(
            begin <= end,
            "{PAGE}: the marks of the figures of {} are in the wrong order",
            self.name
        );
        Ok(format!("{}\n{text}\n{}", &page[..begin], &page[end..]))
    }
}

/// Writes file, chart and table. A campaign in which something went wrong is kept as well: it is
/// the figures that are to be honest.
///
/// `text` is the file of the campaign; what it says of each boot is left out.
pub(crate) fn bless(root: &Path, text: &str) -> anyhow::Result<()> {
    let figures = &Figures::parse(text)?;
    let section = Section::of(figures.plan(), figures.open())?;
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
    write(
        &section.file(),
        &(serde_json::to_string_pretty(&kept)? + "\n"),
    )?;
    if section.has_chart {
        write(CHART, &plot::svg(figures)?)?;
    }
    let page = root.join(PAGE);
    let old = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    write(PAGE, &section.replace(&old, &figures.markdown())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page shows what the files say.
    #[test]
    fn the_page_agrees_with_the_files() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        let page = fs::read_to_string(root.join(PAGE)).unwrap();
        for section in SECTIONS {
            let file = fs::read_to_string(root.join(section.file())).unwrap();
            let figures = Figures::parse(&file).unwrap();
            let shown = section.replace(&page, &figures.markdown()).unwrap();
            assert_eq!(shown, page, "{section:?}");
            if section.has_chart {
                let chart = fs::read_to_string(root.join(CHART)).unwrap();
                assert_eq!(plot::svg(&figures).unwrap(), chart);
            }
        }
    }

    #[test]
    fn the_text_goes_between_the_marks() {
        let section = SECTIONS[1];
        let [begin, end] = section.marks();
        let page = format!("a\n{begin}old\n{end}b\n");
        let new = section.replace(&page, "new\n").unwrap();
        assert_eq!(new, format!("a\n{begin}\nnew\n\n{end}b\n"));
        assert_eq!(section.replace(&new, "new\n").unwrap(), new);
        assert!(SECTIONS[0].replace(&page, "b").is_err());
        assert!(section.replace(&format!("{end}{begin}"), "b").is_err());
    }

    #[test]
    fn each_kind_of_campaign_has_its_place() {
        for (plan, name) in [
            ("single,again", "recovery"),
            ("matrix", "matrix"),
            ("swap", "swap"),
            ("hang", "hang"),
        ] {
            assert_eq!(Section::of(plan, 0).unwrap().name, name);
        }
        assert_eq!(Section::of("single", 10_000).unwrap().name, CROWD);
        for plan in ["single,hang", "flip", ""] {
            let error = Section::of(plan, 0).unwrap_err().to_string();
            assert!(error.contains("alone"), "{error}");
        }
    }
}
