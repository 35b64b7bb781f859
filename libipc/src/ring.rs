//! Rings: bulk and asynchronous work through memory that two processes share.
//!
//! A ring is a table of slots and two queues of slot numbers. The client owns the memory, fills a
//! free slot, stamps it with a number that it never uses again, and puts its number into the
//! queue of submissions. The server does the work, in any order, puts the result and the same
//! stamp into the slot, and the slot's number into the queue of completions. So
//!
//! - a slot whose two stamps differ is work to be done, and nothing else is: a restarted server
//!   that attaches finds exactly what was submitted and not completed, and which of that an
//!   earlier instance had taken ([`Submission::redelivered`]; [`Contracts`] does with those what
//!   the method's restart contract says);
//! - the client takes a completion once, when it bears the stamp that it is waiting for, however
//!   often the work was done;
//! - the queues only say where to look. What they say is checked against the stamps, so neither
//!   side can lead the other astray with them. Every shared word is read once, and the copy is
//!   used; whatever stands there, a turn is bounded by the number of slots.
//!
//! Each side sleeps on a notification. A side that is awake says so in the ring, and the other
//! one then leaves the system call out. Before sleeping call `prepare_wait` and sleep only if it
//! says so; call `flush` after submitting or completing (once for many).
//!
//! A server of many rings has them in a [`RingSet`], which looks only at those with news.

mod client;
mod contract;
mod guard;
mod layout;
mod memory;
mod request;
mod server;
mod set;

pub use client::{CANCELLED, Cancel, Completion, Full, RESTARTED, RingClient};
pub use contract::{Contracts, Results};
pub use guard::Progress;
pub use layout::{Entry, MAX_SLOTS, RingError, bytes_for, pages_for};
pub use memory::{RingMemory, RingWord};
pub use request::RequestDone;
pub use server::{RingServer, Submission, SubmissionId};
pub use set::RingSet;
