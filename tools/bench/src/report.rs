//! How results are shown: a table for people, JSON for programs.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};

use skink_program::{Align, Failed, Table};

use crate::arguments::Unit;
use crate::{Cost, Summary};

/// A loop of known length, timed: shows what a tick is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Calibration {
    /// Instructions that the loop is.
    pub instructions: u64,
    /// Ticks that it took.
    pub ticks: u64,
}

/// The result of one benchmark.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Measured {
    /// Name of the metric.
    pub name: &'static str,
    /// What one operation is.
    pub about: &'static str,
    /// What came out.
    pub result: Result<Summary, Failed>,
}

/// All results, and what is needed to read them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// CPUs of the machine.
    pub cpus: u64,
    /// Time from the start of the kernel to the start of the measurements, ns.
    pub uptime_ns: u64,
    /// Ticks of the time stamp counter in a millisecond.
    pub ticks_per_ms: u64,
    /// What a tick is.
    pub calibration: Calibration,
    /// Results in the order in which they were measured.
    pub results: Vec<Measured>,
}

impl Report {
    /// Returns whether there is a result of every benchmark.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.results.iter().all(|measured| measured.result.is_ok())
    }

    /// Returns a table and what else is to be said.
    #[must_use]
    pub fn table(&self, unit: Unit) -> String {
        let (min, median, p99) = match unit {
            Unit::Ns => ("MIN ns", "MEDIAN ns", "P99 ns"),
            Unit::Ticks => ("MIN ticks", "MEDIAN ticks", "P99 ticks"),
        };
        let mut table = Table::new(&[
            ("BENCHMARK", Align::Left),
            (min, Align::Right),
            (median, Align::Right),
            (p99, Align::Right),
            ("OPERATIONS", Align::Right),
            ("WHAT", Align::Left),
        ]);
        let mut notes = String::new();
        for measured in &self.results {
            let [min, median, p99, operations] = match &measured.result {
                Ok(summary) => [
                    self.in_unit(summary.min, unit).to_string(),
                    self.in_unit(summary.median, unit).to_string(),
                    self.in_unit(summary.p99, unit).to_string(),
                    summary.operations.to_string(),
                ],
                Err(failed) => {
                    notes += &format!("{}: not measured: {}\n", measured.name, failed.message);
                    ["-"; 4].map(str::to_string)
                }
            };
            table.row([
                measured.name.into(),
                min,
                median,
                p99,
                operations,
                measured.about.into(),
            ]);
        }
        let Calibration {
            instructions,
            ticks,
        } = self.calibration;
        let mut text = table.render();
        text += &format!(
            "{} CPUs, {} ticks per ms; a loop of {instructions} instructions took {ticks} ticks.\n",
            self.cpus, self.ticks_per_ms,
        );
        text += &notes;
        text
    }

    fn in_unit(&self, ticks: Cost, unit: Unit) -> Cost {
        match unit {
            Unit::Ns => ticks.to_ns(self.ticks_per_ms),
            Unit::Ticks => ticks,
        }
    }

    /// Writes JSON: an object with a line for each result.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_json(&self, out: &mut impl Write) -> fmt::Result {
        writeln!(out, "{{\"schema\":1,\"cpus\":{},", self.cpus)?;
        writeln!(
            out,
            "\"uptime_ns\":{},\"ticks_per_ms\":{},",
            self.uptime_ns, self.ticks_per_ms
        )?;
        let Calibration {
            instructions,
            ticks,
        } = self.calibration;
        writeln!(
            out,
            "\"calibration\":{{\"instructions\":{instructions},\"ticks\":{ticks}}},"
        )?;
        write!(out, "\"metrics\":[")?;
        let mut separator = "\n";
        for measured in &self.results {
            if let Ok(summary) = &measured.result {
                write!(out, "{separator}")?;
                self.write_metric(measured.name, summary, out)?;
                separator = ",\n";
            }
        }
        write!(out, "\n],\"failed\":[")?;
        let mut separator = "\n";
        for measured in &self.results {
            if let Err(failed) = &measured.result {
                let (name, why) = (Quoted(measured.name), Quoted(&failed.message));
                write!(out, "{separator}{{\"name\":{name},\"why\":{why}}}")?;
                separator = ",\n";
            }
        }
        writeln!(out, "\n]}}")
    }

    fn write_metric(&self, name: &str, summary: &Summary, out: &mut impl Write) -> fmt::Result {
        write!(out, "{{\"name\":{},", Quoted(name))?;
        let costs = [
            ("", summary.min),
            ("_median", summary.median),
            ("_p99", summary.p99),
        ];
        for (which, cost) in costs {
            let ns = cost.to_ns(self.ticks_per_ms);
            let (ticks, ns) = (Exact(cost), Exact(ns));
            write!(out, "\"ticks{which}\":{ticks},\"ns{which}\":{ns},")?;
        }
        let Summary {
            batches,
            operations,
            ..
        } = summary;
        write!(out, "\"samples\":{batches},\"operations\":{operations}}}")
    }
}

