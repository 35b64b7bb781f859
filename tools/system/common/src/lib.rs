//! What all programs inside the system share: start, options, output, tables, starting others.
//!
//! A program is one function from [`Program`] to an [`Outcome`]:
//!
//! ```ignore
//! skink_program::program!(HELP, run);
//!
//! fn run(program: &mut Program) -> Outcome {
//!     writeln!(program.out(), "hello")?;
//!     program.finish()
//! }
//! ```
//!
//! `--help` is answered before the function runs. What it complains about goes to the terminal as
//! `name: what`, and makes the exit code 1; wrong usage makes it 2.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod columns;
mod failed;
pub mod files;
pub mod human;
pub mod launch;
mod options;
mod output;
mod program;
mod table;

pub use failed::{FAILURE, Failed, Outcome, USAGE};
#[doc(hidden)]
pub use libsys;
pub use options::{Flag, Options};
pub use output::Output;
pub use program::{APPEND, CWD, Program, STDOUT, STDOUT_MODE, join, run};
pub use table::{Align, Table};
