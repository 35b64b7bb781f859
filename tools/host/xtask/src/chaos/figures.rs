//! What a campaign has shown, summed over its boots: JSON, Markdown, a summary.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::batch::{Outcome, Settings};
use super::events::{Counts, Swap};

/// Version of the file's form.
const SCHEMA: u64 = 1;
/// The kind of kills by which gaps are compared.
const SINGLE: &str = "single";
/// The kind of swaps to versions that cannot take over.
const BROKEN: &str = "broken";
/// What the restarts are called that the campaign asked for.
const ASKED: &str = "killed_by_campaign";
/// The kind of swaps to a version that works.
const SWAP: &str = "swap";
/// The kind of faults that are found by their time.
const HANG: &str = "hang";

/// Numbers of a row, by their ranks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gaps(Vec<u64>);

impl Gaps {
    fn add(&mut self, ns: u64) {
        self.0.push(ns);
    }

    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the smallest number that so many of a thousand do not exceed; 0 without any.
    pub(crate) fn per_mille(&self, rank: usize) -> u64 {
        let place = (self.0.len() * rank).div_ceil(1000).saturating_sub(1);
        self.0.get(place).copied().unwrap_or(0)
    }

    fn json(&self) -> Value {
        json!({
            "samples": self.len(),
            "p50": self.per_mille(500),
            "p90": self.per_mille(900),
            "p99": self.per_mille(990),
            "max": self.per_mille(1000),
            // For the chart: each percent.
            "percentiles": (0..=100).map(|p| self.per_mille(p * 10)).collect::<Vec<_>>(),
        })
    }

    fn from_json(json: &Value) -> anyhow::Result<Self> {
        if number(json, "samples")? == 0 {
            return Ok(Self::default());
        }
        let all = json["percentiles"].as_array().context("no percentiles")?;
        let numbers: Option<Vec<u64>> = all.iter().map(Value::as_u64).collect();
        Ok(Self(numbers.context("a percentile is no number")?))
    }
}

/// What became of faults of a kind that are no kills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    injected: u64,
    manifested: u64,
    /// Of those that manifested.
    recovered: u64,
}

/// What became of the swaps to one version, or there and back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swaps {
    orders: u64,
    committed: u64,
    /// Those that came out as they must.
    good: u64,
    /// Crashes of versions that are made to crash when they have taken over.
    crashes: u64,
    /// How long nobody received.
    pauses: Gaps,
    /// How long they took altogether.
    times: Gaps,
    /// Those that were rolled back, by the phase that they had come to.
    phases: BTreeMap<String, u64>,
}

impl Swaps {
    fn add(&mut self, swap: &Swap) {
        self.orders += 1;
        self.committed += u64::from(swap.is_committed);
        self.good += u64::from(swap.is_recovered);
        if swap.kind == BROKEN && swap.is_committed {
            self.crashes += swap.crashes;
        }
        self.times.add(swap.took_ns);
        if let Some(ns) = swap.pause_ns {
            self.pauses.add(ns);
        }
        if !swap.phase.is_empty() {
            *self.phases.entry(swap.phase.clone()).or_default() += 1;
        }
    }

    fn json(&self) -> Value {
        json!({
            "swaps": self.orders,
            "committed": self.committed,
            "as_expected": self.good,
            "crashes": self.crashes,
            "rolled_back_in": self.phases,
            "pause_ns": self.pauses.json(),
            "took_ns": self.times.json(),
        })
    }

    fn from_json(json: &Value) -> anyhow::Result<Self> {
        let mut phases = BTreeMap::new();
        for (phase, _) in json["rolled_back_in"].as_object().into_iter().flatten() {
            phases.insert(phase.clone(), number(&json["rolled_back_in"], phase)?);
        }
        Ok(Self {
            orders: number(json, "swaps")?,
            committed: number(json, "committed")?,
            good: number(json, "as_expected")?,
            crashes: json["crashes"].as_u64().unwrap_or(0),
            pauses: Gaps::from_json(&json["pause_ns"])?,
            times: Gaps::from_json(&json["took_ns"])?,
            phases,
        })
    }
}

