//! The modern PCI transport: the configuration that all virtio devices share (virtio 1.2, 4.1).

use crate::Registers;

/// Capability id of vendor-specific capabilities, by which virtio tells where its registers are.
const VENDOR_CAPABILITY: u8 = 9;
/// Bytes of the common configuration that are used here.
const COMMON_BYTES: u32 = 0x38;
/// How often the device is asked whether its reset is done before it is given up.
const RESET_POLLS: u32 = 1_000_000;
/// "No interrupt for this."
const NO_VECTOR: u16 = 0xffff;

/// Offsets in the common configuration (virtio 1.2, 4.1.4.3).
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: usize = 0x00;
    pub(super) const DEVICE_FEATURE: usize = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: usize = 0x08;
    pub(super) const DRIVER_FEATURE: usize = 0x0c;
    pub(super) const CONFIG_MSIX_VECTOR: usize = 0x10;
    pub(super) const DEVICE_STATUS: usize = 0x14;
    pub(super) const CONFIG_GENERATION: usize = 0x15;
    pub(super) const QUEUE_SELECT: usize = 0x16;
    pub(super) const QUEUE_SIZE: usize = 0x18;
    pub(super) const QUEUE_MSIX_VECTOR: usize = 0x1a;
    pub(super) const QUEUE_ENABLE: usize = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFF: usize = 0x1e;
    pub(super) const QUEUE_DESC: usize = 0x20;
    pub(super) const QUEUE_DRIVER: usize = 0x28;
    pub(super) const QUEUE_DEVICE: usize = 0x30;
}

/// Bits of the device status (virtio 1.2, 2.1).
mod status {
    pub(super) const ACKNOWLEDGE: u8 = 1;
    pub(super) const DRIVER: u8 = 2;
    pub(super) const DRIVER_OK: u8 = 4;
    pub(super) const FEATURES_OK: u8 = 8;
    pub(super) const NEEDS_RESET: u8 = 64;
}

/// Why a device cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetupError {
    /// A capability that every modern device has is missing or contradicts itself.
    Capabilities,
    /// The registers are smaller than what the device says it has there.
    Registers,
    /// The device does not come out of its reset.
    Reset,
    /// The device is a legacy one, or it refused the features that were chosen.
    Features,
    /// The device offers no queue, or one too small.
    Queue,
    /// The device took no interrupt for the queue.
    Interrupt,
    /// The configuration changes all the time.
    Unstable,
}

impl core::fmt::Display for SetupError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            SetupError::Capabilities => "its virtio capabilities are missing or damaged",
            SetupError::Registers => "its registers are smaller than announced",
            SetupError::Reset => "it does not come out of its reset",
            SetupError::Features => "it refuses the features of virtio 1",
            SetupError::Queue => "it has no usable queue",
            SetupError::Interrupt => "it takes no interrupt for its queue",
            SetupError::Unstable => "its configuration changes all the time",
        })
    }
}

/// Where a group of registers lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Base address register.
    pub bar: u8,
    /// First byte behind it.
    pub offset: u32,
    /// Number of bytes.
    pub bytes: u32,
}

/// Where the groups of registers lie that a driver needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Common configuration.
    pub common: Part,
    /// Doorbells.
    pub notify: Part,
    /// Configuration of this kind of device.
    pub device: Part,
    /// Bytes from the doorbell of one queue to the next.
    pub notify_multiplier: u32,
}

impl Layout {
    /// Reads the layout from the device's capabilities: id and bytes of each, in its order.
    /// The first usable capability of each kind counts (virtio 1.2, 4.1.4.1).
    pub fn find<'a>(capabilities: impl IntoIterator<Item = (u8, &'a [u8])>) -> Option<Self> {
        let (mut common, mut notify, mut device) = (None, None, None);
        for (id, bytes) in capabilities {
            if id != VENDOR_CAPABILITY {
                continue;
            }
            let Some((kind, part)) = Part::read(bytes) else {
                continue;
            };
            match kind {
                1 if part.bytes >= COMMON_BYTES => {
                    common.get_or_insert(part);
                }
                2 => {
                    if let Some(multiplier) = word(bytes, 16) {
                        notify.get_or_insert((part, multiplier));
                    }
                }
                4 => {
                    device.get_or_insert(part);
                }
                _ => {}
            }
        }
        let (notify, notify_multiplier) = notify?;
        Some(Layout {
            common: common?,
            notify,
            device: device?,
            notify_multiplier,
        })
    }
}

