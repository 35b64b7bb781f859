//! Loads a small kernel made by hand into a fake machine.

use bootloader_api::info::MemoryRegionKind;
use proptest::prelude::*;
use skink_manifest::bundle::BundleWriter;

use super::*;
use crate::fake::FakeMemory;
use crate::memory_map::MemoryMap;

const BASE: u64 = 0xffff_ffff_8000_0000;
const BUNDLE: u64 = 0x20_0000;
const MEMORY: usize = 8 << 20;
const PHYSICAL: u64 = 0xffff_8000_0000_0000;

const LOADER: Loader = Loader {
    image: Range {
        start: 0x10_0000,
        end: 0x11_0000,
    },
    handoff_code: 0x10_1000,
    descriptor_table: 0x10_2000,
    largest_page: PageSize::Huge,
};

fn config() -> BootloaderConfig {
    let mut config = BootloaderConfig::new_default();
    config.mappings.physical_memory = Some(Place::FixedAddress(PHYSICAL));
    config.kernel_stack_size = 3 * PAGE;
    config
}

/// Writes an ELF file: text with an entry, data with zeros behind it, the configuration.
fn kernel(config: &BootloaderConfig) -> std::vec::Vec<u8> {
    let mut elf = vec![0; 0x3000];
    let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0, 1, 0, 0, 0]);
    put(24, &(BASE + 0x10).to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(40, &0x400u64.to_le_bytes());
    put(54, &[56, 0, 2, 0, 64, 0, 3, 0, 2, 0]);
    for (at, flags, offset, address, file, memory) in [
        (64, 5u32, 0x1000u64, BASE, 0x20u64, 0x20u64),
        (120, 6, 0x2008, BASE + 0x1008, 8, 0x1800),
    ] {
        put(at, &1u32.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        for (field, value) in [(8, offset), (16, address), (32, file), (40, memory)] {
            put(at + field, &value.to_le_bytes());
        }
    }
    put(0x300, b"\0.bootloader-config\0.names\0");
    put(0x340, &config.serialize());
    for (section, name, offset, len) in [(1, 1u32, 0x340u64, 133u64), (2, 20, 0x300, 27)] {
        let at = 0x400 + section * 64;
        put(at, &name.to_le_bytes());
        put(at + 24, &offset.to_le_bytes());
        put(at + 32, &len.to_le_bytes());
    }
    put(0x1010, b"entry");
    put(0x2008, b"datadata");
    elf
}

fn machine(kernel: &[u8]) -> (FakeMemory, Range) {
    let mut writer = BundleWriter::new();
    writer
        .add("kernel", Kind::Kernel, kernel)
        .expect("valid entry");
    let bundle = writer.finish();
    let mut memory = FakeMemory::new(MEMORY);
    memory.put(BUNDLE, &bundle);
    (memory, Range::with_len(BUNDLE, bundle.len() as u64))
}

fn source(bundle: Range) -> Source<'static> {
    let mut map = MemoryMap::new();
    map.add_firmware(
        Range {
            start: 0,
            end: 0xa_0000,
        },
        1,
    )
    .expect("room");
    map.add_firmware(
        Range {
            start: 0x10_0000,
            end: MEMORY as u64,
        },
        1,
    )
    .expect("room");
    map.reserve(bundle).expect("room");
    Source {
        map,
        bundle,
        command_line: "log=debug",
        rsdp: Some(0xf_59e0),
        screen: None,
    }
}

/// Walks the page tables: physical address, writable, executable.
fn translate(memory: &FakeMemory, root: u64, address: u64) -> Option<(u64, bool, bool)> {
    let mut table = root;
    let (mut can_write, mut can_execute) = (true, true);
    for shift in [39, 30, 21, 12] {
        let entry = memory.read_u64(table + ((address >> shift) & 511) * 8)?;
        if entry & 1 == 0 {
            return None;
        }
        can_write &= entry & 2 != 0;
        can_execute &= entry >> 63 == 0;
        let frame = entry & 0x000f_ffff_ffff_f000;
        if shift == 12 || entry & 0x80 != 0 {
            return Some((
                frame + (address & ((1 << shift) - 1)),
                can_write,
                can_execute,
            ));
        }
        table = frame;
    }
    None
}

fn load(config: &BootloaderConfig) -> Result<(FakeMemory, Handoff), LoadError> {
    let (mut memory, bundle) = machine(&kernel(config));
    let plan = prepare(&mut memory, source(bundle), &LOADER)?;
    Ok((memory, plan))
}

#[test]
fn segments_are_loaded_with_their_rights_and_the_rest_is_zero() {
    let (memory, plan) = load(&config()).expect("loads");
    let (text, can_write, can_execute) =
        translate(&memory, plan.root, BASE + 0x10).expect("mapped");
    assert_eq!(memory.bytes(text, 5), Some(&b"entry"[..]));
    assert!(!can_write && can_execute);
    let (data, can_write, can_execute) =
        translate(&memory, plan.root, BASE + 0x1008).expect("mapped");
    assert_eq!(memory.bytes(data, 9), Some(&b"datadata\0"[..]));
    assert!(can_write && !can_execute);
    assert!(translate(&memory, plan.root, BASE + 0x2807).is_some());
    assert_eq!(translate(&memory, plan.root, BASE + 0x3000), None);
    assert_eq!((plan.entry, plan.kernel_image), (BASE + 0x10, BASE));
}

