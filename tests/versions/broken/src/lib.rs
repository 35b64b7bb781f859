//! Versions of `block` that cannot take over from the one that serves, each in another way, and one of
//! `tmpfs` that should not have.
//!
//! They say and do at the gate of a swap what a version of `block` does, up to their fault.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(bare)]
mod guest;

#[cfg(bare)]
pub use guest::run;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Crashes at its start.
    CrashesAtStart,
    /// Hangs at its start.
    HangsAtStart,
    /// Crashes when it migrates the state.
    CrashesInMigration,
    /// Knows no way from the state that is there.
    KnowsAnotherSchema,
    /// Fails its self-test.
    FailsItsTest,
    /// Hangs in its self-test.
    HangsInItsTest,
    /// Crashes as soon as it has taken over.
    CrashesAfterCommit,
    /// Serves another interface.
    ServesAnotherInterface,
    /// Serves a higher version of the interface in which methods have other places.
    ServesAnotherVersion,
    /// Takes over and answers what nobody can read.
    AnswersRubbish,
}

/// Makes the program with a fault.
#[macro_export]
macro_rules! version {
    ($fault:ident) => {
        #[cfg(bare)]
        libsys::entry!(main);

        #[cfg(bare)]
        fn main() -> i32 {
            $crate::run($crate::Fault::$fault)
        }

        #[cfg(not(bare))]
        fn main() {}
    };
}
