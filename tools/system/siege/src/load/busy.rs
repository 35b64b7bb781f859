//! Keeps a CPU from halting.

use crate::worker::Worker;

/// Lets others go first until it is stopped.
pub(crate) fn run(worker: &Worker<'_>) {
    worker.begin();
    while !worker.is_stopped() {
        #[cfg(bare)]
        libsys::thread::yield_now();
    }
}
