//! A model of a folder: what each operation must do, and what must be there afterwards.
//!
//! The workload draws an operation, carries it out, and has what it saw judged here. Errors belong
//! to it: some operations must fail, and how they fail tells whether one was done twice.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use chaos::Random;

use crate::{Verdict, pattern};

/// Most files.
const MAX_FILES: usize = 24;
/// Bytes beyond which a file is not written to any more, but cut.
const MAX_BYTES: u64 = 24 * 1024;
/// Most bytes that are written at once: more than fit into a message.
const MAX_WRITE: u64 = 9 * 1024;
/// Folders that may be there.
const FOLDERS: u64 = 4;
/// Names that files may have, in the root and in each folder.
const NAMES: u64 = 8;

/// What to do. Paths are relative to the root of the workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Make a file, which must not exist, with this content.
    Create(String, Vec<u8>),
    /// Write these bytes at the end of a file.
    Append(String, Vec<u8>),
    /// Write these bytes at an offset within a file or at its end.
    WriteAt(String, u64, Vec<u8>),
    /// Set the length of a file.
    SetSize(String, u64),
    /// Move a file, over another one if there is one.
    Rename(String, String),
    /// Remove a file.
    Unlink(String),
    /// Make a folder.
    MakeDir(String),
    /// Remove a folder.
    RemoveDir(String),
    /// Read a whole file.
    Read(String),
    /// List a folder; the root is the empty path.
    List(String),
    /// Ask for the size of a file.
    Size(String),
}

/// Why an operation fails that must.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There is nothing of this name.
    NotFound,
    /// The name is taken.
    Exists,
    /// The folder is not empty.
    NotEmpty,
}

/// What an operation gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused for a reason that the model knows.
    Refused(Refusal),
    /// It failed for another reason.
    Failed(String),
    /// Bytes were written up to this offset.
    End(u64),
    /// The content of a file.
    Content(Vec<u8>),
    /// The names in a folder, sorted.
    Names(Vec<String>),
    /// The size of a file.
    Size(u64),
}

/// The model.
#[derive(Clone, Debug)]
pub struct Tree {
    random: Random,
    files: BTreeMap<String, Vec<u8>>,
    folders: BTreeSet<String>,
    writes: u64,
}

impl Tree {
    /// Makes an empty folder for a seed.
    pub fn new(seed: u64) -> Self {
        Tree {
            random: Random::new(seed),
            files: BTreeMap::new(),
            folders: BTreeSet::new(),
            writes: 0,
        }
    }

    /// Draws what to do next.
    pub fn draw(&mut self) -> Operation {
        let path = self.any_path();
        let known = self.known_path().unwrap_or_else(|| path.clone());
        let length = self.files.get(&known).map_or(0, |old| old.len() as u64);
        let folder = format!("d{}", self.random.below(FOLDERS));
        match self.random.below(20) {
            0..=3 if self.files.len() < MAX_FILES => Operation::Create(path, self.content()),
            4..=8 if length > MAX_BYTES => Operation::SetSize(known, self.random.below(MAX_BYTES)),
            4..=6 => Operation::Append(known, self.content()),
            7 | 8 => {
                let offset = self.random.below(length + 1);
                Operation::WriteAt(known, offset, self.content())
            }
            9 => Operation::SetSize(known, self.random.below(MAX_BYTES)),
            10 | 11 => Operation::Rename(known, path),
            12 => Operation::MakeDir(folder),
            13 => Operation::RemoveDir(folder),
            14 => Operation::List(if self.random.below(2) == 0 {
                String::new()
            } else {
                folder
            }),
            15 => Operation::Size(known),
            16 => Operation::Unlink(path),
            17 => Operation::Unlink(known),
            _ => Operation::Read(known),
        }
    }

    fn any_path(&mut self) -> String {
        let name = self.random.below(NAMES);
        // Only into folders that exist: a missing one on the way is another subject.
        let folders: Vec<&String> = self.folders.iter().collect();
        let place = self.random.below(folders.len() as u64 + 1) as usize;
        match folders.get(place) {
            Some(folder) => format!("{folder}/f{name}"),
            None => format!("f{name}"),
        }
    }

    fn known_path(&mut self) -> Option<String> {
        let place = self.random.below(self.files.len() as u64) as usize;
        self.files.keys().nth(place).cloned()
    }

    fn content(&mut self) -> Vec<u8> {
        let most = if self.random.below(4) == 0 {
            MAX_WRITE
        } else {
            300
        };
        let mut bytes = vec![0; self.random.below(most) as usize];
        self.writes += 1;
        pattern::fill(self.writes, &mut bytes);
        bytes
    }

