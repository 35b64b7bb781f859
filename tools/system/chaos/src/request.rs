//! What is asked for on the command line.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

/// How often each service is killed, if nothing else is said.
const DEFAULT_TIMES: u32 = 10;
/// Time between two kills, ms, if nothing else is said.
const DEFAULT_GAP_MS: RangeInclusive<u64> = 5..=50;
/// Longest time between two kills, ms.
const MAX_GAP_MS: u64 = 60_000;

/// What is done to services.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deed {
    /// They are killed.
    Kill,
    /// Each is swapped to the image in its place, and back, in turn.
    Swap(Vec<String>),
    /// They are harmed without being killed.
    Harm(Harm),
}

/// What is done to a service that need not die of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Harm {
    /// It is slowed down for a while.
    Slow,
    /// It ends when it would answer the next time.
    Drop,
    /// Its next answer is lost, and it gets the request again.
    Duplicate,
}

impl Harm {
    /// Returns the one of a name.
    fn named(name: &str) -> Option<Self> {
        match name {
            "slow" => Some(Harm::Slow),
            "drop" => Some(Harm::Drop),
            "duplicate" => Some(Harm::Duplicate),
            _ => None,
        }
    }
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The services to kill, to swap or to harm; none means all that can be spared.
    pub services: Vec<String>,
    /// What to do to them.
    pub deed: Deed,
    /// How often each of them is killed.
    pub times: u32,
    /// Time between two kills, ms.
    pub gap_ms: RangeInclusive<u64>,
    /// Start of the row of random numbers, if it was given.
    pub seed: Option<u64>,
    /// What each run must print. When it is given, or `is_compared` is set, the output of the runs
    /// goes to files.
    pub expected: Option<String>,
    /// Whether all runs must print the same.
    pub is_compared: bool,
    /// The program and its arguments: at least one word.
    pub command: Vec<String>,
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
            deed: Deed::Kill,
            times: DEFAULT_TIMES,
            gap_ms: DEFAULT_GAP_MS,
            seed: None,
            expected: None,
            is_compared: false,
            command: Vec::new(),
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--" {
                request.command.extend(rest.cloned());
                break;
            } else if argument.starts_with('-') {
                request.option(argument, &mut rest)?;
            } else {
                request.command.push(argument.clone());
                request.command.extend(rest.cloned());
                break;
            }
        }
        if request.command.is_empty() {
            return Err("while which program runs?".to_string());
        }
        Ok(request)
    }

    /// Returns whether the output of the runs is looked at.
    pub fn looks_at_output(&self) -> bool {
        self.is_compared || self.expected.is_some()
    }

    fn option<'a>(
        &mut self,
        option: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), String> {
        if matches!(option, "-c" | "--compare") {
            self.is_compared = true;
            return Ok(());
        }
        let mut value = || rest.next().ok_or_else(|| format!("{option} needs a value"));
        match option {
            "-k" | "--kill" => {
                self.services = list(value()?)?;
                if matches!(self.deed, Deed::Swap(_)) {
                    self.deed = Deed::Kill;
                }
            }
            "-w" | "--swap" => {
                let swaps = list(value()?)?;
                let pairs = swaps
                    .iter()
                    .map(|swap| swap.split_once('=').unwrap_or((swap, swap)));
                let (services, images) = pairs
                    .map(|(service, image)| (service.to_string(), image.to_string()))
                    .unzip();
                (self.services, self.deed) = (services, Deed::Swap(images));
            }
            "-f" | "--fault" => {
                let name = value()?;
                let harm = Harm::named(name).ok_or_else(|| format!("unknown fault {name}"))?;
                self.deed = Deed::Harm(harm);
            }
            "-n" | "--times" => {
                let times = number(option, value()?)?;
                self.times = u32::try_from(times).map_err(|_| "too many times".to_string())?;
            }
            "-g" | "--gap-ms" => self.gap_ms = range(option, value()?, (MAX_GAP_MS, "ms"))?,
            "-s" | "--seed" => self.seed = Some(number(option, value()?)?),
            "-e" | "--expect" => self.expected = Some(value()?.clone()),
            _ => return Err(format!("unknown option {option}")),
        }
        Ok(())
    }
}

