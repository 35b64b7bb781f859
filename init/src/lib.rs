//! Policy of `init`: what to start, when to start it again, who hangs, who keeps what.
//!
//! Nothing here makes a system call or reads a clock: time and news come in, decisions go out,
//! so all of it is tested on the host. `src/main.rs` and the modules under it carry the
//! decisions out.
//!
//! Start with [`supervisor`], which owns the life of every service.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod back_off;
pub mod control;
pub mod escalation;
pub mod heartbeat;
pub mod ledger;
pub mod reports;
pub mod reserve;
pub mod statistics;
pub mod supervisor;
pub mod swap;
pub mod vault;

/// Nanoseconds in a millisecond.
pub const MS: u64 = 1_000_000;
