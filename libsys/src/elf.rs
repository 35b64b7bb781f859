//! Reads program images: statically linked ELF64 files for x86_64, laid out by the project's
//! linker script.
//!
//! Nothing in an image is trusted. What [`Elf::parse`] accepts has one to [`MAX_SEGMENTS`]
//! segments that are page aligned in memory and in the file, lie in the room for images in
//! ascending order without sharing a page, are never writable and executable at once, take their
//! bytes from within the file, and an entry point in an executable one. It says nothing about
//! the code in them.

use core::fmt;

use skink_abi::layout::{IMAGE_BASE, IMAGE_END};
use skink_abi::{MapFlags, PAGE_SIZE};

/// Most loadable segments of an image; the linker script makes three.
pub const MAX_SEGMENTS: usize = 8;

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const TYPE_EXECUTABLE: u16 = 2;
const MACHINE_X86_64: u16 = 62;
const SEGMENT_LOAD: u32 = 1;
const FLAG_EXECUTE: u32 = 1;
const FLAG_WRITE: u32 = 2;

/// A part of an image that is loaded as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Segment {
    /// First address, page aligned.
    pub address: u64,
    /// First byte in the file, page aligned.
    pub offset: u64,
    /// Bytes that come from the file.
    pub file_bytes: u64,
    /// Bytes in memory; those that do not come from the file are zero.
    pub memory_bytes: u64,
    /// How it is mapped.
    pub flags: MapFlags,
}

impl Segment {
    /// Returns the number of pages in memory.
    pub const fn pages(&self) -> u64 {
        self.memory_bytes.div_ceil(PAGE_SIZE as u64)
    }

    /// Returns whether each process needs its own copy.
    pub const fn is_writable(&self) -> bool {
        self.flags.contains(MapFlags::WRITE)
    }
}

/// Why an image cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// It does not start as an ELF64 file for x86_64 does.
    NotElf,
    /// It is not a statically linked program of fixed address. Remedy: build it with
    /// `skink_link::user_program()`.
    NotExecutable,
    /// It ends before all that it promises.
    Truncated,
    /// It has no loadable segment, or more than [`MAX_SEGMENTS`].
    BadSegmentCount,
    /// The segment in this position is misaligned, out of order or outside the room for images,
    /// or has more bytes in the file than in memory, or is shared and has more in memory.
    BadSegment(usize),
    /// The segment in this position is writable and executable.
    WritableCode(usize),
    /// The entry point is in no executable segment.
    BadEntry,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ElfError::NotElf => f.write_str("not an ELF64 file for x86_64"),
            ElfError::NotExecutable => f.write_str("not a statically linked program"),
            ElfError::Truncated => f.write_str("image is truncated"),
            ElfError::BadSegmentCount => f.write_str("wrong number of segments"),
            ElfError::BadSegment(position) => write!(f, "segment {position} is malformed"),
            ElfError::WritableCode(position) => {
                write!(f, "segment {position} is writable and executable")
            }
            ElfError::BadEntry => f.write_str("entry point is not in code"),
        }
    }
}

impl core::error::Error for ElfError {}

/// An image that has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elf {
    entry: u64,
    segments: [Segment; MAX_SEGMENTS],
    count: usize,
}

