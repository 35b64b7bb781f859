//! Handles that an earlier instance of `init` had and that no record names.

use alloc::vec::Vec;

use libsys::abi::{ObjectKind, RawHandle};
use libsys::startup::Startup;
use libsys::{Handle, Kind, Process, handle};

use super::book::Book;

/// Finds the processes that no record names: they were being made, or had just been given up.
pub(crate) fn lost_processes(book: &Book, startup: &Startup) -> Vec<Handle<Process>> {
    let lost = lost(book, startup).filter(|(_, kind)| *kind == ObjectKind::Process);
    lost.map(|(raw, _)| Handle::from_raw(raw)).collect()
}

/// Closes every handle that no record names; returns how many those were. Nothing may have been
/// made yet that is not recorded.
pub(crate) fn close_lost(book: &Book, startup: &Startup) -> usize {
    let lost: Vec<RawHandle> = lost(book, startup).map(|(raw, _)| raw).collect();
    for raw in &lost {
        drop(Handle::<Unknown>::from_raw(*raw));
    }
    lost.len()
}

fn lost(book: &Book, startup: &Startup) -> impl Iterator<Item = (RawHandle, ObjectKind)> {
    let mut named = book.numbers();
    named.extend(startup.handles.iter().map(|(_, number)| *number));
    handle::own().filter(move |(raw, _)| !named.contains(&raw.0))
}

/// What a handle is does not matter for closing it.
enum Unknown {}

impl Kind for Unknown {
    const KIND: ObjectKind = ObjectKind::System;
}
