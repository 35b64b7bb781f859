//! Numbers that must not grow: instructions per operation, kept in the repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::results::{Metric, align, figures};

/// How much more than its baseline a metric may be, in percent.
const TOLERANCE: f64 = 3.0;
/// The same for what waits for the host's disk: how many answers a wake-up finds depends on it.
const DISK_TOLERANCE: f64 = 5.0;
/// Starts of the names of such metrics.
const DISK: [&str; 3] = ["block.", "files.read.", "files.seq_read."];
/// Version of the file.
const SCHEMA: u32 = 1;

/// Returns where the baseline is kept.
pub(crate) fn file(root: &Path) -> PathBuf {
    root.join("tests/bench-baseline.json")
}

fn tolerance(name: &str) -> f64 {
    if DISK.iter().any(|start| name.starts_with(start)) {
        DISK_TOLERANCE
    } else {
        TOLERANCE
    }
}

/// Instructions by metric.
#[derive(Debug, PartialEq)]
pub(crate) struct Baseline(BTreeMap<String, f64>);

impl Baseline {
    /// Makes a baseline of what was measured.
    pub(crate) fn of(metrics: &[Metric]) -> Self {
        let values = metrics
            .iter()
            .map(|metric| (metric.name.clone(), metric.value));
        Self(values.collect())
    }

    /// Reads the file's content.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let file: Value = serde_json::from_str(text)?;
        ensure!(file["schema"] == SCHEMA, "it has another schema");
        let metrics = file["instructions"].as_object().context("no metrics")?;
        let values = metrics.iter().map(|(name, value)| {
            let value = value.as_f64().filter(|value| *value >= 0.0);
            let value = value.with_context(|| format!("{name} is no number"))?;
            Ok((name.clone(), value))
        });
        values.collect::<anyhow::Result<_>>().map(Self)
    }

    /// Returns the file's content.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        let file = json!({ "schema": SCHEMA, "instructions": self.0 });
        Ok(serde_json::to_string_pretty(&file)? + "\n")
    }

    /// Compares what was measured; looks only at names that start with `only`.
    pub(crate) fn compare(&self, metrics: &[Metric], only: &str) -> Comparison {
        let mut rows: Vec<Row> = metrics
            .iter()
            .map(|metric| Row::new(&metric.name, self.0.get(&metric.name), Some(metric.value)))
            .collect();
        let is_gone = |name: &str| metrics.iter().all(|metric| metric.name != name);
        rows.extend(
            self.0
                .iter()
                .filter(|(name, _)| name.starts_with(only) && is_gone(name))
                .map(|(name, value)| Row::new(name, Some(value), None)),
        );
        Comparison(rows)
    }
}

/// How a metric stands to its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Better,
    Worse,
    /// There is no baseline.
    New,
    /// It was not measured.
    Gone,
}

#[derive(Debug)]
struct Row {
    name: String,
    before: Option<f64>,
    now: Option<f64>,
    verdict: Verdict,
}

impl Row {
    fn new(name: &str, before: Option<&f64>, now: Option<f64>) -> Self {
        let tolerance = tolerance(name) / 100.0;
        let verdict = match (before, now) {
            (None, _) => Verdict::New,
            (_, None) => Verdict::Gone,
            (Some(before), Some(now)) if now > before * (1.0 + tolerance) => Verdict::Worse,
            (Some(before), Some(now)) if now < before * (1.0 - tolerance) => Verdict::Better,
            _ => Verdict::Same,
        };
        Self {
            name: name.to_owned(),
            before: before.copied(),
            now,
            verdict,
        }
    }
}

/// What was measured beside its baseline.
#[derive(Debug)]
pub(crate) struct Comparison(Vec<Row>);

impl Comparison {
    /// Returns whether nothing got worse and nothing is missing.
    pub(crate) fn is_good(&self) -> bool {
        let is_bad = |verdict| matches!(verdict, Verdict::Worse | Verdict::Gone);
        !self.0.iter().any(|row| is_bad(row.verdict))
    }

