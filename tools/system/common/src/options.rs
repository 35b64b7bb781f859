//! Options and operands of a command line.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// An option that a program knows: `-l` or `--long`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flag {
    /// Its letter.
    pub letter: char,
    /// Its long name, without the dashes.
    pub name: &'static str,
}

/// What was given on the command line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    given: Vec<char>,
    /// What is no option, in order.
    pub operands: Vec<String>,
}

impl Options {
    /// Parses arguments. Options end at the first `--`; a single `-` is an operand.
    ///
    /// # Errors
    ///
    /// A sentence that names the option that is not known.
    pub fn parse(arguments: &[String], known: &[Flag]) -> Result<Self, String> {
        let mut options = Options::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--" {
                options.operands.extend(rest.cloned());
                break;
            } else if let Some(name) = argument.strip_prefix("--") {
                let flag = known.iter().find(|flag| flag.name == name);
                options
                    .given
                    .push(flag.ok_or_else(|| unknown(argument))?.letter);
            } else if let Some(letters) = argument.strip_prefix('-').filter(|l| !l.is_empty()) {
                for letter in letters.chars() {
                    let flag = known.iter().find(|flag| flag.letter == letter);
                    options
                        .given
                        .push(flag.ok_or_else(|| unknown(&format!("-{letter}")))?.letter);
                }
            } else {
                options.operands.push(argument.to_string());
            }
        }
        Ok(options)
    }

    /// Returns whether the option with this letter was given.
    pub fn has(&self, letter: char) -> bool {
        self.given.contains(&letter)
    }
}

fn unknown(option: &str) -> String {
    format!("unknown option {option}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Flag, Options};

    const KNOWN: &[Flag] = &[
        Flag {
            letter: 'l',
            name: "long",
        },
        Flag {
            letter: 'a',
            name: "all",
        },
    ];

    fn parse(text: &str) -> Result<Options, String> {
        let arguments: Vec<String> = text.split_whitespace().map(Into::into).collect();
        Options::parse(&arguments, KNOWN)
    }

    #[test]
    fn short_options_combine_and_long_ones_mean_the_same() {
        let options = parse("-la /tmp - --all").unwrap();
        assert!(options.has('l') && options.has('a'));
        assert_eq!(options.operands, ["/tmp", "-"]);
    }

    #[test]
    fn after_two_dashes_everything_is_an_operand() {
        let options = parse("-- -l --all").unwrap();
        assert_eq!((options.has('l'), options.operands.len()), (false, 2));
    }

    #[test]
    fn unknown_options_are_named() {
        assert_eq!(parse("-lx").unwrap_err(), "unknown option -x");
        assert_eq!(
            parse("--long-list").unwrap_err(),
            "unknown option --long-list"
        );
    }

    proptest! {
        #[test]
        fn any_arguments_parse_or_are_refused(
            arguments in proptest::collection::vec(any::<String>(), 0..8),
        ) {
            if let Ok(options) = Options::parse(&arguments, KNOWN) {
                prop_assert!(options.operands.len() <= arguments.len());
            }
        }
    }
}
