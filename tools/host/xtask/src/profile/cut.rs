//! Cuts what was executed into operations.
//!
//! A benchmark is a loop, so the same instructions come again and again. Where a turn starts is
//! not known: each place in the loop is tried. Inner loops have shorter turns but fill only a part
//! of the time; batches of the benchmark have longer ones.

use std::collections::HashMap;

/// Equal operations below which nothing is proved.
const FEWEST: usize = 3;
/// Percentage of what was executed that must be equal operations. It is not more because a server
/// may take another way each second time, and a batch has a beginning and an end.
const LEAST_COVERED_PERCENT: usize = 40;

/// A typical operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Where the first one like it starts.
    pub(crate) start: usize,
    /// Instructions in it.
    pub(crate) length: usize,
    /// How many there are that are equal to the last instruction, this one among them.
    pub(crate) equal: usize,
    /// How many operations there are in all; the others were interrupted, or are the ends of batches.
    pub(crate) whole: usize,
    /// Instructions in all of them.
    pub(crate) executed: usize,
}

impl Cut {
    /// Returns the instructions of all that are equal.
    fn covered(&self) -> usize {
        self.equal * self.length
    }
}

/// Finds the shortest operation that, repeated, is much of what was executed. `codes` for
/// the instructions, and `starts` says with which of them an operation may start, the preferred
/// ones first.
pub(crate) fn cut(codes: &[u32], starts: &[u32]) -> Option<Cut> {
    let mut positions: HashMap<u32, Vec<usize>> =
        starts.iter().map(|&code| (code, Vec::new())).collect();
    for (at, code) in codes.iter().enumerate() {
        if let Some(positions) = positions.get_mut(code) {
            positions.push(at);
        }
    }
    let is_much = |cut: &Cut| cut.covered() * 100 >= codes.len() * LEAST_COVERED_PERCENT;
    let cuts: Vec<Cut> = starts
        .iter()
        .filter_map(|start| typical(codes, &positions[start]))
        .filter(|cut| cut.equal >= FEWEST && is_much(cut))
        .collect();
    let shortest = cuts.iter().map(|cut| cut.length).min()?;
    // An instruction that faults is executed twice in a turn, and cuts it into two pieces, of which
    // one is nearly all of it.
    let turns = cuts.into_iter().filter(|cut| cut.length < 2 * shortest);
    // Of equals, `max_by_key` returns the last.
    turns.rev().max_by_key(Cut::covered)
}

/// Returns the operation that fills most of the time when every position starts one.
fn typical(codes: &[u32], positions: &[usize]) -> Option<Cut> {
    let mut kinds: HashMap<&[u32], Cut> = HashMap::new();
    let whole = positions.len().saturating_sub(1);
    let executed = positions.last()? - positions.first()?;
    for pair in positions.windows(2) {
        let operation = &codes[pair[0]..pair[1]];
        let cut = kinds.entry(operation).or_insert(Cut {
            start: pair[0],
            length: operation.len(),
            equal: 0,
            whole,
            executed,
        });
        cut.equal += 1;
    }
    kinds
        .into_values()
        .max_by_key(|cut| (cut.covered(), usize::MAX - cut.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop with three turns of an inner one.
    const TURN: [u32; 12] = [1, 2, 7, 8, 7, 8, 7, 8, 3, 4, 5, 6];

    fn batch(turns: usize) -> Vec<u32> {
        let mut codes = vec![20, 21];
        for _ in 0..turns {
            codes.extend(TURN);
        }
        codes
    }

    #[test]
    fn an_operation_is_a_turn_of_the_loop() {
        let codes = batch(10);
        let cut = cut(&codes, &[1, 2, 3, 7, 8, 20, 21]).unwrap();
        // The last turn has no end, as nothing starts behind it.
        let expected = Cut {
            start: 2,
            length: TURN.len(),
            equal: 9,
            whole: 9,
            executed: 9 * TURN.len(),
        };
        assert_eq!(cut, expected);
        assert_eq!(codes[cut.start..][..cut.length], TURN);
    }

    #[test]
    fn the_first_of_equally_good_starts_counts() {
        assert_eq!(cut(&batch(10), &[2, 1]).unwrap().start, 3);
    }

    #[test]
    fn neither_inner_loops_nor_batches_are_operations() {
        let codes = [batch(10), batch(10), batch(10), batch(10)].concat();
        let starts = [7, 8, 20, 21, 1];
        assert_eq!(cut(&codes, &starts).unwrap().length, TURN.len());
    }

    #[test]
    fn what_was_interrupted_is_outvoted() {
        let mut codes = batch(10);
        codes.splice(20..20, [30, 31, 32]);
        let cut = cut(&codes, &[1]).unwrap();
        assert_eq!((cut.length, cut.equal, cut.whole), (TURN.len(), 8, 9));
    }

    #[test]
    fn an_instruction_that_faults_does_not_cut_a_turn() {
        // The instruction 1 faults; 40 to 43 are the handler.
        let codes = [1, 40, 41, 42, 43, 1, 2, 3].repeat(10);
        let cut = cut(&codes, &[1, 2, 3]).unwrap();
        assert_eq!((cut.start, cut.length), (6, 8));
    }

    #[test]
    fn without_repetition_there_is_no_operation() {
        let codes: Vec<u32> = (0..100).collect();
        assert_eq!(cut(&codes, &codes), None);
        assert_eq!(cut(&[], &[1]), None);
        assert_eq!(cut(&batch(3), &[1]), None);
    }
}