impl Part {
    /// Reads kind and place from a virtio capability.
    fn read(bytes: &[u8]) -> Option<(u8, Part)> {
        let (kind, bar) = (*bytes.get(3)?, *bytes.get(4)?);
        let part = Part {
            bar,
            offset: word(bytes, 8)?,
            bytes: word(bytes, 12)?,
        };
        (bar < 6).then_some((kind, part))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|word| u32::from_le_bytes(*word))
}

/// Physical addresses of the three parts of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct QueueAddresses {
    pub(crate) descriptors: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
}

/// The registers of a virtio device.
#[derive(Debug)]
pub struct Transport<R> {
    common: R,
    notify: R,
    device: R,
    notify_multiplier: u32,
    /// Where the doorbell of queue 0 is, once that is set up.
    doorbell: usize,
}

impl<R: Registers> Transport<R> {
    /// Takes the three groups of registers.
    ///
    /// # Errors
    ///
    /// `Registers` when the common configuration is too small.
    pub fn new(
        common: R,
        notify: R,
        device: R,
        notify_multiplier: u32,
    ) -> Result<Self, SetupError> {
        if common.bytes() < COMMON_BYTES as usize {
            return Err(SetupError::Registers);
        }
        Ok(Transport {
            common,
            notify,
            device,
            notify_multiplier,
            doorbell: 0,
        })
    }

    /// Resets the device: afterwards it neither reads nor writes RAM.
    ///
    /// # Errors
    ///
    /// `Reset` when it does not answer.
    pub fn reset(&self) -> Result<(), SetupError> {
        self.common.write_u8(common::DEVICE_STATUS, 0);
        for _ in 0..RESET_POLLS {
            if self.common.read_u8(common::DEVICE_STATUS) == 0 {
                return Ok(());
            }
            core::hint::spin_loop();
        }
        Err(SetupError::Reset)
    }

    /// Agrees on features after a reset: those of `required` and the offered ones of `wanted`.
    /// Returns what was agreed on.
    ///
    /// # Errors
    ///
    /// `Features` when a required one is not offered or the device refuses the choice.
    pub(crate) fn negotiate(&self, required: u64, wanted: u64) -> Result<u64, SetupError> {
        self.add_status(status::ACKNOWLEDGE);
        self.add_status(status::DRIVER);
        let offered = u64::from(self.features(0)) | u64::from(self.features(1)) << 32;
        if offered & required != required {
            return Err(SetupError::Features);
        }
        let chosen = offered & (required | wanted);
        for (half, word) in [(0, chosen as u32), (1, (chosen >> 32) as u32)] {
            self.common.write_u32(common::DRIVER_FEATURE_SELECT, half);
            self.common.write_u32(common::DRIVER_FEATURE, word);
        }
        self.add_status(status::FEATURES_OK);
        if self.status() & status::FEATURES_OK == 0 {
            return Err(SetupError::Features);
        }
        Ok(chosen)
    }

    /// Returns how many entries queue 0 may have.
    pub(crate) fn max_queue_size(&self) -> u16 {
        self.common.write_u16(common::QUEUE_SELECT, 0);
        self.common.read_u16(common::QUEUE_SIZE)
    }

