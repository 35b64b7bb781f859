//! The real machine: physical memory, the serial line, the way out and the jump.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, global_asm};
use core::fmt;
use core::ptr;

use bootloader_api::BootInfo;
use bootloader_api::info::{FrameBuffer, MemoryRegion};
use skink_abi::debug_exit;
use skink_loader::paging::PageSize;
use skink_loader::prepare::{Handoff, Loader};
use skink_loader::{PhysicalMemory, REACHABLE_END, Range};

global_asm!(include_str!("entry.s"), options(att_syntax));

unsafe extern "C" {
    static __loader_start: u8;
    static __loader_end: u8;
    static descriptor_table: u8;
    fn handoff(boot_info: u64, root: u64, stack: u64, entry: u64) -> !;
}

/// Describes this loader and the CPU.
pub(crate) fn describe() -> Loader {
    const HUGE_PAGES: u32 = 1 << 26;
    let features = core::arch::x86_64::__cpuid(0x8000_0001).edx;
    Loader {
        image: Range {
            start: &raw const __loader_start as u64,
            end: &raw const __loader_end as u64,
        },
        handoff_code: handoff as *const () as u64,
        descriptor_table: &raw const descriptor_table as u64,
        largest_page: if features & HUGE_PAGES != 0 {
            PageSize::Huge
        } else {
            PageSize::Large
        },
    }
}

/// The first 4 GiB, which the entry code maps one to one.
pub(crate) struct RealMemory(());

impl RealMemory {
    /// Claims physical memory.
    ///
    /// # Safety
    /// 1. The first 4 GiB are mapped one to one.
    /// 2. The caller writes only to memory that is free by the firmware's map and not part of the
    ///    loader, and never to bytes that it has borrowed from another `RealMemory`.
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }

    fn check(start: u64, len: u64) -> Option<*mut u8> {
        let is_inside = start != 0 && start.checked_add(len)? <= REACHABLE_END;
        is_inside.then(|| ptr::with_exposed_provenance_mut(start as usize))
    }
}

impl PhysicalMemory for RealMemory {
    fn bytes(&self, start: u64, len: u64) -> Option<&[u8]> {
        let start = Self::check(start, len)?;
        // SAFETY: mapped by contract 1 of `new`; not changed meanwhile, as that takes `&mut self`.
        Some(unsafe { core::slice::from_raw_parts(start, len as usize) })
    }

    fn bytes_mut(&mut self, start: u64, len: u64) -> Option<&mut [u8]> {
        let start = Self::check(start, len)?;
        // SAFETY: mapped by contract 1 of `new`, exclusive by 2.
        Some(unsafe { core::slice::from_raw_parts_mut(start, len as usize) })
    }

    fn copy(&mut self, from: u64, to: u64, len: u64) -> Option<()> {
        let (from, to) = (Self::check(from, len)?, Self::check(to, len)?);
        // SAFETY: as in `bytes` and `bytes_mut`; `copy` allows the two to overlap.
        unsafe { ptr::copy(from, to, len as usize) };
        Some(())
    }
}

/// Fills in `BootInfo` and jumps to the kernel.
///
/// # Safety
/// The hand-over comes from [`skink_loader::prepare::prepare`] on the real memory.
pub(crate) unsafe fn start_kernel(plan: &Handoff) -> ! {
    let block = plan.boot_info.physical as usize;
    let regions_at = size_of::<BootInfo>().next_multiple_of(align_of::<MemoryRegion>());
    let regions: *mut MemoryRegion = ptr::with_exposed_provenance_mut(block + regions_at);
    // SAFETY: the block has three pages for `BootInfo` and at most MAX_REGIONS regions of 24
    // bytes, is aligned, zeroed and used by nothing else.
    let regions = unsafe {
        ptr::copy_nonoverlapping(plan.regions.as_ptr(), regions, plan.regions.len());
        core::slice::from_raw_parts_mut(regions, plan.regions.len())
    };
    let mut info = BootInfo::new(regions.into());
    // SAFETY: the screen is mapped there for the kernel, which becomes its only user.
    info.framebuffer = plan
        .screen
        .map(|(at, layout)| unsafe { FrameBuffer::new(at, layout) })
        .into();
    info.physical_memory_offset = Some(plan.physical_memory_offset).into();
    info.recursive_index = plan.recursive_index.into();
    info.rsdp_addr = plan.rsdp.into();
    info.tls_template = plan.tls.into();
    info.ramdisk_addr = Some(plan.ramdisk.0).into();
    info.ramdisk_len = plan.ramdisk.1;
    (info.kernel_addr, info.kernel_len) = plan.kernel;
    info.kernel_image_offset = plan.kernel_image;
    (info.kernel_stack_bottom, info.kernel_stack_len) = plan.stack;
    let target: *mut BootInfo = ptr::with_exposed_provenance_mut(block);
    let seen_regions = plan.boot_info.address + regions_at as u64;
    // SAFETY: as above. The pointer to the regions is replaced by the one the kernel sees: the
    // first field of `MemoryRegions`, which is `repr(C)`.
    unsafe {
        target.write(info);
        (&raw mut (*target).memory_regions)
            .cast::<u64>()
            .write(seen_regions);
    }
    // The contract: a zero return address on the stack, aligned as after a call. Frames start
    // zeroed, so the zero is there already.
    let stack = (plan.stack_top & !15) - 8;
    // SAFETY: `prepare` mapped code, stack and `BootInfo` in the tables at `root`.
    unsafe { handoff(plan.boot_info.address, plan.root, stack, plan.entry) }
}

/// The heap that the loader does not have. Libraries it shares with others are able to allocate,
/// so the linker wants one; nothing called here does.
struct NoHeap;

#[global_allocator]
static HEAP: NoHeap = NoHeap;

// SAFETY: handing out nothing keeps every promise of the trait.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _layout: Layout) -> *mut u8 {
        ptr::null_mut()
    }

    unsafe fn dealloc(&self, _block: *mut u8, _layout: Layout) {}
}

/// The first serial port, polled.
pub(crate) struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const DATA: u16 = 0x3f8;
        const LINE_STATUS: u16 = DATA + 5;
        const CAN_SEND: u8 = 1 << 5;
        // A missing port never gets ready; do not wait for ever.
        const PATIENCE: u32 = 100_000;
        for byte in text.bytes() {
            // SAFETY: reading the status has no effect on memory.
            let can_send = || unsafe { read_port(LINE_STATUS) } & CAN_SEND != 0;
            let _ = (0..PATIENCE).find(|_| can_send());
            // SAFETY: sends the byte, nothing else.
            unsafe { write_port(DATA, byte) };
        }
        Ok(())
    }
}

/// Ends QEMU with the loader's failure code, or stops the CPU elsewhere.
pub(crate) fn fail() -> ! {
    // SAFETY: the port ends QEMU and is unused on other machines.
    unsafe { write_port(debug_exit::PORT, debug_exit::LOADER as u8) };
    loop {
        // SAFETY: interrupts are off; the CPU stops for good.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}

/// Reads a byte from an I/O port.
///
/// # Safety
/// The device behind the port does not change memory in reply.
unsafe fn read_port(port: u16) -> u8 {
    let value;
    // SAFETY: by the caller.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) };
    value
}

/// Writes a byte to an I/O port.
///
/// # Safety
/// The device behind the port does not change memory in reply.
unsafe fn write_port(port: u16, value: u8) {
    // SAFETY: by the caller.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) };
}
