//! Driver of virtio block devices (virtio 1.2, modern PCI transport, split queue).
//!
//! From the device up: [`Registers`] is a window of device registers, [`Transport`] the part of
//! the configuration that all virtio devices share, [`Queue`] the ring between driver and device,
//! [`Device`] a block device on top, [`Disk`] what the block server sees: buffers by number,
//! requests checked against them, and a device that is reset when it misbehaves; [`Intake`] joins it
//! with the ring of the block server. [`FlightLog`] keeps in the state region which requests are at
//! the devices, so that one that crashes the driver is found. Waiting and IPC are in `main.rs`.
//!
//! The device is not trusted: whatever it writes into the queue or its registers gives an error
//! and a reset, never a panic or an access outside the driver's own memory. What it does to RAM
//! by DMA only an IOMMU can confine.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod device;
mod disk;
#[cfg(test)]
mod fake;
mod flight_log;
#[cfg_attr(
    feature = "version-2",
    path = "../../../../tests/versions/virtio-blk/src/flights.rs"
)]
mod flights;
mod intake;
mod keep;
mod queue;
mod registers;
mod transport;

pub use device::{Completion, Device, Geometry, Kind, Told, Transfer};
pub use disk::{Accepted, Buffer, Disk, Done, MAX_BUFFERS, STALL_NS};
pub use flight_log::FlightLog;
pub use flights::{Asked, Flight, Flights};
pub use intake::Intake;
pub use keep::Kept;
pub use queue::{AREA_BYTES, Fault, Queue};
pub use registers::{Registers, Window};
pub use transport::{Layout, Part, SetupError, Transport};