fn list(value: &str) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    for name in value.split(',').filter(|name| !name.is_empty()) {
        if names.iter().any(|known| known == name) {
            return Err(format!("{name} is named twice"));
        }
        names.push(name.to_string());
    }
    if names.is_empty() {
        return Err("which services?".to_string());
    }
    Ok(names)
}

/// Reads the value of an option that is a number.
///
/// # Errors
///
/// A sentence for people.
pub fn number(option: &str, value: &str) -> Result<u64, String> {
    value
        .parse()
        .map_err(|_| format!("{option} needs a number, not {value}"))
}

/// Reads the value of an option that is a time, or two with `..` between them: none longer than `most`, in
/// this unit.
///
/// # Errors
///
/// A sentence for people.
pub fn range(
    option: &str,
    value: &str,
    (most, unit): (u64, &str),
) -> Result<RangeInclusive<u64>, String> {
    let (low, high) = value.split_once("..").unwrap_or((value, value));
    let (low, high) = (number(option, low)?, number(option, high)?);
    if low > high {
        return Err(format!("{option}: {low} is more than {high}"));
    }
    if high > most {
        return Err(format!("{option}: more than {most} {unit}"));
    }
    Ok(low..=high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Deed, Harm, Request};

    fn parse(text: &str) -> Result<Request, String> {
        let arguments: Vec<String> = text.split_whitespace().map(Into::into).collect();
        Request::parse(&arguments)
    }

    #[test]
    fn options_end_at_the_command() {
        let request = parse("-k vfs,ext4 -n 3 -s 7 -g 1..2 ls -l --seed").unwrap();
        assert_eq!(request.services, ["vfs", "ext4"]);
        assert_eq!((request.times, request.seed), (3, Some(7)));
        assert_eq!(request.gap_ms, 1..=2);
        assert_eq!(request.command, ["ls", "-l", "--seed"]);
        assert!(!request.looks_at_output());
        let request = parse("--expect x --gap-ms 4 -- -odd name").unwrap();
        assert_eq!(request.expected.as_deref(), Some("x"));
        assert_eq!(request.gap_ms, 4..=4);
        assert_eq!(request.command, ["-odd", "name"]);
        assert!(request.looks_at_output());
    }

    #[test]
    fn swaps_name_the_image_or_mean_the_one_of_the_service() {
        let request = parse("-w vfs=vfs-2,block ls").unwrap();
        assert_eq!(request.services, ["vfs", "block"]);
        let images = ["vfs-2", "block"].map(String::from).to_vec();
        assert_eq!(request.deed, Deed::Swap(images));
        assert_eq!(parse("-k vfs ls").unwrap().deed, Deed::Kill);
    }

    #[test]
    fn a_fault_is_done_to_the_services_that_are_named_or_to_all() {
        for text in ["-k vfs -f slow ls", "-f slow -k vfs ls"] {
            let request = parse(text).unwrap();
            assert_eq!(request.services, ["vfs"]);
            assert_eq!(request.deed, Deed::Harm(Harm::Slow));
        }
        assert_eq!(parse("-f drop ls").unwrap().deed, Deed::Harm(Harm::Drop));
        assert_eq!(parse("-f x ls").unwrap_err(), "unknown fault x");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (text, error) in [
            ("", "while which program runs?"),
            ("-n 1 --", "while which program runs?"),
            ("-k , ls", "which services?"),
            ("-k a,b,a ls", "a is named twice"),
            ("-n", "-n needs a value"),
            ("-n x ls", "-n needs a number, not x"),
            ("-n 4294967296 ls", "too many times"),
            ("-g 3..2 ls", "-g: 3 is more than 2"),
            ("-g 1..60001 ls", "-g: more than 60000 ms"),
            ("-x ls", "unknown option -x"),
        ] {
            assert_eq!(parse(text).unwrap_err(), error);
        }
    }

    proptest! {
        #[test]
        fn no_arguments_make_it_panic(arguments in prop::collection::vec("[-a-z0-9.,]{0,8}", 0..8)) {
            if let Ok(request) = Request::parse(&arguments) {
                prop_assert!(!request.command.is_empty());
            }
        }
    }
}
