//! Physical memory for host tests.

use crate::PhysicalMemory;

/// Memory from address 0 up to a size.
#[derive(Debug)]
pub(crate) struct FakeMemory(Vec<u8>);

impl FakeMemory {
    pub(crate) fn new(len: usize) -> Self {
        Self(vec![0; len])
    }

    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) {
        self.bytes_mut(at, bytes.len() as u64)
            .expect("inside")
            .copy_from_slice(bytes);
    }
}

fn range(start: u64, len: u64) -> Option<std::ops::Range<usize>> {
    Some(usize::try_from(start).ok()?..usize::try_from(start.checked_add(len)?).ok()?)
}

impl PhysicalMemory for FakeMemory {
    fn bytes(&self, start: u64, len: u64) -> Option<&[u8]> {
        self.0.get(range(start, len)?)
    }

    fn bytes_mut(&mut self, start: u64, len: u64) -> Option<&mut [u8]> {
        self.0.get_mut(range(start, len)?)
    }

    fn copy(&mut self, from: u64, to: u64, len: u64) -> Option<()> {
        let (from, to) = (range(from, len)?, range(to, len)?);
        if from.end > self.0.len() || to.end > self.0.len() {
            return None;
        }
        self.0.copy_within(from, to.start);
        Some(())
    }
}
