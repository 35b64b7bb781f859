//! From the loader to the first program.

use bootloader_api::config::{BootloaderConfig, Mapping};
use bootloader_api::{BootInfo, entry_point};
use skink_manifest::command_line;

use crate::arch::x86_64::{apic, cpu, fpu, paging, physical, smp, time};
use crate::lock::Held;
use crate::machine::MACHINE;
use crate::{first_process, log as kernel_log, machine, pool, sched, symbols, time_page};

/// What the kernel asks of the loader.
static CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.mappings.physical_memory = Some(Mapping::FixedAddress(physical::PHYSICAL_MAP));
    config.kernel_stack_size = 64 * 1024;
    config
};

entry_point!(start, config = &CONFIG);

/// The pool has this much and [`POOL_FRACTION`] of all RAM.
const POOL_BYTES: u64 = 16 << 20;
/// Page tables grow with RAM.
const POOL_FRACTION: u64 = 64;
/// `init` and all that it starts may use all of the pool but this share: the kernel's own tables.
const KERNEL_SHARE: u64 = 8;

/// Prebuilt code of `alloc` names a heap; the kernel has none and never asks.
struct NoHeap;

// SAFETY: never returns memory.
unsafe impl core::alloc::GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _layout: core::alloc::Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _pointer: *mut u8, _layout: core::alloc::Layout) {}
}

#[global_allocator]
static NO_HEAP: NoHeap = NoHeap;

/// Named by prebuilt parts of `core` when nothing unwinds; never called.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Named by prebuilt parts of `core` when nothing unwinds; never called.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    unreachable!("nothing unwinds")
}

use skink_mem as _;

fn start(info: &'static mut BootInfo) -> ! {
    x86_64::instructions::interrupts::disable();
    time::mark_boot();
    let command_line = find_command_line(info);
    if command_line::option(command_line, "quiet").is_some() {
        kernel_log::leave_serial();
    }
    kernel_log::init();
    let rsdp = info.rsdp_addr.into_option();
    let highest = info
        .memory_regions
        .iter()
        .map(|region| region.end)
        .max()
        .unwrap_or(0);
    physical::set_end(highest.max(1 << 32));
    let kernel = physical::pointer::<u8>(info.kernel_addr);
    // SAFETY: the loader keeps the kernel's image there.
    symbols::init(unsafe { core::slice::from_raw_parts(kernel, info.kernel_len as usize) });
    let mut free = first_process::free_memory(&info.memory_regions);
    let ram: u64 = free.iter().map(|(start, end)| end - start).sum();
    let pool_bytes = ((POOL_BYTES + ram / POOL_FRACTION).min(ram / 2)) & !0xfff;
    let pool_start =
        first_process::take(&mut free, pool_bytes).expect("a quarter of RAM is in one piece");
    // SAFETY: RAM that the memory map calls usable, taken from it just now.
    unsafe { pool::init(pool_start, pool_bytes) };
    machine::discover(rsdp, &info.memory_regions);
    // SAFETY: the first processor, once; all that is used lies in the upper half, but for the
    // pages that start other processors, which are mapped anew.
    unsafe { paging::init() }.expect("a fresh pool has room for page tables");
    bring_up(rsdp);
    let bundle_start = info
        .ramdisk_addr
        .into_option()
        .expect("the loader passes a boot bundle");
    let bundle_physical = bundle_start - physical::PHYSICAL_MAP;
    let bundle = core::ptr::with_exposed_provenance::<u8>(bundle_start as usize);
    // SAFETY: the loader keeps the bundle there.
    let bundle = unsafe { core::slice::from_raw_parts(bundle, info.ramdisk_len as usize) };
    log::info!(
        "Skink: {} CPUs, {} MiB RAM, pool {} MiB, boot bundle {} KiB",
        cpu::count(),
        ram >> 20,
        pool_bytes >> 20,
        bundle.len() >> 10
    );
    let boot = first_process::Boot {
        bundle,
        bundle_physical,
        command_line,
        free,
    };
    let quota = pool_bytes - pool_bytes / KERNEL_SHARE;
    if let Err(reason) = first_process::start(&mut Held::enter(), boot, quota) {
        panic!("cannot start init: {reason}");
    }
    if command_line::option(command_line, "panic-test").is_some() {
        crate::panic::test();
    }
    // The console server takes the serial port over; panics still go there.
    if command_line::option(command_line, "klog").is_none() {
        kernel_log::leave_serial();
    }
    sched::run_processor()
}

/// Turns interrupts, clocks and the other processors on.
fn bring_up(rsdp: Option<u64>) {
    let machine = MACHINE.get().expect("discovered just now");
    apic::map(machine.local_apic).expect("a fresh pool has room");
    let stack = paging::make_stack(smp::STACK_PAGES).expect("a fresh pool has room");
    let trap_stacks = smp::make_trap_stacks().expect("a fresh pool has room");
    let this = apic::id();
    apic::enable();
    // SAFETY: the first processor, once, with stacks of its own.
    unsafe { cpu::init(0, this, stack, trap_stacks) };
    fpu::init();
    let rate = time::calibrate(machine.hpet, apic::timer_count_up);
    apic::set_timer_rate(rate);
    time_page::init().expect("a fresh pool has room");
    machine::add_line_controllers(rsdp);
    paging::map_low_page(smp::TRAMPOLINE).expect("a fresh pool has room");
    let mut index = 1;
    for &apic_id in machine.processors.iter().filter(|&&id| id != this) {
        match smp::start(index, apic_id) {
            Ok(true) => index += 1,
            Ok(false) => {
                log::warn!("processor {apic_id} does not start; no more are tried");
                // It may still come, and find the stack and number that were meant for it.
                break;
            }
            Err(error) => log::warn!("processor {apic_id}: {error}"),
        }
    }
    // SAFETY: all processors run in the upper half now, on their own stacks; this one is still on
    // the loader's, which the loader mapped there too.
    unsafe { paging::drop_lower_half() };
}

fn find_command_line(info: &BootInfo) -> &'static str {
    if info.ramdisk_addr.into_option().is_none() {
        return "";
    }
    let page = (core::ptr::from_ref(info).addr() & !0xfff) as u64 + command_line::PAGE_OFFSET;
    let page = core::ptr::with_exposed_provenance::<u8>(page as usize);
    // SAFETY: Skink's own loader, the only one that passes a boot bundle, maps this page.
    let page = unsafe { core::slice::from_raw_parts(page, command_line::PAGE_BYTES) };
    command_line::read(page).unwrap_or("")
}
