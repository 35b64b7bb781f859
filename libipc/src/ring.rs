//! Rings: bulk and asynchronous work through memory that two processes share.
//!
//! A ring is a table of slots. The client owns the memory, fills a free slot and stamps it with
//! a number that it never uses again; the server does the work, in any order, and puts the result
//! and the same stamp into the slot's completion. So
//!
//! - a slot whose two stamps differ is work to be done, and nothing else is: a restarted server
//!   that attaches finds exactly what was submitted and not completed;
//! - the client takes a completion once, when it bears the stamp that it is waiting for, however
//!   often the work was done;
//! - there is no index in shared memory that one side could use to lead the other astray. Every
//!   shared word is read once, and the copy is used.
//!
//! Work that a server did without completing it is done again: entries must stand that.
//!
//! Each side sleeps on a notification. A side that is awake says so in the ring, and the other
//! one then leaves the system call out. Before sleeping call `prepare_wait` and sleep only if it
//! says so; call `flush` after submitting or completing (once for many).

mod client;
mod layout;
mod server;

pub use client::{Completion, Full, RequestDone, RingClient};
pub use layout::{Entry, MAX_SLOTS, RingError, bytes_for, pages_for};
pub use server::{RingServer, Submission, SubmissionId};