#[test]
fn the_stack_has_a_guard_page_and_physical_memory_is_seen() {
    let (memory, plan) = load(&config()).expect("loads");
    let (bottom, len) = plan.stack;
    assert_eq!(len, 3 * PAGE);
    assert_eq!(plan.stack_top, bottom + len);
    assert_eq!(translate(&memory, plan.root, bottom - 1), None);
    assert!(matches!(
        translate(&memory, plan.root, bottom),
        Some((_, true, false))
    ));
    assert_eq!(
        translate(&memory, plan.root, PHYSICAL + 0x1234),
        Some((0x1234, true, false))
    );
    let last = (1 << 32) - 1;
    assert_eq!(
        translate(&memory, plan.root, PHYSICAL + last),
        Some((last, true, false))
    );
    assert_eq!(plan.ramdisk.0, PHYSICAL + BUNDLE);
}

#[test]
fn the_command_line_lies_behind_the_boot_info() {
    let (memory, plan) = load(&config()).expect("loads");
    let page = plan.boot_info.physical + command_line::PAGE_OFFSET;
    assert_eq!(
        command_line::read(memory.bytes(page, PAGE).expect("inside")),
        Some("log=debug")
    );
    assert_eq!(plan.boot_info.address, PHYSICAL + plan.boot_info.physical);
}

#[test]
fn everything_in_use_is_marked_and_nothing_else() {
    let (memory, plan) = load(&config()).expect("loads");
    let kind_at = |at: u64| {
        plan.regions
            .iter()
            .find(|r| (r.start..r.end).contains(&at))
            .map(|r| r.kind)
    };
    let (stack, ..) = translate(&memory, plan.root, plan.stack.0).expect("mapped");
    let (text, ..) = translate(&memory, plan.root, BASE).expect("mapped");
    for used in [
        LOADER.image.start,
        BUNDLE,
        plan.kernel.0,
        plan.root,
        stack,
        text,
    ] {
        assert_eq!(
            kind_at(used),
            Some(MemoryRegionKind::Bootloader),
            "{used:#x}"
        );
    }
    assert_eq!(kind_at(0x8000), Some(MemoryRegionKind::Usable));
    assert_eq!(kind_at(MEMORY as u64 - 1), Some(MemoryRegionKind::Usable));
    assert_eq!(kind_at(0), None);
}

#[test]
fn fixed_places_are_honoured() {
    let mut config = config();
    config.mappings.kernel_stack = Place::FixedAddress(0xffff_9000_0000_0000);
    config.mappings.boot_info = Place::FixedAddress(0xffff_9100_0000_0000);
    config.mappings.ramdisk_memory = Place::FixedAddress(0xffff_9200_0000_0000);
    config.mappings.page_table_recursive = Some(Place::Dynamic);
    let (memory, plan) = load(&config).expect("loads");
    assert_eq!(plan.stack.0, 0xffff_9000_0000_1000);
    assert_eq!(plan.boot_info.address, 0xffff_9100_0000_0000);
    let seen = translate(&memory, plan.root, plan.ramdisk.0)
        .expect("mapped")
        .0;
    assert_eq!((plan.ramdisk.0, seen), (0xffff_9200_0000_0000, BUNDLE));
    let slot = plan.recursive_index.expect("asked for");
    assert_eq!(
        memory
            .read_u64(plan.root + u64::from(slot) * 8)
            .map(|e| e & !0xfff & !(1 << 63)),
        Some(plan.root)
    );
}

#[test]
fn a_kernel_that_cannot_be_served_is_refused_in_words() {
    let mut without = config();
    without.mappings.physical_memory = None;
    assert!(matches!(
        load(&without).expect_err("refused"),
        LoadError::Unsupported(_)
    ));
    let mut collision = config();
    collision.mappings.boot_info = Place::FixedAddress(BASE);
    assert_eq!(
        load(&collision).expect_err("refused"),
        LoadError::AddressTaken(BASE)
    );
    let mut huge_stack = config();
    huge_stack.kernel_stack_size = u64::MAX;
    assert_eq!(
        load(&huge_stack).expect_err("refused"),
        LoadError::OutOfMemory
    );
    let mut writable_text = kernel(&config());
    writable_text[68] = 7;
    let (mut memory, bundle) = machine(&writable_text);
    let error = prepare(&mut memory, source(bundle), &LOADER).expect_err("refused");
    assert!(matches!(error, LoadError::BadKernel(_)));
}

#[test]
fn a_module_that_is_no_bundle_is_refused() {
    let (mut memory, bundle) = machine(&kernel(&config()));
    memory.put(BUNDLE, b"X");
    let error = prepare(&mut memory, source(bundle), &LOADER).expect_err("refused");
    assert!(matches!(error, LoadError::BadBundle(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_damaged_kernel_loads_or_is_refused(damage in prop::collection::vec((0usize..0x500, any::<u8>()), 1..6)) {
        let mut image = kernel(&config());
        for (at, value) in damage {
            image[at] = value;
        }
        let (mut memory, bundle) = machine(&image);
        if let Ok(plan) = prepare(&mut memory, source(bundle), &LOADER) {
            let entry = translate(&memory, plan.root, plan.entry).expect("entry is mapped");
            prop_assert!(!entry.1 && entry.2);
        }
    }
}
