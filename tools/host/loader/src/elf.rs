//! Reads the kernel's ELF image: segments to load and the configuration section.

use heapless::Vec;

use crate::{LoadError, PAGE};

/// Most loadable segments of a kernel.
pub const MAX_SEGMENTS: usize = 16;

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const SECTION_HEADER_BYTES: usize = 64;
const MACHINE_X86_64: u16 = 62;
const TYPE_EXECUTABLE: u16 = 2;
const SEGMENT_LOAD: u32 = 1;
const SEGMENT_TLS: u32 = 7;
const FLAG_EXECUTE: u32 = 1;
const FLAG_WRITE: u32 = 2;
/// Addresses between the two halves do not exist with four-level paging.
const LOWER_HALF_END: u64 = 1 << 47;
const UPPER_HALF: u64 = 0xffff_8000_0000_0000;

/// What may be done with a segment's pages. There is no way to say "write and execute".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
    /// Reading and executing.
    Execute,
}

/// A segment to load. Its file part lies inside the image and its pages are canonical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Distance of the file part from the start of the image.
    pub offset: u64,
    /// Bytes to take from the image; the rest is zero.
    pub file_bytes: u64,
    /// Address of the first byte.
    pub address: u64,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Access rights.
    pub access: Access,
}

/// A kernel image that has been checked.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// Address of the first instruction.
    pub entry: u64,
    /// Segments to load.
    pub segments: Vec<Segment, MAX_SEGMENTS>,
    /// The thread-local template, if any.
    pub tls: Option<Segment>,
    /// Bytes of the section `.bootloader-config`.
    pub config: &'a [u8],
}

impl<'a> Image<'a> {
    /// Checks an image and picks out what the loader needs.
    ///
    /// # Errors
    /// [`LoadError::BadKernel`] with what is wrong.
    pub fn parse(image: &'a [u8]) -> Result<Self, LoadError> {
        let header = image
            .get(..HEADER_BYTES)
            .ok_or(LoadError::BadKernel("truncated"))?;
        // Magic, 64 bits, little-endian, ELF version 1.
        if header[..7] != *b"\x7fELF\x02\x01\x01" {
            return Err(LoadError::BadKernel("not a 64-bit little-endian ELF file"));
        }
        if read_u16(header, 18)? != MACHINE_X86_64 {
            return Err(LoadError::BadKernel("not for x86_64"));
        }
        if read_u16(header, 16)? != TYPE_EXECUTABLE {
            return Err(LoadError::BadKernel("not a fixed-address executable"));
        }
        let mut parsed = Image {
            entry: read_u64(header, 24)?,
            segments: Vec::new(),
            tls: None,
            config: &[],
        };
        let table = table(
            image,
            read_u64(header, 32)?,
            read_u16(header, 56)?,
            PROGRAM_HEADER_BYTES,
        )?;
        for raw in table.chunks_exact(PROGRAM_HEADER_BYTES) {
            parsed.add_program_header(image, raw)?;
        }
        let is_entry = |s: &Segment| {
            s.access == Access::Execute
                && (s.address..s.address + s.memory_bytes).contains(&parsed.entry)
        };
        if !parsed.segments.iter().any(is_entry) {
            return Err(LoadError::BadKernel(
                "entry point outside executable segments",
            ));
        }
        parsed.config = section(image, b".bootloader-config")?
            .ok_or(LoadError::BadKernel("no section .bootloader-config"))?;
        Ok(parsed)
    }

    fn add_program_header(&mut self, image: &[u8], raw: &[u8]) -> Result<(), LoadError> {
        let kind = read_u32(raw, 0)?;
        if kind != SEGMENT_LOAD && kind != SEGMENT_TLS {
            return Ok(());
        }
        let segment = segment(image, raw)?;
        if segment.memory_bytes == 0 {
            return Ok(());
        }
        if kind == SEGMENT_TLS {
            if self.tls.replace(segment).is_some() {
                return Err(LoadError::BadKernel("more than one TLS segment"));
            }
            return Ok(());
        }
        self.segments
            .push(segment)
            .map_err(|_| LoadError::BadKernel("too many segments"))
    }
}

