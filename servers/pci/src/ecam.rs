//! The configuration space as registers in memory: the Enhanced Configuration Access Mechanism.
//!
//! Each bus takes 1 MiB, each function a page of it. A bus is mapped when it is first looked at,
//! so a machine with one bus needs one.

use alloc::collections::BTreeMap;
use core::cell::RefCell;

use libipc::proto::pci::Address;
use libsys::abi::{PAGE_SIZE, SystemInfo};
use libsys::mappings::Mapping;
use libsys::{Handle, MapFlags, System};
use pci::ConfigSpace;

const BUS_BYTES: u64 = 1 << 20;

/// The configuration space of the machine.
pub(crate) struct Ecam {
    system: Handle<System>,
    base: u64,
    /// First and last bus.
    buses: (u8, u8),
    /// Buses that were looked at; `None` where mapping failed, which was logged.
    mapped: RefCell<BTreeMap<u8, Option<Mapping>>>,
}

impl Ecam {
    /// Takes what ACPI told about the space; `None` when it told nothing.
    pub(crate) fn new(system: Handle<System>, info: &SystemInfo) -> Option<Self> {
        let first = u8::try_from(info.ecam_first_bus).ok()?;
        let last = u8::try_from(info.ecam_last_bus).unwrap_or(u8::MAX);
        let is_sound = info.ecam != 0 && first <= last;
        is_sound.then(|| Ecam {
            system,
            base: info.ecam,
            buses: (first, last),
            mapped: RefCell::default(),
        })
    }

    /// Returns the first and the last bus.
    pub(crate) fn buses(&self) -> (u8, u8) {
        self.buses
    }

    /// Returns the handle for registers and interrupts.
    pub(crate) fn system(&self) -> &Handle<System> {
        &self.system
    }

    /// Runs `f` with the mapping of a bus and the offset of a register in it.
    fn with<T>(
        &self,
        address: Address,
        offset: u8,
        f: impl FnOnce(&Mapping, usize) -> T,
    ) -> Option<T> {
        let mut mapped = self.mapped.borrow_mut();
        let bus = mapped
            .entry(address.bus)
            .or_insert_with(|| self.map(address.bus));
        let function = usize::from(address.device & 31) << 3 | usize::from(address.function & 7);
        Some(f(bus.as_ref()?, function * PAGE_SIZE + usize::from(offset)))
    }

    fn map(&self, bus: u8) -> Option<Mapping> {
        if bus < self.buses.0 || bus > self.buses.1 {
            return None;
        }
        // The base is that of bus 0, also where the first bus is another.
        let physical = self.base.checked_add(u64::from(bus) * BUS_BYTES)?;
        let pages = BUS_BYTES / PAGE_SIZE as u64;
        let mapping = self
            .system
            .device_memory(physical, pages)
            .and_then(|memory| Mapping::map(&memory, MapFlags::READ | MapFlags::WRITE));
        mapping
            .inspect_err(|error| log::error!("bus {bus:02x} not reachable: {error}"))
            .ok()
    }
}

impl ConfigSpace for Ecam {
    fn read(&self, address: Address, offset: u8) -> u32 {
        let word = self.with(address, offset & !3, |bus, at| bus.read_u32(at));
        word.and_then(Result::ok).unwrap_or(u32::MAX)
    }

    fn write(&self, address: Address, offset: u8, value: u32) {
        // What is not there ignores writes.
        let _ = self.with(address, offset & !3, |bus, at| bus.write_u32(at, value));
    }
}
