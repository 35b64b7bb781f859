//! Calls that look into another process.

use skink_abi::layout::USER_END;
use skink_abi::{Error, MAX_PAGE_RUNS, PAGE_SIZE, PageRun, Rights};

use super::processes::with_process;
use super::{Call, Result};
use crate::user;

/// Most entries of page tables that one call looks at.
const MAX_ENTRIES: usize = 2048;

pub(super) fn mappings(call: &mut Call<'_>) -> Result {
    let [handle, address, out, most, ..] = call.arguments;
    if address % PAGE_SIZE as u64 != 0 || address > USER_END {
        return Err(Error::InvalidArgument);
    }
    let most = most.min(MAX_PAGE_RUNS as u64) as usize;
    with_process(call, handle, Rights::MANAGE, |call, target| {
        let mut runs = [PageRun::default(); MAX_PAGE_RUNS];
        let (count, next) = {
            // While this is held, no page that is mapped can be used for anything else.
            let mut state = target.state.lock(call.held);
            if !target.is_alive() {
                return Err(Error::Dead);
            }
            let tables = target.tables.lock(state.held());
            tables.runs(address, &mut runs[..most], MAX_ENTRIES)
        };
        for (index, run) in runs[..count].iter().enumerate() {
            let place = out.wrapping_add((index * size_of::<PageRun>()) as u64);
            user::write(call.held, call.process, place, run)?;
        }
        Ok((count as u64, next))
    })
}
