//! Boots the system in QEMU and checks what it does.
//!
//! [`Machine`] says what to boot and turns into a QEMU command; [`Session`] is a running one whose
//! console can be read and typed at; [`Scenario`] is one test, each run its own boot. The
//! scenarios themselves are in [`cases`], one file per subject; `cargo xtask test` runs them.

pub mod cases;
pub mod disk;
mod machine;
pub mod runner;
mod scenario;
mod session;

pub use machine::{Accelerator, Artefacts, Boot, Console, Exit, Machine, exec_word};
pub use scenario::{Disk, Run, Scenario};
pub use session::Session;

/// What the shell prints when it waits for a command in the root folder.
pub const PROMPT: &str = "skink:/# ";
