//! Results of reading while a driver is killed: what was read in which time.

use alloc::string::{String, ToString};
use core::fmt::{self, Write};

use skink_program::{Align, Table};

/// A stretch of time with kills at a steady pace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Phase {
    /// Time from kill to kill, ns; 0 without kills.
    pub period_ns: u64,
    /// How long to read, ns.
    pub time_ns: u64,
}

const MS: u64 = 1_000_000;

impl Phase {
    /// Every phase. Those without kills, before and after the others, are what these are compared
    /// with: how fast the host's disk answers changes with what else the host does.
    pub const ALL: [Phase; 4] = [
        Phase {
            period_ns: 0,
            time_ns: 1000 * MS,
        },
        Phase {
            period_ns: 1000 * MS,
            time_ns: 2000 * MS,
        },
        Phase {
            period_ns: 100 * MS,
            time_ns: 1000 * MS,
        },
        Phase {
            period_ns: 0,
            time_ns: 1000 * MS,
        },
    ];
}

/// What was read in a phase. All of it was right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// The phase.
    pub phase: Phase,
    /// Bytes read.
    pub bytes: u64,
    /// Time that it took, ns.
    pub ns: u64,
    /// Part of it in which all waited, ns: for the host's disk, which takes as long as the host
    /// likes, or for the driver.
    pub waited_ns: u64,
    /// Time in which there was no driver, ns. Part of it is work, part of it may be waiting.
    pub away_ns: u64,
    /// How often the driver was killed.
    pub kills: u32,
}

impl Reading {
    /// Returns how many bytes were read in a millisecond.
    #[must_use]
    pub fn bytes_per_ms(&self) -> u64 {
        let scaled = u128::from(self.bytes) * u128::from(MS);
        scaled.checked_div(self.ns.into()).unwrap_or(0) as u64
    }
}

/// Returns a table for people.
#[must_use]
pub fn table(readings: &[Reading]) -> String {
    let mut table = Table::new(&[
        ("EVERY ms", Align::Right),
        ("KILLS", Align::Right),
        ("MiB READ", Align::Right),
        ("ms", Align::Right),
        ("WAITED ms", Align::Right),
        ("AWAY ms", Align::Right),
        ("KiB/ms", Align::Right),
    ]);
    for reading in readings {
        table.row([
            (reading.phase.period_ns / MS).to_string(),
            reading.kills.to_string(),
            (reading.bytes >> 20).to_string(),
            (reading.ns / MS).to_string(),
            (reading.waited_ns / MS).to_string(),
            (reading.away_ns / MS).to_string(),
            (reading.bytes_per_ms() >> 10).to_string(),
        ]);
    }
    table.render()
}

/// Writes JSON: an object with a line for each phase.
///
/// # Errors
///
/// Those of `out`.
pub fn write_json(out: &mut impl Write, readings: &[Reading]) -> fmt::Result {
    write!(out, "{{\"schema\":1,\"readings\":[")?;
    let mut separator = "\n";
    for reading in readings {
        let Reading {
            phase,
            bytes,
            ns,
            waited_ns,
            away_ns,
            kills,
        } = reading;
        let period_ms = phase.period_ns / MS;
        write!(
            out,
            "{separator}{{\"period_ms\":{period_ms},\"kills\":{kills},\"bytes\":{bytes},\
             \"ns\":{ns},\"waited_ns\":{waited_ns},\"away_ns\":{away_ns}}}"
        )?;
        separator = ",\n";
    }
    writeln!(out, "\n]}}")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{MS, Phase, Reading, table, write_json};

    fn reading() -> Reading {
        Reading {
            phase: Phase::ALL[1],
            bytes: 3 << 20,
            ns: 2 * MS,
            waited_ns: MS,
            away_ns: 0,
            kills: 2,
        }
    }

    #[test]
    fn json_and_table_say_the_same() {
        let mut text = String::new();
        write_json(&mut text, &[reading(), reading()]).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        let first = &json["readings"][0];
        assert_eq!(first["period_ms"], 1000);
        assert_eq!(first["kills"], 2);
        assert_eq!(first["bytes"], 3 << 20);
        assert_eq!(first["ns"], 2 * MS);
        assert_eq!(json["readings"].as_array().unwrap().len(), 2);
        let table = table(&[reading()]);
        let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["1000", "2", "3", "2", "1", "0", "1536"]);
    }

    #[test]
    fn no_time_is_no_speed() {
        assert_eq!(Reading { ns: 0, ..reading() }.bytes_per_ms(), 0);
    }
}
