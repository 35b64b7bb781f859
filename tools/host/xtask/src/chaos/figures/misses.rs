//! Faults that were not recovered: which, where, and what was seen.

use anyhow::Context;
use serde_json::{Value, json};

use crate::chaos::batch::Outcome;
use crate::chaos::silent::Programs;

/// What of a report says how a fault was not recovered.
const SEEN: [&str; 6] = [
    "why",
    "cause",
    "client_errors",
    "wrong",
    "lost",
    "duplicated",
];

/// A fault that was not recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Miss {
    pub(super) service: String,
    pub(super) kind: String,
    /// Address, and function and line of code.
    pub(super) place: String,
    pub(super) seen: String,
}

impl Miss {
    pub(super) fn json(&self) -> Value {
        json!({
            "service": self.service,
            "kind": self.kind,
            "place": self.place,
            "seen": self.seen,
        })
    }

    pub(super) fn from_json(json: &Value) -> anyhow::Result<Self> {
        let text = |name: &str| {
            let found = json[name].as_str().map(str::to_owned);
            found.with_context(|| format!("a miss without {name}"))
        };
        Ok(Self {
            service: text("service")?,
            kind: text("kind")?,
            place: text("place")?,
            seen: text("seen")?,
        })
    }
}

/// Returns the faults of a boot that were not recovered; the one with which the machine ended too.
pub(super) fn of(outcome: &Outcome, programs: Option<&Programs>) -> Vec<Miss> {
    let place = |service: &str, about: &Value| {
        let address = about["address"].as_u64().unwrap_or(0);
        let of_code = about["area"].is_null();
        let code = programs.filter(|_| of_code)?.place(service, address);
        Some(format!("{address:#x} {}", code.unwrap_or_default()))
    };
    let events = &outcome.events;
    let missed = events
        .faults
        .iter()
        .filter(|fault| fault.is_manifest && !fault.is_recovered);
    let mut misses: Vec<Miss> = missed
        .map(|fault| Miss {
            service: fault.service.clone(),
            kind: fault.kind.clone(),
            place: place(&fault.service, &fault.about)
                .unwrap_or_else(|| format!("{:#x}", fault.about["address"].as_u64().unwrap_or(0))),
            seen: seen(&fault.about),
        })
        .collect();
    if let Some(fatal) = events.pending.as_ref().filter(|_| outcome.is_lost()) {
        let about = json!({ "address": fatal.address });
        misses.push(Miss {
            service: fatal.service.clone(),
            kind: fatal.kind.clone(),
            place: place(&fatal.service, &about).unwrap_or_default(),
            seen: format!(
                "the machine: {}",
                outcome.trouble.as_deref().unwrap_or("ended")
            ),
        });
    }
    misses
}

fn seen(about: &Value) -> String {
    let part = |name: &&str| match &about[*name] {
        Value::String(text) => Some(format!("{name}: {text}")),
        Value::Number(number) if number.as_u64() != Some(0) => Some(format!("{name} {number}")),
        _ => None,
    };
    let parts: Vec<String> = SEEN.iter().filter_map(part).collect();
    parts.join("; ")
}
