//! Finds the kernel in the bundle, loads it, and builds the address space it starts in.
//!
//! The contract is that of `bootloader_api` 0.11. Two choices it leaves open: the image is copied
//! out of the bundle, so that the bundle stays as it was written, and `BootInfo` is seen through
//! the mapping of physical memory unless the kernel names another place.

use bootloader_api::BootloaderConfig;
use bootloader_api::config::Mapping as Place;
use bootloader_api::info::{FrameBufferInfo, MemoryRegion, TlsTemplate};
use heapless::Vec;
use skink_manifest::bundle::{Bundle, Kind};
use skink_manifest::command_line;

use crate::elf::{Access, Image, Segment};
use crate::memory_map::MAX_REGIONS;
use crate::paging::{AddressSpace, Mapping, PageSize, slot_address};
use crate::{Frames, LoadError, PAGE, PhysicalMemory, REACHABLE_END, Range, Screen, Source};

/// Pages of the block that starts with `BootInfo` and its regions; the last is the command line.
const BOOT_INFO_PAGES: u64 = command_line::PAGE_OFFSET / PAGE + 1;
/// Least size of the mapping of physical memory, as the contract has it.
const LEAST_PHYSICAL_BYTES: u64 = REACHABLE_END;

/// What the binary knows about itself and the CPU.
#[derive(Clone, Copy, Debug)]
pub struct Loader {
    /// The loader's own image, stack and tables.
    pub image: Range,
    /// The page of the code that switches to the kernel's address space.
    pub handoff_code: u64,
    /// The page of the descriptor table.
    pub descriptor_table: u64,
    /// Largest page size that the CPU has.
    pub largest_page: PageSize,
}

/// Everything needed to fill in `BootInfo` and to jump.
#[derive(Debug)]
pub struct Handoff {
    /// Physical address of the level-4 page table.
    pub root: u64,
    /// The kernel's entry point.
    pub entry: u64,
    /// Virtual address of the byte after the stack.
    pub stack_top: u64,
    /// Where `BootInfo` goes.
    pub boot_info: BootInfoPlace,
    /// The memory map.
    pub regions: Vec<MemoryRegion, MAX_REGIONS>,
    /// Virtual address of physical address 0.
    pub physical_memory_offset: u64,
    /// Entry of the level-4 table that maps the table itself.
    pub recursive_index: Option<u16>,
    /// Physical address of the ACPI root pointer.
    pub rsdp: Option<u64>,
    /// The thread-local template.
    pub tls: Option<TlsTemplate>,
    /// Virtual address and length of the bundle.
    pub ramdisk: (u64, u64),
    /// Physical address and length of the kernel's ELF file inside the bundle.
    pub kernel: (u64, u64),
    /// Lowest virtual address of the loaded image.
    pub kernel_image: u64,
    /// Virtual address and length of the stack.
    pub stack: (u64, u64),
    /// Virtual address and layout of the screen.
    pub screen: Option<(u64, FrameBufferInfo)>,
}

/// The block of memory for `BootInfo`, its regions and the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootInfoPlace {
    /// Physical address.
    pub physical: u64,
    /// Address in the kernel's space.
    pub address: u64,
}

/// Loads and maps the kernel.
///
/// # Errors
/// Any [`LoadError`]; memory may have been changed, but only where it was free.
pub fn prepare<M: PhysicalMemory>(
    memory: &mut M,
    mut source: Source<'_>,
    loader: &Loader,
) -> Result<Handoff, LoadError> {
    source.map.reserve(loader.image)?;
    let kernel = find_kernel(memory, source.bundle)?;
    let file = memory
        .bytes(kernel.start, kernel.len())
        .ok_or(LoadError::NoKernel)?;
    let image = Image::parse(file)?;
    let config = BootloaderConfig::deserialize(image.config).map_err(LoadError::BadKernel)?;
    let (entry, tls, segments) = (image.entry, image.tls, image.segments);
    check_supported(&config)?;
    let mut frames = Frames::new(source.map.largest_free()?);
    let space = AddressSpace::new(memory, &mut frames)?;
    let mut builder = Builder {
        memory,
        frames,
        space,
        config,
    };
    builder.load_segments(&segments, kernel.start)?;
    let physical_memory_offset =
        builder.map_physical_memory(source.map.usable_end(), loader.largest_page)?;
    builder.identity_map(loader)?;
    let boot_info = builder.place_boot_info(physical_memory_offset, source.command_line)?;
    let ramdisk = builder.place_seen_physically(
        config.mappings.ramdisk_memory,
        source.bundle,
        physical_memory_offset,
    )?;
    let stack = builder.make_stack()?;
    let screen = source
        .screen
        .map(|screen| builder.map_screen(screen))
        .transpose()?;
    let recursive_index = builder.map_recursive()?;
    let (root, used) = (builder.space.root(), builder.frames.used());
    source.map.reserve(used)?;
    Ok(Handoff {
        root,
        entry,
        stack_top: stack.0 + stack.1,
        boot_info,
        regions: source.map.resolve()?,
        physical_memory_offset,
        recursive_index,
        rsdp: source.rsdp,
        tls: tls.map(|tls| TlsTemplate {
            start_addr: tls.address,
            file_size: tls.file_bytes,
            mem_size: tls.memory_bytes,
        }),
        ramdisk: (ramdisk, source.bundle.len()),
        kernel: (kernel.start, kernel.len()),
        kernel_image: segments
            .iter()
            .map(|segment| segment.address)
            .min()
            .unwrap_or(0),
        stack,
        screen,
    })
}

