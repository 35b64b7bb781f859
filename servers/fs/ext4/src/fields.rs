//! Numbers out of bytes that nobody has checked.

use crate::error::{Damage, Error, Result};

/// Bytes of one structure of the volume. Reading past their end is damage of that structure.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    part: Damage,
}

impl<'a> Fields<'a> {
    /// Makes a reader of the bytes of a part of the volume.
    pub(crate) fn new(part: Damage, bytes: &'a [u8]) -> Self {
        Fields { bytes, part }
    }

    /// Returns all bytes.
    pub(crate) fn all(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the byte at `at`.
    ///
    /// # Errors
    ///
    /// `Damaged` past the end, as for all functions here.
    pub(crate) fn u8(self, at: usize) -> Result<u8> {
        self.bytes.get(at).copied().ok_or_else(|| self.short())
    }

    /// Returns the little-endian 16-bit number at `at`.
    ///
    /// # Errors
    ///
    /// `Damaged` past the end.
    pub(crate) fn u16(self, at: usize) -> Result<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    /// Returns the little-endian 32-bit number at `at`.
    ///
    /// # Errors
    ///
    /// `Damaged` past the end.
    pub(crate) fn u32(self, at: usize) -> Result<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// Returns the big-endian 32-bit number at `at`, as the journal writes them.
    ///
    /// # Errors
    ///
    /// `Damaged` past the end.
    pub(crate) fn u32_be(self, at: usize) -> Result<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    /// Returns `bytes` bytes from `at`.
    ///
    /// # Errors
    ///
    /// `Damaged` past the end.
    pub(crate) fn slice(self, at: usize, bytes: usize) -> Result<&'a [u8]> {
        let end = at.checked_add(bytes).ok_or_else(|| self.short())?;
        self.bytes.get(at..end).ok_or_else(|| self.short())
    }

    /// Returns the bytes from `at` to the end.
    ///
    /// # Errors
    ///
    /// `Damaged` past the end.
    pub(crate) fn rest(self, at: usize) -> Result<&'a [u8]> {
        self.bytes.get(at..).ok_or_else(|| self.short())
    }

    /// Returns the `N` bytes at `at`.
    ///
    /// # Errors
    ///
    /// `Damaged` past the end.
    pub(crate) fn array<const N: usize>(self, at: usize) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(at, N)?);
        Ok(array)
    }

    /// Returns the error that says what is wrong with this part.
    pub(crate) fn damaged(self, what: &'static str) -> Error {
        Error::Damaged(self.part, what)
    }

    fn short(self) -> Error {
        self.damaged("cut off")
    }
}

/// Joins the halves of a 64-bit number.
pub(crate) fn join(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
