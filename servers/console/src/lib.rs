//! Policy of the console: what a restarted console must know, output that is neither lost nor
//! repeated, input by line or by key.
//!
//! Everything that must survive a crash lies in the state region as plain atomic words
//! ([`state`]); the kernel itself counts there what the UART took and gave. The rest is borrowed
//! from it and can be thrown away at any moment.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod input;
pub mod line;
pub mod output;
pub mod state;
pub mod sync;
pub mod uart;

#[cfg(test)]
mod fake;
