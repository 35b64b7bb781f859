//! What it costs that services can be restarted: while nothing fails, and while one is killed.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::results::{Metric, align, figures};

/// Start of the names of what is read while the driver of the disk is killed.
pub(crate) const KILLS: &str = "files.seq_read.kill_";
/// Most that restartability may cost on the average, in percent of the same operation without.
const MOST_PRICE: f64 = 2.0;
/// Most that it may cost where it costs most.
const MOST_WORST_PRICE: f64 = 5.0;
/// Most that reading may become slower, in percent: period of the kills in ms, its name, limit.
const SLOWDOWNS: [(u64, &str, f64); 2] = [(1000, "1s", 3.0), (100, "100ms", 25.0)];
/// Version of what the guest prints.
const SCHEMA: u32 = 1;

/// An operation with and without state that is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Price {
    name: String,
    kept: f64,
    volatile: f64,
}

impl Price {
    /// Pairs what was measured in both ways.
    pub(crate) fn all(kept: &[Metric], volatile: &[Metric]) -> Vec<Price> {
        let pair = |metric: &Metric| {
            let other = kept.iter().find(|kept| kept.name == metric.name)?;
            (metric.value > 0.0).then(|| Price {
                name: metric.name.clone(),
                kept: other.value,
                volatile: metric.value,
            })
        };
        volatile.iter().filter_map(pair).collect()
    }

    fn percent(&self) -> f64 {
        (self.kept - self.volatile) / self.volatile * 100.0
    }
}

/// How much slower reading becomes by kills.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slowdown {
    name: String,
    kills: u64,
    percent: f64,
    limit: f64,
}

/// What it costs that services can be restarted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Restart {
    pub(crate) prices: Vec<Price>,
    pub(crate) slowdowns: Vec<Slowdown>,
}

impl Restart {
    /// Returns whether all is within the limits.
    pub(crate) fn is_good(&self) -> bool {
        self.average_price() <= MOST_PRICE
            && self.worst_price() <= MOST_WORST_PRICE
            && self.slowdowns.iter().all(Slowdown::is_good)
    }

    /// Returns whether nothing was measured.
    pub(crate) fn is_empty(&self) -> bool {
        self.prices.is_empty() && self.slowdowns.is_empty()
    }

    fn average_price(&self) -> f64 {
        let sum: f64 = self.prices.iter().map(Price::percent).sum();
        sum / self.prices.len().max(1) as f64
    }

    fn worst_price(&self) -> f64 {
        self.prices.iter().map(Price::percent).fold(0.0, f64::max)
    }

    /// Returns a table of both, and whether they are within the limits.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        if !self.prices.is_empty() {
            let titles = ["restartability", "kept", "not kept", "price", ""];
            let mut rows = vec![titles.map(str::to_owned)];
            rows.extend(self.prices.iter().map(|price| {
                [
                    price.name.clone(),
                    figures(price.kept),
                    figures(price.volatile),
                    format!("{:+.1} %", price.percent()),
                    String::new(),
                ]
            }));
            text += &align(&rows);
            for (what, price, limit) in [
                ("on the average", self.average_price(), MOST_PRICE),
                ("at worst", self.worst_price(), MOST_WORST_PRICE),
            ] {
                let verdict = verdict(price, limit);
                text += &format!("{what} {price:.1} %: {verdict} the limit of {limit} %\n");
            }
        }
        for slowdown in &self.slowdowns {
            let Slowdown {
                name,
                kills,
                percent,
                limit,
            } = slowdown;
            let verdict = verdict(*percent, *limit);
            text += &format!(
                "{name} {percent:.1} % with {kills} kills: {verdict} the limit of {limit} %\n"
            );
        }
        text
    }

    /// Returns what is written to `latest.json`.
    pub(crate) fn json(&self) -> Value {
        let prices = self.prices.iter().map(|price| {
            json!({
                "name": price.name,
                "instructions": price.kept,
                "volatile": price.volatile,
                "percent": price.percent(),
            })
        });
        let slowdowns = self.slowdowns.iter().map(|slowdown| {
            json!({
                "name": slowdown.name,
                "value": slowdown.percent,
                "unit": "percent",
                "kills": slowdown.kills,
                "limit": slowdown.limit,
            })
        });
        json!({
            "prices": prices.collect::<Vec<_>>(),
            "slowdowns": slowdowns.collect::<Vec<_>>(),
        })
    }

    /// Reads what was written.
    pub(crate) fn from_json(json: &Value) -> anyhow::Result<Self> {
        let number = |json: &Value, name: &str| {
            json[name]
                .as_f64()
                .with_context(|| format!("no {name} in {json}"))
        };
        let name = |json: &Value| json["name"].as_str().context("no name").map(str::to_owned);
        let list = |name: &str| json[name].as_array().context("no list").cloned();
        let price = |json: &Value| {
            Ok(Price {
                name: name(json)?,
                kept: number(json, "instructions")?,
                volatile: number(json, "volatile")?,
            })
        };
        let slowdown = |json: &Value| {
            Ok(Slowdown {
                name: name(json)?,
                kills: json["kills"].as_u64().context("no kills")?,
                percent: number(json, "value")?,
                limit: number(json, "limit")?,
            })
        };
        Ok(Self {
            prices: list("prices")?
                .iter()
                .map(price)
                .collect::<anyhow::Result<_>>()?,
            slowdowns: list("slowdowns")?
                .iter()
                .map(slowdown)
                .collect::<anyhow::Result<_>>()?,
        })
    }
}

