//! All scenarios, one file per subject.

use crate::Scenario;

mod boot;
mod disks;
mod files;
mod system;

/// Returns every scenario in the order in which they run.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [
        boot::scenarios(),
        files::scenarios(),
        disks::scenarios(),
        system::scenarios(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
