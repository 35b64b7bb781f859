//! From the bytes of a half to a state: snapshot, then journal.

use super::half::{Half, Read};
use super::report::Found as Condition;
use super::schema::{Found, schema_hash};
use super::{Earlier, Report, State, StateMemory};
use crate::encoding::{decode, decode_prefix};

/// Reads the state that a half holds, in whichever known schema, and leaves the half at the end
/// of its journal. Without a state, nothing could be read.
pub(super) fn recover<S: State, M: StateMemory>(
    found: Found<'_, M>,
    report: &mut Report,
) -> Option<S> {
    if found.header.schema != schema_hash::<S>() {
        return S::Previous::recover(found, report);
    }
    let Found {
        memory,
        half,
        header,
        may_fall_back,
    } = found;
    let snapshot = half.snapshot(memory, header);
    let decoded = snapshot.and_then(|bytes| decode(bytes));
    let mut state = match decoded {
        Some(state) => state,
        None if may_fall_back => {
            report.found = Condition::SnapshotDamaged;
            recover_previous::<S, M>(memory, half, report)?
        }
        None => return None,
    };
    replay::<S, M>(memory, half, &mut state, report);
    Some(state)
}

/// Reads the state at the end of the half before this one: with it this one began.
pub(super) fn recover_previous<S: State, M: StateMemory>(
    memory: &M,
    half: &Half,
    report: &mut Report,
) -> Option<S> {
    let mut previous = half.previous();
    let (header, is_mended) = previous.header(memory)?;
    report.mended += u32::from(is_mended);
    let found = Found {
        memory,
        half: &mut previous,
        header,
        may_fall_back: false,
    };
    recover(found, report)
}

/// Applies the journal of a half and leaves the half at its end.
fn replay<S: State, M: StateMemory>(
    memory: &M,
    half: &mut Half,
    state: &mut S,
    report: &mut Report,
) {
    while let Some(read) = half.next_record(memory, &mut report.mended) {
        // A long journal takes longer than a turn of a server should.
        crate::service::beat();
        let record = match &read {
            // Filled up to whole words.
            Read::Good(bytes) => decode_prefix(bytes).map(|(record, _)| record),
            Read::Damaged => None,
        };
        if let Some(record) = record {
            state.apply(record);
            report.replayed += 1;
        } else {
            report.dropped += 1;
        }
    }
}