    /// Sets queue 0 up, with interrupts through entry `vector` of the MSI-X table, and lets the
    /// device run.
    ///
    /// # Errors
    ///
    /// `Interrupt`, and `Registers` when the doorbell lies outside its registers.
    pub(crate) fn start(
        &mut self,
        size: u16,
        addresses: QueueAddresses,
        vector: u16,
    ) -> Result<(), SetupError> {
        let registers = &self.common;
        registers.write_u16(common::CONFIG_MSIX_VECTOR, NO_VECTOR);
        registers.write_u16(common::QUEUE_SELECT, 0);
        registers.write_u16(common::QUEUE_SIZE, size);
        registers.write_u16(common::QUEUE_MSIX_VECTOR, vector);
        if registers.read_u16(common::QUEUE_MSIX_VECTOR) != vector {
            return Err(SetupError::Interrupt);
        }
        let places = [
            (common::QUEUE_DESC, addresses.descriptors),
            (common::QUEUE_DRIVER, addresses.available),
            (common::QUEUE_DEVICE, addresses.used),
        ];
        for (register, address) in places {
            registers.write_u32(register, address as u32);
            registers.write_u32(register + 4, (address >> 32) as u32);
        }
        let index = u64::from(registers.read_u16(common::QUEUE_NOTIFY_OFF));
        let doorbell = index * u64::from(self.notify_multiplier);
        if doorbell + 2 > self.notify.bytes() as u64 {
            return Err(SetupError::Registers);
        }
        self.doorbell = doorbell as usize;
        registers.write_u16(common::QUEUE_ENABLE, 1);
        self.add_status(status::DRIVER_OK);
        Ok(())
    }

    /// Tells the device that there is something new in queue 0.
    pub(crate) fn notify(&self) {
        self.notify.write_u16(self.doorbell, 0);
    }

    /// Returns whether the device says that it is broken, or is no longer there.
    pub(crate) fn needs_reset(&self) -> bool {
        self.status() & status::NEEDS_RESET != 0
    }

    /// Reads from the device's own configuration; `read` is repeated until no change of the
    /// configuration came in between (virtio 1.2, 2.5.2).
    ///
    /// # Errors
    ///
    /// `Unstable` when it always changes.
    pub(crate) fn read_config<T>(&self, read: impl Fn(&R) -> T) -> Result<T, SetupError> {
        for _ in 0..100 {
            let before = self.common.read_u8(common::CONFIG_GENERATION);
            let value = read(&self.device);
            if self.common.read_u8(common::CONFIG_GENERATION) == before {
                return Ok(value);
            }
        }
        Err(SetupError::Unstable)
    }

    fn features(&self, half: u32) -> u32 {
        self.common.write_u32(common::DEVICE_FEATURE_SELECT, half);
        self.common.read_u32(common::DEVICE_FEATURE)
    }

    fn status(&self) -> u8 {
        self.common.read_u8(common::DEVICE_STATUS)
    }

    fn add_status(&self, bit: u8) {
        self.common
            .write_u8(common::DEVICE_STATUS, self.status() | bit);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Layout, Part};

    fn capability(kind: u8, bar: u8, offset: u32, bytes: u32, extra: &[u8]) -> Vec<u8> {
        let mut capability = vec![9, 0, 16, kind, bar, 0, 0, 0];
        capability.extend(offset.to_le_bytes());
        capability.extend(bytes.to_le_bytes());
        capability.extend(extra);
        capability
    }

    #[test]
    fn the_first_usable_capability_of_each_kind_counts() {
        let all = [
            capability(1, 4, 0, 8, &[]),
            capability(1, 9, 0, 0x1000, &[]),
            capability(1, 4, 0, 0x1000, &[]),
            capability(1, 2, 0, 0x1000, &[]),
            capability(2, 4, 0x3000, 0x1000, &4_u32.to_le_bytes()),
            capability(4, 4, 0x2000, 0x1000, &[]),
        ];
        let layout = Layout::find(all.iter().map(|bytes| (9, bytes.as_slice()))).unwrap();
        assert_eq!(
            layout.common,
            Part {
                bar: 4,
                offset: 0,
                bytes: 0x1000
            }
        );
        assert_eq!(
            (layout.notify.offset, layout.notify_multiplier),
            (0x3000, 4)
        );
        assert_eq!(layout.device.offset, 0x2000);
        assert_eq!(
            Layout::find(all[..5].iter().map(|bytes| (9, bytes.as_slice()))),
            None
        );
    }

    proptest! {
        #[test]
        fn any_capability_bytes_are_read_without_a_panic(
            all in prop::collection::vec((0_u8..18, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
        ) {
            if let Some(layout) = Layout::find(all.iter().map(|(id, b)| (*id, b.as_slice()))) {
                prop_assert!(layout.common.bar < 6 && layout.common.bytes >= 0x38);
            }
        }
    }
}
