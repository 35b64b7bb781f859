//! The memory of a ring, shared by a client that lives and a server that may not.

use std::cell::Cell;
use std::rc::Rc;

use libipc::ring::{RingMemory, RingWord};

use crate::steps::{Place, Steps, When};

/// A ring as one of its sides has it mapped.
#[derive(Debug)]
pub struct SharedRing(Vec<SharedWord>);

/// A word of it.
#[derive(Debug)]
pub struct SharedWord {
    value: Rc<Cell<u64>>,
    /// Of the side that may die.
    steps: Option<Rc<Steps>>,
}

impl SharedRing {
    /// Makes memory of so many bytes, as the client has it.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let word = || SharedWord {
            value: Rc::default(),
            steps: None,
        };
        SharedRing((0..bytes / 8).map(|_| word()).collect())
    }

    /// Maps it for a server, whose stores are steps.
    #[must_use]
    pub fn map(&self, steps: &Rc<Steps>) -> SharedRing {
        let word = |word: &SharedWord| SharedWord {
            value: Rc::clone(&word.value),
            steps: Some(Rc::clone(steps)),
        };
        SharedRing(self.0.iter().map(word).collect())
    }
}

impl RingMemory for SharedRing {
    type Word = SharedWord;

    fn words(&self) -> &[SharedWord] {
        &self.0
    }
}

impl RingWord for SharedWord {
    fn read(&self) -> u64 {
        self.value.get()
    }

    fn acquire(&self) -> u64 {
        self.value.get()
    }

    fn write(&self, value: u64) {
        self.swap(value);
    }

    fn release(&self, value: u64) {
        self.swap(value);
    }

    fn swap(&self, value: u64) -> u64 {
        let take = |when| {
            if let Some(steps) = &self.steps {
                steps.take(Place::Ring, when);
            }
        };
        take(When::Before);
        let old = self.value.replace(value);
        take(When::After);
        old
    }

    fn fence() {}
}
