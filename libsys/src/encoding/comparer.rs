//! Compares bytes with those of a value, without a second buffer.

use super::writer::Sink;

/// Takes the bytes of a value, and looks whether they are what is there.
pub(super) struct Comparer<'a> {
    rest: &'a [u8],
    /// Whether anything was missing or different.
    differs: bool,
}

impl<'a> Comparer<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Comparer {
            rest: bytes,
            differs: false,
        }
    }

    /// Returns how many bytes are left behind the value; `None` when those before are not its own.
    pub(super) fn finish(self) -> Option<usize> {
        (!self.differs).then_some(self.rest.len())
    }
}

impl Sink for Comparer<'_> {
    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        match self.rest.split_first_chunk() {
            Some((found, rest)) => {
                self.differs |= *found != bytes;
                self.rest = rest;
            }
            None => self.differs = true,
        }
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        match self.rest.split_at_checked(bytes.len()) {
            Some((found, rest)) => {
                self.differs |= found != bytes;
                self.rest = rest;
            }
            None => self.differs = true,
        }
    }
}
