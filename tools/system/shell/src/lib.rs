//! Policy of the shell: how lines are edited, completed and understood.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod complete;
pub mod editor;
mod keys;
pub mod parse;
