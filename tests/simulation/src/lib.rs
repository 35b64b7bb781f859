//! A world of real servers without a kernel, in which any of them can be ended at any step.
//!
//! The servers are those of the system, with their state regions, behind their interfaces; only
//! the kernel's part is played here ([`Endpoint`]): a caller keeps its request until it is answered,
//! and a request whose server died is delivered again to the next instance, marked as such. What a
//! server does is counted step by step ([`Steps`]): each receive, store, commit, call and reply. A
//! run can be told to end the server that makes step number *n*; running once for each *n* is
//! exhaustive.

mod endpoint;
mod memory;
mod steps;

pub use endpoint::Endpoint;
pub use memory::{Kept, ServerMemory};
pub use steps::{Killed, Place, Steps, When};