/// What became of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) kills: u64,
    pub(crate) recovered: u64,
    pub(crate) redelivered: u64,
    /// Gaps by kind of kill.
    pub(crate) gaps: BTreeMap<String, Gaps>,
    /// Other faults, by kind.
    faults: BTreeMap<String, Faults>,
    /// Times until hangs were found.
    detections: Gaps,
    /// Swaps, by kind; by the name of the image for versions that cannot take over.
    swaps: BTreeMap<String, Swaps>,
    /// Deaths that nobody asked for, by cause.
    unasked: BTreeMap<String, u64>,
}

impl Service {
    /// Returns the gaps of single kills; of all that there are, if there were none.
    pub(crate) fn main_gaps(&self) -> Gaps {
        let single = self.gaps.get(SINGLE);
        let any = || self.gaps.values().next();
        single.or_else(any).cloned().unwrap_or_default()
    }

    fn json(&self, name: &str) -> Value {
        let by_kind = |(kind, gaps): (&String, &Gaps)| (kind.clone(), gaps.json());
        let mut restarts = json!({ ASKED: self.kills });
        for (cause, count) in &self.unasked {
            restarts[cause] = json!(count);
        }
        let fault = |(kind, faults): (&String, &Faults)| {
            let json = json!({
                "injected": faults.injected,
                "manifested": faults.manifested,
                "recovered": faults.recovered,
            });
            (kind.clone(), json)
        };
        json!({
            "service": name,
            "faults": self.faults.iter().map(fault).collect::<serde_json::Map<_, _>>(),
            "detection_ns": self.detections.json(),
            "swaps": self.swaps.iter().map(|(kind, swaps)| (kind.clone(), swaps.json()))
                .collect::<serde_json::Map<_, _>>(),
            "kills": self.kills,
            "recovered": self.recovered,
            "failed": self.kills - self.recovered,
            "redelivered": self.redelivered,
            "restarts": restarts,
            "gap_ns": self.main_gaps().json(),
            "gap_ns_by_kind": self.gaps.iter().map(by_kind).collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// The figures of a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    commit: String,
    seed: u64,
    plan: String,
    gap_us: String,
    cpus: u64,
    clock: String,
    /// How to have the same again.
    command: String,
    pub(crate) services: BTreeMap<String, Service>,
    counts: Counts,
    leaks: u64,
    /// Machines that went down or hung before their time.
    reboots: u64,
    boots: u64,
    /// Time of the machines, summed, ns.
    elapsed_ns: u64,
    complaints: u64,
}

impl Figures {
    /// Sums what came of all boots.
    pub(crate) fn new(
        commit: String,
        seed: u64,
        settings: &Settings,
        outcomes: &[Outcome],
    ) -> Self {
        let mut figures = Self {
            commit,
            seed,
            plan: settings.plan.join(","),
            gap_us: settings.gap_us.clone(),
            cpus: settings.cpus.into(),
            clock: settings.clock().to_owned(),
            command: settings.campaign(
                seed,
                outcomes.iter().map(|outcome| outcome.batch.kills).sum(),
                outcomes
                    .iter()
                    .map(|outcome| outcome.batch.kills)
                    .max()
                    .unwrap_or(0),
            ),
            services: BTreeMap::new(),
            counts: Counts::default(),
            leaks: 0,
            reboots: 0,
            boots: outcomes.len() as u64,
            elapsed_ns: 0,
            complaints: 0,
        };
        for outcome in outcomes {
            figures.add(outcome);
        }
        for service in figures.services.values_mut() {
            let of_swaps = service.swaps.values_mut();
            let of_swaps = of_swaps.flat_map(|swaps| [&mut swaps.pauses, &mut swaps.times]);
            let all = service.gaps.values_mut().chain(of_swaps);
            for gaps in all.chain([&mut service.detections]) {
                gaps.0.sort_unstable();
            }
        }
        figures
    }

    fn add(&mut self, outcome: &Outcome) {
        let events = &outcome.events;
        for kill in &events.kills {
            let service = self.services.entry(kill.service.clone()).or_default();
            service.kills += 1;
            service.redelivered += kill.redelivered;
            if kill.is_recovered {
                service.recovered += 1;
                let gaps = service.gaps.entry(kill.kind.clone()).or_default();
                gaps.add(kill.gap_ns);
            }
        }
        for fault in &events.faults {
            let service = self.services.entry(fault.service.clone()).or_default();
            let faults = service.faults.entry(fault.kind.clone()).or_default();
            faults.injected += 1;
            if fault.is_manifest {
                faults.manifested += 1;
                faults.recovered += u64::from(fault.is_recovered);
                let gaps = service.gaps.entry(fault.kind.clone()).or_default();
                gaps.add(fault.gap_ns);
            }
            if let Some(ns) = fault.detection_ns {
                service.detections.add(ns);
            }
        }
        for swap in &events.swaps {
            let service = self.services.entry(swap.service.clone()).or_default();
            let row = if swap.kind == BROKEN {
                &swap.image
            } else {
                &swap.kind
            };
            let swaps = service.swaps.entry(row.clone()).or_default();
            swaps.add(swap);
        }
        for ((service, cause), count) in &events.unasked {
            let service = self.services.entry(service.clone()).or_default();
            *service.unasked.entry(cause.clone()).or_default() += count;
        }
        self.counts.add(&events.counts);
        self.leaks += events.leaks;
        self.reboots += u64::from(outcome.is_lost());
        self.elapsed_ns += events.elapsed_ns;
        self.complaints += events.complaints.len() as u64;
    }

    fn sum(&self, number: impl Fn(&Service) -> u64) -> u64 {
        self.services.values().map(number).sum()
    }

    /// Returns the kinds of strikes, with commas between them.
    pub(crate) fn plan(&self) -> &str {
        &self.plan
    }

    /// Returns whether there is anything for a chart of gaps.
    pub(crate) fn has_gaps(&self) -> bool {
        let mut services = self.services.values();
        services.any(|service| service.main_gaps().len() > 0)
    }

    /// Returns the number of kills.
    pub(crate) fn kills(&self) -> u64 {
        self.sum(|service| service.kills)
    }

    /// Returns how many services died that nobody had harmed.
    fn unasked(&self) -> u64 {
        self.sum(|service| {
            let deaths: u64 = service.unasked.values().sum();
            let faults = service.faults.values().map(|faults| faults.manifested);
            let swaps = service.swaps.values().map(|swaps| swaps.crashes);
            deaths.saturating_sub(faults.chain(swaps).sum())
        })
    }

    fn swaps(&self, number: impl Fn(&Swaps) -> u64) -> u64 {
        self.sum(|service| service.swaps.values().map(&number).sum())
    }

    fn faults(&self, number: impl Fn(&Faults) -> u64) -> u64 {
        self.sum(|service| service.faults.values().map(&number).sum())
    }

    /// Returns whether nothing went wrong at all.
    pub(crate) fn is_good(&self) -> bool {
        self.kills() + self.faults(|faults| faults.injected) + self.swaps(|row| row.orders) > 0
            && self.swaps(|row| row.good) == self.swaps(|row| row.orders)
            && self.sum(|service| service.recovered) == self.kills()
            && self.faults(|faults| faults.recovered) == self.faults(|faults| faults.manifested)
            && self.counts.faults() == 0
            && self.leaks == 0
            && self.reboots == 0
            && self.complaints == 0
            && self.unasked() == 0
    }

    fn totals(&self) -> Value {
        let kills = self.kills();
        json!({
            "kills": kills,
            "recovered": self.sum(|service| service.recovered),
            // A kill ends a process that runs: none is without effect. Whether a bit that was
            // turned over was ever looked at is not known unless it showed.
            "injected": kills + self.faults(|faults| faults.injected),
            "activated": kills + self.faults(|faults| faults.manifested),
            "manifested": kills + self.faults(|faults| faults.manifested),
            "manifested_recovered": self.sum(|service| service.recovered)
                + self.faults(|faults| faults.recovered),
            "swaps": self.swaps(|row| row.orders),
            "swaps_committed": self.swaps(|row| row.committed),
            "swaps_as_expected": self.swaps(|row| row.good),
            "operations": self.counts.operations,
            "client_errors": self.counts.client_errors,
            "lost": self.counts.lost,
            "wrong": self.counts.wrong,
            "duplicated": self.counts.duplicated,
            "redelivered": self.sum(|service| service.redelivered),
            "unasked_deaths": self.unasked(),
            "leaks": self.leaks,
            "reboots": self.reboots,
            "boots": self.boots,
        })
    }

    /// Returns the file of a campaign: totals, a row for each service and for each boot.
    pub(crate) fn json(&self, outcomes: &[Outcome]) -> anyhow::Result<String> {
        let rows = self.services.iter().map(|(name, row)| row.json(name));
        let file = json!({
            "schema": SCHEMA,
            "commit": self.commit,
            "seed": self.seed,
            "plan": self.plan,
            "gap_us": self.gap_us,
            "cpus": self.cpus,
            "clock": self.clock,
            "command": self.command,
            "elapsed_ns": self.elapsed_ns,
            "totals": self.totals(),
            "services": rows.collect::<Vec<_>>(),
            "batches": outcomes.iter().map(batch).collect::<Vec<_>>(),
        });
        Ok(serde_json::to_string_pretty(&file)? + "\n")
    }

    /// Reads the parts of a file of which table and charts are made.
    #[expect(
        clippy::too_many_lines,
        reason = "one field after the other, each said once"
    )]
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let file: Value = serde_json::from_str(text)?;
        ensure!(file["schema"] == SCHEMA, "it has another schema");
        let text = |name: &str| {
            let found = file[name].as_str().map(str::to_owned);
            found.with_context(|| format!("no {name}"))
        };
        let totals = &file["totals"];
        let mut services = BTreeMap::new();
        for row in file["services"].as_array().context("no services")? {
            let mut service = Service {
                kills: number(row, "kills")?,
                recovered: number(row, "recovered")?,
                redelivered: number(row, "redelivered")?,
                ..Service::default()
            };
            for (kind, gaps) in row["gap_ns_by_kind"].as_object().into_iter().flatten() {
                service.gaps.insert(kind.clone(), Gaps::from_json(gaps)?);
            }
            for (kind, faults) in row["faults"].as_object().into_iter().flatten() {
                let faults = Faults {
                    injected: number(faults, "injected")?,
                    manifested: number(faults, "manifested")?,
                    recovered: number(faults, "recovered")?,
                };
                service.faults.insert(kind.clone(), faults);
            }
            for (kind, swaps) in row["swaps"].as_object().into_iter().flatten() {
                service.swaps.insert(kind.clone(), Swaps::from_json(swaps)?);
            }
            for (cause, count) in row["restarts"].as_object().into_iter().flatten() {
                if let Some(count) = count.as_u64().filter(|_| cause != ASKED) {
                    service.unasked.insert(cause.clone(), count);
                }
            }
            service.detections = Gaps::from_json(&row["detection_ns"])?;
            let name = row["service"]
                .as_str()
                .context("a service without a name")?;
            services.insert(name.to_owned(), service);
        }
        Ok(Self {
            commit: text("commit")?,
            seed: number(&file, "seed")?,
            plan: text("plan")?,
            gap_us: text("gap_us")?,
            cpus: number(&file, "cpus")?,
            clock: text("clock")?,
            command: text("command")?,
            services,
            counts: Counts {
                operations: number(totals, "operations")?,
                client_errors: number(totals, "client_errors")?,
                wrong: number(totals, "wrong")?,
                lost: number(totals, "lost")?,
                duplicated: number(totals, "duplicated")?,
            },
            leaks: number(totals, "leaks")?,
            reboots: number(totals, "reboots")?,
            boots: number(totals, "boots")?,
            elapsed_ns: number(&file, "elapsed_ns")?,
            complaints: 0,
        })
    }

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

fn number(json: &Value, name: &str) -> anyhow::Result<u64> {
    json[name]
        .as_u64()
        .with_context(|| format!("no number {name}"))
}

fn batch(outcome: &Outcome) -> Value {
    let events = &outcome.events;
    let used = |(name, before, after): &(String, u64, u64)| json!({ "name": name, "before": before, "after": after });
    let changed = events
        .uses
        .iter()
        .filter(|(_, before, after)| before != after);
    let uses = changed.map(used);
    let missed = events
        .faults
        .iter()
        .filter(|fault| fault.is_manifest && !fault.is_recovered);
    json!({
        "not_recovered": missed.map(|fault| &fault.about).collect::<Vec<_>>(),
        "index": outcome.batch.index,
        "seed": outcome.batch.seed,
        "kills": events.kills.len(),
        "recovered": events.kills.iter().filter(|kill| kill.is_recovered).count(),
        "end": format!("{:?}", outcome.end),
        "trouble": outcome.trouble,
        "elapsed_ns": events.elapsed_ns,
        "operations": events.counts.operations,
        "faults": events.counts.faults(),
        "leaks": events.leaks,
        "changed_uses": uses.collect::<Vec<_>>(),
        "complaints": events.complaints,
        "replay": outcome.replay,
    })
}

/// Returns a line for each boot in which something went wrong, with how to have it again.
pub(crate) fn failures(outcomes: &[Outcome]) -> Vec<String> {
    let is_bad = |outcome: &&Outcome| {
        outcome.is_lost()
            || outcome.events.counts.faults() > 0
            || !outcome.events.complaints.is_empty()
    };
    let line = |outcome: &Outcome| {
        let trouble = outcome.trouble.iter().chain(&outcome.events.complaints);
        let texts: Vec<&str> = trouble.map(String::as_str).collect();
        format!(
            "boot {}: {}\n    again: {}\n    serial log: {}",
            outcome.batch.index,
            texts.join("; "),
            outcome.replay,
            outcome.log.display()
        )
    };
    outcomes.iter().filter(is_bad).map(line).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;

    use skink_qemu::Exit;

    use super::*;
    use crate::chaos::batch::{Batch, End};
    use crate::chaos::events::Events;

    pub(crate) fn figures(printed: &str) -> Figures {
        let settings = Settings {
            services: Vec::new(),
            plan: vec!["single".to_owned()],
            gap_us: "0..5".to_owned(),
            cpus: 1,
            is_virtual: true,
            disk: PathBuf::new(),
        };
        Figures::new("abcdef".to_owned(), 3, &settings, &[outcome(printed)])
    }

    fn outcome(printed: &str) -> Outcome {
        let mut events = Events::default();
        events.take(printed.as_bytes());
        events.finish();
        Outcome {
            batch: Batch {
                index: 0,
                seed: 3,
                kills: 2,
            },
            events,
            end: End::Exited(Exit::Orderly(0)),
            trouble: None,
            log: PathBuf::from("log"),
            replay: "again".to_owned(),
        }
    }

    pub(crate) fn printed() -> String {
        let kill = |service: &str, gap: u64| {
            format!(
                "#siege {{\"event\":\"kill\",\"service\":\"{service}\",\"kind\":\"single\",\
                 \"gap_ns\":{gap},\"redelivered\":1,\"recovered\":1}}\n"
            )
        };
        let end = "#siege {\"event\":\"end\",\"elapsed_ns\":7}\n";
        [
            kill("vfs", 2_000_000),
            kill("vfs", 1_000_000),
            kill("log", 500_000),
            end.to_owned(),
        ]
        .concat()
    }

    #[test]
    fn the_file_has_the_promised_form() {
        let figures = figures(&printed());
        assert!(figures.is_good());
        let file: Value =
            serde_json::from_str(&figures.json(&[outcome(&printed())]).unwrap()).unwrap();
        for (name, value) in [
            ("kills", 3),
            ("recovered", 3),
            ("lost", 0),
            ("wrong", 0),
            ("duplicated", 0),
            ("client_errors", 0),
            ("injected", 3),
            ("reboots", 0),
        ] {
            assert_eq!(file["totals"][name], value, "{name}");
        }
        assert_eq!(file["seed"], 3);
        let vfs = &file["services"][1];
        assert_eq!(vfs["service"], "vfs");
        assert_eq!(vfs["gap_ns"]["p50"], 1_000_000);
        assert_eq!(vfs["gap_ns"]["max"], 2_000_000);
        assert_eq!(file["batches"][0]["replay"], "again");
    }

    #[test]
    fn faults_that_nobody_noticed_stay_in_the_count() {
        let fault = |shows: u64| {
            format!(
                "#siege {{\"event\":\"fault\",\"service\":\"vfs\",\"kind\":\"flip\",\
                 \"manifested\":{shows},\"recovered\":1}}\n"
            )
        };
        let figures = figures(&[fault(0), fault(1), printed()].concat());
        assert!(figures.is_good());
        let totals = figures.totals();
        assert_eq!(
            (&totals["injected"], &totals["manifested"]),
            (&json!(5), &json!(4))
        );
        assert!(
            figures
                .summary()
                .contains("2 other faults, 1 manifested, 1 of them recovered")
        );
        let read = Figures::parse(&figures.json(&[]).unwrap()).unwrap();
        assert_eq!(read.summary(), figures.summary());
    }

    #[test]
    fn each_version_has_a_row_and_hangs_have_their_times() {
        let printed = "\
            #siege {\"event\":\"swap\",\"service\":\"block\",\"kind\":\"swap\",\"image\":\"block-2\",\
            \"took_ns\":9000000,\"committed\":1,\"pause_ns\":4000000,\"recovered\":1}\n\
            #siege {\"event\":\"swap\",\"service\":\"block\",\"kind\":\"broken\",\"image\":\"broken-test\",\
            \"took_ns\":9,\"committed\":0,\"phase\":\"Test\",\"recovered\":1}\n\
            #siege {\"event\":\"fault\",\"service\":\"vfs\",\"kind\":\"hang\",\"manifested\":1,\
            \"recovered\":1,\"detection_ns\":50000000}\n\
            #siege {\"event\":\"end\",\"elapsed_ns\":7}\n";
        let figures = figures(printed);
        assert!(figures.is_good());
        let table = figures.markdown();
        for row in [
            "| `block` | its other version | 1 | 1 | 1 |  | 4.00 | 4.00 | 4.00 | 4.00 |",
            "| `block` | `broken-test` | 1 | 0 | 1 | test 1 | - | - | - | - |",
            "| `vfs` | 1 | 1 | 1 | 50.00 | 50.00 | 50.00 | 50.00 |",
            "2 swaps, 1 committed, 2 as they must come out.",
        ] {
            assert!(table.contains(row), "{row} is not in {table}");
        }
        let read = Figures::parse(&figures.json(&[]).unwrap()).unwrap();
        assert_eq!(read.markdown(), table);
    }

    #[test]
    fn what_is_kept_makes_the_same_table() {
        let figures = figures(&printed());
        let read = Figures::parse(&figures.json(&[]).unwrap()).unwrap();
        assert_eq!(read.markdown(), figures.markdown());
        assert!(
            figures
                .markdown()
                .contains("| `vfs` | 2 | 2 | 1.00 | 2.00 | 2.00 | 2.00 | 2 |")
        );
        for text in ["", "{}", "{\"schema\":1}"] {
            assert!(Figures::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn anything_that_goes_wrong_makes_it_bad() {
        for more in [
            "#siege {\"event\":\"load\",\"name\":\"tree\",\"lost\":1}\n",
            "#siege {\"event\":\"use\",\"name\":\"x\",\"before\":1,\"after\":2,\"leaked\":1}\n",
            "#siege {\"event\":\"deaths\",\"service\":\"vfs\",\"hung\":1}\n",
            "#siege {\"event\":\"kill\",\"service\":\"vfs\",\"kind\":\"single\",\"recovered\":0}\n",
            "#line 1\n",
            "#siege {\"event\":\"fault\",\"service\":\"vfs\",\"kind\":\"hang\",\"manifested\":1,\"recovered\":0}\n",
            "#siege {\"event\":\"swap\",\"service\":\"vfs\",\"kind\":\"swap\",\"recovered\":0}\n",
            "siege: vfs does not run\n",
        ] {
            let printed = format!("{more}{}", printed());
            assert!(!figures(&printed).is_good(), "{more}");
        }
        assert!(!figures("").is_good());
        let mut torn = outcome(&printed());
        torn.trouble = Some("gone".to_owned());
        assert!(torn.is_lost());
        assert!(failures(&[torn])[0].contains("again: again"));
    }
}
