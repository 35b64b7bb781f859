//! PCI devices and their resources: registers, interrupts, the right to move data.
//!
//! A driver claims a device and asks for what it needs of it. A claim belongs to the badge that
//! made it. Claiming again, as a restarted driver does, first takes the device's right to move
//! data and its interrupts away, so that the device is quiet towards the new instance.

use alloc::vec::Vec;

use libsys::{Handle, Interrupt, Memory};
use serde::{Deserialize, Serialize};

/// Where a function sits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Address {
    /// Bus number.
    pub bus: u8,
    /// Device on the bus, below 32.
    pub device: u8,
    /// Function of the device, below 8.
    pub function: u8,
}

impl core::fmt::Display for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

/// A function that was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Where it sits.
    pub address: Address,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Class, subclass and programming interface, as `0xCCSSPP`.
    pub class: u32,
    /// Revision.
    pub revision: u8,
    /// Vendor id of the board.
    pub subsystem_vendor: u16,
    /// Device id of the board.
    pub subsystem: u16,
    /// Bytes behind each base address register that names memory; 0 for the others, and as long
    /// as no driver has claimed the device: only then they are measured.
    pub bar_bytes: [u64; 6],
    /// Interrupts that its MSI-X table has room for; 0 without MSI-X.
    pub msix_vectors: u16,
    /// Whether a driver has claimed it.
    pub is_claimed: bool,
}

/// Names a claimed device. Proves nothing: each call is checked against the caller's badge.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Claim(pub u32);

/// A capability in the configuration space of a device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Capability {
    /// What it is: 9 is vendor-specific, 17 is MSI-X.
    pub id: u8,
    /// Its bytes from the id on: what its own length byte says for vendor-specific ones, else 12.
    pub bytes: Vec<u8>,
}

/// Whether a device may read and write RAM by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BusMaster {
    /// It may not.
    Off,
    /// It may.
    On,
}

/// Why the PCI server refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PciError {
    /// No such device is there.
    NotFound,
    /// Another driver has the device. Remedy: stop that one.
    Claimed,
    /// The claim was never made by this caller. Remedy: claim the device.
    NoClaim,
    /// The device has no such register range or interrupt.
    NoSuchResource,
    /// The device's configuration space contradicts itself; it cannot be used.
    Damaged,
    /// The kernel refused a resource: see the log.
    Refused,
    /// The server's table of claims is full.
    TooMany,
}

impl core::fmt::Display for PciError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            PciError::NotFound => "no such PCI device",
            PciError::Claimed => "another driver has the device",
            PciError::NoClaim => "the device was not claimed by this caller",
            PciError::NoSuchResource => "the device has no such registers or interrupt",
            PciError::Damaged => "the device's configuration space contradicts itself",
            PciError::Refused => "the kernel refused the resource",
            PciError::TooMany => "too many claims",
        })
    }
}

/// PCI devices and their resources.
#[crate::interface(version = 3)]
#[compared]
#[suspect(PciError::NoClaim | PciError::Damaged | PciError::Refused)]
pub trait Pci {
    /// Lists the devices, ordered by address; the cursor is the position in the list.
    #[stream]
    fn devices() -> Result<Stream<DeviceInfo, u32>, PciError>;

    /// Claims the `instance`-th (from 0) device with these ids. Its right to move data and its
    /// interrupts are off afterwards.
    #[idempotent]
    fn claim(vendor: u16, device: u16, instance: u32) -> Result<(Claim, DeviceInfo), PciError>;

    /// Gives a claimed device back; its right to move data is taken away first.
    #[idempotent]
    fn release(claim: Claim) -> Result<(), PciError>;

    /// Returns the registers behind a base address register.
    #[idempotent]
    fn bar(claim: Claim, index: u8) -> Result<Handle<Memory>, PciError>;

    /// Lists the capabilities in the configuration space, in the device's order.
    #[idempotent]
    fn capabilities(claim: Claim) -> Result<Vec<Capability>, PciError>;

    /// Returns an interrupt that the device raises through an entry of its MSI-X table. It takes
    /// the place of an earlier one.
    #[idempotent]
    fn interrupt(claim: Claim, vector: u16) -> Result<Handle<Interrupt>, PciError>;

    /// Lets the device read and write RAM, or forbids it.
    #[idempotent]
    fn set_bus_master(claim: Claim, to: BusMaster) -> Result<(), PciError>;
}
