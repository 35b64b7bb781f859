//! What children do. Each role is a function from its arguments to an exit code.

#[cfg(bare)]
mod batch;
mod delivery;
mod fuzz;
mod hostile;
mod memory;
mod paths;
mod quota;
mod revival;
pub(crate) mod rings;
mod server;
#[cfg(bare)]
mod stepper;
mod storm;
#[cfg(bare)]
mod threads;
mod vector;
#[cfg(bare)]
mod waits;

pub(crate) use hostile::{FLAG_IGNORED, KERNEL, NON_CANONICAL, NOWHERE};
pub(crate) use memory::{CHILD_WORD, REGION, SHARED_WORD};
pub(crate) use paths::{CRASH, Slots, TOUCH, Word, digest, payload_word};
pub(crate) use revival::compete;
pub(crate) use storm::{Count, Counts};

use alloc::vec::Vec;

use libsys::{Handle, Kind};
use skink_program::Program;

/// Exit code of a child that does not know its role or lacks a handle for it.
pub(crate) const BAD_ROLE: i32 = 120;
/// Exit code of a child that survived what should have ended it.
pub(crate) const SURVIVED: i32 = 121;
/// Exit code of a child that saw something wrong.
pub(crate) const WRONG: i32 = 122;

/// A child at work.
pub(crate) struct Role<'a> {
    program: &'a Program,
    /// Numbers behind the name of the role.
    arguments: Vec<u64>,
}

impl Role<'_> {
    /// Returns an argument; 0 when there are fewer.
    fn argument(&self, index: usize) -> u64 {
        self.arguments.get(index).copied().unwrap_or(0)
    }

    /// Takes a handle that the test gave.
    fn take<K: Kind>(&self, name: &str) -> Result<Handle<K>, i32> {
        self.program.take(name).map_err(|_| BAD_ROLE)
    }
}

/// Plays the role that the arguments name.
pub(crate) fn play(program: &Program) -> i32 {
    let arguments = program.arguments();
    let Some(name) = arguments.get(1) else {
        return BAD_ROLE;
    };
    let numbers = arguments[2..]
        .iter()
        .map(|number| number.parse().unwrap_or(0))
        .collect();
    let role = Role {
        program,
        arguments: numbers,
    };
    let result = match name.as_str() {
        "exit" => Ok(role.argument(0) as i32),
        "server" => server::serve(&role),
        "holder" => server::hold(&role),
        "client" => server::ask(&role),
        "quit" => server::quit(&role),
        #[cfg(bare)]
        "batch-quota" => batch::use_up(&role),
        #[cfg(bare)]
        "batch-race" => batch::race(&role),
        #[cfg(bare)]
        "batch-death" => batch::die(&role),
        "full" => delivery::full(&role),
        "stuffed-client" => delivery::stuffed(&role),
        "without-fs" => delivery::without_fs(&role),
        "actor" => paths::act(&role),
        "heir" => revival::inherit(&role),
        "rival" => revival::race(&role),
        "bequeath" => quota::bequeath(&role),
        #[cfg(bare)]
        "stepper" => stepper::run(&role),
        #[cfg(bare)]
        "leaper" => stepper::leap(&role),
        "storm-client" => storm::call(&role),
        "storm-server" => storm::serve(&role),
        "notifier" => server::notify(&role),
        "thief" => server::steal(&role),
        "fuzz" => fuzz::run(&role),
        "touch" => memory::touch(&role),
        "after-unmap" => memory::use_after_unmap(&role),
        "after-protect" => memory::write_after_protect(&role),
        "share" => memory::share(&role),
        #[cfg(bare)]
        "threads" => threads::run(&role),
        #[cfg(bare)]
        "close-waited" => waits::close(&role),
        #[cfg(bare)]
        "wait-for-many" => waits::wait_for_many(&role),
        "ring-server" => rings::serve(&role),
        "ring-vandal" => rings::vandal(&role),
        "vector" => vector::hold(&role),
        "vector-client" => vector::call(&role),
        "vector-server" => vector::serve(&role),
        name => hostile::run(name),
    };
    result.unwrap_or_else(|code| code)
}
