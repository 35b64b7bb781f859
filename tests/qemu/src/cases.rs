//! All scenarios, one file per subject.

use crate::Scenario;

mod bad_disks;
mod boot;
mod disks;
mod files;
mod panic;
mod recovery;
mod swap;
mod system;
mod terminal;

/// Returns every scenario in the order in which they run.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [
        boot::scenarios(),
        terminal::scenarios(),
        files::scenarios(),
        disks::scenarios(),
        bad_disks::scenarios(),
        recovery::scenarios(),
        swap::scenarios(),
        panic::scenarios(),
        system::scenarios(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
