//! The PVH boot protocol: `qemu -kernel` and microVM monitors.
//!
//! Structures: Xen's `hvm_start_info`, version 1 (`xen/include/public/arch-x86/hvm/start_info.h`).

use crate::memory_map::MemoryMap;
use crate::source::checked_bundle;
use crate::{LoadError, PAGE, PhysicalMemory, Range, Source};

const MAGIC: u32 = 0x336e_c578;
const MODULE_BYTES: u64 = 32;
const REGION_BYTES: u64 = 24;
/// More regions than any firmware reports; a larger count is damage.
const MOST_REGIONS: u32 = 4096;

/// Reads the start info at a physical address.
///
/// # Errors
/// No bundle, or information that makes no sense.
pub fn read(memory: &impl PhysicalMemory, at: u64) -> Result<Source<'_>, LoadError> {
    let bad = LoadError::BadBootInformation;
    let word = |offset| {
        memory
            .read_u32(at + offset)
            .ok_or(bad("start info out of reach"))
    };
    let long = |offset| {
        memory
            .read_u64(at + offset)
            .ok_or(bad("start info out of reach"))
    };
    if word(0)? != MAGIC {
        return Err(bad("no PVH start info"));
    }
    if word(4)? == 0 {
        return Err(bad("PVH start info without a memory map"));
    }
    if word(12)? == 0 {
        return Err(LoadError::NoBundle);
    }
    let (modules, command_line, rsdp, regions) = (long(16)?, long(24)?, long(32)?, long(40)?);
    let count = word(48)?;
    if count > MOST_REGIONS {
        return Err(bad("PVH memory map too long"));
    }
    let mut map = read_regions(memory, regions, u64::from(count))?;
    let module = |offset| {
        let at = modules
            .checked_add(offset)
            .ok_or(bad("module list out of reach"))?;
        memory.read_u64(at).ok_or(bad("module list out of reach"))
    };
    let bundle = checked_bundle(Range::with_len(module(0)?, module(8)?))?;
    // Only the bundle outlives the hand-over, but nothing may be put over the rest while it is
    // read. All of it is small; a page each is enough but for the command line.
    let text = if command_line == 0 {
        ""
    } else {
        memory.text(command_line)
    };
    for taken in [
        bundle,
        Range::with_len(at, PAGE),
        Range::with_len(modules, MODULE_BYTES),
        Range::with_len(regions, u64::from(count) * REGION_BYTES),
        Range::with_len(command_line, text.len() as u64),
    ] {
        map.reserve(taken)?;
    }
    Ok(Source {
        map,
        bundle,
        command_line: text,
        rsdp: Some(rsdp).filter(|&rsdp| rsdp != 0),
        screen: None,
    })
}

fn read_regions(
    memory: &impl PhysicalMemory,
    start: u64,
    count: u64,
) -> Result<MemoryMap, LoadError> {
    let bad = LoadError::BadBootInformation("PVH memory map out of reach");
    let mut map = MemoryMap::new();
    for i in 0..count {
        let at = start.checked_add(i * REGION_BYTES).ok_or(bad)?;
        let base = memory.read_u64(at).ok_or(bad)?;
        let len = at
            .checked_add(8)
            .and_then(|at| memory.read_u64(at))
            .ok_or(bad)?;
        let kind = at
            .checked_add(16)
            .and_then(|at| memory.read_u32(at))
            .ok_or(bad)?;
        map.add_firmware(Range::with_len(base, len), kind)?;
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use bootloader_api::info::MemoryRegionKind;

    use super::*;
    use crate::fake::FakeMemory;

    const INFO: u64 = 0x2000;

    fn machine() -> FakeMemory {
        let mut memory = FakeMemory::new(1 << 20);
        memory.put(INFO, &MAGIC.to_le_bytes());
        memory.put(INFO + 4, &1u32.to_le_bytes());
        memory.put(INFO + 12, &1u32.to_le_bytes());
        for (offset, value) in [(16, 0x3000u64), (24, 0x4000), (32, 0xf_59e0), (40, 0x5000)] {
            memory.put(INFO + offset, &value.to_le_bytes());
        }
        memory.put(INFO + 48, &2u32.to_le_bytes());
        memory.put(0x3000, &0x8_0000u64.to_le_bytes());
        memory.put(0x3008, &0x2345u64.to_le_bytes());
        memory.put(0x4000, b"exec=hex:6c73\0junk");
        for (i, (base, len, kind)) in [(0u64, 0xa_0000u64, 1u32), (0xf_0000, 0x1_0000, 2)]
            .into_iter()
            .enumerate()
        {
            let at = 0x5000 + i as u64 * REGION_BYTES;
            memory.put(at, &base.to_le_bytes());
            memory.put(at + 8, &len.to_le_bytes());
            memory.put(at + 16, &kind.to_le_bytes());
        }
        memory
    }

    #[test]
    fn the_start_info_is_read() {
        let memory = machine();
        let source = read(&memory, INFO).expect("valid");
        assert_eq!(
            source.bundle,
            Range {
                start: 0x8_0000,
                end: 0x8_2345
            }
        );
        assert_eq!(source.command_line, "exec=hex:6c73");
        assert_eq!(source.rsdp, Some(0xf_59e0));
        let regions = source.map.resolve().expect("room");
        let kind_at = |at| {
            regions
                .iter()
                .find(|r| (r.start..r.end).contains(&at))
                .map(|r| r.kind)
        };
        assert_eq!(kind_at(0x1000), Some(MemoryRegionKind::Usable));
        assert_eq!(kind_at(0x5000), Some(MemoryRegionKind::Bootloader));
        assert_eq!(kind_at(0x8_2fff), Some(MemoryRegionKind::Bootloader));
        assert_eq!(kind_at(0xf_0000), Some(MemoryRegionKind::UnknownBios(2)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let changed = |at: u64, value: u32| {
            let mut memory = machine();
            memory.put(at, &value.to_le_bytes());
            read(&memory, INFO).expect_err("refused")
        };
        assert!(matches!(changed(INFO, 0), LoadError::BadBootInformation(_)));
        assert!(matches!(
            changed(INFO + 4, 0),
            LoadError::BadBootInformation(_)
        ));
        assert_eq!(changed(INFO + 12, 0), LoadError::NoBundle);
        assert!(matches!(
            changed(INFO + 20, u32::MAX),
            LoadError::BadBootInformation(_)
        ));
        assert!(matches!(
            changed(INFO + 44, u32::MAX),
            LoadError::BadBootInformation(_)
        ));
        assert!(matches!(
            changed(INFO + 48, u32::MAX),
            LoadError::BadBootInformation(_)
        ));
        assert_eq!(
            changed(0x3000, 0x8_0001),
            LoadError::BundleMisplaced(0x8_0001)
        );
        assert!(matches!(changed(0x300c, 1), LoadError::BundleMisplaced(_)));
    }
}
