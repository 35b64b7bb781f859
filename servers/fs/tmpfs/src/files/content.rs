//! Reading, writing and resizing.

use alloc::vec::Vec;

use libipc::proto::file_system::{APPEND, FsError, Inode, Outcome, Seal, Transfer};
use libsys::state::StateMemory;

use super::{Stamp, TmpFs};
use crate::blocks::BLOCK_BYTES;
use crate::tree::{Change, Run, first_index_behind};

/// First offset that no file reaches: places of blocks are 32-bit numbers.
const MAX_FILE_BYTES: u64 = (u32::MAX as u64) * BLOCK_BYTES as u64;

/// What a hole reads as.
static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// A piece of a transfer that lies in one go: in the data area, or in a hole.
struct Segment {
    /// First byte in the data area; `None` in a hole.
    at: Option<usize>,
    /// First byte within the transfer.
    position: usize,
    bytes: usize,
}

impl<M: StateMemory> TmpFs<M> {
    /// Reads the part of a file under a seal, giving it to `sink` piece by piece with their place in the
    /// buffer. Returns how many bytes there were.
    ///
    /// # Errors
    ///
    /// `IsADirectory`, `Stale`, `BrokenSeal`, and those of the sink.
    pub fn read(
        &self,
        inode: Inode,
        transfer: Transfer,
        seal: Seal,
        mut sink: impl FnMut(u64, &[u8]) -> Result<(), FsError>,
    ) -> Result<u32, FsError> {
        seal.check(Seal::shared(inode, transfer))?;
        let Transfer {
            offset,
            bytes: asked,
            buffer_offset,
        } = transfer;
        let (size, _) = self.tree.state().file(inode.0)?;
        let bytes = u64::from(asked).min(size.saturating_sub(offset));
        let segments = self.segments(inode, offset, bytes as usize)?;
        self.check_length(offset, asked, bytes, size);
        self.check_segments(inode, offset, bytes as usize, &segments);
        for segment in segments {
            let place = buffer_offset
                .checked_add(segment.position as u64)
                .ok_or(FsError::BadBuffer)?;
            match segment.at {
                Some(at) => sink(place, self.data.view(at..at + segment.bytes))?,
                None => {
                    for skipped in (0..segment.bytes).step_by(BLOCK_BYTES) {
                        let part = (segment.bytes - skipped).min(BLOCK_BYTES);
                        sink(place.saturating_add(skipped as u64), &ZEROS[..part])?;
                    }
                }
            }
        }
        Ok(bytes as u32)
    }

    /// Sets the size of a file.
    ///
    /// # Errors
    ///
    /// `TooLarge`, `IsADirectory`, `NoSpace`, `Stale`, `BrokenSeal`.
    pub fn truncate(&mut self, stamp: Stamp, inode: Inode, bytes: u64) -> Result<Outcome, FsError> {
        stamp.check(Seal::truncate(inode, bytes))?;
        if let Some(outcome) = self.completed(stamp) {
            return Ok(outcome);
        }
        if bytes > MAX_FILE_BYTES {
            return Err(FsError::TooLarge);
        }
        let (size, blocks) = self.tree.state().file(inode.0)?;
        let freed: Vec<u32> = blocks
            .range(first_index_behind(bytes)..)
            .map(|(_, &block)| block)
            .collect();
        let kept = blocks.len() - freed.len();
        self.clear_behind_end(inode, size, bytes)?;
        let change = Change::Truncate {
            inode: inode.0,
            bytes,
        };
        let outcome = self.commit(
            stamp,
            Outcome {
                inode,
                offset: 0,
                bytes: 0,
            },
            change,
        )?;
        self.check(|tree| tree.ends_at(inode.0, bytes, kept));
        self.blocks.release(inode.0, &freed);
        Ok(outcome)
    }

