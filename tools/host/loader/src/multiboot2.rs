//! The multiboot2 boot protocol: GRUB, on BIOS and UEFI alike.
//!
//! Tags: Multiboot2 Specification version 2.0, section 3.6.

use bootloader_api::info::{FrameBufferInfo, PixelFormat};

use crate::memory_map::MemoryMap;
use crate::source::checked_bundle;
use crate::{LoadError, PhysicalMemory, Range, Screen, Source};

/// What `eax` holds at entry.
pub const MAGIC: u32 = 0x36d7_6289;

const TAG_END: u32 = 0;
const TAG_COMMAND_LINE: u32 = 1;
const TAG_MODULE: u32 = 3;
const TAG_MEMORY_MAP: u32 = 6;
const TAG_FRAMEBUFFER: u32 = 8;
const TAG_OLD_RSDP: u32 = 14;
const TAG_NEW_RSDP: u32 = 15;
const TAG_HEADER_BYTES: u64 = 8;
const FRAMEBUFFER_RGB: u8 = 1;
const BAD: LoadError = LoadError::BadBootInformation("multiboot2 tags");

/// Reads the information block at a physical address.
///
/// # Errors
/// No bundle, or information that makes no sense.
pub fn read(memory: &impl PhysicalMemory, at: u64) -> Result<Source<'_>, LoadError> {
    let total = memory.read_u32(at).ok_or(BAD)?;
    let block = memory.bytes(at, u64::from(total)).ok_or(BAD)?;
    let mut map = MemoryMap::new();
    let mut module = None;
    let mut command_line = "";
    let mut rsdp = None;
    let mut screen = None;
    for tag in Tags::new(block) {
        let tag = tag?;
        match tag.kind {
            TAG_COMMAND_LINE => command_line = text(tag.body),
            TAG_MODULE if module.is_none() => {
                let (start, end) = (read_u32(tag.body, 0)?, read_u32(tag.body, 4)?);
                module = Some(Range {
                    start: u64::from(start),
                    end: u64::from(end),
                });
            }
            TAG_MODULE => map.reserve(Range {
                start: u64::from(read_u32(tag.body, 0)?),
                end: u64::from(read_u32(tag.body, 4)?),
            })?,
            TAG_MEMORY_MAP => read_regions(tag.body, &mut map)?,
            TAG_FRAMEBUFFER => screen = read_screen(tag.body)?,
            // The tag holds a copy of the structure; the block it lies in is reserved below.
            TAG_OLD_RSDP => rsdp = rsdp.or(Some(at + tag.body_at)),
            TAG_NEW_RSDP => rsdp = Some(at + tag.body_at),
            _ => {}
        }
    }
    let bundle = checked_bundle(module.ok_or(LoadError::NoBundle)?)?;
    map.reserve(bundle)?;
    map.reserve(Range::with_len(at, u64::from(total)))?;
    Ok(Source {
        map,
        bundle,
        command_line,
        rsdp,
        screen,
    })
}

struct Tag<'a> {
    kind: u32,
    body: &'a [u8],
    body_at: u64,
}

/// Walks over the tags; ends at the end tag and after the first error.
struct Tags<'a> {
    block: &'a [u8],
    at: u64,
}

impl<'a> Tags<'a> {
    fn new(block: &'a [u8]) -> Self {
        // The block starts with its size and a reserved word.
        Self {
            block,
            at: TAG_HEADER_BYTES,
        }
    }

    fn read(&self) -> Result<Tag<'a>, LoadError> {
        let rest = self.block.get(self.at as usize..).ok_or(BAD)?;
        let (kind, size) = (read_u32(rest, 0)?, read_u32(rest, 4)?);
        let body = rest
            .get(TAG_HEADER_BYTES as usize..size as usize)
            .ok_or(BAD)?;
        Ok(Tag {
            kind,
            body,
            body_at: self.at + TAG_HEADER_BYTES,
        })
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = Result<Tag<'a>, LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == u64::MAX {
            return None;
        }
        let tag = self.read();
        self.at = match &tag {
            Ok(tag) if tag.kind == TAG_END => return None,
            Ok(tag) => (tag.body_at + tag.body.len() as u64).next_multiple_of(8),
            Err(_) => u64::MAX,
        };
        Some(tag)
    }
}

fn read_regions(body: &[u8], map: &mut MemoryMap) -> Result<(), LoadError> {
    let entry_bytes = read_u32(body, 0)? as usize;
    if entry_bytes < 20 {
        return Err(BAD);
    }
    for entry in body.get(8..).ok_or(BAD)?.chunks_exact(entry_bytes) {
        let range = Range::with_len(read_u64(entry, 0)?, read_u64(entry, 8)?);
        map.add_firmware(range, read_u32(entry, 16)?)?;
    }
    Ok(())
}

