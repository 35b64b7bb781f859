//! Policy of the log server: keeps the last lines of every service in the state region.
//!
//! Each service has a slot with a ring of lines there. A line counts when the slot's `end` has
//! passed it; with each line stands how far the service's own ring had been read, so that a
//! restarted log server goes on at exactly the next line.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod kernel;
mod page;
mod slot;
mod store;

pub use kernel::KernelLines;
pub use page::page;
pub use slot::{Line, Slot};
pub use store::{MAX_SERVICES, REGION_BYTES, REGION_WORDS, SCHEMA, Store};
