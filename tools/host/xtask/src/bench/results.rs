//! What was measured: read from the guest, shown as a table, written as JSON.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::restart::Restart;

/// Version of the file that is written.
const SCHEMA: u32 = 1;
/// How far the ticks of a loop may be from its instructions, in thousandths, where the clock
/// counts instructions. What is over are timer interrupts.
const TOLERANCE: u64 = 10;
/// Unit of boots.
const MS: &str = "ms";

/// What the machine's clock counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Instructions.
    Icount,
    /// Time of the host.
    Tcg,
}

impl Mode {
    pub(crate) const ALL: [Mode; 2] = [Mode::Icount, Mode::Tcg];

    /// Returns the name in the file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Icount => "icount",
            Mode::Tcg => "tcg",
        }
    }

    /// Returns what is measured, for people.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Mode::Icount => "instructions (-icount shift=0,sleep=off)",
            Mode::Tcg => "time (plain emulation)",
        }
    }

    /// Returns what QEMU needs to be told.
    pub(crate) fn qemu_arguments(self) -> &'static [&'static str] {
        match self {
            Mode::Icount => &["-icount", "shift=0,sleep=off"],
            Mode::Tcg => &[],
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Mode::Icount => "instructions",
            Mode::Tcg => "ns",
        }
    }
}

/// What the program `bench` printed.
#[derive(Debug)]
pub(crate) struct GuestReport(Value);

impl GuestReport {
    /// Reads the output of a machine. Under [`Mode::Icount`] a tick must be an instruction.
    pub(crate) fn parse(output: &str, mode: Mode) -> anyhow::Result<Self> {
        let (start, end) = (output.find('{'), output.rfind('}'));
        let text = match (start, end) {
            (Some(start), Some(end)) if start < end => &output[start..=end],
            _ => anyhow::bail!("the guest has printed no results: {output:?}"),
        };
        let report: Value = serde_json::from_str(text).context("the guest's results")?;
        ensure!(
            report["schema"] == SCHEMA,
            "the guest's results have another schema"
        );
        if mode == Mode::Icount {
            let number = |name: &str| report["calibration"][name].as_u64();
            let (expected, ticks) = number("instructions")
                .zip(number("ticks"))
                .context("no calibration")?;
            ensure!(
                ticks.abs_diff(expected) <= expected / 1000 * TOLERANCE,
                "a loop of {expected} instructions took {ticks} ticks: ticks are no instructions"
            );
        }
        Ok(Self(report))
    }

    /// Returns what could not be measured, and why.
    pub(crate) fn failed(&self) -> impl Iterator<Item = (&str, &str)> {
        let failed = self.0["failed"].as_array().into_iter().flatten();
        failed.map(|one| {
            (
                one["name"].as_str().unwrap_or("?"),
                one["why"].as_str().unwrap_or("?"),
            )
        })
    }

    /// Returns what was measured.
    pub(crate) fn metrics(&self, mode: Mode) -> anyhow::Result<Vec<Metric>> {
        let [value, median, p99] = match mode {
            Mode::Icount => ["ticks", "ticks_median", "ticks_p99"],
            Mode::Tcg => ["ns", "ns_median", "ns_p99"],
        };
        let metrics = self.0["metrics"].as_array().context("no metrics")?;
        metrics
            .iter()
            .map(|metric| {
                let number = |name: &str| {
                    metric[name]
                        .as_f64()
                        .with_context(|| format!("no {name} in {metric}"))
                };
                Ok(Metric {
                    name: metric["name"]
                        .as_str()
                        .context("a metric without a name")?
                        .to_owned(),
                    value: number(value)?,
                    median: number(median)?,
                    p99: Some(number(p99)?),
                    unit: mode.unit(),
                    samples: metric["samples"].as_u64().context("no samples")?,
                })
            })
            .collect()
    }
}

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metric {
    /// Its name, which never changes its meaning.
    pub(crate) name: String,
    /// The least disturbed sample.
    pub(crate) value: f64,
    /// The sample in the middle.
    pub(crate) median: f64,
    /// What 99 of 100 operations do not exceed, each measured by itself.
    pub(crate) p99: Option<f64>,
    /// What it counts.
    pub(crate) unit: &'static str,
    /// How often it was measured.
    pub(crate) samples: u64,
}

impl Metric {
    /// Makes the metric of boots that took so long; there is at least one.
    pub(crate) fn of_boots(times: &[Duration]) -> Self {
        let mut ms: Vec<f64> = times
            .iter()
            .map(|time| time.as_secs_f64() * 1000.0)
            .collect();
        ms.sort_by(f64::total_cmp);
        let rounded = |at: usize| ms.get(at).map_or(0.0, |ms| (ms * 10.0).round() / 10.0);
        Self {
            name: super::BOOT.to_owned(),
            value: rounded(0),
            median: rounded(ms.len() / 2),
            p99: None,
            unit: MS,
            samples: ms.len() as u64,
        }
    }

