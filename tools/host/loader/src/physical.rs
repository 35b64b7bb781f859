//! Physical memory as the loader's safe code sees it.

use crate::{LoadError, PAGE};

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// First byte after the range.
    pub end: u64,
}

impl Range {
    /// Returns the range of a start and a length; one that would wrap ends at the last address.
    #[must_use]
    pub const fn with_len(start: u64, len: u64) -> Self {
        Self {
            start,
            end: start.saturating_add(len),
        }
    }

    /// Returns the length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Tells whether there is nothing in the range.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Grows the range to whole pages; an empty one stays as it is.
    #[must_use]
    pub const fn grown_to_pages(self) -> Self {
        if self.is_empty() {
            return self;
        }
        let end = match self.end.checked_next_multiple_of(PAGE) {
            Some(end) => end,
            None => u64::MAX - (PAGE - 1),
        };
        Self {
            start: self.start - self.start % PAGE,
            end,
        }
    }

    /// Shrinks the range to the whole pages inside.
    #[must_use]
    pub const fn shrunk_to_pages(self) -> Self {
        let end = self.end - self.end % PAGE;
        match self.start.checked_next_multiple_of(PAGE) {
            Some(start) if start <= end => Self { start, end },
            _ => Self { start: end, end },
        }
    }
}

/// Reads and writes physical memory. Every access is checked by the implementor: `None` stands
/// for memory that the loader must not touch.
pub trait PhysicalMemory {
    /// Returns bytes to read.
    fn bytes(&self, start: u64, len: u64) -> Option<&[u8]>;

    /// Returns bytes to change.
    fn bytes_mut(&mut self, start: u64, len: u64) -> Option<&mut [u8]>;

    /// Copies bytes; the two ranges do not overlap.
    fn copy(&mut self, from: u64, to: u64, len: u64) -> Option<()>;

    /// Reads a little-endian `u32`.
    fn read_u32(&self, at: u64) -> Option<u32> {
        self.bytes(at, 4)?
            .first_chunk()
            .map(|raw| u32::from_le_bytes(*raw))
    }

    /// Reads a little-endian `u64`.
    fn read_u64(&self, at: u64) -> Option<u64> {
        self.bytes(at, 8)?
            .first_chunk()
            .map(|raw| u64::from_le_bytes(*raw))
    }

    /// Writes a little-endian `u64`.
    fn write_u64(&mut self, at: u64, value: u64) -> Option<()> {
        self.bytes_mut(at, 8)?.copy_from_slice(&value.to_le_bytes());
        Some(())
    }

    /// Returns the text up to the next NUL, looking at no more than 64 KiB. Text that is not
    /// UTF-8 counts as none.
    fn text(&self, at: u64) -> &str {
        const LONGEST: u64 = 64 * 1024;
        let len = (0..LONGEST).find(|&i| {
            at.checked_add(i)
                .and_then(|byte| self.bytes(byte, 1))
                .is_none_or(|byte| byte[0] == 0)
        });
        len.and_then(|len| self.bytes(at, len))
            .and_then(|bytes| core::str::from_utf8(bytes).ok())
            .unwrap_or("")
    }
}

/// Hands out zeroed frames one after another from one free range.
#[derive(Debug)]
pub struct Frames {
    next: u64,
    range: Range,
}

impl Frames {
    /// Starts at the bottom of a page-aligned range.
    #[must_use]
    pub fn new(range: Range) -> Self {
        Self {
            next: range.start,
            range,
        }
    }

    /// Returns the address of `pages` zeroed frames in a row.
    ///
    /// # Errors
    /// [`LoadError::OutOfMemory`] when the range is used up.
    pub fn allocate(
        &mut self,
        memory: &mut impl PhysicalMemory,
        pages: u64,
    ) -> Result<u64, LoadError> {
        let start = self.next;
        let bytes = pages.checked_mul(PAGE).ok_or(LoadError::OutOfMemory)?;
        let end = start.checked_add(bytes).ok_or(LoadError::OutOfMemory)?;
        if end > self.range.end {
            return Err(LoadError::OutOfMemory);
        }
        memory
            .bytes_mut(start, bytes)
            .ok_or(LoadError::OutOfMemory)?
            .fill(0);
        self.next = end;
        Ok(start)
    }

    /// Returns what has been handed out.
    #[must_use]
    pub fn used(&self) -> Range {
        Range {
            start: self.range.start,
            end: self.next,
        }
    }
}
