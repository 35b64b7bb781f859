//! Finding the devices and getting at their registers, through the PCI server.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;

use libipc::Failure;
use libipc::proto::pci::{BusMaster, Claim, PciClient, PciError};
use libsys::abi::PAGE_SIZE;
use libsys::mappings::Mapping;
use libsys::{Handle, Interrupt, MapFlags, Memory};
use virtio_blk::{AREA_BYTES, Device, Layout, Part, Queue, SetupError, Transport, Window};

/// Vendor of virtio devices.
const VENDOR: u16 = 0x1af4;
/// Block devices: modern, and transitional, which offer the modern registers too.
const DEVICE_IDS: [u16; 2] = [0x1042, 0x1001];
/// The entry of the MSI-X table for the queue.
const VECTOR: u16 = 0;
/// Most pages of registers behind one base address register that are mapped.
const MAX_REGISTER_PAGES: u64 = 256;

/// A device that is set up, and its interrupt, not bound to anything yet.
pub(crate) struct Found {
    pub(crate) device: Device<Window>,
    pub(crate) interrupt: Handle<Interrupt>,
    pub(crate) claim: Claim,
}

/// Why a device cannot be driven.
#[derive(Debug)]
enum ProbeError {
    /// The PCI server or the kernel refused.
    Pci(Failure<PciError>),
    Device(SetupError),
}

impl From<Failure<PciError>> for ProbeError {
    fn from(failure: Failure<PciError>) -> Self {
        ProbeError::Pci(failure)
    }
}

impl From<libsys::Error> for ProbeError {
    fn from(error: libsys::Error) -> Self {
        ProbeError::Pci(Failure::Ipc(error))
    }
}

impl From<SetupError> for ProbeError {
    fn from(error: SetupError) -> Self {
        ProbeError::Device(error)
    }
}

impl core::fmt::Display for ProbeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ProbeError::Pci(failure) => failure.fmt(f),
            ProbeError::Device(error) => error.fmt(f),
        }
    }
}

/// Claims and sets up all devices for which there is DMA memory. One that cannot be driven is
/// told about in the log and leaves a gap: it keeps its number and its part of the DMA memory,
/// to which it may still write if it did not reset.
pub(crate) fn find_all(pci: &PciClient, dma: &Handle<Memory>) -> Vec<Option<Found>> {
    let mut found = Vec::new();
    for id in DEVICE_IDS {
        for instance in 0.. {
            let (claim, info) = match pci.claim(VENDOR, id, instance) {
                Ok(claimed) => claimed,
                Err(Failure::Server(PciError::NotFound)) => break,
                Err(failure) => {
                    log::warn!("device {instance} not claimed: {failure}");
                    if failure == Failure::Server(PciError::Claimed) {
                        continue;
                    }
                    break;
                }
            };
            match set_up(pci, claim, dma, found.len()) {
                Ok(device) => {
                    let geometry = device.device.geometry();
                    log::info!(
                        "{}: {} sectors, {} requests at once",
                        info.address,
                        geometry.sectors,
                        device.device.depth()
                    );
                    found.push(Some(device));
                }
                Err(why) => {
                    log::error!("{} cannot be driven: {why}", info.address);
                    // If this fails, so did everything before it: it was off from the claim on.
                    let _ = pci.set_bus_master(claim, BusMaster::Off);
                    found.push(None);
                }
            }
        }
    }
    found
}

/// Sets a claimed device up. It is reset before it may move data again: a device that an earlier
/// instance of this driver left running stays quiet.
fn set_up(
    pci: &PciClient,
    claim: Claim,
    dma: &Handle<Memory>,
    index: usize,
) -> Result<Found, ProbeError> {
    let capabilities = pci.capabilities(claim)?;
    let list = capabilities
        .iter()
        .map(|known| (known.id, known.bytes.as_slice()));
    let layout = Layout::find(list).ok_or(SetupError::Capabilities)?;
    let mut bars = BTreeMap::new();
    let common = window(pci, claim, &mut bars, layout.common)?;
    let notify = window(pci, claim, &mut bars, layout.notify)?;
    let device = window(pci, claim, &mut bars, layout.device)?;
    let transport = Transport::new(common, notify, device, layout.notify_multiplier)?;
    transport.reset()?;

    let pages = (AREA_BYTES / PAGE_SIZE) as u64;
    let area = dma.slice(index as u64 * pages, pages)?;
    let physical = area.info()?.physical;
    let area = Mapping::map(&area, MapFlags::READ | MapFlags::WRITE)?;
    let area = Window::new(Rc::new(area), 0, AREA_BYTES).ok_or(SetupError::Queue)?;
    let queue = Queue::new(area, physical).ok_or(SetupError::Queue)?;

    let interrupt = pci.interrupt(claim, VECTOR)?;
    pci.set_bus_master(claim, BusMaster::On)?;
    let device = Device::new(transport, queue, VECTOR)?;
    Ok(Found {
        device,
        interrupt,
        claim,
    })
}

/// Returns the window for a group of registers, mapping what is behind its base address register
/// when it is the first one there.
fn window(
    pci: &PciClient,
    claim: Claim,
    bars: &mut BTreeMap<u8, Rc<Mapping>>,
    part: Part,
) -> Result<Window, ProbeError> {
    let mapping = match bars.get(&part.bar) {
        Some(mapping) => Rc::clone(mapping),
        None => {
            let memory = pci.bar(claim, part.bar)?;
            let pages = memory.info()?.pages.min(MAX_REGISTER_PAGES);
            let flags = MapFlags::READ | MapFlags::WRITE;
            let mapping = Rc::new(Mapping::map_part(&memory, 0, pages, flags)?);
            bars.insert(part.bar, Rc::clone(&mapping));
            mapping
        }
    };
    let window = Window::new(mapping, part.offset as usize, part.bytes as usize);
    Ok(window.ok_or(SetupError::Registers)?)
}