impl Elf {
    /// Checks an image.
    ///
    /// # Errors
    ///
    /// The first thing found wrong, as an [`ElfError`].
    pub fn parse(bytes: &[u8]) -> Result<Elf, ElfError> {
        // Class 64, little-endian, version 1.
        if !bytes.starts_with(b"\x7fELF\x02\x01\x01") {
            return Err(ElfError::NotElf);
        }
        let header = bytes.get(..HEADER_BYTES).ok_or(ElfError::Truncated)?;
        if u16_at(header, 18) != MACHINE_X86_64 {
            return Err(ElfError::NotElf);
        }
        if u16_at(header, 16) != TYPE_EXECUTABLE
            || usize::from(u16_at(header, 54)) != PROGRAM_HEADER_BYTES
        {
            return Err(ElfError::NotExecutable);
        }
        let mut elf = Elf {
            entry: u64_at(header, 24),
            segments: Default::default(),
            count: 0,
        };
        let table = usize::try_from(u64_at(header, 32)).map_err(|_| ElfError::Truncated)?;
        let table = bytes.get(table..).ok_or(ElfError::Truncated)?;
        let count = usize::from(u16_at(header, 56));
        let table = table
            .get(..count * PROGRAM_HEADER_BYTES)
            .ok_or(ElfError::Truncated)?;
        for raw in table.chunks_exact(PROGRAM_HEADER_BYTES) {
            if u32_at(raw, 0) == SEGMENT_LOAD && u64_at(raw, 40) != 0 {
                elf.add(raw, bytes.len() as u64)?;
            }
        }
        elf.check_entry()?;
        Ok(elf)
    }

    /// Returns the address of the first instruction.
    pub const fn entry(&self) -> u64 {
        self.entry
    }

    /// Returns the segments in ascending order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments[..self.count]
    }

    fn add(&mut self, raw: &[u8], image_bytes: u64) -> Result<(), ElfError> {
        let position = self.count;
        let slot = self
            .segments
            .get_mut(position)
            .ok_or(ElfError::BadSegmentCount)?;
        let flags = u32_at(raw, 4);
        if flags & FLAG_WRITE != 0 && flags & FLAG_EXECUTE != 0 {
            return Err(ElfError::WritableCode(position));
        }
        *slot = Segment {
            address: u64_at(raw, 16),
            offset: u64_at(raw, 8),
            file_bytes: u64_at(raw, 32),
            memory_bytes: u64_at(raw, 40),
            flags: match (flags & FLAG_WRITE != 0, flags & FLAG_EXECUTE != 0) {
                (true, _) => MapFlags::READ | MapFlags::WRITE,
                (_, true) => MapFlags::READ | MapFlags::EXECUTE,
                _ => MapFlags::READ,
            },
        };
        let segment = *slot;
        let bad = ElfError::BadSegment(position);
        let first_free = match position.checked_sub(1).and_then(|at| self.segments.get(at)) {
            Some(last) => last.address + last.pages() * PAGE_SIZE as u64,
            None => IMAGE_BASE,
        };
        let aligned = segment.address.is_multiple_of(PAGE_SIZE as u64)
            && segment.offset.is_multiple_of(PAGE_SIZE as u64);
        // A shared segment shows the file's own pages, so nothing can be added to it.
        let sized = segment.file_bytes <= segment.memory_bytes
            && (segment.is_writable() || segment.file_bytes == segment.memory_bytes);
        let end = segment
            .address
            .checked_add(segment.memory_bytes)
            .ok_or(bad)?;
        if !aligned || !sized || segment.address < first_free || end > IMAGE_END {
            return Err(bad);
        }
        if segment.offset.checked_add(segment.file_bytes).ok_or(bad)? > image_bytes {
            return Err(ElfError::Truncated);
        }
        self.count += 1;
        Ok(())
    }

    fn check_entry(&self) -> Result<(), ElfError> {
        if self.count == 0 {
            return Err(ElfError::BadSegmentCount);
        }
        let in_code = self.segments().iter().any(|segment| {
            segment.flags.contains(MapFlags::EXECUTE)
                && (segment.address..segment.address + segment.memory_bytes).contains(&self.entry)
        });
        if in_code {
            Ok(())
        } else {
            Err(ElfError::BadEntry)
        }
    }
}

/// Reads a field of a header whose length was checked; zero past its end.
fn field<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    header
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

fn u16_at(header: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(header, at))
}

fn u32_at(header: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(header, at))
}

fn u64_at(header: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(header, at))
}

#[cfg(test)]
mod tests;
