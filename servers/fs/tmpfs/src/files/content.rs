//! Reading, writing and resizing.

use alloc::vec::Vec;

use libipc::proto::file_system::{APPEND, FsError, Inode, Outcome};
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
    /// Reads up to `bytes` bytes, giving them to `sink` piece by piece with their place in the
    /// transfer. Returns how many there were.
    ///
    /// # Errors
    ///
    /// `IsADirectory`, `Stale`, and those of the sink.
    pub fn read(
        &self,
        inode: Inode,
        offset: u64,
        bytes: u32,
        mut sink: impl FnMut(usize, &[u8]) -> Result<(), FsError>,
    ) -> Result<u32, FsError> {
        let (size, _) = self.tree.state().file(inode.0)?;
        let bytes = u64::from(bytes).min(size.saturating_sub(offset));
        for segment in self.segments(inode, offset, bytes as usize)? {
            match segment.at {
                Some(at) => sink(segment.position, self.data.view(at..at + segment.bytes))?,
                None => {
                    for skipped in (0..segment.bytes).step_by(BLOCK_BYTES) {
                        let part = (segment.bytes - skipped).min(BLOCK_BYTES);
                        sink(segment.position + skipped, &ZEROS[..part])?;
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
    /// `TooLarge`, `IsADirectory`, `NoSpace`, `Stale`.
    pub fn truncate(&mut self, stamp: Stamp, inode: Inode, bytes: u64) -> Result<Outcome, FsError> {
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
        self.blocks.release(&freed);
        Ok(outcome)
    }

    /// Writes `bytes` bytes that `source` gives piece by piece for their place in the transfer.
    /// [`APPEND`] as offset writes at the end.
    ///
    /// # Errors
    ///
    /// `NoSpace`, `TooLarge`, `IsADirectory`, `Stale`, and those of the source. The size of the
    /// file is then as before.
    pub fn write(
        &mut self,
        stamp: Stamp,
        inode: Inode,
        (offset, bytes): (u64, u32),
        source: impl FnMut(usize, &mut [u8]) -> Result<(), FsError>,
    ) -> Result<Outcome, FsError> {
        if let Some(outcome) = self.completed(stamp) {
            return Ok(outcome);
        }
        let (size, _) = self.tree.state().file(inode.0)?;
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
        let filled = self
            .clear_behind_end(inode, size, offset)
            .and_then(|()| self.fill(inode, (offset, bytes), &fresh, source));
        let change = Change::Write {
            inode: inode.0,
            bytes: size.max(end),
            runs: Run::join(&fresh),
        };
        let result = filled.and_then(|()| self.commit(stamp, outcome, change));
        if result.is_ok() {
            let last = first_index_behind(end).saturating_sub(1);
            self.check(|tree| tree.holds(inode.0, size.max(end), last));
        } else {
            let unused: Vec<u32> = fresh.iter().map(|(_, block)| *block).collect();
            self.blocks.release(&unused);
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
        let free = self.blocks.take(places.len() - held);
        let free = free.ok_or(FsError::NoSpace)?;
        let holes = places.filter(|index| !blocks.contains_key(index));
        Ok(holes.zip(free).collect())
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
        for segment in segments(offset, bytes as usize, block_at) {
            // Every hole got a block before.
            let at = segment.at.ok_or(FsError::NoSpace)?;
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
