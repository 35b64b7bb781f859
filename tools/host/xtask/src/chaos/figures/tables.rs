//! Tables and a summary, as Markdown.

use std::fmt::Write as _;

use super::Figures;
use super::rows::Gaps;

/// The kind of swaps to a version that works.
const SWAP: &str = "swap";
/// The kind of faults that are found by their time.
const HANG: &str = "hang";

impl Figures {
    /// Returns the summary and a table, as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "{}Plan `{}`, {} µs from a recovery to the next kill, {} CPU, {}; seed {}, commit `{}`.\n\n",
            self.summary(),
            self.plan,
            self.gap_us,
            self.cpus,
            self.clock,
            self.seed,
            self.commit.get(..12).unwrap_or(&self.commit),
        );
        text += &[self.kill_table(), self.swap_table(), self.hang_table()].join("");
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
            format!(
                "{injected} other faults, {} manifested, {} of them recovered.\n",
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
        format!(
            "{} kills in {} boots, {} recovered, {} deaths that nobody asked for, {} reboots.\n\
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
