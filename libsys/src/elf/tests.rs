//! Images that run and images that must be refused.

use proptest::prelude::*;

use super::{Elf, ElfError, Segment};
use skink_abi::MapFlags;

const READ: u32 = 4;
const CODE: u32 = READ | 1;
const DATA: u32 = READ | 2;

/// One program header: type, flags, offset, address, bytes in the file, bytes in memory.
type Header = (u32, u32, u64, u64, u64, u64);

const GOOD: [Header; 4] = [
    (1, CODE, 0x1000, 0x40_0000, 0x800, 0x800),
    (1, READ, 0x2000, 0x40_1000, 0x1000, 0x1000),
    (0x6474_e551, 6, 0, 0, 0, 0),
    (1, DATA, 0x3000, 0x40_2000, 0x10, 0x2345),
];

fn image(entry: u64, headers: &[Header]) -> Vec<u8> {
    let mut bytes = vec![0; 0x4000];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(16, &2_u16.to_le_bytes());
    put(18, &62_u16.to_le_bytes());
    put(24, &entry.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &(headers.len() as u16).to_le_bytes());
    for (position, (kind, flags, offset, address, file, memory)) in headers.iter().enumerate() {
        let at = 64 + position * 56;
        put(at, &kind.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        put(at + 8, &offset.to_le_bytes());
        put(at + 16, &address.to_le_bytes());
        put(at + 32, &file.to_le_bytes());
        put(at + 40, &memory.to_le_bytes());
    }
    bytes
}

fn changed(position: usize, header: Header) -> Result<Elf, ElfError> {
    let mut headers = GOOD;
    headers[position] = header;
    Elf::parse(&image(0x40_0010, &headers))
}

#[test]
fn a_linked_program_is_read() {
    let elf = Elf::parse(&image(0x40_0010, &GOOD)).unwrap();
    assert_eq!(elf.entry(), 0x40_0010);
    assert_eq!(elf.segments().len(), 3);
    let data = Segment {
        address: 0x40_2000,
        offset: 0x3000,
        file_bytes: 0x10,
        memory_bytes: 0x2345,
        flags: MapFlags::READ | MapFlags::WRITE,
    };
    assert_eq!(elf.segments()[2], data);
    assert_eq!(data.pages(), 3);
    assert!(data.is_writable() && !elf.segments()[0].is_writable());
}

#[test]
fn what_is_no_program_is_refused() {
    assert_eq!(Elf::parse(b""), Err(ElfError::NotElf));
    assert_eq!(Elf::parse(b"\x7fELF\x02\x01\x01"), Err(ElfError::Truncated));
    let mut arm = image(0x40_0010, &GOOD);
    arm[18] = 183;
    assert_eq!(Elf::parse(&arm), Err(ElfError::NotElf));
    let mut shared = image(0x40_0010, &GOOD);
    shared[16] = 3;
    assert_eq!(Elf::parse(&shared), Err(ElfError::NotExecutable));
    assert_eq!(
        Elf::parse(&image(0x40_0010, &[])),
        Err(ElfError::BadSegmentCount)
    );
    assert_eq!(
        Elf::parse(&image(0x40_1000, &GOOD)),
        Err(ElfError::BadEntry)
    );
}

#[test]
fn malformed_segments_are_refused() {
    let bad = Err(ElfError::BadSegment(1));
    assert_eq!(changed(1, (1, READ, 0x2000, 0x40_1001, 8, 8)), bad);
    assert_eq!(changed(1, (1, READ, 0x2001, 0x40_1000, 8, 8)), bad);
    assert_eq!(changed(1, (1, READ, 0x2000, 0x40_0000, 8, 8)), bad);
    assert_eq!(changed(1, (1, READ, 0x2000, 0x1000_0000, 8, 8)), bad);
    assert_eq!(changed(1, (1, READ, 0x2000, 0x40_1000, 8, 9)), bad);
    assert_eq!(changed(1, (1, DATA, 0x2000, 0x40_1000, 9, 8)), bad);
    assert_eq!(changed(1, (1, DATA, 0x2000, 0x40_1000, 8, u64::MAX)), bad);
    assert_eq!(
        changed(1, (1, CODE | 2, 0x2000, 0x40_1000, 8, 8)),
        Err(ElfError::WritableCode(1))
    );
    assert_eq!(
        changed(1, (1, READ, 0x4000, 0x40_1000, 8, 8)),
        Err(ElfError::Truncated)
    );
    assert_eq!(
        changed(1, (1, READ, !0xfff, 0x40_1000, 0x2000, 0x2000)),
        bad
    );
    let many: Vec<Header> = (0..9)
        .map(|i| (1, CODE, 0x1000, 0x40_0000 + i * 0x1000, 0x1000, 0x1000))
        .collect();
    assert_eq!(
        Elf::parse(&image(0x40_0010, &many)),
        Err(ElfError::BadSegmentCount)
    );
}

proptest! {
    #[test]
    fn damage_never_breaks_the_reader_or_the_promises(
        changes in prop::collection::vec((0_usize..300, any::<u8>()), 0..12),
        length in 0_usize..0x4000,
    ) {
        let mut bytes = image(0x40_0010, &GOOD);
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(length.max(300));
        if let Ok(elf) = Elf::parse(&bytes) {
            let mut free = skink_abi::layout::IMAGE_BASE;
            for segment in elf.segments() {
                prop_assert!(segment.address >= free);
                prop_assert!(segment.offset + segment.file_bytes <= bytes.len() as u64);
                prop_assert!(segment.file_bytes <= segment.memory_bytes);
                free = segment.address + segment.pages() * 4096;
                prop_assert!(free <= skink_abi::layout::IMAGE_END);
            }
        }
    }
}
