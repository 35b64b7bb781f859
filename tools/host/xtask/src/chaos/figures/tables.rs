//! Tables and a summary, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Figures;
use super::rows::{Faults, Gaps};

/// The kind of swaps to a version that works.
const SWAP: &str = "swap";
/// Plans in which pairs of services are killed one after the other.
const PAIRS: [&str; 2] = ["matrix", "init"];
/// The kind of faults that are found by their time.
const HANG: &str = "hang";
/// Kinds of faults that change nothing in a service: beginnings of their names.
const PASSING: [&str; 4] = ["slow", "drop", "duplicate", "exhaust"];

/// Returns whether a kind of faults has a table of its own.
fn has_own_table(kind: &str) -> bool {
    kind == HANG || is_passing(kind)
}

fn is_passing(kind: &str) -> bool {
    PASSING.iter().any(|passing| kind.starts_with(passing))
}

impl Figures {
    /// Returns the summary and a table, as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let crowd = if self.open > 0 {
            format!("{} open files besides, ", self.open)
        } else {
            String::new()
        };
        let mut text = format!(
            "{}Plan `{}`, {crowd}{} µs from a recovery to the next kill, {} CPU, {}; seed {}, commit `{}`.\n\n",
            self.summary(),
            self.plan,
            self.gap_us,
            self.cpus,
            self.clock,
            self.seed,
            self.commit.get(..12).unwrap_or(&self.commit),
        );
        let tables = [
            self.kill_table(),
            self.matrix_table(),
            self.swap_table(),
            self.hang_table(),
            self.passing_table(),
            self.fault_tables(),
        ];
        text += &tables.concat();
        let _ = write!(text, "\nAgain: `{}`\n", self.command);
        text
    }

    fn kill_table(&self) -> String {
        if self.kills() == 0 {
            return String::new();
        }
        let mut text =
            "| service | kills | recovered | gap p50, ms | p90 | p99 | max | redelivered |\n\
                        |---|---:|---:|---:|---:|---:|---:|---:|\n"
                .to_owned();
        for (name, service) in self.services.iter().filter(|(_, row)| row.kills > 0) {
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(
                text,
                "| `{name}` | {} | {} |{} {} |",
                service.kills,
                service.recovered,
                columns(&service.main_gaps()),
                service.redelivered
            );
        }
        text
    }

    /// Who was killed behind whom, how often, when all pairs were.
    fn matrix_table(&self) -> String {
        let is_asked = |kind: &str| PAIRS.contains(&kind);
        if !self.plan.split(',').any(is_asked) {
            return String::new();
        }
        let mut firsts: Vec<&String> = self
            .services
            .values()
            .flat_map(|service| service.seconds.keys())
            .collect();
        firsts.sort();
        firsts.dedup();
        let names: Vec<String> = firsts.iter().map(|name| format!("`{name}`")).collect();
        let mut text = format!(
            "\nKilled behind another, or twice; recovered of times:\n\n| killed behind | {} |\n|---|{}\n",
            names.join(" | "),
            "---:|".repeat(names.len())
        );
        for (name, service) in &self.services {
            let cells: Vec<String> = firsts
                .iter()
                .map(|first| {
                    let second = service.seconds.get(*first).copied().unwrap_or_default();
                    format!("{}/{}", second.recovered, second.times)
                })
                .collect();
            let _ = writeln!(text, "| `{name}` | {} |", cells.join(" | "));
        }
        text
    }

    /// What became of faults by class and by service, and the list of those not recovered.
    fn fault_tables(&self) -> String {
        let mut classes: BTreeMap<&str, Faults> = BTreeMap::new();
        let mut services: BTreeMap<&str, Faults> = BTreeMap::new();
        for (name, service) in &self.services {
            for (kind, faults) in service
                .faults
                .iter()
                .filter(|(kind, _)| !has_own_table(kind))
            {
                classes.entry(kind).or_default().add(faults);
                services.entry(name).or_default().add(faults);
            }
        }
        if classes.is_empty() {
            return String::new();
        }
        let mut text = String::new();
        for (title, rows) in [("class", classes), ("service", services)] {
            let _ = write!(
                text,
                "\n| {title} | injected | activated | manifested | recovered | of manifested, % |\n\
                 |---|---:|---:|---:|---:|---:|\n"
            );
            let mut all = Faults::default();
            for (name, faults) in rows {
                all.add(&faults);
                let _ = writeln!(text, "| `{name}` |{}", fault_columns(&faults));
            }
            let _ = writeln!(text, "| all |{}", fault_columns(&all));
        }
        if !self.misses.is_empty() {
            text += "\nNot recovered:\n\n| service | class | place | seen |\n|---|---|---|---|\n";
        }
        for miss in &self.misses {
            let [place, seen] = [&miss.place, &miss.seen].map(|text| text.replace('|', "\\|"));
            let _ = writeln!(
                text,
                "| `{}` | `{}` | {place} | {seen} |",
                miss.service, miss.kind
            );
        }
        text
    }

    /// What became of faults that pass.
    fn passing_table(&self) -> String {
        let mut rows = String::new();
        for (name, service) in &self.services {
            for (kind, faults) in service.faults.iter().filter(|(kind, _)| is_passing(kind)) {
                let gaps = service.gaps.get(kind).cloned().unwrap_or_default();
                let _ = writeln!(
                    rows,
                    "| `{name}` | `{kind}` | {} | {} | {} | {} |{}",
                    faults.injected,
                    faults.activated,
                    faults.deaths,
                    faults.recovered,
                    columns(&gaps)
                );
            }
        }
        if rows.is_empty() {
            return rows;
        }
        let head = "| service | fault | injected | took effect | restarts | recovered | \
                    until answered p50, ms | p90 | p99 | max |\n\
                    |---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n";
        head.to_owned() + &rows
    }

    fn swap_table(&self) -> String {
        if self.swaps(|row| row.orders) == 0 {
            return String::new();
        }
        let mut text = "| service | to | swaps | committed | as they must | rolled back in | \
                        pause p50, ms | p90 | p99 | max |\n\
                        |---|---|---:|---:|---:|---|---:|---:|---:|---:|\n"
            .to_owned();
        for (name, service) in &self.services {
            for (row, swaps) in &service.swaps {
                let to = if row == SWAP {
                    "its other version".to_owned()
                } else {
                    format!("`{row}`")
                };
                let phases: Vec<String> = swaps
                    .phases
                    .iter()
                    .map(|(phase, times)| format!("{} {times}", phase.to_lowercase()))
                    .collect();
                let _ = writeln!(
                    text,
                    "| `{name}` | {to} | {} | {} | {} | {} |{}",
                    swaps.orders,
                    swaps.committed,
                    swaps.good,
                    phases.join(", "),
                    columns(&swaps.pauses)
                );
            }
        }
        text
    }

    fn hang_table(&self) -> String {
        if self
            .services
            .values()
            .all(|service| service.detections.len() == 0)
        {
            return String::new();
        }
        let mut text =
            "| service | hangs | found | recovered | found after p50, ms | p90 | p99 | max |\n\
                        |---|---:|---:|---:|---:|---:|---:|---:|\n"
                .to_owned();
        for (name, service) in &self.services {
            if let Some(hangs) = service.faults.get(HANG) {
                let _ = writeln!(
                    text,
                    "| `{name}` | {} | {} | {} |{}",
                    hangs.injected,
                    hangs.manifested,
                    hangs.recovered,
                    columns(&service.detections)
                );
            }
        }
        text
    }

    /// Returns what came of it in some lines.
    pub(crate) fn summary(&self) -> String {
        let injected = self.faults(|faults| faults.injected);
        let faults = if injected > 0 {
            let beside = match self.faults(|faults| faults.doubted) {
                0 => String::new(),
                some => format!(
                    ", {some} of these with a restart for which another service asked itself"
                ),
            };
            format!(
                "{injected} other faults, {} activated, {} manifested, {} of them recovered{beside}.\n",
                self.faults(|faults| faults.activated),
                self.faults(|faults| faults.manifested),
                self.faults(|faults| faults.recovered)
            )
        } else {
            String::new()
        };
        let swaps = if self.swaps(|row| row.orders) > 0 {
            format!(
                "{} swaps, {} committed, {} as they must come out.\n",
                self.swaps(|row| row.orders),
                self.swaps(|row| row.committed),
                self.swaps(|row| row.good)
            )
        } else {
            String::new()
        };
        let quiet = if self.quiet.ns > 0 {
            format!(
                "{} quiet seconds: {} restarts, {} late heartbeats.\n",
                self.quiet.ns / 1_000_000_000,
                self.quiet.restarts,
                self.quiet.late_heartbeats
            )
        } else {
            String::new()
        };
        format!(
            "{quiet}{} kills in {} boots, {} recovered, {} deaths that nobody asked for, {} reboots.\n\
             {faults}{swaps}{} operations: {} client errors, {} lost, {} done twice, {} wrong bytes; {} leaks.\n",
            self.kills(),
            self.boots,
            self.sum(|service| service.recovered),
            self.unasked(),
            self.reboots,
            self.counts.operations,
            self.counts.client_errors,
            self.counts.lost,
            self.counts.duplicated,
            self.counts.wrong,
            self.leaks
        )
    }
}

/// Returns the columns of a table of faults.
fn fault_columns(faults: &Faults) -> String {
    let percent = if faults.manifested == 0 {
        "-".to_owned()
    } else {
        format!(
            "{:.1}",
            faults.recovered as f64 * 100.0 / faults.manifested as f64
        )
    };
    format!(
        " {} | {} | {} | {} | {percent} |",
        faults.injected, faults.activated, faults.manifested, faults.recovered
    )
}

/// Returns the columns of a table with times in ms.
fn columns(gaps: &Gaps) -> String {
    let ranks = [500, 900, 990, 1000];
    if gaps.len() == 0 {
        return " - |".repeat(ranks.len());
    }
    ranks
        .map(|rank| format!(" {:.2} |", gaps.per_mille(rank) as f64 / 1e6))
        .concat()
}
