//! A second process that answers.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use skink_program::Failed;

use crate::failed;

/// A second process. Dropping it ends it and waits for its end, so that it disturbs nothing
/// measured later.
#[derive(Debug)]
pub(crate) struct Partner(Pid);

impl Partner {
    /// Starts a process that repeats `turn` until it is ended or a turn fails.
    pub(crate) fn start(mut turn: impl FnMut() -> nix::Result<()>) -> Result<Self, Failed> {
        // SAFETY: this program has one thread here, so the child may do anything: threads of
        // other benchmarks have ended.
        match unsafe { fork() }.map_err(failed("fork"))? {
            ForkResult::Parent { child } => Ok(Partner(child)),
            ForkResult::Child => {
                while turn().is_ok() {}
                std::process::exit(0)
            }
        }
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}
