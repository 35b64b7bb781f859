//! The buffer that devices read into, as bytes.
#![expect(
    unsafe_code,
    reason = "shared memory is seen as a slice, to hand it on without a copy"
)]

use libsys::mappings::Mapping;

/// A buffer for DMA that is mapped here.
pub(crate) struct DmaBuffer {
    mapping: Mapping,
}

impl DmaBuffer {
    /// Wraps the mapping of the buffer.
    pub(crate) fn new(mapping: Mapping) -> Self {
        DmaBuffer { mapping }
    }

    /// Returns a part of the buffer, empty if it goes past the end.
    ///
    /// # Safety
    ///
    /// 1. No request that reads into this part is at the block server, nor is one made while the
    ///    slice lives: it was completed, and its room was not given back yet.
    pub(crate) unsafe fn part(&self, offset: usize, bytes: usize) -> &[u8] {
        if offset
            .checked_add(bytes)
            .is_none_or(|end| end > self.mapping.bytes())
        {
            return &[];
        }
        let address = self.mapping.address() as usize + offset;
        let start = core::ptr::with_exposed_provenance::<u8>(address);
        // SAFETY: the range lies within the mapping, which lives as long as `self`; any byte is
        // valid. Nobody writes it meanwhile: this program never does, and the caller makes sure
        // that no request does. A driver that writes there against its duty can spoil file
        // contents, as it could before; no decision is taken on these bytes twice.
        unsafe { core::slice::from_raw_parts(start, bytes) }
    }
}
