//! Page faults as a pager sees them.

use libsys::abi::{FaultMessage, MapItem};

/// A page fault of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The badge of the sender that was set as the process's pager.
    pub badge: u64,
    /// Counts the faults; the same when redelivered.
    pub sequence: u64,
    /// Whether an earlier instance of this server died holding the fault.
    pub redelivered: bool,
    /// What was touched.
    pub message: FaultMessage,
}

/// What becomes of a fault; the number is the label of the reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Outcome {
    /// The range in the reply is mapped and the thread tries again.
    Mapped = 0,
    /// The process is ended.
    Refused = 1,
}

/// Writes a range as it lies in memory and returns how many bytes that took.
#[inline]
pub(super) fn write_item(item: &MapItem, page: &mut [u8]) -> usize {
    const BYTES: usize = size_of::<MapItem>();
    let Some(place) = page.first_chunk_mut::<BYTES>() else {
        return 0;
    };
    let rest = u64::from(item.memory) | u64::from(item.flags.0) << 32;
    let words = [item.address, item.page_offset, item.pages, rest];
    for (chunk, word) in place.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *chunk = word.to_le_bytes();
    }
    BYTES
}

#[cfg(test)]
mod tests {
    use libsys::abi::{MapFlags, MapItem};

    use super::write_item;

    #[test]
    fn an_item_is_written_as_it_lies_in_memory() {
        let item = MapItem {
            address: 0x1122_3344_5566_7788,
            page_offset: 3,
            pages: 0x0102_0304_0506_0708,
            memory: 0xaabb_ccdd,
            flags: MapFlags::READ | MapFlags::WRITE,
        };
        let mut page = [0xff; 40];
        assert_eq!(write_item(&item, &mut page), size_of::<MapItem>());
        assert_eq!(page[..8], item.address.to_ne_bytes());
        assert_eq!(page[8..16], item.page_offset.to_ne_bytes());
        assert_eq!(page[16..24], item.pages.to_ne_bytes());
        assert_eq!(page[24..28], item.memory.to_ne_bytes());
        assert_eq!(page[28..32], item.flags.0.to_ne_bytes());
        assert_eq!(page[32..], [0xff; 8]);
    }
}
