//! Reads figures that were kept.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::misses::Miss;
use super::rows::{Service, number};
use super::{Figures, SCHEMA};
use crate::chaos::events::{Counts, Quiet};

impl Figures {
    /// Reads the parts of a file of which table and charts are made.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let file: Value = serde_json::from_str(text)?;
        ensure!(file["schema"] == SCHEMA, "it has another schema");
        let text = |name: &str| {
            let found = file[name].as_str().map(str::to_owned);
            found.with_context(|| format!("no {name}"))
        };
        let totals = &file["totals"];
        Ok(Self {
            commit: text("commit")?,
            seed: number(&file, "seed")?,
            plan: text("plan")?,
            gap_us: text("gap_us")?,
            cpus: number(&file, "cpus")?,
            // Older files do not have it.
            open: file["open"].as_u64().unwrap_or(0),
            clock: text("clock")?,
            command: text("command")?,
            services: services(&file["services"])?,
            counts: Counts {
                operations: number(totals, "operations")?,
                client_errors: number(totals, "client_errors")?,
                wrong: number(totals, "wrong")?,
                lost: number(totals, "lost")?,
                duplicated: number(totals, "duplicated")?,
            },
            misses: misses(&file["misses"])?,
            quiet: quiet(&file["quiet"])?,
            leaks: number(totals, "leaks")?,
            reboots: number(totals, "reboots")?,
            boots: number(totals, "boots")?,
            elapsed_ns: number(&file, "elapsed_ns")?,
            complaints: 0,
        })
    }
}

/// Reads a list that older files do not have.
fn misses(rows: &Value) -> anyhow::Result<Vec<Miss>> {
    let rows = rows.as_array().into_iter().flatten();
    rows.map(Miss::from_json).collect()
}

/// Reads what older files do not have.
fn quiet(json: &Value) -> anyhow::Result<Quiet> {
    if json.is_null() {
        return Ok(Quiet::default());
    }
    Ok(Quiet {
        ns: number(json, "ns")?,
        restarts: number(json, "restarts")?,
        late_heartbeats: number(json, "late_heartbeats")?,
    })
}

fn services(rows: &Value) -> anyhow::Result<BTreeMap<String, Service>> {
    let row = |row: &Value| {
        let name = row["service"]
            .as_str()
            .context("a service without a name")?;
        Ok((name.to_owned(), Service::from_json(row)?))
    };
    rows.as_array()
        .context("no services")?
        .iter()
        .map(row)
        .collect()
}
