//! All tests, one file per subject.

mod answers;
mod batch;
mod debug;
mod delivery;
mod fuzz;
mod handles;
mod hostile;
mod init;
mod ipc;
mod malformed;
mod memory;
mod paths;
mod quota;
mod recovery;
mod revival;
mod rings;
mod stepper;
mod stepping;
mod storm;
mod swap;
mod waits;
mod watching;

use crate::Test;

/// Returns every test in the order in which they run.
pub(crate) fn all() -> impl Iterator<Item = &'static Test> {
    [
        ipc::TESTS,
        handles::TESTS,
        batch::TESTS,
        delivery::TESTS,
        paths::TESTS,
        waits::TESTS,
        malformed::TESTS,
        recovery::TESTS,
        revival::TESTS,
        debug::TESTS,
        stepping::TESTS,
        watching::TESTS,
        answers::TESTS,
        init::TESTS,
        rings::TESTS,
        hostile::TESTS,
        memory::TESTS,
        quota::TESTS,
        swap::TESTS,
        storm::TESTS,
        fuzz::TESTS,
    ]
    .into_iter()
    .flatten()
}
