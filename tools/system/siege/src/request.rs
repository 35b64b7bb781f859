//! What is asked for on the command line.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use chaos::request::{number, range};

use crate::{Kind, Load};

/// Kills, if nothing else is said.
const DEFAULT_KILLS: u32 = 100;
/// Time from a recovery to the next kill, µs, if nothing else is said.
const DEFAULT_GAP_US: RangeInclusive<u64> = 0..=20_000;
/// Longest time between two kills, µs.
const MAX_GAP_US: u64 = 60_000_000;

/// Most files that are kept open: the vfs has room for 16,384, and others want some.
const MAX_OPEN: u32 = 15_000;

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The services to kill; none means all that can be spared.
    pub services: Vec<String>,
    /// How many kills there are in all.
    pub kills: u32,
    /// How many of them are left out at the beginning.
    pub skip: u32,
    /// Kinds of strikes.
    pub kinds: Vec<Kind>,
    /// Time from a recovery to the next kill, µs.
    pub gap_us: RangeInclusive<u64>,
    /// Start of the row of random numbers, if it was given.
    pub seed: Option<u64>,
    /// The workloads.
    pub loads: Vec<Load>,
    /// How many files the workload `crowd` keeps open.
    pub open: u32,
    /// The file with the faults that nobody is told of.
    pub faults: Option<String>,
}

impl Request {
    /// Parses arguments.
    ///
    /// # Errors
    ///
    /// What is missing or makes no sense.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut request = Request {
            services: Vec::new(),
            kills: DEFAULT_KILLS,
            skip: 0,
            kinds: alloc::vec![Kind::Single],
            gap_us: DEFAULT_GAP_US,
            seed: None,
            loads: Load::ALL.to_vec(),
            open: 0,
            faults: None,
        };
        let mut rest = arguments.iter();
        while let Some(option) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("{option} needs a value"));
            match option.as_str() {
                "-k" | "--kill" => {
                    request.services = list(value()?, |name| Some(name.to_string()))?;
                }
                "-n" | "--times" => request.kills = times(option, value()?)?,
                "-x" | "--skip" => request.skip = times(option, value()?)?,
                "-o" | "--open" => {
                    let open = number(option, value()?)?;
                    request.open = u32::try_from(open)
                        .ok()
                        .filter(|open| *open <= MAX_OPEN)
                        .ok_or_else(|| format!("{option}: at most {MAX_OPEN} files"))?;
                }
                "-f" | "--faults" => request.faults = Some(value()?.clone()),
                "-p" | "--plan" => request.kinds = list(value()?, Kind::named)?,
                "-l" | "--loads" => {
                    let loads = value()?;
                    request.loads = if loads == "none" {
                        Vec::new()
                    } else {
                        list(loads, Load::named)?
                    };
                }
                "-g" | "--gap-us" => request.gap_us = range(option, value()?, (MAX_GAP_US, "µs"))?,
                "-s" | "--seed" => request.seed = Some(number(option, value()?)?),
                _ => return Err(format!("unknown option {option}")),
            }
        }
        if request.open > 0 && !request.loads.contains(&Load::Crowd) {
            request.loads.push(Load::Crowd);
        }
        if request.open == 0 && request.loads.contains(&Load::Crowd) {
            return Err("crowd needs the number of files, -o".to_string());
        }
        Ok(request)
    }
}

fn times(option: &str, value: &str) -> Result<u32, String> {
    u32::try_from(number(option, value)?).map_err(|_| "too many times".to_string())
}

/// Parses names with commas between them.
fn list<T: PartialEq>(value: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    let mut items = Vec::new();
    for name in value.split(',').filter(|name| !name.is_empty()) {
        let item = parse(name).ok_or_else(|| format!("{name} is unknown"))?;
        if items.contains(&item) {
            return Err(format!("{name} is named twice"));
        }
        items.push(item);
    }
    if items.is_empty() {
        return Err(format!("{value:?} names nothing"));
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Request;
    use crate::{Kind, Load};

    fn parse(text: &str) -> Result<Request, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Request::parse(&words)
    }

    #[test]
    fn everything_can_be_said() {
        let request =
            parse("-k vfs,block -n 7 -x 2 -p pair,again -l disk -g 1..2 -s 9 -f /faults/9 -o 70")
                .unwrap();
        let expected = Request {
            services: vec!["vfs".to_owned(), "block".to_owned()],
            kills: 7,
            skip: 2,
            kinds: vec![Kind::Pair, Kind::Again],
            gap_us: 1..=2,
            seed: Some(9),
            loads: vec![Load::Disk, Load::Crowd],
            open: 70,
            faults: Some("/faults/9".to_owned()),
        };
        assert_eq!(request, expected);
        assert_eq!(parse("-l none").unwrap().loads, []);
        assert_eq!(parse("").unwrap().loads, Load::ALL);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (text, error) in [
            ("x", "unknown option x"),
            ("-n", "-n needs a value"),
            ("-n x", "-n needs a number, not x"),
            ("-n 4294967296", "too many times"),
            ("-k a,a", "a is named twice"),
            ("-k ,", "\",\" names nothing"),
            ("-l x", "x is unknown"),
            ("-l crowd", "crowd needs the number of files, -o"),
            ("-o 15001", "-o: at most 15000 files"),
            ("-p x", "x is unknown"),
            ("-g 3..2", "-g: 3 is more than 2"),
        ] {
            assert_eq!(parse(text).unwrap_err(), error);
        }
    }

    proptest! {
        #[test]
        fn no_arguments_make_it_panic(
            arguments in prop::collection::vec("[-a-z0-9.,]{0,8}", 0..8),
        ) {
            if let Ok(request) = Request::parse(&arguments) {
                prop_assert!(request.gap_us.start() <= request.gap_us.end());
            }
        }
    }
}
