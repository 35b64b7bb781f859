//! What a workload counts, in memory that it shares with the campaign.
//!
//! Counters are written by the workload alone, the stop word by the campaign alone. Nothing on the
//! way to them can be killed, so that no loss hides itself.

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// How an operation came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// As it had to.
    Good,
    /// An error that there was no reason for.
    ClientError,
    /// This many bytes are not what they had to be.
    Wrong(u64),
    /// This many acknowledged operations have left no trace.
    Lost(u64),
    /// This many operations were done more than once.
    Duplicated(u64),
}

/// What a workload has counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Operations that were acknowledged and came out as they had to.
    pub operations: u64,
    /// Errors that there was no reason for.
    pub client_errors: u64,
    /// Bytes that are not what they had to be.
    pub wrong: u64,
    /// Acknowledged operations that have left no trace.
    pub lost: u64,
    /// Operations that were done more than once.
    pub duplicated: u64,
}

impl Counts {
    /// Returns how many things went wrong.
    pub const fn faults(&self) -> u64 {
        self.client_errors
            .saturating_add(self.wrong)
            .saturating_add(self.lost)
            .saturating_add(self.duplicated)
    }

    /// Takes away what was counted before.
    pub const fn subtract(&mut self, before: &Counts) {
        self.operations = self.operations.saturating_sub(before.operations);
        self.client_errors = self.client_errors.saturating_sub(before.client_errors);
        self.wrong = self.wrong.saturating_sub(before.wrong);
        self.lost = self.lost.saturating_sub(before.lost);
        self.duplicated = self.duplicated.saturating_sub(before.duplicated);
    }

    /// Adds what another workload has counted.
    pub const fn add(&mut self, other: &Counts) {
        self.operations = self.operations.saturating_add(other.operations);
        self.client_errors = self.client_errors.saturating_add(other.client_errors);
        self.wrong = self.wrong.saturating_add(other.wrong);
        self.lost = self.lost.saturating_add(other.lost);
        self.duplicated = self.duplicated.saturating_add(other.duplicated);
    }
}

/// What the workload does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It learns what it needs to know; nothing may be killed yet.
    Preparing,
    /// It works.
    Working,
    /// It has ended as it was asked to.
    Done,
}

const PHASE: usize = 0;
const STOP: usize = 1;
const OPERATIONS: usize = 2;
const CLIENT_ERRORS: usize = 3;
const WRONG: usize = 4;
const LOST: usize = 5;
const DUPLICATED: usize = 6;
const TEXT_BYTES: usize = 7;
const TEXT: usize = 8;
/// Longest complaint that is kept, in words of 8 bytes.
const TEXT_WORDS: usize = 32;
/// Words that a tally takes.
pub const WORDS: usize = TEXT + TEXT_WORDS;

/// The shared counters.
#[derive(Clone, Copy, Debug)]
pub struct Tally<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Tally<'a> {
    /// Takes memory with at least [`WORDS`] words, all 0 at first; `None` if it is smaller.
    pub fn new(words: &'a [AtomicU64]) -> Option<Self> {
        (words.len() >= WORDS).then_some(Tally { words })
    }

    fn load(&self, word: usize) -> u64 {
        self.words[word].load(Ordering::Acquire)
    }

    fn add_to(&self, word: usize, count: u64) {
        self.words[word].fetch_add(count, Ordering::AcqRel);
    }

    /// Says what the workload does now.
    pub fn enter(&self, phase: Phase) {
        let number = match phase {
            Phase::Preparing => 0,
            Phase::Working => 1,
            Phase::Done => 2,
        };
        self.words[PHASE].store(number, Ordering::Release);
    }

    /// Returns what the workload does.
    pub fn phase(&self) -> Phase {
        match self.load(PHASE) {
            0 => Phase::Preparing,
            1 => Phase::Working,
            _ => Phase::Done,
        }
    }

    /// Asks the workload to end.
    pub fn stop(&self) {
        self.words[STOP].store(1, Ordering::Release);
    }

    /// Returns whether the workload shall end.
    pub fn is_stopped(&self) -> bool {
        self.load(STOP) != 0
    }

    /// Counts how an operation came out; `about` says what it was, and is kept for the first
    /// one that went wrong.
    pub fn count(&self, verdict: Verdict, about: impl FnOnce() -> String) {
        match verdict {
            Verdict::Good => return self.add_to(OPERATIONS, 1),
            Verdict::ClientError => self.add_to(CLIENT_ERRORS, 1),
            Verdict::Wrong(bytes) => self.add_to(WRONG, bytes),
            Verdict::Lost(count) => self.add_to(LOST, count),
            Verdict::Duplicated(count) => self.add_to(DUPLICATED, count),
        }
        if self.load(TEXT_BYTES) == 0 {
            self.keep(about().as_bytes());
        }
    }

    fn keep(&self, text: &[u8]) {
        let text = &text[..text.len().min(TEXT_WORDS * 8)];
        for (word, bytes) in self.words[TEXT..].iter().zip(text.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
        }
        self.words[TEXT_BYTES].store(text.len() as u64, Ordering::Release);
    }

    /// Returns what was counted so far.
    pub fn counts(&self) -> Counts {
        Counts {
            operations: self.load(OPERATIONS),
            client_errors: self.load(CLIENT_ERRORS),
            wrong: self.load(WRONG),
            lost: self.load(LOST),
            duplicated: self.load(DUPLICATED),
        }
    }

    /// Returns what the first thing was that went wrong; empty if nothing did.
    pub fn complaint(&self) -> String {
        let bytes = self.load(TEXT_BYTES).min(TEXT_WORDS as u64 * 8) as usize;
        let words = self.words[TEXT..WORDS].iter();
        let text: Vec<u8> = words
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .take(bytes)
            .collect();
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::{Counts, Phase, Tally, Verdict, WORDS};

    fn memory() -> Vec<AtomicU64> {
        (0..WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn the_campaign_sees_what_the_workload_counts() {
        let memory = memory();
        let (ours, theirs) = (Tally::new(&memory).unwrap(), Tally::new(&memory).unwrap());
        assert_eq!(theirs.phase(), Phase::Preparing);
        ours.enter(Phase::Working);
        for verdict in [
            Verdict::Good,
            Verdict::Good,
            Verdict::ClientError,
            Verdict::Wrong(7),
            Verdict::Lost(2),
            Verdict::Duplicated(3),
        ] {
            ours.count(verdict, || format!("{verdict:?} of a thing"));
        }
        let expected = Counts {
            operations: 2,
            client_errors: 1,
            wrong: 7,
            lost: 2,
            duplicated: 3,
        };
        assert_eq!(theirs.counts(), expected);
        assert_eq!(theirs.counts().faults(), 13);
        let mut more = theirs.counts();
        more.add(&expected);
        more.subtract(&expected);
        assert_eq!(more, expected);
        assert_eq!(theirs.complaint(), "ClientError of a thing");
        assert_eq!(theirs.phase(), Phase::Working);
        theirs.stop();
        assert!(ours.is_stopped());
    }

    #[test]
    fn a_long_complaint_is_cut_and_small_memory_is_refused() {
        let memory = memory();
        let tally = Tally::new(&memory).unwrap();
        tally.count(Verdict::ClientError, || "x".repeat(1000));
        assert_eq!(tally.complaint(), "x".repeat(256));
        assert!(Tally::new(&memory[1..]).is_none());
    }
}
