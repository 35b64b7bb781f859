//! Completion of names: what to look up, and what to insert.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What stands before the cursor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Query {
    /// The start of a program's name.
    Program(String),
    /// The start of a name in a directory.
    Path {
        /// The directory, as it was typed; empty for the current one.
        directory: String,
        /// The start of the name.
        prefix: String,
    },
}

/// A name that could stand there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// The name.
    pub name: String,
    /// Whether more can follow at once (a directory).
    pub is_directory: bool,
}

/// Tells what is to be completed before the cursor.
pub fn query(before_cursor: &str) -> Query {
    let is_separator = |c: char| matches!(c, ' ' | '\t' | ';' | '&' | '|' | '>');
    let start = before_cursor.rfind(is_separator).map_or(0, |at| at + 1);
    let word = &before_cursor[start..];
    let before_word = before_cursor[..start].trim_end();
    let is_command = before_word.is_empty() || before_word.ends_with([';', '&', '|']);
    match word.rsplit_once('/') {
        Some((directory, prefix)) => Query::Path {
            directory: if directory.is_empty() {
                "/".into()
            } else {
                directory.to_string()
            },
            prefix: prefix.to_string(),
        },
        None if is_command => Query::Program(word.to_string()),
        None => Query::Path {
            directory: String::new(),
            prefix: word.to_string(),
        },
    }
}

/// Returns what to insert behind the prefix: all that the candidates share, and a `/` or a blank
/// when there is only one. The candidates must all start with the prefix.
pub fn insertion(prefix: &str, candidates: &[Candidate]) -> String {
    let [first, others @ ..] = candidates else {
        return String::new();
    };
    let mut shared = first.name.as_str();
    for other in others {
        let same = shared.char_indices().zip(other.name.chars());
        let end = same.take_while(|((_, a), b)| a == b).last();
        shared = &shared[..end.map_or(0, |((at, c), _)| at + c.len_utf8())];
    }
    let mut rest = shared.get(prefix.len()..).unwrap_or_default().to_string();
    if others.is_empty() {
        rest.push(if first.is_directory { '/' } else { ' ' });
    }
    rest
}

/// Returns the candidates that start with the prefix, sorted. Hidden names only when asked for.
pub fn matching(prefix: &str, candidates: impl IntoIterator<Item = Candidate>) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = candidates
        .into_iter()
        .filter(|candidate| candidate.name.starts_with(prefix))
        .filter(|candidate| prefix.starts_with('.') || !candidate.name.starts_with('.'))
        .collect();
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    found
}

#[cfg(test)]
mod tests {
    use super::{Candidate, Query, insertion, matching, query};

    fn file(name: &str) -> Candidate {
        Candidate {
            name: name.into(),
            is_directory: false,
        }
    }

    fn path(directory: &str, prefix: &str) -> Query {
        Query::Path {
            directory: directory.into(),
            prefix: prefix.into(),
        }
    }

    #[test]
    fn the_first_word_is_a_program_and_others_are_paths() {
        assert_eq!(query("sh"), Query::Program("sh".into()));
        assert_eq!(query("ls; ca"), Query::Program("ca".into()));
        assert_eq!(query("a && b"), Query::Program("b".into()));
        assert_eq!(query("cat /tm"), path("/", "tm"));
        assert_eq!(query("cat a/b/c"), path("a/b", "c"));
        assert_eq!(query("cat "), path("", ""));
        assert_eq!(query("echo x >fi"), path("", "fi"));
    }

    #[test]
    fn what_all_share_is_inserted() {
        assert_eq!(insertion("s", &[file("sha256sum"), file("shell")]), "h");
        assert_eq!(insertion("sh", &[file("sha256sum"), file("shell")]), "");
        assert_eq!(insertion("ec", &[file("echo")]), "ho ");
        assert_eq!(insertion("ü", &[file("übär"), file("übör")]), "b");
        let directory = Candidate {
            name: "tmp".into(),
            is_directory: true,
        };
        assert_eq!(insertion("t", &[directory]), "mp/");
        assert_eq!(insertion("x", &[]), "");
    }

    #[test]
    fn hidden_names_are_shown_only_when_asked_for() {
        let all = || [file("b"), file(".h"), file("a")];
        assert_eq!(matching("", all()), [file("a"), file("b")]);
        assert_eq!(matching(".", all()), [file(".h")]);
    }
}