    fn json(&self) -> Value {
        let mut json = json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "samples": self.samples,
            "median": self.median,
        });
        if let Some(p99) = self.p99 {
            json["p99"] = json!(p99);
        }
        json
    }

    fn from_json(json: &Value) -> anyhow::Result<Self> {
        let number = |name: &str| json[name].as_f64().with_context(|| format!("no {name}"));
        let known = [Mode::Icount.unit(), Mode::Tcg.unit(), MS];
        let unit = known.into_iter().find(|unit| json["unit"] == *unit);
        Ok(Self {
            name: json["name"].as_str().context("no name")?.to_owned(),
            value: number("value")?,
            median: number("median")?,
            p99: json["p99"].as_f64(),
            unit: unit.context("no unit")?,
            samples: json["samples"].as_u64().context("no samples")?,
        })
    }
}

/// The metrics of one mode.
#[derive(Clone, Debug)]
pub(crate) struct RunResults {
    pub(crate) mode: Mode,
    pub(crate) metrics: Vec<Metric>,
}

impl RunResults {
    fn json(&self) -> Value {
        let metrics: Vec<Value> = self.metrics.iter().map(Metric::json).collect();
        json!({ "mode": self.mode.name(), "metrics": metrics })
    }

    fn from_json(json: &Value) -> anyhow::Result<Self> {
        let mode = Mode::ALL
            .into_iter()
            .find(|mode| json["mode"] == mode.name());
        let metrics = json["metrics"].as_array().context("no metrics")?;
        Ok(Self {
            mode: mode.context("no mode")?,
            metrics: metrics
                .iter()
                .map(Metric::from_json)
                .collect::<anyhow::Result<_>>()?,
        })
    }
}

fn runs_from_json(json: &Value) -> anyhow::Result<Vec<RunResults>> {
    let runs = json["runs"].as_array().context("no runs")?;
    runs.iter().map(RunResults::from_json).collect()
}

fn find<'a>(runs: &'a [RunResults], mode: Mode, name: &str) -> Option<&'a Metric> {
    let run = runs.iter().find(|run| run.mode == mode)?;
    run.metrics.iter().find(|metric| metric.name == name)
}

/// What was measured in Linux.
#[derive(Clone, Debug)]
pub(crate) struct LinuxResults {
    /// The kernel's version.
    pub(crate) kernel: String,
    pub(crate) runs: Vec<RunResults>,
}

impl LinuxResults {
    /// Returns the value of a metric.
    pub(crate) fn value(&self, mode: Mode, name: &str) -> Option<f64> {
        find(&self.runs, mode, name).map(|metric| metric.value)
    }
}

/// All that was measured.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    commit: String,
    pub(crate) runs: Vec<RunResults>,
    pub(crate) linux: Option<LinuxResults>,
    pub(crate) restart: Restart,
}

impl Results {
    /// Makes empty results of a commit.
    pub(crate) fn new(commit: String) -> Self {
        Self {
            commit,
            runs: Vec::new(),
            linux: None,
            restart: Restart::default(),
        }
    }

    /// Reads the content of `latest.json`.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let file: Value = serde_json::from_str(text)?;
        ensure!(file["schema"] == SCHEMA, "it has another schema");
        let linux = match &file["linux"] {
            Value::Null => None,
            linux => Some(LinuxResults {
                kernel: linux["kernel"].as_str().context("no kernel")?.to_owned(),
                runs: runs_from_json(linux)?,
            }),
        };
        let restart = match &file["restart"] {
            Value::Null => Restart::default(),
            restart => Restart::from_json(restart)?,
        };
        Ok(Self {
            commit: file["commit"].as_str().context("no commit")?.to_owned(),
            runs: runs_from_json(&file)?,
            linux,
            restart,
        })
    }

    /// Returns the content of `latest.json`.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        let json = |runs: &[RunResults]| runs.iter().map(RunResults::json).collect::<Vec<_>>();
        let mut file = json!({
            "schema": SCHEMA,
            "commit": self.commit,
            "runs": json(&self.runs),
        });
        if let Some(linux) = &self.linux {
            file["linux"] = json!({ "kernel": linux.kernel, "runs": json(&linux.runs) });
        }
        if !self.restart.is_empty() {
            file["restart"] = self.restart.json();
        }
        Ok(serde_json::to_string_pretty(&file)? + "\n")
    }

    /// Returns the value of a metric.
    pub(crate) fn value(&self, mode: Mode, name: &str) -> Option<f64> {
        self.metric(mode, name).map(|metric| metric.value)
    }

    /// Returns a metric.
    pub(crate) fn metric(&self, mode: Mode, name: &str) -> Option<&Metric> {
        find(&self.runs, mode, name)
    }

    /// Returns a table with a row for each metric and columns for both modes.
    pub(crate) fn table(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for metric in self.runs.iter().flat_map(|run| &run.metrics) {
            if !names.contains(&metric.name.as_str()) {
                names.push(&metric.name);
            }
        }
        let titles = ["benchmark", "instructions", "min", "median", "p99", ""];
        let mut rows = vec![titles.map(str::to_owned)];
        for name in names {
            let find = |mode| find(&self.runs, mode, name);
            let (icount, tcg) = (find(Mode::Icount), find(Mode::Tcg));
            let show = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figures);
            rows.push([
                name.to_owned(),
                show(icount.map(|metric| metric.value)),
                show(tcg.map(|metric| metric.value)),
                show(tcg.map(|metric| metric.median)),
                show(tcg.and_then(|metric| metric.p99)),
                tcg.map_or("", |metric| metric.unit).to_owned(),
            ]);
        }
        align(&rows)
    }
}

