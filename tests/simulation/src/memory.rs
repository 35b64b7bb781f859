//! State regions: what a server stored is there for its successor, up to the store at which it died.

use std::cell::RefCell;
use std::ops::{Range, RangeBounds};
use std::rc::Rc;

use libsys::state::StateMemory;

use crate::steps::{Place, Steps, When};

const WORD: usize = 8;

/// The memory object of a state region, which `init` keeps.
#[derive(Clone, Debug)]
pub struct Kept(Rc<RefCell<Vec<u8>>>);

impl Kept {
    /// Makes zeroed memory.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Kept(Rc::new(RefCell::new(vec![0; bytes])))
    }

    /// Maps it for a server.
    #[must_use]
    pub fn map(&self, steps: &Rc<Steps>) -> ServerMemory {
        let bytes = self.0.borrow().len();
        self.map_part(0..bytes, steps)
    }

    /// Maps it for a server that keeps two things in it, the first one `bytes` long.
    #[must_use]
    pub fn map_parts(&self, bytes: usize, steps: &Rc<Steps>) -> (ServerMemory, ServerMemory) {
        let end = self.0.borrow().len();
        (
            self.map_part(0..bytes, steps),
            self.map_part(bytes..end, steps),
        )
    }

    fn map_part(&self, part: Range<usize>, steps: &Rc<Steps>) -> ServerMemory {
        ServerMemory {
            view: self.0.borrow()[part.clone()].to_vec(),
            first: part.start,
            kept: self.clone(),
            steps: Rc::clone(steps),
        }
    }
}

/// A state region as a server has it mapped.
#[derive(Debug)]
pub struct ServerMemory {
    view: Vec<u8>,
    /// Where it lies within the memory object.
    first: usize,
    kept: Kept,
    steps: Rc<Steps>,
}

impl ServerMemory {
    fn keep(&self, from: usize, to: usize) {
        let kept = self.first + from..self.first + to;
        self.kept.0.borrow_mut()[kept].copy_from_slice(&self.view[from..to]);
    }
}

impl StateMemory for ServerMemory {
    fn bytes(&self) -> usize {
        self.view.len()
    }

    fn view(&self, range: impl RangeBounds<usize>) -> &[u8] {
        &self.view[(range.start_bound().cloned(), range.end_bound().cloned())]
    }

    fn fill<R>(&mut self, at: usize, room: usize, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        self.steps.take(Place::Append, When::Before);
        let (bytes, result) = f(&mut self.view[at..at + room]);
        let end = at + bytes;
        let mut from = at;
        while from < end {
            let to = (from / WORD * WORD + WORD).min(end);
            self.keep(from, to);
            let when = if to == end { When::After } else { When::During };
            self.steps.take(Place::Append, when);
            from = to;
        }
        result
    }

    fn commit(&mut self, at: usize, value: u64) {
        // One store: it happens or does not.
        self.steps.take(Place::Commit, When::Before);
        self.view[at..at + WORD].copy_from_slice(&value.to_le_bytes());
        self.keep(at, at + WORD);
        self.steps.take(Place::Commit, When::After);
    }
}
