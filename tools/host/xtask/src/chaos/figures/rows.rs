//! What became of one service: kills, other faults, swaps, times; to and from JSON.

use std::collections::BTreeMap;

use anyhow::Context;
use serde_json::{Value, json};

use crate::chaos::events::{Fault, Swap};

/// The kind of kills by which gaps are compared.
const SINGLE: &str = "single";
/// The kind of swaps to versions that cannot take over.
pub(super) const BROKEN: &str = "broken";
/// What the restarts are called that the campaign asked for.
const ASKED: &str = "killed_by_campaign";

/// Numbers of a row, by their ranks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gaps(pub(super) Vec<u64>);

impl Gaps {
    pub(super) fn add(&mut self, ns: u64) {
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

    pub(super) fn json(&self) -> Value {
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

    pub(super) fn from_json(json: &Value) -> anyhow::Result<Self> {
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
    pub(super) injected: u64,
    /// Those whose place was reached, or that showed.
    pub(super) activated: u64,
    pub(super) manifested: u64,
    /// Of those that manifested.
    pub(super) recovered: u64,
    /// Of those recovered, those in which another service had its next instance answer.
    pub(super) doubted: u64,
    /// How often the service died of them.
    pub(super) deaths: u64,
}

impl Faults {
    /// One that brought the machine down.
    pub(super) const FATAL: Self = Self {
        injected: 1,
        activated: 1,
        manifested: 1,
        recovered: 0,
        doubted: 0,
        deaths: 0,
    };

    pub(super) fn add(&mut self, other: &Self) {
        self.injected += other.injected;
        self.activated += other.activated;
        self.manifested += other.manifested;
        self.recovered += other.recovered;
        self.doubted += other.doubted;
        self.deaths += other.deaths;
    }

    /// Counts one.
    pub(super) fn count(&mut self, fault: &Fault) {
        let is_activated = fault.is_activated == Some(true) || fault.is_manifest;
        let is_recovered = fault.is_manifest && fault.is_recovered;
        let has_doubts = fault.about["doubted"]
            .as_u64()
            .is_some_and(|doubted| doubted > 0);
        self.add(&Self {
            injected: 1,
            activated: is_activated.into(),
            manifested: fault.is_manifest.into(),
            recovered: is_recovered.into(),
            doubted: (is_recovered && has_doubts).into(),
            deaths: fault.about["died"]
                .as_u64()
                .unwrap_or_else(|| fault.is_manifest.into()),
        });
    }

    fn json(self) -> Value {
        json!({
            "injected": self.injected,
            "activated": self.activated,
            "manifested": self.manifested,
            "recovered": self.recovered,
            "doubted": self.doubted,
            "deaths": self.deaths,
        })
    }

    fn from_json(json: &Value) -> anyhow::Result<Self> {
        let manifested = number(json, "manifested")?;
        Ok(Self {
            injected: number(json, "injected")?,
            activated: json["activated"].as_u64().unwrap_or(manifested),
            manifested,
            recovered: number(json, "recovered")?,
            doubted: json["doubted"].as_u64().unwrap_or(0),
            deaths: json["deaths"].as_u64().unwrap_or(manifested),
        })
    }
}

/// Kills behind kills of another service, or of the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Second {
    pub(super) times: u64,
    pub(super) recovered: u64,
}

/// What became of the swaps to one version, or there and back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swaps {
    pub(super) orders: u64,
    pub(super) committed: u64,
    /// Those that came out as they must.
    pub(super) good: u64,
    /// Crashes of versions that are made to crash when they have taken over.
    pub(super) crashes: u64,
    /// How long nobody received.
    pub(super) pauses: Gaps,
    /// How long they took altogether.
    pub(super) times: Gaps,
    /// Those that were rolled back, by the phase that they had come to.
    pub(super) phases: BTreeMap<String, u64>,
}

impl Swaps {
    pub(super) fn add(&mut self, swap: &Swap) {
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

    pub(super) fn json(&self) -> Value {
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

    pub(super) fn from_json(json: &Value) -> anyhow::Result<Self> {
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
    pub(super) faults: BTreeMap<String, Faults>,
    /// Kills behind those of other services, by their names.
    pub(super) seconds: BTreeMap<String, Second>,
    /// Times until hangs were found.
    pub(super) detections: Gaps,
    /// Swaps, by kind; by the name of the image for versions that cannot take over.
    pub(super) swaps: BTreeMap<String, Swaps>,
    /// Deaths that nobody asked for, by cause.
    pub(super) unasked: BTreeMap<String, u64>,
}

impl Service {
    /// Returns the gaps of single kills; of all that there are, if there were none.
    pub(crate) fn main_gaps(&self) -> Gaps {
        let single = self.gaps.get(SINGLE);
        let any = || self.gaps.values().next();
        single.or_else(any).cloned().unwrap_or_default()
    }

    pub(super) fn json(&self, name: &str) -> Value {
        let by_kind = |(kind, gaps): (&String, &Gaps)| (kind.clone(), gaps.json());
        let mut restarts = json!({ ASKED: self.kills });
        for (cause, count) in &self.unasked {
            restarts[cause] = json!(count);
        }
        let fault = |(kind, faults): (&String, &Faults)| (kind.clone(), faults.json());
        let second = |(first, second): (&String, &Second)| {
            let json = json!({ "times": second.times, "recovered": second.recovered });
            (first.clone(), json)
        };
        json!({
            "service": name,
            "killed_after": self.seconds.iter().map(second).collect::<serde_json::Map<_, _>>(),
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

    pub(super) fn from_json(row: &Value) -> anyhow::Result<Self> {
        let mut service = Self {
            kills: number(row, "kills")?,
            recovered: number(row, "recovered")?,
            redelivered: number(row, "redelivered")?,
            detections: Gaps::from_json(&row["detection_ns"])?,
            ..Self::default()
        };
        for (kind, gaps) in row["gap_ns_by_kind"].as_object().into_iter().flatten() {
            service.gaps.insert(kind.clone(), Gaps::from_json(gaps)?);
        }
        for (kind, faults) in row["faults"].as_object().into_iter().flatten() {
            service
                .faults
                .insert(kind.clone(), Faults::from_json(faults)?);
        }
        for (first, second) in row["killed_after"].as_object().into_iter().flatten() {
            let second = Second {
                times: number(second, "times")?,
                recovered: number(second, "recovered")?,
            };
            service.seconds.insert(first.clone(), second);
        }
        for (kind, swaps) in row["swaps"].as_object().into_iter().flatten() {
            service.swaps.insert(kind.clone(), Swaps::from_json(swaps)?);
        }
        for (cause, count) in row["restarts"].as_object().into_iter().flatten() {
            if let Some(count) = count.as_u64().filter(|_| cause != ASKED) {
                service.unasked.insert(cause.clone(), count);
            }
        }
        Ok(service)
    }
}

/// Returns a number of a file.
pub(super) fn number(json: &Value, name: &str) -> anyhow::Result<u64> {
    json[name]
        .as_u64()
        .with_context(|| format!("no number {name}"))
}
