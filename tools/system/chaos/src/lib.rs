//! When which service is ended: chance that can be repeated.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// How often each service is ended, if nothing else is said.
const DEFAULT_COUNT: u32 = 10;
/// Mean time between two ends, ms, if nothing else is said.
const DEFAULT_PAUSE_MS: u64 = 50;
/// Longest mean time between two ends, ms.
const MAX_PAUSE_MS: u64 = 60_000;

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Start of the row of random numbers, if it was given.
    pub seed: Option<u64>,
    /// How often each service is ended.
    pub count: u32,
    /// Mean time between two ends, ms.
    pub pause_ms: u64,
    /// The services.
    pub services: Vec<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
}

impl Request {
    /// Parses arguments.
    ///
    /// # Errors
    ///
    /// What is missing or makes no sense.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let (mut seed, mut count, mut pause_ms) = (None, DEFAULT_COUNT, DEFAULT_PAUSE_MS);
        let mut rest = arguments.iter();
        let services = loop {
            let argument = rest.next().ok_or("which services?")?;
            match argument.as_str() {
                "-s" | "--seed" => seed = Some(number(argument, rest.next())?),
                "-n" | "--count" => {
                    let given = number(argument, rest.next())?;
                    count = u32::try_from(given).map_err(|_| "too often".to_string())?;
                }
                "-p" | "--pause" => {
                    pause_ms = number(argument, rest.next())?.clamp(1, MAX_PAUSE_MS);
                }
                option if option.starts_with('-') => {
                    return Err(format!("unknown option {option}"));
                }
                services => break services,
            }
        };
        let services = services.split(',').filter(|name| !name.is_empty());
        let services: Vec<String> = services.map(ToString::to_string).collect();
        let command: Vec<String> = rest.cloned().collect();
        if services.is_empty() {
            return Err("which services?".into());
        }
        if command.is_empty() {
            return Err("while which program runs?".into());
        }
        Ok(Request {
            seed,
            count,
            pause_ms,
            services,
            command,
        })
    }
}

fn number(option: &str, value: Option<&String>) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("{option} needs a number"))?;
    value
        .parse()
        .map_err(|_| format!("{option} needs a number"))
}

/// Which service is ended next, and when.
#[derive(Clone, Debug)]
pub struct Plan {
    random: u64,
    pause_ms: u64,
    left: Vec<u32>,
}

impl Plan {
    /// Makes the plan of a seed for this many services.
    pub fn new(seed: u64, request: &Request) -> Self {
        Plan {
            // The generator stands still at 0.
            random: seed | 1,
            pause_ms: request.pause_ms,
            left: request.services.iter().map(|_| request.count).collect(),
        }
    }

    /// Returns the number of the service to be ended next and how long to wait before, us; `None`
    /// when all have been ended often enough.
    pub fn step(&mut self) -> Option<(usize, u64)> {
        let total: u64 = self.left.iter().map(|&left| u64::from(left)).sum();
        let mut place = self.random().checked_rem(total)?;
        let mut service = 0;
        while place >= u64::from(self.left[service]) {
            place -= u64::from(self.left[service]);
            service += 1;
        }
        self.left[service] -= 1;
        let wait_us = self.random() % (2 * self.pause_ms * 1000);
        Some((service, wait_us))
    }

    /// The xorshift64* generator (Vigna 2016).
    fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Plan, Request};

    fn parse(text: &str) -> Result<Request, String> {
        let arguments: Vec<String> = text.split_whitespace().map(Into::into).collect();
        Request::parse(&arguments)
    }

    #[test]
    fn options_end_at_the_services() {
        let request = parse("-s 7 -n 3 vfs,ext4 ls -l").unwrap();
        assert_eq!(
            (request.seed, request.count, request.pause_ms),
            (Some(7), 3, 50)
        );
        assert_eq!(request.services, ["vfs", "ext4"]);
        assert_eq!(request.command, ["ls", "-l"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(parse("").unwrap_err(), "which services?");
        assert_eq!(parse(", ls").unwrap_err(), "which services?");
        assert_eq!(parse("vfs").unwrap_err(), "while which program runs?");
        assert_eq!(parse("-n x vfs ls").unwrap_err(), "-n needs a number");
        assert_eq!(parse("-x vfs ls").unwrap_err(), "unknown option -x");
    }

    proptest! {
        #[test]
        fn each_service_is_ended_as_often_as_asked_and_a_seed_repeats(
            seed in any::<u64>(), count in 0..20_u32, services in 1..6_usize, pause_ms in 1..1000_u64,
        ) {
            let request = Request {
                seed: None,
                count,
                pause_ms,
                services: vec!["s".into(); services],
                command: vec!["ls".into()],
            };
            let (mut plan, mut again) = (Plan::new(seed, &request), Plan::new(seed, &request));
            let mut ended = vec![0; services];
            while let Some((service, wait_us)) = plan.step() {
                prop_assert_eq!(again.step(), Some((service, wait_us)));
                prop_assert!(wait_us < 2 * pause_ms * 1000);
                ended[service] += 1;
            }
            prop_assert_eq!(ended, vec![count; services]);
        }
    }
}