fn verdict(percent: f64, limit: f64) -> &'static str {
    if percent <= limit { "within" } else { "OVER" }
}

impl Slowdown {
    /// Reads what `bench kills --json` printed.
    pub(crate) fn parse(output: &str) -> anyhow::Result<Vec<Slowdown>> {
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
        let readings = report["readings"].as_array().context("no readings")?;
        let find = |period_ms: u64| {
            // There may be several of the same kind.
            let (mut bytes, mut ns, mut kills) = (0.0, 0.0, 0);
            for reading in readings.iter().filter(|one| one["period_ms"] == period_ms) {
                let number = |name: &str| {
                    let number = reading[name].as_u64();
                    number.with_context(|| format!("no {name} in {reading}"))
                };
                bytes += number("bytes")? as f64;
                // How long the host's disk takes is nobody's fault, but while there is no driver
                // all waiting counts. What is work meanwhile is counted twice.
                let waited = number("waited_ns")?.min(number("ns")?);
                ns += (number("ns")? - waited + number("away_ns")?) as f64;
                kills += number("kills")?;
            }
            ensure!(
                ns > 0.0 && bytes > 0.0,
                "nothing was read with kills every {period_ms} ms"
            );
            anyhow::Ok((bytes / ns, kills))
        };
        let (undisturbed, _) = find(0)?;
        SLOWDOWNS
            .into_iter()
            .map(|(period_ms, name, limit)| {
                let (speed, kills) = find(period_ms)?;
                ensure!(kills > 0, "nothing was killed every {period_ms} ms");
                Ok(Slowdown {
                    name: format!("{KILLS}{name}_percent"),
                    kills,
                    percent: (1.0 - speed / undisturbed) * 100.0,
                    limit,
                })
            })
            .collect()
    }

    fn is_good(&self) -> bool {
        self.percent <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = r#"
{"schema":1,"readings":[
{"period_ms":0,"kills":0,"bytes":900,"ns":110,"waited_ns":10,"away_ns":0},
{"period_ms":0,"kills":0,"bytes":1100,"ns":110,"waited_ns":10,"away_ns":0},
{"period_ms":1000,"kills":2,"bytes":1960,"ns":210,"waited_ns":30,"away_ns":20},
{"period_ms":100,"kills":10,"bytes":700,"ns":110,"waited_ns":10,"away_ns":0}
]}
"#;

    fn metric(name: &str, value: f64) -> Metric {
        Metric {
            name: name.to_owned(),
            value,
            median: value,
            p99: None,
            unit: "instructions",
            samples: 1,
        }
    }

    #[test]
    fn kills_make_reading_slower_by_a_part() {
        let slowdowns = Slowdown::parse(OUTPUT).unwrap();
        let [second, tenth] = &slowdowns[..] else {
            panic!("{slowdowns:?}");
        };
        assert_eq!(second.name, "files.seq_read.kill_1s_percent");
        assert!((second.percent - 2.0).abs() < 1e-9 && second.is_good());
        assert!((tenth.percent - 30.0).abs() < 1e-9 && !tenth.is_good());
        let restart = Restart {
            slowdowns,
            ..Restart::default()
        };
        assert!(!restart.is_good());
        let table = restart.table();
        assert!(
            table.contains("30.0 % with 10 kills: OVER the limit of 25 %"),
            "{table}"
        );
    }

    #[test]
    fn readings_without_kills_or_bytes_are_refused() {
        for (what, by) in [
            ("\"kills\":2", "\"kills\":0"),
            ("\"bytes\":1960", "\"bytes\":0"),
            ("\"bytes\":700", "\"bytes\":-1"),
            ("\"period_ms\":0", "\"period_ms\":5"),
            ("\"schema\":1", "\"schema\":2"),
            ("{", ""),
        ] {
            assert!(Slowdown::parse(&OUTPUT.replace(what, by)).is_err(), "{by}");
        }
    }

    #[test]
    fn the_price_is_what_keeping_adds() {
        let kept = [metric("a", 102.0), metric("b", 212.0), metric("c", 1.0)];
        let volatile = [metric("a", 100.0), metric("b", 200.0), metric("d", 1.0)];
        let restart = Restart {
            prices: Price::all(&kept, &volatile),
            slowdowns: Slowdown::parse(OUTPUT).unwrap(),
        };
        assert_eq!(restart.prices.len(), 2);
        let table = restart.table();
        assert!(
            table.contains("on the average 4.0 %: OVER") && table.contains("at worst 6.0 %: OVER"),
            "{table}"
        );
        assert_eq!(Restart::from_json(&restart.json()).unwrap(), restart);
        let cheap = Restart {
            prices: Price::all(&kept[..1], &volatile),
            ..Restart::default()
        };
        assert!(cheap.is_good() && !cheap.is_empty());
    }
}