    /// Writes bytes that `source` gives piece by piece for their place in the buffer.
    /// [`APPEND`] as offset writes at the end.
    ///
    /// # Errors
    ///
    /// `NoSpace`, `TooLarge`, `IsADirectory`, `Stale`, `BrokenSeal`, and those of the source. The size of
    /// the file is then as before.
    pub fn write(
        &mut self,
        stamp: Stamp,
        inode: Inode,
        transfer: Transfer,
        mut source: impl FnMut(u64, &mut [u8]) -> Result<(), FsError>,
    ) -> Result<Outcome, FsError> {
        stamp.check(Seal::shared(inode, transfer))?;
        let Transfer {
            offset,
            bytes,
            buffer_offset,
        } = transfer;
        // A change says where in the file, and no more.
        let stamp = Stamp {
            seal: stamp.seal.map(|seal| seal.at(buffer_offset)),
            ..stamp
        };
        if let Some(outcome) = self.completed(stamp) {
            return Ok(outcome);
        }
        let (size, blocks) = self.tree.state().file(inode.0)?;
        let held = blocks.len();
        let offset = if offset == APPEND { size } else { offset };
        let outcome = Outcome {
            inode,
            offset,
            bytes,
        };
        if bytes == 0 {
            return Ok(outcome);
        }
        let end = offset
            .checked_add(bytes.into())
            .filter(|&end| end <= MAX_FILE_BYTES);
        let end = end.ok_or(FsError::TooLarge)?;
        let fresh = self.take_blocks(inode, offset, end)?;
        let filled = self.clear_behind_end(inode, size, offset).and_then(|()| {
            self.fill(inode, (offset, bytes), &fresh, |position, place| {
                source(buffer_offset.saturating_add(position as u64), place)
            })
        });
        let change = Change::Write {
            inode: inode.0,
            bytes: size.max(end),
            runs: Run::join(&fresh),
        };
        let result = filled.and_then(|()| self.commit(stamp, outcome, change));
        if result.is_ok() {
            // The last place, and the first one that got a block.
            let last = first_index_behind(end).saturating_sub(1);
            let first = fresh.first().map_or(last, |(index, _)| *index);
            let measure = (size.max(end), held + fresh.len());
            self.check_written(inode, measure, last);
            if first != last {
                self.check_written(inode, measure, first);
            }
        } else {
            let unused: Vec<u32> = fresh.iter().map(|(_, block)| *block).collect();
            self.blocks.release(inode.0, &unused);
        }
        result
    }

    /// Takes a block for every hole between two offsets, in the order of places.
    fn take_blocks(
        &mut self,
        inode: Inode,
        offset: u64,
        end: u64,
    ) -> Result<Vec<(u32, u32)>, FsError> {
        let (_, blocks) = self.tree.state().file(inode.0)?;
        let first = first_index_behind(offset / BLOCK_BYTES as u64 * BLOCK_BYTES as u64);
        let places = first..first_index_behind(end);
        let held = blocks.range(places.clone()).count();
        let needed = places.len() - held;
        let is_hole = |index: &u32| !blocks.contains_key(index);
        let holes: Vec<u32> = places.filter(is_hole).collect();
        let fresh = self.blocks.take(inode.0, &holes).ok_or(FsError::NoSpace)?;
        assert!(fresh.len() == needed, "not every hole got one block");
        Ok(fresh)
    }

    /// Fills old and fresh blocks with the bytes of a write.
    fn fill(
        &mut self,
        inode: Inode,
        (offset, bytes): (u64, u32),
        fresh: &[(u32, u32)],
        mut source: impl FnMut(usize, &mut [u8]) -> Result<(), FsError>,
    ) -> Result<(), FsError> {
        let end = offset + u64::from(bytes);
        for &(index, block) in fresh {
            let start = u64::from(index) * BLOCK_BYTES as u64;
            let is_covered = start >= offset && start + BLOCK_BYTES as u64 <= end;
            if !is_covered {
                self.data.write(block as usize * BLOCK_BYTES, &ZEROS);
            }
        }
        let (_, held) = self.tree.state().file(inode.0)?;
        let block_at = |index| {
            let found = fresh.binary_search_by_key(&index, |(index, _)| *index);
            found.map_or_else(|_| held.get(&index).copied(), |i| Some(fresh[i].1))
        };
        let segments = segments(offset, bytes as usize, block_at);
        self.check_segments(inode, offset, bytes as usize, &segments);
        for segment in segments {
            // Every hole got a block before.
            let Some(at) = segment.at else {
                panic!("a hole got no block");
            };
            self.data
                .edit(at, segment.bytes, |place| source(segment.position, place))?;
        }
        Ok(())
    }

