//! All tests, one file per subject.

mod fuzz;
mod handles;
mod hostile;
mod ipc;
mod malformed;
mod memory;
mod recovery;

use crate::Test;

/// Returns every test in the order in which they run.
pub(crate) fn all() -> impl Iterator<Item = &'static Test> {
    [
        ipc::TESTS,
        handles::TESTS,
        malformed::TESTS,
        recovery::TESTS,
        hostile::TESTS,
        memory::TESTS,
        fuzz::TESTS,
    ]
    .into_iter()
    .flatten()
}
