//! Small fields that one owner at a time writes.

use core::sync::atomic::{AtomicU32, Ordering};

/// A 32-bit field of an object, written only by the object's owner or under the lock that its
/// place in the struct names.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Field(AtomicU32);

impl Field {
    /// Makes a field.
    pub(crate) const fn new(value: u32) -> Field {
        Field(AtomicU32::new(value))
    }

    /// Reads it.
    #[inline]
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Writes it.
    #[inline]
    pub(crate) fn set(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// Neighbours in a list, as an object keeps them.
#[derive(Debug)]
pub(crate) struct LinkFields {
    previous: Field,
    next: Field,
}

impl LinkFields {
    /// Offset of the one behind, for code in assembly.
    pub(crate) const NEXT: usize = core::mem::offset_of!(LinkFields, next);

    /// Links of an object in no list.
    pub(crate) const fn new() -> LinkFields {
        LinkFields {
            previous: Field::new(skink_kcore::NONE),
            next: Field::new(skink_kcore::NONE),
        }
    }

    /// Reads them.
    #[inline]
    pub(crate) fn get(&self) -> skink_kcore::list::Links {
        skink_kcore::list::Links {
            previous: self.previous.get(),
            next: self.next.get(),
        }
    }

    /// Reads the one behind.
    #[inline(always)]
    pub(crate) fn next(&self) -> u32 {
        self.next.get()
    }

    /// Writes the one behind.
    #[inline(always)]
    pub(crate) fn set_next(&self, next: u32) {
        self.next.set(next);
    }

    /// Writes them.
    #[inline]
    pub(crate) fn set(&self, links: skink_kcore::list::Links) {
        self.previous.set(links.previous);
        self.next.set(links.next);
    }
}
