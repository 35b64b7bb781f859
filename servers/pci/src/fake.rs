//! Configuration spaces for tests.

use std::cell::RefCell;
use std::collections::HashMap;

use libipc::proto::pci::Address;

use crate::ConfigSpace;

/// A configuration space that a test fills.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeSpace {
    words: RefCell<HashMap<(Address, u8), u32>>,
    /// Which bits of a base address register can be set.
    masks: HashMap<(Address, u8), u32>,
}

fn at(bus: u8, device: u8, function: u8) -> Address {
    Address {
        bus,
        device,
        function,
    }
}

impl FakeSpace {
    pub(crate) fn add(&mut self, bus: u8, device: u8, function: u8, ids: u32) {
        for offset in (0..=252).step_by(4) {
            self.set(at(bus, device, function), offset, 0);
        }
        self.set(at(bus, device, function), 0, ids);
    }

    pub(crate) fn set(&mut self, address: Address, offset: u8, word: u32) {
        self.words.borrow_mut().insert((address, offset), word);
    }

    pub(crate) fn set_header(&mut self, bus: u8, device: u8, function: u8, header: u8) {
        self.set(at(bus, device, function), 0x0c, u32::from(header) << 16);
    }

    pub(crate) fn set_buses(&mut self, bus: u8, device: u8, function: u8, secondary: u8) {
        self.set(at(bus, device, function), 0x18, u32::from(secondary) << 8);
    }

    /// Makes a base address register whose lowest bits are fixed. A register that follows one of
    /// 64 bits takes all bits.
    pub(crate) fn set_bar(&mut self, address: Address, index: u8, value: u32, mask: u32) {
        self.set(address, 0x10 + 4 * index, value);
        self.masks.insert((address, 0x10 + 4 * index), mask);
    }
}

impl ConfigSpace for FakeSpace {
    fn read(&self, address: Address, offset: u8) -> u32 {
        self.words
            .borrow()
            .get(&(address, offset))
            .copied()
            .unwrap_or(u32::MAX)
    }

    fn write(&self, address: Address, offset: u8, value: u32) {
        let mut words = self.words.borrow_mut();
        let Some(word) = words.get_mut(&(address, offset)) else {
            return;
        };
        let is_bar = (0x10..0x28).contains(&offset);
        let mask = self.masks.get(&(address, offset)).copied();
        let mask = mask.unwrap_or(if is_bar { 0 } else { u32::MAX });
        // Flags at the bottom of a register are fixed; an upper half has none.
        let has_flags = is_bar && mask != u32::MAX;
        *word = if has_flags {
            value & mask & !0xf | *word & 0xf & mask
        } else {
            value & mask
        };
    }
}

/// A configuration space of random bytes; writes change nothing.
pub(crate) struct Noise(pub(crate) u64);

impl ConfigSpace for Noise {
    fn read(&self, address: Address, offset: u8) -> u32 {
        let Address {
            bus,
            device,
            function,
        } = address;
        let place = u64::from(u32::from_le_bytes([bus, device, function, offset]));
        // SplitMix64, by its published constants.
        let mut word = (self.0 ^ place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ word >> 31) as u32
    }

    fn write(&self, _address: Address, _offset: u8, _value: u32) {}
}
