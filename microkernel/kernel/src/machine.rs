//! What the firmware says about the machine (ACPI 6.5), and power-off.

use core::ptr::NonNull;

use acpi::madt::{Madt, MadtEntry};
use acpi::mcfg::Mcfg;
use acpi::{AcpiHandler, AcpiTables, HpetInfo, PhysicalMapping};
use bootloader_api::info::{MemoryRegionKind, MemoryRegions};
use heapless::Vec;
use skink_abi::debug_exit;
use spin::Once;
use x86_64::instructions::port::Port;

use crate::arch::x86_64::cpu::MAX_CPUS;
use crate::arch::x86_64::{ioapic, physical};

/// What the kernel keeps of what the firmware said.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// Bytes of RAM.
    pub(crate) ram_bytes: u64,
    /// Numbers of the processors on the interrupt bus.
    pub(crate) processors: Vec<u32, MAX_CPUS>,
    /// Physical address of the local interrupt controllers.
    pub(crate) local_apic: u64,
    /// Physical address of the high precision event timer.
    pub(crate) hpet: Option<u64>,
    /// Physical address of the PCI Express configuration space, or 0.
    pub(crate) ecam: u64,
    /// First and last bus in it.
    pub(crate) ecam_buses: (u8, u8),
    /// Ranges that are no device's: RAM and the kernel's own controllers.
    kept: Vec<(u64, u64), 96>,
}

/// The machine, once it is known.
pub(crate) static MACHINE: Once<Machine> = Once::new();

/// Lets `acpi` read tables through the linear mapping.
#[derive(Clone)]
struct Tables;

impl AcpiHandler for Tables {
    unsafe fn map_physical_region<T>(
        &self,
        physical_address: usize,
        size: usize,
    ) -> PhysicalMapping<Self, T> {
        assert!(
            (physical_address as u64).saturating_add(size as u64) <= physical::end(),
            "ACPI table beyond the linear mapping"
        );
        let address = NonNull::new(physical::pointer::<T>(physical_address as u64))
            .expect("the linear mapping does not begin at 0");
        // SAFETY: mapped for ever by the loader; firmware tables do not move.
        unsafe { PhysicalMapping::new(physical_address, address, size, size, Self) }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}

/// Reads the firmware's tables. Without them there is one processor and no interrupt line.
pub(crate) fn discover(rsdp: Option<u64>, regions: &MemoryRegions) {
    let mut machine = Machine {
        local_apic: 0xfee0_0000,
        ..Machine::default()
    };
    for region in regions.iter() {
        let is_ram = matches!(
            region.kind,
            MemoryRegionKind::Usable | MemoryRegionKind::Bootloader
        );
        if is_ram {
            machine.ram_bytes += region.end - region.start;
            machine.keep(region.start, region.end);
        }
    }
    if let Some(rsdp) = rsdp {
        read_tables(&mut machine, rsdp);
    }
    machine.keep(machine.local_apic, machine.local_apic + 0x1000);
    MACHINE.call_once(|| machine);
}

impl Machine {
    fn keep(&mut self, start: u64, end: u64) {
        // Neighbours are one range; a map with more holes than fit loses its last ones, so the
        // last range grows to cover them: rather refuse a device than hand out RAM.
        match self.kept.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => {
                if self.kept.push((start, end)).is_err()
                    && let Some(last) = self.kept.last_mut()
                {
                    *last = (last.0.min(start), last.1.max(end));
                }
            }
        }
    }
}

fn read_tables(machine: &mut Machine, rsdp: u64) {
    // SAFETY: the loader found the RSDP; `Tables` maps what lies in the linear mapping.
    let tables = match unsafe { AcpiTables::from_rsdp(Tables, rsdp as usize) } {
        Ok(tables) => tables,
        Err(error) => return log::warn!("ACPI: {error:?}"),
    };
    machine.hpet = HpetInfo::new(&tables)
        .ok()
        .map(|hpet| hpet.base_address as u64);
    if let Ok(mcfg) = tables.find_table::<Mcfg>()
        && let Some(entry) = mcfg.entries().first()
    {
        machine.ecam = entry.base_address;
        machine.ecam_buses = (entry.bus_number_start, entry.bus_number_end);
    }
    let Ok(madt) = tables.find_table::<Madt>() else {
        return log::warn!("ACPI: no table of processors");
    };
    machine.local_apic = u64::from(madt.get().local_apic_address);
    for entry in madt.get().entries() {
        match entry {
            // Flag 0: the processor can be used.
            MadtEntry::LocalApic(local)
                if local.flags & 1 != 0
                    && machine.processors.push(local.apic_id.into()).is_err() =>
            {
                log::warn!("more than {MAX_CPUS} processors: the rest stay off");
            }
            _ => {}
        }
    }
}

/// Sets the interrupt line controllers up, once devices can be mapped.
pub(crate) fn add_line_controllers(rsdp: Option<u64>) {
    let Some(rsdp) = rsdp else { return };
    // SAFETY: as in `read_tables`.
    let Ok(tables) = (unsafe { AcpiTables::from_rsdp(Tables, rsdp as usize) }) else {
        return;
    };
    let Ok(madt) = tables.find_table::<Madt>() else {
        return;
    };
    for entry in madt.get().entries() {
        match entry {
            MadtEntry::IoApic(io) => {
                let address = u64::from(io.io_apic_address);
                let first = io.global_system_interrupt_base;
                if let Err(error) = ioapic::add(address, first) {
                    log::warn!("interrupt controller at {address:#x}: {error}");
                }
            }
            MadtEntry::InterruptSourceOverride(wiring) => {
                ioapic::add_override(wiring.irq, wiring.global_system_interrupt, wiring.flags);
            }
            _ => {}
        }
    }
}

/// Returns whether a physical range touches RAM or a controller that the kernel keeps.
pub(crate) fn is_kept(start: u64, end: u64) -> bool {
    MACHINE.get().is_none_or(|machine| {
        machine
            .kept
            .iter()
            .any(|&(kept_start, kept_end)| start < kept_end && kept_start < end)
    })
}

/// Powers the machine off with an exit code.
pub(crate) fn power_off(code: u32) -> ! {
    exit(debug_exit::orderly(code))
}

/// Ends the machine: QEMU's exit device, else ACPI's soft-off as QEMU and most machines with an
/// ICH9 have it, else a halt.
pub(crate) fn exit(value: u32) -> ! {
    // SAFETY: ports of the exit device and of the ICH9 power management registers; nothing else
    // will run.
    unsafe {
        Port::<u32>::new(debug_exit::PORT).write(value);
        Port::<u16>::new(0x604).write(0x2000);
    }
    loop {
        x86_64::instructions::hlt();
    }
}
