//! All scenarios, one file per subject.

use crate::Scenario;

mod bad_disks;
mod boot;
mod cut;
mod disks;
mod files;
mod init;
mod memory_manager;
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
        init::scenarios(),
        cut::scenarios(),
        swap::scenarios(),
        memory_manager::scenarios(),
        panic::scenarios(),
        system::scenarios(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