    /// Returns what an operation must give, and carries it out in the model.
    pub fn expect(&mut self, operation: &Operation) -> Outcome {
        let missing = Outcome::Refused(Refusal::NotFound);
        match operation {
            Operation::Create(path, _) if self.files.contains_key(path) => {
                Outcome::Refused(Refusal::Exists)
            }
            Operation::Create(path, content) => {
                self.files.insert(path.clone(), content.clone());
                Outcome::End(content.len() as u64)
            }
            Operation::Append(path, _)
            | Operation::WriteAt(path, ..)
            | Operation::SetSize(path, _)
            | Operation::Read(path)
            | Operation::Size(path) => match self.files.get_mut(path) {
                Some(file) => expect_of_file(file, operation),
                None => missing,
            },
            Operation::Rename(from, to) => match self.files.remove(from) {
                Some(file) => {
                    self.files.insert(to.clone(), file);
                    Outcome::Done
                }
                None => missing,
            },
            Operation::Unlink(path) => self.files.remove(path).map_or(missing, |_| Outcome::Done),
            Operation::MakeDir(path) => {
                if self.folders.insert(path.clone()) {
                    Outcome::Done
                } else {
                    Outcome::Refused(Refusal::Exists)
                }
            }
            Operation::RemoveDir(path) if !self.folders.contains(path) => missing,
            Operation::RemoveDir(path) if !self.names(path).is_empty() => {
                Outcome::Refused(Refusal::NotEmpty)
            }
            Operation::RemoveDir(path) => {
                self.folders.remove(path);
                Outcome::Done
            }
            Operation::List(path) if path.is_empty() || self.folders.contains(path) => {
                Outcome::Names(self.names(path))
            }
            Operation::List(_) => missing,
        }
    }

    /// Returns the names in a folder, sorted.
    fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .files
            .keys()
            .filter_map(|path| match path.rsplit_once('/') {
                Some((above, name)) => (above == folder).then(|| name.to_string()),
                None => folder.is_empty().then(|| path.clone()),
            })
            .collect();
        if folder.is_empty() {
            names.extend(self.folders.iter().cloned());
        }
        names.sort_unstable();
        names
    }

    /// Returns the paths of all files.
    pub fn files(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    /// Takes what is really there in place of what should be, so that a fault counts once.
    pub fn accept(&mut self, path: &str, content: Option<Vec<u8>>) {
        match content {
            Some(content) => self.files.insert(path.to_string(), content),
            None => self.files.remove(path),
        };
    }
}

/// Returns what an operation on an existing file must give, and carries it out.
fn expect_of_file(file: &mut Vec<u8>, operation: &Operation) -> Outcome {
    match operation {
        Operation::Append(_, bytes) => {
            file.extend_from_slice(bytes);
            Outcome::End(file.len() as u64)
        }
        Operation::WriteAt(_, offset, bytes) => {
            let start = *offset as usize;
            let end = start + bytes.len();
            if file.len() < end {
                file.resize(end, 0);
            }
            file[start..end].copy_from_slice(bytes);
            Outcome::End(end as u64)
        }
        Operation::SetSize(_, bytes) => {
            file.resize(*bytes as usize, 0);
            Outcome::Done
        }
        Operation::Read(_) => Outcome::Content(file.clone()),
        _ => Outcome::Size(file.len() as u64),
    }
}

/// Judges what an operation gave.
pub fn judge(expected: &Outcome, seen: &Outcome) -> Verdict {
    if expected == seen {
        return Verdict::Good;
    }
    match (expected, seen) {
        (_, Outcome::Failed(_)) => Verdict::ClientError,
        // Done already, by an earlier run of the same request.
        (Outcome::Done | Outcome::End(_), Outcome::Refused(_)) => Verdict::Duplicated(1),
        (Outcome::Refused(_), Outcome::Refused(_)) => Verdict::ClientError,
        (
            Outcome::End(expected) | Outcome::Size(expected),
            Outcome::End(seen) | Outcome::Size(seen),
        ) => by_length(*expected, *seen),
        (Outcome::Content(expected), Outcome::Content(seen)) if expected.len() != seen.len() => {
            by_length(expected.len() as u64, seen.len() as u64)
        }
        (Outcome::Content(expected), Outcome::Content(seen)) => {
            let pairs = expected.iter().zip(seen);
            Verdict::Wrong(pairs.filter(|(a, b)| a != b).count() as u64)
        }
        (Outcome::Names(expected), Outcome::Names(seen)) => {
            let missing = expected.iter().filter(|name| !seen.contains(name)).count();
            if missing > 0 {
                Verdict::Lost(missing as u64)
            } else {
                Verdict::Duplicated(seen.len().saturating_sub(expected.len()).max(1) as u64)
            }
        }
        // What was there is gone, or what was gone is there.
        _ => Verdict::Lost(1),
    }
}

fn by_length(expected: u64, seen: u64) -> Verdict {
    if seen > expected {
        Verdict::Duplicated(1)
    } else {
        Verdict::Lost(1)
    }
}

#[cfg(test)]
mod tests;
