//! Policy of `chaos`: what is asked for, whose turn it is to be killed or harmed and when, whether two
//! outputs are the same. Time and what the services do are inputs.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod output;
pub mod plan;
mod random;
pub mod request;

pub use plan::{Instance, Plan, Step};
pub use random::Random;
pub use request::{Deed, Harm, Request};
