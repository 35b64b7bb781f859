//! Runs of blocks, as records of writes have them.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Blocks that follow each other both in a file and in the data area.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) index: u32,
    pub(crate) block: u32,
    pub(crate) count: u32,
}

impl Run {
    /// Returns each place in the file with its block.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        let Run {
            index,
            block,
            count,
        } = *self;
        // A sum past the end can only be damage; it leads to a block that does not exist.
        (0..count).map(move |i| (index.saturating_add(i), block.saturating_add(i)))
    }

    /// Joins places and blocks, given in the order of places, into runs.
    pub(crate) fn join(pairs: &[(u32, u32)]) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for &(index, block) in pairs {
            match runs.last_mut() {
                Some(run) if run.index + run.count == index && run.block + run.count == block => {
                    run.count += 1;
                }
                _ => runs.push(Run {
                    index,
                    block,
                    count: 1,
                }),
            }
        }
        runs
    }
}
