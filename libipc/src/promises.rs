//! What holds for every reply of a server that is in order.
//!
//! A server whose memory was damaged may go on and answer anything. Its clients look at each reply
//! by these functions, before they use it: they say what the interface promises in words, as far
//! as it costs next to nothing to check. A reply that is merely wrong passes.

use crate::proto::disk::DiskInfo;
use crate::proto::file_system::{Attributes, Inode, MAX_LINK_BYTES, Seal, Space, Transfer};
use crate::proto::init::ServiceStatistics;
use crate::proto::memory::MemoryTotals;
use crate::proto::vfs::Written;

/// No more is read than was asked for.
pub(crate) fn read<F>(_file: F, asked: Transfer, _seal: Seal, read: &u32) -> bool {
    *read <= asked.bytes
}

/// No more is read than was asked for.
pub(crate) fn read_small<F>(
    _file: F,
    _offset: u64,
    asked: u32,
    _seal: Seal,
    content: &[u8],
) -> bool {
    content.len() <= asked as usize
}

/// All is written or nothing.
pub(crate) fn write<F>(_file: F, asked: Transfer, _seal: Seal, written: &Written) -> bool {
    written.bytes == asked.bytes && has_end(written)
}

/// All is written or nothing.
pub(crate) fn write_small<F>(
    _file: F,
    _offset: u64,
    content: &[u8],
    _seal: Seal,
    written: &Written,
) -> bool {
    written.bytes as usize == content.len() && has_end(written)
}

fn has_end(written: &Written) -> bool {
    written.offset.checked_add(written.bytes.into()).is_some()
}

/// An inode is told about that was asked for.
pub(crate) fn stat(inode: Inode, attributes: &Attributes) -> bool {
    attributes.inode == inode && has_size(attributes)
}

/// What is found has a possible size.
pub(crate) fn find<D, N>(_from: D, _name: N, attributes: &Attributes) -> bool {
    has_size(attributes)
}

/// As [`find`], in a file system.
pub(crate) fn sealed_find(
    directory: Inode,
    name: &[u8],
    _seal: Seal,
    attributes: &Attributes,
) -> bool {
    find(directory, name, attributes)
}

/// An open file has a possible size.
pub(crate) fn stat_file<F>(_file: F, attributes: &Attributes) -> bool {
    has_size(attributes)
}

/// Offsets are signed in every file system known.
fn has_size(attributes: &Attributes) -> bool {
    i64::try_from(attributes.bytes).is_ok()
}

/// A link is no longer than links can be.
pub(crate) fn read_link<L>(_link: L, target: &[u8]) -> bool {
    target.len() <= MAX_LINK_BYTES
}

/// A path without links begins at the root.
pub(crate) fn canonical(_path: &[u8], canonical: &[u8]) -> bool {
    canonical.first() == Some(&b'/')
}

/// No more is free than there is.
pub(crate) fn space(space: &Space) -> bool {
    space.free_blocks <= space.blocks && space.free_inodes <= space.inodes
}

/// No more is free than there is.
pub(crate) fn space_at(_path: &[u8], at: &Space) -> bool {
    space(at)
}

/// A disk that can be driven takes requests.
pub(crate) fn disks(disks: &[DiskInfo]) -> bool {
    disks
        .iter()
        .all(|disk| disk.sectors == 0 || (disk.depth > 0 && disk.max_sectors > 0))
}

/// No more is free than there is, and no run is longer than all of it.
pub(crate) fn totals(totals: &MemoryTotals) -> bool {
    totals.largest_free_run <= totals.free && totals.free <= totals.total
}

/// Percentiles ascend.
pub(crate) fn statistics(_name: &str, told: &ServiceStatistics) -> bool {
    told.downtime_p50_ns <= told.downtime_p99_ns && told.downtime_p99_ns <= told.downtime_max_ns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_are_bounded_by_what_was_asked(asked: u32, told: u32, offset: u64) {
            let transfer = Transfer { offset: 0, bytes: asked, buffer_offset: 0 };
            let seal = Seal::shared(Inode(1), transfer);
            prop_assert_eq!(read((), transfer, seal, &told), told <= asked);
            let written = Written { offset, bytes: told };
            let fits = offset.checked_add(told.into()).is_some();
            prop_assert_eq!(write((), transfer, seal, &written), told == asked && fits);
        }

        #[test]
        fn free_memory_is_a_part_of_all(total in 0_u64..9, free in 0_u64..9, run in 0_u64..9) {
            let told = MemoryTotals { total, free, largest_free_run: run, ..MemoryTotals::default() };
            prop_assert_eq!(totals(&told), run <= free && free <= total);
        }
    }

    #[test]
    fn percentiles_ascend() {
        let told = |p50, p99, max| ServiceStatistics {
            downtime_p50_ns: p50,
            downtime_p99_ns: p99,
            downtime_max_ns: max,
            ..ServiceStatistics::default()
        };
        assert!(statistics("", &ServiceStatistics::default()));
        assert!(statistics("", &told(1, 1, 2)));
        assert!(!statistics("", &told(2, 1, 2)));
        assert!(!statistics("", &told(1, 3, 2)));
    }

    #[test]
    fn paths_begin_at_the_root_and_links_have_a_length() {
        assert!(canonical(b"x", b"/x") && !canonical(b"x", b"x") && !canonical(b"x", b""));
        assert!(read_link((), &[0; MAX_LINK_BYTES]) && !read_link((), &[0; MAX_LINK_BYTES + 1]));
    }
}
