//! Block devices for many clients: checks, splits, joins and orders their requests.
//!
//! [`Scheduler`] has the requests of one device; [`Exchange`] puts it between the rings of the
//! clients and the ring of the driver. [`Tables`] is what the server must know after a restart: who has which queue and
//! which buffers, what was done so far, and which entry of a ring a crash happened over; it is kept in the state region. The rings themselves belong to the clients, so
//! a restarted server finds there what was not completed. Waiting and IPC are in `main.rs`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod exchange;
mod scheduler;
#[cfg_attr(
    feature = "version-2",
    path = "../../../tests/versions/block/src/tables.rs"
)]
mod tables;

pub use exchange::{Doubts, Exchange, begin};
pub use scheduler::{Answer, BufferView, Limits, Origin, Scheduler};
pub use tables::{Buffer, MAX_BUFFERS, MAX_CRASHES, MAX_QUEUES, Queue, Record, Tables, Totals};
