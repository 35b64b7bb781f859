//! The Skink kernel: address spaces, IPC, interrupts and the scheduler, and nothing else.
//!
//! Start with `syscall` (what programs ask for), then `ipc` (the heart), `sched::finish` (where
//! every entry ends) and `teardown` (how things end). Policy is in `skink_kcore`.
//!
//! One stack per CPU; an entry runs to its end with interrupts off; a thread that waits is only a
//! struct. Locks are taken by rising level (`lock`).
#![cfg_attr(bare, no_std, no_main)]

#[cfg(bare)]
mod answers;
#[cfg(bare)]
mod arch;
#[cfg(bare)]
mod arena;
#[cfg(bare)]
mod boot;
#[cfg(bare)]
mod cell;
#[cfg(bare)]
mod endpoint;
#[cfg(bare)]
mod fastpath;
#[cfg(bare)]
mod fault;
#[cfg(bare)]
mod first_process;
#[cfg(bare)]
mod interrupt;
#[cfg(bare)]
mod ipc;
#[cfg(bare)]
mod lock;
#[cfg(bare)]
mod log;
#[cfg(bare)]
mod machine;
#[cfg(bare)]
mod memory;
#[cfg(bare)]
mod notification;
#[cfg(bare)]
mod object;
#[cfg(bare)]
mod panic;
#[cfg(bare)]
mod pool;
#[cfg(bare)]
mod process;
#[cfg(bare)]
mod revival;
#[cfg(bare)]
mod sched;
#[cfg(bare)]
mod space;
#[cfg(bare)]
mod stats;
#[cfg(bare)]
mod stepping;
#[cfg(bare)]
mod symbols;
#[cfg(bare)]
mod syscall;
#[cfg(bare)]
mod teardown;
#[cfg(bare)]
mod thread;
#[cfg(bare)]
mod time_page;
#[cfg(bare)]
mod trap;
#[cfg(bare)]
mod user;
#[cfg(bare)]
mod watch;

#[cfg(not(bare))]
fn main() {}
