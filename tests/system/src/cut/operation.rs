//! What is carried out while a server ends.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use libipc::files::Files;
use skink_program::Program;

use super::files::{self, OnDisk};
use super::others;
use crate::context::Context;

/// How an operation went wrong.
pub(super) enum Fault {
    /// An answer or content that nobody should see.
    Wrong(String),
    /// What was acknowledged is not there.
    Lost(String),
    /// It was carried out twice.
    Duplicated(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, text) = match self {
            Fault::Wrong(text) => ("wrong", text),
            Fault::Lost(text) => ("lost", text),
            Fault::Duplicated(text) => ("duplicated", text),
        };
        write!(f, "{kind}: {text}")
    }
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Fault::Wrong(text)
    }
}

/// Something that a server does for a client, and that can be done again and again.
pub(super) struct Operation<'a> {
    /// What it is called.
    pub(super) name: &'static str,
    /// Makes what it begins with. No server ends meanwhile.
    pub(super) prepare: Box<dyn FnMut() -> Result<(), String> + 'a>,
    /// Does it, and looks at the answer and at what is there afterwards.
    pub(super) run: Box<dyn FnMut() -> Result<(), Fault> + 'a>,
}

impl<'a> Operation<'a> {
    /// Makes one.
    pub(super) fn new(
        name: &'static str,
        prepare: impl FnMut() -> Result<(), String> + 'a,
        run: impl FnMut() -> Result<(), Fault> + 'a,
    ) -> Self {
        Operation {
            name,
            prepare: Box::new(prepare),
            run: Box::new(run),
        }
    }
}

/// Returns the operations for each server, the servers in the order in which they are dealt with.
/// Those of the disk are only there if there is one.
pub(super) fn all<'a>(
    program: &Program,
    context: &'a Context,
) -> Result<Vec<(&'static str, Vec<Operation<'a>>)>, String> {
    let vfs = program.vfs().map_err(|failed| failed.message)?;
    let files = Files::new(vfs, Some(context.memory().clone()), "/");
    let console = program.console().map_err(|failed| failed.message)?;
    let mut all = Vec::new();
    for server in ["tmpfs", "vfs"] {
        all.push((server, files::operations(&files)?));
    }
    if let Some(disk) = OnDisk::find(&files)? {
        for server in ["ext4", "block", "virtio-blk"] {
            all.push((server, files::disk(&disk)));
        }
        all.push(("pci", vec![files::disk_with_new_driver(disk, context)]));
    }
    all.push(("console", others::console(console)));
    all.push(("log", others::log(context)));
    all.push(("init", others::init(context)));
    all.push(("memory-manager", others::memory(context)));
    Ok(all)
}
