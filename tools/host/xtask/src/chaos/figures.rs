//! What a campaign has shown, summed over its boots: JSON, Markdown, a summary.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::batch::{Batch, Outcome, Settings};
use super::events::{Counts, Quiet};
use super::silent::Programs;

mod misses;
mod reading;
mod rows;
mod tables;
#[cfg(test)]
pub(super) mod tests;

use misses::Miss;
use rows::{BROKEN, Faults, Service, Swaps};

/// Version of the file's form.
const SCHEMA: u64 = 1;

/// The figures of a campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    commit: String,
    seed: u64,
    plan: String,
    gap_us: String,
    cpus: u64,
    /// Files that were kept open besides.
    open: u64,
    clock: String,
    /// How to have the same again.
    command: String,
    pub(crate) services: BTreeMap<String, Service>,
    counts: Counts,
    /// Faults that were not recovered.
    misses: Vec<Miss>,
    /// Time without faults.
    quiet: Quiet,
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
            open: settings.open.into(),
            clock: settings.clock().to_owned(),
            command: command(seed, settings, outcomes),
            services: BTreeMap::new(),
            counts: Counts::default(),
            misses: Vec::new(),
            quiet: Quiet::default(),
            leaks: 0,
            reboots: 0,
            boots: outcomes.len() as u64,
            elapsed_ns: 0,
            complaints: 0,
        };
        for outcome in outcomes {
            figures.add(outcome, settings.programs.as_deref());
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

    fn add(&mut self, outcome: &Outcome, programs: Option<&Programs>) {
        let events = &outcome.events;
        for kill in &events.kills {
            let service = self.services.entry(kill.service.clone()).or_default();
            service.kills += 1;
            service.redelivered += kill.redelivered;
            if !kill.after.is_empty() {
                let second = service.seconds.entry(kill.after.clone()).or_default();
                second.times += 1;
                second.recovered += u64::from(kill.is_recovered);
            }
            if kill.is_recovered {
                service.recovered += 1;
                let gaps = service.gaps.entry(kill.kind.clone()).or_default();
                gaps.add(kill.gap_ns);
            }
        }
        for fault in &events.faults {
            let service = self.services.entry(fault.service.clone()).or_default();
            let faults = service.faults.entry(fault.kind.clone()).or_default();
            faults.count(fault);
            if fault.is_manifest {
                let gaps = service.gaps.entry(fault.kind.clone()).or_default();
                gaps.add(fault.gap_ns);
            }
            if let Some(ns) = fault.detection_ns {
                service.detections.add(ns);
            }
        }
        // The one with which the machine went down was put in as well.
        if let Some(fatal) = events.pending.as_ref().filter(|_| outcome.is_lost()) {
            let service = self.services.entry(fatal.service.clone()).or_default();
            let faults = service.faults.entry(fatal.kind.clone()).or_default();
            faults.add(&Faults::FATAL);
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
        self.misses.extend(misses::of(outcome, programs));
        self.quiet.add(&events.quiet);
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

    /// Returns how many files were kept open besides.
    pub(crate) fn open(&self) -> u64 {
        self.open
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
            let faults = service.faults.values().map(|faults| faults.deaths);
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
        self.kills()
            + self.faults(|faults| faults.injected)
            + self.swaps(|row| row.orders)
            + self.quiet.ns
            > 0
            && self.quiet.restarts + self.quiet.late_heartbeats == 0
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
            // A kill ends a process that runs: none is without effect. Whether a fault was
            // activated that nobody watched is not known unless it showed.
            "injected": kills + self.faults(|faults| faults.injected),
            "activated": kills + self.faults(|faults| faults.activated),
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
            "open": self.open,
            "clock": self.clock,
            "command": self.command,
            "elapsed_ns": self.elapsed_ns,
            "quiet": {
                "ns": self.quiet.ns,
                "restarts": self.quiet.restarts,
                "late_heartbeats": self.quiet.late_heartbeats,
            },
            "misses": self.misses.iter().map(Miss::json).collect::<Vec<_>>(),
            "totals": self.totals(),
            "services": rows.collect::<Vec<_>>(),
            "batches": outcomes.iter().map(batch).collect::<Vec<_>>(),
        });
        Ok(serde_json::to_string_pretty(&file)? + "\n")
    }
}

/// Returns the command of the campaign: boots that go on where another one ended are part of that one.
fn command(seed: u64, settings: &Settings, outcomes: &[Outcome]) -> String {
    let mut batches: Vec<Batch> = outcomes.iter().map(|outcome| outcome.batch).collect();
    batches.dedup_by_key(|batch| batch.index);
    let kills = batches.iter().map(|batch| batch.kills);
    settings.campaign(seed, kills.clone().sum(), kills.max().unwrap_or(0))
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
        "not_recovered": missed.map(|fault| fault.about.clone()).collect::<Vec<_>>(),
        "index": outcome.batch.index,
        "skipped": outcome.batch.skip,
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