    /// Zeros what lies behind the end of a file in its last block, as far as `to`: those bytes
    /// are about to become part of the file.
    fn clear_behind_end(&mut self, inode: Inode, size: u64, to: u64) -> Result<(), FsError> {
        let within = size % BLOCK_BYTES as u64;
        let (_, blocks) = self.tree.state().file(inode.0)?;
        let index = first_index_behind(size).saturating_sub(1);
        if let Some(&block) = blocks.get(&index).filter(|_| to > size && within > 0) {
            let bytes = (BLOCK_BYTES as u64 - within).min(to - size) as usize;
            let at = block as usize * BLOCK_BYTES + within as usize;
            self.data.write(at, &ZEROS[..bytes]);
        }
        Ok(())
    }

    /// Looks whether as much is read as was asked for, or all that there is.
    ///
    /// # Panics
    ///
    /// When it is not.
    #[inline(never)]
    fn check_length(&self, offset: u64, asked: u32, bytes: u64, size: u64) {
        let is_all = offset.checked_add(bytes) == Some(size) || (bytes == 0 && offset > size);
        assert!(
            bytes == u64::from(asked) && offset + bytes <= size || is_all,
            "too little is read, or too much"
        );
    }

    /// Looks whether pieces make up a transfer, and lie in the blocks that hold its places.
    ///
    /// # Panics
    ///
    /// When they do not, or blocks and tree disagree.
    #[inline(never)]
    fn check_segments(&self, inode: Inode, offset: u64, bytes: usize, segments: &[Segment]) {
        let mut place = offset;
        for segment in segments {
            let behind = place + segment.bytes as u64;
            let is_held = |at: usize, place: u64| {
                let index = (place / BLOCK_BYTES as u64) as u32;
                self.blocks.holds(at / BLOCK_BYTES, inode.0, index)
                    && (at as u64 ^ place).is_multiple_of(BLOCK_BYTES as u64)
            };
            let is_right = match segment.at {
                Some(at) => {
                    let is_within =
                        place % BLOCK_BYTES as u64 + segment.bytes as u64 <= BLOCK_BYTES as u64;
                    is_held(at, place) && (is_within || is_held(at + segment.bytes - 1, behind - 1))
                }
                None => self.is_hole(inode, place, behind),
            };
            assert!(
                is_right && segment.position as u64 == place - offset,
                "another place"
            );
            place = behind;
        }
        assert!(place - offset == bytes as u64, "pieces are missing");
    }

    /// Returns whether the bytes between two places have no block. Looks for the first block from there
    /// on, which is another search than the one for a block, and whether any block is of there.
    #[cold]
    fn is_hole(&self, inode: Inode, place: u64, behind: u64) -> bool {
        let first = (place / BLOCK_BYTES as u64) as u32;
        let end = first_index_behind(behind);
        let file = self.tree.state().file(inode.0);
        let has_none = file.is_ok_and(|(_, blocks)| {
            let next = blocks.range(first..).next();
            next.is_none_or(|(next, _)| *next >= end)
        });
        has_none && !self.blocks.hold_any(inode.0, first..end)
    }

    /// Looks whether a file has this size now, this many blocks and the block of this place.
    ///
    /// # Panics
    ///
    /// When it has not.
    fn check_written(&self, inode: Inode, measure: (u64, usize), index: u32) {
        let holds = |block: u32| self.blocks.holds(block as usize, inode.0, index);
        self.check(|tree| tree.holds(inode.0, measure, index, holds));
    }

    fn segments(&self, inode: Inode, offset: u64, bytes: usize) -> Result<Vec<Segment>, FsError> {
        let (_, blocks) = self.tree.state().file(inode.0)?;
        Ok(segments(offset, bytes, |index| blocks.get(&index).copied()))
    }
}

/// Splits a transfer into pieces that lie in one go.
fn segments(offset: u64, bytes: usize, block_at: impl Fn(u32) -> Option<u32>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut position = 0;
    while position < bytes {
        let place = offset + position as u64;
        let within = (place % BLOCK_BYTES as u64) as usize;
        let part = (BLOCK_BYTES - within).min(bytes - position);
        let block = block_at((place / BLOCK_BYTES as u64) as u32);
        let at = block.map(|block| block as usize * BLOCK_BYTES + within);
        match segments.last_mut() {
            Some(last) if last.at.map(|at| at + last.bytes) == at => last.bytes += part,
            _ => segments.push(Segment {
                at,
                position,
                bytes: part,
            }),
        }
        position += part;
    }
    segments
}
