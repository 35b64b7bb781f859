//! What became of recent operations.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use libipc::proto::file_system::{Inode, Operation, Outcome};
use serde::{Deserialize, Serialize, Serializer};

/// Outcomes that are remembered: more than requests can be under way at once.
const MAX_OUTCOMES: usize = 256;

/// Names an operation; [`Operation`] without the mark of repetition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct OperationKey {
    client: u64,
    sequence: u64,
    step: u8,
}

impl From<Operation> for OperationKey {
    fn from(operation: Operation) -> Self {
        let Operation {
            client,
            sequence,
            step,
            ..
        } = operation;
        OperationKey {
            client,
            sequence,
            step,
        }
    }
}

impl OperationKey {
    /// Returns whether it names an operation of the request that an operation is of.
    #[inline]
    pub(crate) fn is(&self, operation: &Operation) -> bool {
        (self.client, self.sequence) == (operation.client, operation.sequence)
    }
}

/// An operation and what became of it.
pub(crate) type Completed = (OperationKey, Outcome);

/// The last outcomes: the oldest one goes when another comes. A plain ring, as each change of a
/// file adds one.
#[derive(Debug, Deserialize)]
#[serde(from = "Vec<Completed>")]
pub(crate) struct Outcomes {
    ring: Box<[Completed]>,
    /// How many were added in all; the next one goes to this place, modulo the length.
    added: usize,
}

impl Default for Outcomes {
    fn default() -> Self {
        let nothing = Outcome {
            inode: Inode(0),
            offset: 0,
            bytes: 0,
        };
        let nobody = OperationKey {
            client: 0,
            sequence: 0,
            step: 0,
        };
        Outcomes {
            ring: vec![(nobody, nothing); MAX_OUTCOMES].into(),
            added: 0,
        }
    }
}

impl Outcomes {
    /// Adds an outcome.
    #[inline]
    pub(crate) fn add(&mut self, completed: Completed) {
        if let Some(place) = self.ring.get_mut(self.added % MAX_OUTCOMES) {
            *place = completed;
        }
        self.added = self.added.wrapping_add(1);
    }

    /// Returns what became of an operation, if it is remembered.
    pub(crate) fn get(&self, key: OperationKey) -> Option<Outcome> {
        let mut found = self.oldest_first().rev().filter(|(known, _)| *known == key);
        found.next().map(|(_, outcome)| *outcome)
    }

    fn oldest_first(&self) -> impl DoubleEndedIterator<Item = &Completed> {
        let oldest = self.added.saturating_sub(MAX_OUTCOMES);
        (oldest..self.added).filter_map(|number| self.ring.get(number % MAX_OUTCOMES))
    }
}

impl Serialize for Outcomes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq as _;
        let count = self.added.min(MAX_OUTCOMES);
        let mut sequence = serializer.serialize_seq(Some(count))?;
        for completed in self.oldest_first() {
            sequence.serialize_element(completed)?;
        }
        sequence.end()
    }
}

impl From<Vec<Completed>> for Outcomes {
    fn from(all: Vec<Completed>) -> Self {
        let mut outcomes = Outcomes::default();
        for completed in all {
            outcomes.add(completed);
        }
        outcomes
    }
}

#[cfg(test)]
mod tests {
    use libipc::proto::file_system::{Inode, Outcome};
    use libsys::encoding::{decode, encode};

    use super::{MAX_OUTCOMES, OperationKey, Outcomes};

    fn key(sequence: u64) -> OperationKey {
        OperationKey {
            client: 7,
            sequence,
            step: 1,
        }
    }

    fn outcome(number: u64) -> Outcome {
        Outcome {
            inode: Inode(number),
            offset: number * 3,
            bytes: 9,
        }
    }

    #[test]
    fn the_last_ones_are_there_also_after_a_snapshot() {
        let most = MAX_OUTCOMES as u64;
        for count in [0, 1, 5, most - 1, most, most + 1, 3 * most + 7] {
            let mut outcomes = Outcomes::default();
            for number in 0..count {
                outcomes.add((key(number), outcome(number)));
            }
            let mut bytes = vec![0; 64 * MAX_OUTCOMES];
            let used = encode(&outcomes, &mut bytes).unwrap();
            let again: Outcomes = decode(&bytes[..used]).unwrap();
            for outcomes in [outcomes, again] {
                for number in 0..count + 2 {
                    let is_kept = number < count && number + most >= count;
                    let expected = is_kept.then(|| outcome(number));
                    assert_eq!(outcomes.get(key(number)), expected);
                }
            }
        }
    }

    #[test]
    fn what_was_never_done_has_no_outcome() {
        let nobody = OperationKey {
            client: 0,
            sequence: 0,
            step: 0,
        };
        assert_eq!(Outcomes::default().get(nobody), None);
    }
}
