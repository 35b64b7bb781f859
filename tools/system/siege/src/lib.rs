//! Policy of `siege`: what is asked for, which services are killed and when, what the workloads
//! do and how they judge what they see, what is counted. Time, chance and what the system does
//! are inputs.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod counters;
pub mod faults;
pub mod greed;
pub mod harm;
pub mod json;
pub mod load;
pub mod pattern;
pub mod request;
pub mod strikes;
pub mod tally;
pub mod tree;
pub mod versions;

pub use greed::Greed;
pub use load::Load;
pub use request::Request;
pub use strikes::{Kind, Strike, Strikes, Targets};
pub use tally::{Counts, Tally, Verdict};