fn read_screen(body: &[u8]) -> Result<Option<Screen>, LoadError> {
    let start = read_u64(body, 0)?;
    let pitch = read_u32(body, 8)? as usize;
    let (width, height) = (read_u32(body, 12)? as usize, read_u32(body, 16)? as usize);
    let (bits, kind) = (read_u8(body, 20)?, read_u8(body, 21)?);
    let bytes_per_pixel = usize::from(bits / 8);
    // Text and palette modes, and pixels of odd sizes, are not framebuffers in BootInfo's sense.
    if kind != FRAMEBUFFER_RGB || bytes_per_pixel == 0 || !pitch.is_multiple_of(bytes_per_pixel) {
        return Ok(None);
    }
    let position = |channel: usize| read_u8(body, 24 + 2 * channel);
    let pixel_format = match (position(0)?, position(1)?, position(2)?) {
        (0, 8, 16) => PixelFormat::Rgb,
        (16, 8, 0) => PixelFormat::Bgr,
        (red_position, green_position, blue_position) => PixelFormat::Unknown {
            red_position,
            green_position,
            blue_position,
        },
    };
    let byte_len = pitch.checked_mul(height).ok_or(BAD)?;
    let stride = pitch / bytes_per_pixel;
    let info = FrameBufferInfo {
        byte_len,
        width,
        height,
        pixel_format,
        bytes_per_pixel,
        stride,
    };
    Ok(Some(Screen { start, info }))
}

fn text(body: &[u8]) -> &str {
    let text = body.split(|&byte| byte == 0).next().unwrap_or(&[]);
    core::str::from_utf8(text).unwrap_or("")
}

fn read_u8(bytes: &[u8], at: usize) -> Result<u8, LoadError> {
    bytes.get(at).copied().ok_or(BAD)
}

fn read_u32(bytes: &[u8], at: usize) -> Result<u32, LoadError> {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map(|raw| u32::from_le_bytes(*raw))
        .ok_or(BAD)
}

fn read_u64(bytes: &[u8], at: usize) -> Result<u64, LoadError> {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map(|raw| u64::from_le_bytes(*raw))
        .ok_or(BAD)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fake::FakeMemory;

    const INFO: u64 = 0x1_0000;

    fn tag(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut tag = kind.to_le_bytes().to_vec();
        tag.extend((8 + body.len() as u32).to_le_bytes());
        tag.extend(body);
        tag.resize(tag.len().next_multiple_of(8), 0);
        tag
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn block(tags: &[Vec<u8>]) -> Vec<u8> {
        let mut block = words(&[0, 0]);
        block.extend(tags.concat());
        block.extend(tag(TAG_END, &[]));
        let total = block.len() as u32;
        block[..4].copy_from_slice(&total.to_le_bytes());
        block
    }

    fn machine(block: &[u8]) -> FakeMemory {
        let mut memory = FakeMemory::new(1 << 20);
        memory.put(INFO, block);
        memory
    }

    fn usual_tags() -> Vec<Vec<u8>> {
        let mut module = words(&[0x8_0000, 0x8_2000]);
        module.extend(b"bundle\0");
        let mut screen = words(&[0xfd00_0000, 0, 4096, 1024, 768]);
        screen.extend([32, 1, 0, 0, 16, 8, 8, 8, 0, 8]);
        vec![
            tag(TAG_COMMAND_LINE, b"log=debug\0"),
            tag(TAG_MODULE, &module),
            tag(TAG_MEMORY_MAP, &words(&[24, 0, 0, 0, 0xa_0000, 0, 1, 0])),
            tag(TAG_FRAMEBUFFER, &screen),
            tag(TAG_OLD_RSDP, b"RSD PTR and more"),
        ]
    }

    #[test]
    fn the_tags_are_read() {
        let memory = machine(&block(&usual_tags()));
        let source = read(&memory, INFO).expect("valid");
        assert_eq!(source.command_line, "log=debug");
        assert_eq!(
            source.bundle,
            Range {
                start: 0x8_0000,
                end: 0x8_2000
            }
        );
        let screen = source.screen.expect("a pixel mode");
        assert_eq!(screen.info.pixel_format, PixelFormat::Bgr);
        assert_eq!((screen.start, screen.info.stride), (0xfd00_0000, 1024));
        let rsdp = source.rsdp.expect("given");
        assert_eq!(memory.bytes(rsdp, 7), Some(&b"RSD PTR"[..]));
        assert_eq!(source.map.usable_end(), 0xa_0000);
    }

    #[test]
    fn without_a_module_there_is_no_bundle() {
        let memory = machine(&block(&[tag(TAG_COMMAND_LINE, b"\0")]));
        assert_eq!(
            read(&memory, INFO).expect_err("refused"),
            LoadError::NoBundle
        );
    }

    #[test]
    fn a_tag_beyond_the_block_is_refused() {
        let mut bytes = block(&usual_tags());
        bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read(&machine(&bytes), INFO).expect_err("refused"), BAD);
        bytes[12..16].copy_from_slice(&3u32.to_le_bytes());
        assert_eq!(read(&machine(&bytes), INFO).expect_err("refused"), BAD);
    }

    proptest! {
        #[test]
        fn damaged_tags_never_crash_the_reader(damage in prop::collection::vec((0usize..200, any::<u8>()), 0..8)) {
            let mut bytes = block(&usual_tags());
            for (at, value) in damage {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            let memory = machine(&bytes);
            if let Ok(source) = read(&memory, INFO) {
                prop_assert!(source.bundle.end <= crate::REACHABLE_END);
            }
        }
    }
}
