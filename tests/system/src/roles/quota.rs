//! A program that gives its kernel memory away.

use libsys::ipc::Outgoing;
use libsys::{Handle, Process, Sender};

use super::{Role, WRONG};
use crate::wire::{self, NEVER};

/// Makes an empty process with as much of its quota as the argument says and ends. The process
/// goes to the test, or, with a second argument, to nobody.
pub(super) fn bequeath(role: &Role<'_>) -> Result<i32, i32> {
    let report: Handle<Sender> = role.take("report")?;
    let heir = Handle::<Process>::create("heir", role.argument(0)).map_err(|_| WRONG)?;
    let mut outgoing = Outgoing::NONE;
    if role.argument(1) == 0 {
        outgoing.pass(heir.into_raw()).map_err(|_| WRONG)?;
    }
    wire::call_with(&report, 0, &[], &outgoing, NEVER).map_err(|_| WRONG)?;
    Ok(0)
}
