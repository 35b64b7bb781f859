//! Compares bytes with those of a value, without a second buffer.

use super::writer::Sink;

/// Takes the bytes of a value, and looks whether they are what is there.
pub(super) struct Comparer<'a> {
    bytes: &'a [u8],
    used: usize,
    /// Whether anything was missing or different.
    differs: bool,
}

impl<'a> Comparer<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Comparer {
            bytes,
            used: 0,
            differs: false,
        }
    }

    /// Returns how many bytes are those of the value; `None` when they are others.
    #[inline]
    pub(super) fn finish(self) -> Option<usize> {
        (!self.differs).then_some(self.used)
    }
}

impl Sink for Comparer<'_> {
    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        let end = self.used + N;
        let found = self.bytes.get(self.used..end);
        self.differs |= found.and_then(<[u8]>::as_array) != Some(&bytes);
        self.used = end;
    }

    #[inline]
    fn put_slice(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        self.differs |= self.bytes.get(self.used..end) != Some(bytes);
        self.used = end;
    }
}