/// Returns a number with at least three figures.
pub(crate) fn figures(value: f64) -> String {
    if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// Returns rows with the first and the last column to the left and the others to the right.
pub(crate) fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.len());
        }
    }
    let mut table = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (text, width)) in row.iter().zip(widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = match column {
                0 => write!(line, "{text:<width$}"),
                _ if column == N - 1 => write!(line, " {text}"),
                _ => write!(line, "  {text:>width$}"),
            };
        }
        table += line.trim_end();
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = r#"
{"schema":1,"cpus":1,
"uptime_ns":5,"ticks_per_ms":1000000,
"calibration":{"instructions":2000000,"ticks":2000004},
"metrics":[
{"name":"ipc.x","ticks":417.5,"ns":5227.25,"ticks_median":418.000,"ns_median":6000.000,"ticks_p99":500.5,"ns_p99":7000.0,"samples":15,"operations":15000}
],"failed":[
{"name":"ipc.y","why":"no \"x\""}
]}
"#;

    fn results() -> Results {
        let mut results = Results::new("abc".to_owned());
        for mode in Mode::ALL {
            let metrics = GuestReport::parse(OUTPUT, mode)
                .unwrap()
                .metrics(mode)
                .unwrap();
            results.runs.push(RunResults { mode, metrics });
        }
        let boots = [40.04, 30.0, 50.0].map(Duration::from_secs_f64);
        results.runs[1].metrics.push(Metric::of_boots(&boots));
        results
    }

    #[test]
    fn the_file_has_the_promised_form() {
        let file: Value = serde_json::from_str(&results().json().unwrap()).unwrap();
        assert_eq!(file["schema"], 1);
        assert_eq!(file["commit"], "abc");
        let icount = &file["runs"][0];
        assert_eq!(icount["mode"], "icount");
        assert_eq!(icount["metrics"][0]["name"], "ipc.x");
        assert_eq!(icount["metrics"][0]["value"], 417.5);
        assert_eq!(icount["metrics"][0]["unit"], "instructions");
        assert_eq!(icount["metrics"][0]["samples"], 15);
        let tcg = &file["runs"][1]["metrics"];
        assert_eq!(
            (&tcg[0]["value"], &tcg[0]["unit"]),
            (&json!(5227.25), &json!("ns"))
        );
        assert_eq!(
            (&tcg[1]["value"], &tcg[1]["median"]),
            (&json!(30000.0), &json!(40040.0))
        );
    }

    #[test]
    fn both_modes_stand_side_by_side() {
        let table = results().table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines[1],
            "ipc.x                      418   5227    6000  7000 ns"
        );
        assert_eq!(
            lines[2],
            "boot.to_shell_ms             -  30000   40040     - ms"
        );
    }

    #[test]
    fn the_file_can_be_read_again() {
        let mut results = results();
        let alone = results.json().unwrap();
        assert_eq!(Results::parse(&alone).unwrap().json().unwrap(), alone);
        results.linux = Some(LinuxResults {
            kernel: "6.1".to_owned(),
            runs: results.runs.clone(),
        });
        let both = results.json().unwrap();
        let read = Results::parse(&both).unwrap();
        assert_eq!(read.json().unwrap(), both);
        let linux = read.linux.unwrap();
        assert_eq!(linux.value(Mode::Icount, "ipc.x"), Some(417.5));
        assert_eq!(linux.value(Mode::Tcg, "ipc.y"), None);
        for text in ["", "{}", r#"{"schema":1,"commit":"a","runs":[{}]}"#] {
            assert!(Results::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_failed_in_the_guest_is_told() {
        let report = GuestReport::parse(OUTPUT, Mode::Tcg).unwrap();
        assert_eq!(report.failed().collect::<Vec<_>>(), [("ipc.y", "no \"x\"")]);
    }

    #[test]
    fn ticks_that_are_no_instructions_are_refused() {
        let output = OUTPUT.replace("2000004", "2100000");
        assert!(GuestReport::parse(&output, Mode::Tcg).is_ok());
        let error = GuestReport::parse(&output, Mode::Icount)
            .unwrap_err()
            .to_string();
        assert!(error.contains("2100000 ticks"), "{error}");
    }

    #[test]
    fn other_output_is_refused() {
        for output in ["", "bench: no such program", "}{", "{}", "{\"schema\":2}"] {
            assert!(GuestReport::parse(output, Mode::Tcg).is_err(), "{output}");
        }
    }
}