/// Returns the physical place of the kernel's ELF file.
fn find_kernel(memory: &impl PhysicalMemory, bundle: Range) -> Result<Range, LoadError> {
    let misplaced = LoadError::BundleMisplaced(bundle.start);
    let bytes = memory.bytes(bundle.start, bundle.len()).ok_or(misplaced)?;
    let kernel = Bundle::parse(bytes)?
        .find_kind(Kind::Kernel)
        .ok_or(LoadError::NoKernel)?;
    Ok(Range::with_len(
        bundle.start + kernel.offset as u64,
        kernel.data.len() as u64,
    ))
}

fn check_supported(config: &BootloaderConfig) -> Result<(), LoadError> {
    let mappings = &config.mappings;
    if matches!(mappings.kernel_base, Place::FixedAddress(_)) {
        return Err(LoadError::Unsupported(
            "a fixed base of a relocatable image",
        ));
    }
    if mappings.physical_memory.is_none() {
        return Err(LoadError::Unsupported("no mapping of physical memory"));
    }
    Ok(())
}

struct Builder<'a, M> {
    memory: &'a mut M,
    frames: Frames,
    space: AddressSpace,
    config: BootloaderConfig,
}

impl<M: PhysicalMemory> Builder<'_, M> {
    fn map(&mut self, mapping: Mapping) -> Result<(), LoadError> {
        self.space.map(self.memory, &mut self.frames, mapping)
    }

    /// Copies the segments out of the file and maps them.
    fn load_segments(&mut self, segments: &[Segment], file: u64) -> Result<(), LoadError> {
        for segment in segments {
            let into_page = segment.address % PAGE;
            let bytes = into_page + segment.memory_bytes;
            let copy = self.frames.allocate(self.memory, bytes.div_ceil(PAGE))?;
            self.memory
                .copy(file + segment.offset, copy + into_page, segment.file_bytes)
                .ok_or(LoadError::OutOfMemory)?;
            let address = segment.address - into_page;
            self.map(Mapping::small(address, copy, bytes, segment.access))?;
        }
        Ok(())
    }

    fn map_physical_memory(&mut self, end: u64, largest: PageSize) -> Result<u64, LoadError> {
        let wanted = self.config.mappings.physical_memory;
        let offset = match wanted {
            Some(Place::FixedAddress(offset)) => offset,
            Some(Place::Dynamic) | None => slot_address(self.free_slot()?),
        };
        let size = match largest {
            PageSize::Huge if offset.is_multiple_of(PageSize::Huge.bytes()) => PageSize::Huge,
            _ => PageSize::Large,
        };
        if !offset.is_multiple_of(size.bytes()) {
            return Err(LoadError::Unsupported(
                "physical memory at an unaligned address",
            ));
        }
        let bytes = end.max(LEAST_PHYSICAL_BYTES).next_multiple_of(size.bytes());
        self.map(Mapping {
            address: offset,
            physical: 0,
            bytes,
            size,
            access: Access::Write,
        })?;
        Ok(offset)
    }

    /// Keeps the code of the switch and the descriptor table where they are.
    fn identity_map(&mut self, loader: &Loader) -> Result<(), LoadError> {
        let code = loader.handoff_code;
        self.map(Mapping::small(code, code, PAGE, Access::Execute))?;
        let table = loader.descriptor_table;
        self.map(Mapping::small(table, table, PAGE, Access::Read))
    }

    fn place_boot_info(
        &mut self,
        physical_memory_offset: u64,
        text: &str,
    ) -> Result<BootInfoPlace, LoadError> {
        let physical = self.frames.allocate(self.memory, BOOT_INFO_PAGES)?;
        let page = self
            .memory
            .bytes_mut(physical + command_line::PAGE_OFFSET, PAGE);
        let page = page
            .and_then(|page| page.first_chunk_mut())
            .ok_or(LoadError::OutOfMemory)?;
        command_line::write(page, text);
        let address = self.place_seen_physically(
            self.config.mappings.boot_info,
            Range::with_len(physical, BOOT_INFO_PAGES * PAGE),
            physical_memory_offset,
        )?;
        Ok(BootInfoPlace { physical, address })
    }

    /// Returns where the kernel sees a range: in the mapping of physical memory, or where it says.
    fn place_seen_physically(
        &mut self,
        place: Place,
        range: Range,
        physical_memory_offset: u64,
    ) -> Result<u64, LoadError> {
        match place {
            Place::Dynamic => Ok(physical_memory_offset + range.start),
            Place::FixedAddress(address) => {
                let address = page_aligned(address)?;
                self.map(Mapping::small(
                    address,
                    range.start,
                    range.len(),
                    Access::Write,
                ))?;
                Ok(address)
            }
        }
    }

    /// Makes the stack with an unmapped page below it; a fixed address names that page.
    fn make_stack(&mut self) -> Result<(u64, u64), LoadError> {
        let pages = self.config.kernel_stack_size.div_ceil(PAGE).max(1);
        let physical = self.frames.allocate(self.memory, pages)?;
        let guard = self.place(self.config.mappings.kernel_stack)?;
        let bottom = guard
            .checked_add(PAGE)
            .ok_or(LoadError::AddressTaken(guard))?;
        self.map(Mapping::small(
            bottom,
            physical,
            pages * PAGE,
            Access::Write,
        ))?;
        Ok((bottom, pages * PAGE))
    }

    fn map_screen(&mut self, screen: Screen) -> Result<(u64, FrameBufferInfo), LoadError> {
        let bad = LoadError::BadBootInformation("framebuffer out of the address range");
        let into_page = screen.start % PAGE;
        let bytes = (screen.info.byte_len as u64)
            .checked_add(into_page)
            .ok_or(bad)?;
        // More is no screen but damage, and would eat up memory for tables.
        if bytes > REACHABLE_END || screen.start > (1 << 52) - bytes {
            return Err(bad);
        }
        let address = self.place(self.config.mappings.framebuffer)?;
        self.map(Mapping::small(
            address,
            screen.start - into_page,
            bytes,
            Access::Write,
        ))?;
        Ok((address + into_page, screen.info))
    }

    fn map_recursive(&mut self) -> Result<Option<u16>, LoadError> {
        let Some(place) = self.config.mappings.page_table_recursive else {
            return Ok(None);
        };
        let slot = ((self.place(place)? >> 39) & 0x1ff) as u16;
        self.space.map_recursive(self.memory, slot)?;
        Ok(Some(slot))
    }

    /// Returns the page-aligned address that the kernel names, or a free one.
    fn place(&mut self, place: Place) -> Result<u64, LoadError> {
        match place {
            Place::Dynamic => Ok(slot_address(self.free_slot()?)),
            Place::FixedAddress(address) => page_aligned(address),
        }
    }

    /// Returns a free entry of the level-4 table inside the kernel's dynamic range.
    fn free_slot(&self) -> Result<u16, LoadError> {
        let mappings = &self.config.mappings;
        let slot_of = |address: u64| ((address >> 39) & 0x1ff) as u16;
        let first = match mappings.dynamic_range_start {
            Some(start) if slot_address(slot_of(start)) < start => slot_of(start) + 1,
            Some(start) => slot_of(start),
            None => slot_of(0xffff_8000_0000_0000),
        };
        let last = mappings.dynamic_range_end.map_or(511, slot_of);
        self.space
            .free_slot(self.memory, first..last + 1)
            .ok_or(LoadError::Unsupported(
                "a dynamic range without a free slot",
            ))
    }
}

fn page_aligned(address: u64) -> Result<u64, LoadError> {
    if address.is_multiple_of(PAGE) {
        Ok(address)
    } else {
        Err(LoadError::Unsupported(
            "a mapping at an address that is not page aligned",
        ))
    }
}

#[cfg(test)]
mod tests;