/// A cost with all its places.
struct Exact(Cost);

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let thousandths = self.0.thousandths();
        write!(f, "{}.{:03}", thousandths / 1000, thousandths % 1000)
    }
}

/// A text in quotation marks, as JSON wants it.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                _ if character < ' ' => write!(f, "\\u{:04x}", u32::from(character))?,
                _ => f.write_char(character)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{Calibration, Measured, Quoted, Report};
    use crate::arguments::Unit;
    use crate::{Cost, Summary};
    use skink_program::Failed;

    fn report() -> Report {
        let summary = Summary {
            min: Cost::per_operation(2_469, 2),
            median: Cost::per_operation(1_300, 1),
            p99: Cost::per_operation(2_000, 1),
            batches: 15,
            operations: 15_000,
        };
        Report {
            cpus: 1,
            uptime_ns: 123,
            ticks_per_ms: 2_000_000,
            calibration: Calibration {
                instructions: 2_000_000,
                ticks: 2_000_004,
            },
            results: vec![
                Measured {
                    name: "a.b",
                    about: "one",
                    result: Ok(summary),
                },
                Measured {
                    name: "c",
                    about: "two",
                    result: Err(Failed::new("no \"x\"")),
                },
            ],
        }
    }

    #[test]
    fn json_is_what_programs_read() {
        let mut text = String::new();
        report().write_json(&mut text).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let metric = &json["metrics"][0];
        assert_eq!(metric["name"], "a.b");
        assert_eq!(metric["ticks"], 1234.5);
        assert_eq!(metric["ns"], 617.25);
        assert_eq!(metric["ticks_p99"], 2000.0);
        assert_eq!(metric["ns_p99"], 1000.0);
        assert_eq!(metric["samples"], 15);
        assert_eq!(json["calibration"]["ticks"], 2_000_004);
        assert_eq!(json["failed"][0]["why"], "no \"x\"");
    }

    #[test]
    fn a_table_shows_one_unit_and_says_what_is_missing() {
        let ns = report().table(Unit::Ns);
        assert!(
            ns.lines().nth(1).unwrap().starts_with("a.b           617"),
            "{ns}"
        );
        assert!(ns.ends_with("c: not measured: no \"x\"\n"), "{ns}");
        assert!(report().table(Unit::Ticks).contains("1235"));
        assert!(!report().is_complete());
    }

    #[test]
    fn a_report_without_results_is_still_json() {
        let mut text = String::new();
        Report {
            results: vec![],
            ..report()
        }
        .write_json(&mut text)
        .unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["metrics"].as_array().unwrap().len(), 0);
    }

    proptest! {
        #[test]
        fn any_text_can_be_quoted(text: String) {
            let back: String = serde_json::from_str(&Quoted(&text).to_string()).unwrap();
            prop_assert_eq!(back, text);
        }
    }
}