    /// Returns whether the baseline says more or other than what is true now.
    pub(crate) fn is_outdated(&self) -> bool {
        let is_new = |verdict| matches!(verdict, Verdict::Better | Verdict::New);
        self.0.iter().any(|row| is_new(row.verdict))
    }

    /// Returns a table.
    pub(crate) fn table(&self) -> String {
        let titles = ["benchmark", "baseline", "now", "change", ""];
        let mut rows = vec![titles.map(str::to_owned)];
        for row in &self.0 {
            let show = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figures);
            let change = match (row.before, row.now) {
                (Some(before), Some(now)) if before > 0.0 => {
                    format!("{:+.1} %", (now / before - 1.0) * 100.0)
                }
                _ => "-".to_owned(),
            };
            let verdict = match row.verdict {
                Verdict::Same => "",
                Verdict::Better => "better",
                Verdict::Worse => "WORSE",
                Verdict::New => "new",
                Verdict::Gone => "NOT MEASURED",
            };
            rows.push([
                row.name.clone(),
                show(row.before),
                show(row.now),
                change,
                verdict.to_owned(),
            ]);
        }
        align(&rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(values: &[(&str, f64)]) -> Vec<Metric> {
        let metric = |(name, value): &(&str, f64)| Metric {
            name: (*name).to_owned(),
            value: *value,
            median: *value,
            p99: None,
            unit: "instructions",
            samples: 1,
        };
        values.iter().map(metric).collect()
    }

    #[test]
    fn a_baseline_survives_its_file() {
        let baseline = Baseline::of(&metrics(&[("a", 1.5), ("b", 300.0)]));
        assert_eq!(
            Baseline::parse(&baseline.json().unwrap()).unwrap(),
            baseline
        );
    }

    #[test]
    fn other_files_are_refused() {
        let texts = [
            "",
            "{}",
            r#"{"schema":2,"instructions":{}}"#,
            r#"{"schema":1}"#,
            r#"{"schema":1,"instructions":{"a":"x"}}"#,
            r#"{"schema":1,"instructions":{"a":-1}}"#,
        ];
        for text in texts {
            assert!(Baseline::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn three_percent_more_is_good_and_over_it_is_not() {
        let baseline = Baseline::of(&metrics(&[("a", 1000.0)]));
        let compare = |now| baseline.compare(&metrics(&[("a", now)]), "");
        assert!(compare(1000.0).is_good());
        assert!(compare(1030.0).is_good());
        assert!(!compare(1030.5).is_good());
        assert!(compare(1040.0).table().contains("+4.0 % WORSE"));
        assert!(!compare(980.0).is_outdated());
        assert!(compare(900.0).is_good());
        assert!(compare(900.0).is_outdated());
    }

    #[test]
    fn what_waits_for_a_disk_may_differ_more() {
        let baseline = Baseline::of(&metrics(&[("block.x", 1000.0)]));
        let compare = |now| baseline.compare(&metrics(&[("block.x", now)]), "");
        assert!(compare(1049.0).is_good() && !compare(1060.0).is_good());
        assert!(!compare(960.0).is_outdated() && compare(940.0).is_outdated());
    }

    #[test]
    fn what_is_missing_is_bad_and_what_is_new_is_not() {
        let baseline = Baseline::of(&metrics(&[("a.x", 1.0), ("b.y", 1.0)]));
        let comparison = baseline.compare(&metrics(&[("b.y", 1.0), ("b.z", 1.0)]), "b.");
        assert!(comparison.is_good());
        assert!(comparison.is_outdated());
        let comparison = baseline.compare(&metrics(&[("b.y", 1.0)]), "");
        assert!(!comparison.is_good());
        assert!(comparison.table().contains("NOT MEASURED"));
    }
}
