//! Programs in processes that are revived, and one that revives.

use libsys::ipc::{self, Outgoing, Received};
use libsys::{Endpoint, Error, Handle, Process, Sender, handle};

use super::{Role, WRONG};
use crate::wire::{self, NEVER};

/// Reports how many handles it has and how many processes, endpoints and senders are among them;
/// then what comes next to its endpoint: the badge, and whether it is a request (1) or the news
/// that the badge was closed (2). It keeps a request and waits.
pub(super) fn inherit(role: &Role<'_>) -> Result<i32, i32> {
    let endpoint: Handle<Endpoint> = role.take("endpoint")?;
    let report: Handle<Sender> = role.take("report")?;
    let mut counts = [0; 11];
    for (_, kind) in handle::own() {
        counts[kind as usize] += 1;
    }
    let all = counts.iter().sum();
    tell(&report, &[all, counts[1], counts[3], counts[4]])?;
    let (badge, what) = match ipc::receive(&endpoint, NEVER) {
        Ok(Received::Request(request)) => {
            let badge = request.badge;
            // Dropping it would answer it.
            core::mem::forget(request);
            (badge, 1)
        }
        Ok(Received::Closed(badge)) => (badge, 2),
        _ => return Err(WRONG),
    };
    tell(&report, &[badge, what])?;
    libsys::time::sleep_until(NEVER);
    Err(WRONG)
}

fn tell(report: &Handle<Sender>, words: &[u64]) -> Result<(), i32> {
    let told = wire::call_with(report, 0, &wire::words(words), &Outgoing::NONE, NEVER);
    told.map(drop).map_err(|_| WRONG)
}

/// Revives and ends the process `target` as often as the argument says, while another one does the
/// same.
pub(super) fn race(role: &Role<'_>) -> Result<i32, i32> {
    let target: Handle<Process> = role.take("target")?;
    compete(&target, role.argument(0))
        .map(|_| 0)
        .map_err(|_| WRONG)
}

/// Revives a process and ends it, so often, while others may do the same. Returns how often it was
/// the one who revived it.
pub(crate) fn compete(target: &Handle<Process>, rounds: u64) -> Result<u64, Error> {
    let mut revived = 0;
    for _ in 0..rounds {
        match target.revive() {
            Ok(()) => revived += 1,
            // It is alive, or not yet dead.
            Err(Error::StillAlive) => {}
            Err(error) => return Err(error),
        }
        match target.kill(1) {
            Ok(()) | Err(Error::Dead) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(revived)
}
