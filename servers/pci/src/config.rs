//! The configuration space of a function (PCI Local Bus Specification 3.0, chapter 6).

use libipc::proto::pci::{Address, BusMaster};

/// Reads and writes configuration space, in aligned double words. What is not there reads as all
/// ones and ignores writes.
pub trait ConfigSpace {
    /// Reads the double word at `offset`, a multiple of 4 below 256.
    fn read(&self, address: Address, offset: u8) -> u32;
    /// Writes the double word at `offset`.
    fn write(&self, address: Address, offset: u8, value: u32);
}

/// Vendor id that means "nothing there".
pub(crate) const NO_VENDOR: u16 = 0xffff;

pub(crate) const VENDOR: u8 = 0x00;
pub(crate) const COMMAND: u8 = 0x04;
pub(crate) const CLASS: u8 = 0x08;
pub(crate) const HEADER_TYPE: u8 = 0x0c;
pub(crate) const FIRST_BAR: u8 = 0x10;
pub(crate) const BUS_NUMBERS: u8 = 0x18;
pub(crate) const SUBSYSTEM: u8 = 0x2c;
pub(crate) const CAPABILITIES: u8 = 0x34;

/// Bits of the command register.
const MEMORY_SPACE: u32 = 1 << 1;
const BUS_MASTER: u32 = 1 << 2;
const NO_LINE_INTERRUPT: u32 = 1 << 10;
/// The lower half of the double word at [`COMMAND`]. The upper half is the status, whose bits are
/// cleared by writing ones: zeros are written there.
const COMMAND_MASK: u32 = 0xffff;

/// A function in a configuration space.
pub struct Function<'a, C: ?Sized> {
    space: &'a C,
    address: Address,
}

impl<'a, C: ConfigSpace + ?Sized> Function<'a, C> {
    /// Looks at the function at an address, whether there is one or not.
    pub fn new(space: &'a C, address: Address) -> Self {
        Function { space, address }
    }

    /// Reads an aligned double word.
    pub fn read(&self, offset: u8) -> u32 {
        self.space.read(self.address, offset & !3)
    }

    /// Writes an aligned double word.
    pub fn write(&self, offset: u8, value: u32) {
        self.space.write(self.address, offset & !3, value);
    }

    /// Returns vendor and device, or `None` when nothing is there.
    pub fn ids(&self) -> Option<(u16, u16)> {
        let word = self.read(VENDOR);
        let (vendor, device) = (word as u16, (word >> 16) as u16);
        (vendor != NO_VENDOR).then_some((vendor, device))
    }

    /// Returns the layout of the header (0 device, 1 bridge) and whether there may be more
    /// functions than the first.
    pub(crate) fn header_type(&self) -> (u8, bool) {
        let byte = (self.read(HEADER_TYPE) >> 16) as u8;
        (byte & 0x7f, byte & 0x80 != 0)
    }

    /// Allows or forbids the device to read and write RAM.
    pub fn set_bus_master(&self, to: BusMaster) {
        match to {
            BusMaster::On => self.change_command(BUS_MASTER, 0),
            BusMaster::Off => self.change_command(0, BUS_MASTER),
        }
    }

    /// Makes the registers answer, and the interrupt line stay quiet.
    pub fn enable_memory(&self) {
        self.change_command(MEMORY_SPACE | NO_LINE_INTERRUPT, 0);
    }

    /// Runs `f` while the registers do not answer, so that they can be moved.
    pub(crate) fn without_memory<T>(&self, f: impl FnOnce() -> T) -> T {
        let before = self.read(COMMAND) & COMMAND_MASK;
        self.write(COMMAND, before & !(MEMORY_SPACE | 1));
        let result = f();
        self.write(COMMAND, before);
        result
    }

    fn change_command(&self, set: u32, clear: u32) {
        let before = self.read(COMMAND) & COMMAND_MASK;
        self.write(COMMAND, before & !clear | set);
    }
}