fn segment(image: &[u8], raw: &[u8]) -> Result<Segment, LoadError> {
    let flags = read_u32(raw, 4)?;
    let access = match (flags & FLAG_WRITE != 0, flags & FLAG_EXECUTE != 0) {
        (true, true) => return Err(LoadError::BadKernel("segment both writable and executable")),
        (true, false) => Access::Write,
        (false, true) => Access::Execute,
        (false, false) => Access::Read,
    };
    let segment = Segment {
        offset: read_u64(raw, 8)?,
        address: read_u64(raw, 16)?,
        file_bytes: read_u64(raw, 32)?,
        memory_bytes: read_u64(raw, 40)?,
        access,
    };
    if slice(image, segment.offset, segment.file_bytes).is_none() {
        return Err(LoadError::BadKernel("segment outside the file"));
    }
    if segment.file_bytes > segment.memory_bytes {
        return Err(LoadError::BadKernel(
            "segment larger in the file than in memory",
        ));
    }
    // The end is rounded up to a page, so that page arithmetic on the segment never wraps.
    let end = segment
        .address
        .checked_add(segment.memory_bytes)
        .and_then(|end| end.checked_next_multiple_of(PAGE))
        .ok_or(LoadError::BadKernel("segment wraps around"))?;
    let is_canonical = end <= LOWER_HALF_END || segment.address >= UPPER_HALF;
    if !is_canonical {
        return Err(LoadError::BadKernel(
            "segment at addresses that do not exist",
        ));
    }
    Ok(segment)
}

/// Returns the bytes of a named section.
fn section<'a>(image: &'a [u8], wanted: &[u8]) -> Result<Option<&'a [u8]>, LoadError> {
    let header = &image[..HEADER_BYTES];
    let table = table(
        image,
        read_u64(header, 40)?,
        read_u16(header, 60)?,
        SECTION_HEADER_BYTES,
    )?;
    let names_at = usize::from(read_u16(header, 62)?);
    let contents = |raw: &[u8]| -> Result<&'a [u8], LoadError> {
        slice(image, read_u64(raw, 24)?, read_u64(raw, 32)?)
            .ok_or(LoadError::BadKernel("section outside the file"))
    };
    let Some(names) = table.chunks_exact(SECTION_HEADER_BYTES).nth(names_at) else {
        return Ok(None);
    };
    let names = contents(names)?;
    for raw in table.chunks_exact(SECTION_HEADER_BYTES) {
        let name = names.get(read_u32(raw, 0)? as usize..).unwrap_or(&[]);
        if name.split(|&byte| byte == 0).next() == Some(wanted) {
            return contents(raw).map(Some);
        }
    }
    Ok(None)
}

fn table(image: &[u8], offset: u64, count: u16, entry: usize) -> Result<&[u8], LoadError> {
    slice(image, offset, u64::from(count) * entry as u64)
        .ok_or(LoadError::BadKernel("header table outside the file"))
}

fn slice(image: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    image.get(start..start.checked_add(usize::try_from(len).ok()?)?)
}

fn read<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], LoadError> {
    let raw = bytes.get(at..).and_then(<[u8]>::first_chunk);
    raw.copied().ok_or(LoadError::BadKernel("truncated"))
}

fn read_u16(bytes: &[u8], at: usize) -> Result<u16, LoadError> {
    read(bytes, at).map(u16::from_le_bytes)
}

fn read_u32(bytes: &[u8], at: usize) -> Result<u32, LoadError> {
    read(bytes, at).map(u32::from_le_bytes)
}

fn read_u64(bytes: &[u8], at: usize) -> Result<u64, LoadError> {
    read(bytes, at).map(u64::from_le_bytes)
}
