//! A UART and a state region for tests.

use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::collections::VecDeque;

use crate::state::{RING_BYTES, WORDS};
use crate::uart::{DeviceError, Register, Uart};

/// Memory of a state region.
pub(crate) struct Region {
    pub(crate) words: Vec<AtomicU64>,
    pub(crate) ring: Vec<AtomicU8>,
}

impl Region {
    pub(crate) fn new() -> Self {
        Region {
            words: (0..WORDS).map(|_| AtomicU64::new(0)).collect(),
            ring: (0..RING_BYTES).map(|_| AtomicU8::new(0)).collect(),
        }
    }
}

/// A UART that takes `room` bytes before it is full.
pub(crate) struct FakeUart {
    sent: RefCell<Vec<u8>>,
    typed: RefCell<VecDeque<u8>>,
    pub(crate) room: Cell<usize>,
}

impl Default for FakeUart {
    fn default() -> Self {
        FakeUart {
            sent: RefCell::default(),
            typed: RefCell::default(),
            room: Cell::new(usize::MAX),
        }
    }
}

impl FakeUart {
    pub(crate) fn sent(&self) -> Vec<u8> {
        self.sent.borrow().clone()
    }

    pub(crate) fn type_in(&self, text: &[u8]) {
        self.typed.borrow_mut().extend(text);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.typed.borrow().len()
    }
}

impl Uart for FakeUart {
    fn read(&self, _register: Register) -> Result<u8, DeviceError> {
        Ok(0)
    }

    fn write(&self, _register: Register, _value: u8) -> Result<(), DeviceError> {
        Ok(())
    }

    fn send(&self, bytes: &[u8], progress: &AtomicU64) -> Result<usize, DeviceError> {
        let count = bytes.len().min(self.room.get());
        self.room.set(self.room.get() - count);
        self.sent.borrow_mut().extend_from_slice(&bytes[..count]);
        progress.fetch_add(count as u64, Ordering::AcqRel);
        Ok(count)
    }

    fn receive(&self, into: &[AtomicU8], progress: &AtomicU64) -> Result<usize, DeviceError> {
        let mut typed = self.typed.borrow_mut();
        let count = into.len().min(typed.len());
        for (place, byte) in into.iter().zip(typed.drain(..count)) {
            place.store(byte, Ordering::Release);
        }
        progress.fetch_add(count as u64, Ordering::AcqRel);
        Ok(count)
    }
}
