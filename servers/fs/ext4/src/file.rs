//! Contents of files and links.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;

use crate::device::{BlockReader, MAX_READ_BYTES, SECTOR_BYTES, Sink};
use crate::error::{Damage, Error, Result};
use crate::inode::{BLOCK_AREA_BYTES, Inode, Kind, Layout};
use crate::map::Run;
use crate::readahead::{Ahead, AheadState, MAX_ENTRIES};
use crate::volume::Volume;

/// Data reads that one request keeps at the device at a time.
const MAX_IN_FLIGHT: usize = 4;
/// Longest target of a link: the limit of paths.
const MAX_LINK_BYTES: u64 = 4096;

/// A stretch of a file that comes from one place.
struct Part<R: BlockReader> {
    /// First byte of the file in it.
    at: u64,
    /// Bytes of the file in it.
    bytes: u64,
    source: Source<R>,
}

enum Source<R: BlockReader> {
    Zeros,
    /// A block whose content lies in the journal; the part starts this far into it.
    Journal {
        block: u64,
        within: u64,
    },
    /// A data read that covers the part; `offset` is the part's first byte on the device.
    Device {
        offset: u64,
        read: Ahead<R>,
    },
}

/// What to do when the device has no room for a read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NoRoom {
    Wait,
    GiveUp,
}

/// Where a stretch of a file lies, before anything is read.
struct Place {
    bytes: u64,
    kind: PlaceKind,
}

enum PlaceKind {
    Zeros,
    Journal { block: u64, within: u64 },
    Device { offset: u64 },
}

impl<R: BlockReader> Volume<R> {
    /// Reads `bytes` bytes of a file from `offset` on, or as many as there are, and returns which
    /// were read.
    ///
    /// # Errors
    ///
    /// `IsADirectory`, `Unsupported` for devices and the like, `Damaged`, `Device`, `Sink`. What
    /// the sink has taken by then is right.
    pub async fn read(
        &self,
        inode: &Inode,
        offset: u64,
        bytes: u64,
        sink: &mut impl Sink,
    ) -> Result<Range<u64>> {
        match inode.kind {
            Kind::File => self.read_contents(inode, offset, bytes, sink).await,
            Kind::Directory => Err(Error::IsADirectory),
            _ => Err(Error::Unsupported("reading devices, pipes and sockets")),
        }
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    ///
    /// `NotALink`, `Damaged`, `Device`.
    pub async fn read_link(&self, inode: &Inode) -> Result<Vec<u8>> {
        const LENGTH: Error = Error::Damaged(Damage::Symlink, "impossible length");
        if inode.kind != Kind::Link {
            return Err(Error::NotALink);
        }
        if inode.bytes == 0 || inode.bytes > MAX_LINK_BYTES {
            return Err(LENGTH);
        }
        let bytes = inode.bytes as usize;
        // Short targets lie where the block numbers would be.
        if inode.layout != Layout::Inline && bytes < BLOCK_AREA_BYTES {
            return Ok(inode.block_area.get(..bytes).ok_or(LENGTH)?.to_vec());
        }
        let mut target = Vec::with_capacity(bytes);
        self.read_contents(inode, 0, inode.bytes, &mut target)
            .await?;
        Ok(target)
    }

    async fn read_contents(
        &self,
        inode: &Inode,
        offset: u64,
        bytes: u64,
        sink: &mut impl Sink,
    ) -> Result<Range<u64>> {
        let end = offset.saturating_add(bytes).min(inode.bytes);
        if offset >= end {
            return Ok(offset..offset);
        }
        if inode.layout == Layout::Inline {
            read_inline(inode, offset, end, sink)?;
            return Ok(offset..end);
        }
        let mut parts: VecDeque<Part<R>> = VecDeque::new();
        let (mut planned, mut delivered) = (offset, offset);
        let mut has_read_ahead = false;
        while delivered < end {
            while planned < end && parts.len() < MAX_IN_FLIGHT {
                // Only who holds nothing may wait: see `BlockReader::start`.
                let no_room = if parts.is_empty() {
                    NoRoom::Wait
                } else {
                    NoRoom::GiveUp
                };
                let Some(part) = self.begin_part(inode, planned, end, no_room).await? else {
                    break;
                };
                planned += part.bytes;
                parts.push_back(part);
            }
            if planned == end && !has_read_ahead {
                has_read_ahead = true;
                self.read_ahead(inode, offset, end).await;
            }
            if let Some(part) = parts.pop_front() {
                let part_bytes = part.bytes;
                assert!(part.at == delivered, "a part of a file goes elsewhere");
                self.deliver(part, delivered - offset, sink).await?;
                delivered += part_bytes;
            }
        }
        Ok(offset..delivered)
    }

    /// Finds the stretch at `at` and starts to read it. `None` when there is no room at the
    /// device now and the caller did not say to wait for it.
    async fn begin_part(
        &self,
        inode: &Inode,
        at: u64,
        end: u64,
        no_room: NoRoom,
    ) -> Result<Option<Part<R>>> {
        let place = self.place(inode, at, end).await?;
        self.verify_place(inode, at, &place).await?;
        let bytes = place.bytes;
        let offset = match place.kind {
            PlaceKind::Zeros => {
                return Ok(Some(Part {
                    at,
                    bytes,
                    source: Source::Zeros,
                }));
            }
            PlaceKind::Journal { block, within } => {
                return Ok(Some(Part {
                    at,
                    bytes,
                    source: Source::Journal { block, within },
                }));
            }
            PlaceKind::Device { offset } => offset,
        };
        let ahead = self.read_ahead.borrow_mut().take(offset);
        if let Some(read) = ahead {
            let is_in_it = (read.offset..read.offset + read.bytes).contains(&offset);
            assert!(is_in_it, "another read was taken");
            let bytes = bytes.min(read.offset + read.bytes - offset);
            return Ok(Some(Part {
                at,
                bytes,
                source: Source::Device { offset, read },
            }));
        }
        let (first, length) = whole_sectors(offset, bytes);
        let pending = match self.reader().try_start(first, length) {
            Some(pending) => pending,
            None if no_room == NoRoom::Wait => self.reader().start(first, length).await,
            None => return Ok(None),
        };
        let state = AheadState::Pending(pending);
        let read = Ahead {
            inode: inode.number,
            at,
            offset: first,
            bytes: length,
            state,
        };
        Ok(Some(Part {
            at,
            bytes,
            source: Source::Device { offset, read },
        }))
    }

    /// Finds where the stretch of a file at `at` lies. It ends with the run of blocks, at `end`
    /// or at the next multiple of [`MAX_READ_BYTES`] in the file: so parts of different requests
    /// meet at the same places and find each other's reads.
    async fn place(&self, inode: &Inode, at: u64, end: u64) -> Result<Place> {
        let block_bytes = u64::from(self.superblock().block_bytes);
        let (logical, within) = (at / block_bytes, at % block_bytes);
        let run = self.map(inode, logical).await?;
        let mut bytes = run.blocks.saturating_mul(block_bytes) - within;
        bytes = bytes.min(end - at);
        let Some(physical) = run.physical else {
            return Ok(Place {
                bytes,
                kind: PlaceKind::Zeros,
            });
        };
        bytes = bytes.min(MAX_READ_BYTES - at % MAX_READ_BYTES);
        if self.overlay().get(physical).is_some() {
            let bytes = bytes.min(block_bytes - within);
            return Ok(Place {
                bytes,
                kind: PlaceKind::Journal {
                    block: physical,
                    within,
                },
            });
        }
        let blocks = (within + bytes).div_ceil(block_bytes);
        if let Some(next) = self.overlay().next_within(physical, blocks) {
            bytes = bytes.min((next - physical) * block_bytes - within);
        }
        Ok(Place {
            bytes,
            kind: PlaceKind::Device {
                offset: physical * block_bytes + within,
            },
        })
    }

    /// Looks in another way whether a stretch begins where it is said to. If it does not, the next
    /// instance reads it.
    async fn verify_place(&self, inode: &Inode, at: u64, place: &Place) -> Result<()> {
        let block_bytes = u64::from(self.superblock().block_bytes);
        let within = at % block_bytes;
        let (physical, found_within) = match place.kind {
            PlaceKind::Zeros => (None, within),
            PlaceKind::Journal { block, within } => (Some(block), within),
            PlaceKind::Device { offset } => (Some(offset / block_bytes), offset % block_bytes),
        };
        let blocks = (within + place.bytes).div_ceil(block_bytes);
        let run = Run { blocks, physical };
        let is_there = self.has_run(inode, at / block_bytes, run).await?;
        if found_within != within || !is_there {
            log::error!("inode {}: byte {at} is elsewhere", inode.number);
            libipc::doubt_oneself("read");
        }
        Ok(())
    }

    /// Waits for a part and gives its bytes to the sink.
    async fn deliver(&self, part: Part<R>, at: u64, sink: &mut impl Sink) -> Result<()> {
        match part.source {
            Source::Zeros => sink.zero(at, part.bytes),
            Source::Journal { block, within } => {
                let block = self.block(block).await?;
                let bytes = range(block.bytes(), within, part.bytes)?;
                sink.write(at, bytes)
            }
            Source::Device { offset, read } => {
                let data = match read.state {
                    AheadState::Ready(data) => data,
                    AheadState::Pending(pending) => pending.await?,
                };
                sink.write(at, range(data.as_ref(), offset - read.offset, part.bytes)?)?;
                if offset + part.bytes < read.offset + read.bytes {
                    let window = read.at..read.at + MAX_READ_BYTES * MAX_ENTRIES as u64;
                    let state = AheadState::Ready(data);
                    self.read_ahead
                        .borrow_mut()
                        .keep(&window, Ahead { state, ..read });
                }
                Ok(())
            }
        }
    }

    /// Starts what a sequential reader will ask for next. What fails here fails again, and is
    /// told, when it is asked for.
    async fn read_ahead(&self, inode: &Inode, offset: u64, end: u64) {
        let wanted = self
            .read_ahead
            .borrow_mut()
            .streams
            .note(inode.number, offset..end);
        // A read that began before the window may still hold its first bytes.
        let window = end.saturating_sub(MAX_READ_BYTES)..wanted.end.saturating_add(MAX_READ_BYTES);
        let limit = wanted.end.min(inode.bytes);
        let mut at = wanted.start;
        while at < limit {
            let Ok(place) = self.place(inode, at, inode.bytes).await else {
                break;
            };
            if let PlaceKind::Device { offset } = place.kind
                && !self.begin_ahead(inode.number, at, offset..offset + place.bytes, &window)
            {
                break;
            }
            at += place.bytes;
        }
        self.read_ahead
            .borrow_mut()
            .streams
            .advance(inode.number, end, at);
    }

    /// Starts to read ahead a range of the device, unless that is done already. Returns whether
    /// there was room for it.
    fn begin_ahead(&self, inode: u32, at: u64, device: Range<u64>, window: &Range<u64>) -> bool {
        let mut ahead = self.read_ahead.borrow_mut();
        let covered = ahead.covered(device.start);
        if covered >= device.end - device.start {
            return true;
        }
        if !ahead.make_room(inode, window) {
            return false;
        }
        let start = device.start + covered;
        let (first, length) = whole_sectors(start, device.end - start);
        let Some(pending) = self.reader().try_start(first, length) else {
            return false;
        };
        let state = AheadState::Pending(pending);
        let read = Ahead {
            inode,
            at: at + covered,
            offset: first,
            bytes: length,
            state,
        };
        ahead.keep(window, read);
        true
    }
}

impl Sink for Vec<u8> {
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        debug_assert_eq!(at, self.len() as u64);
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn zero(&mut self, _at: u64, bytes: u64) -> Result<()> {
        let bytes = usize::try_from(bytes).map_err(|_| Error::Sink)?;
        self.resize(self.len().checked_add(bytes).ok_or(Error::Sink)?, 0);
        Ok(())
    }
}

fn read_inline(inode: &Inode, offset: u64, end: u64, sink: &mut impl Sink) -> Result<()> {
    let mut start = 0;
    for part in inode.inline_parts() {
        let part_end = start + part.len() as u64;
        let (from, to) = (offset.max(start), end.min(part_end));
        if from < to {
            sink.write(from - offset, range(part, from - start, to - from)?)?;
        }
        start = part_end;
    }
    Ok(())
}

/// Widens a range of the device to whole sectors.
fn whole_sectors(offset: u64, bytes: u64) -> (u64, u64) {
    let first = offset - offset % SECTOR_BYTES;
    (
        first,
        (offset + bytes).next_multiple_of(SECTOR_BYTES) - first,
    )
}

fn range(bytes: &[u8], at: u64, count: u64) -> Result<&[u8]> {
    let start = usize::try_from(at).map_err(|_| Error::Device)?;
    let count = usize::try_from(count).map_err(|_| Error::Device)?;
    // A device that gave fewer bytes than it was asked for has failed.
    start
        .checked_add(count)
        .and_then(|end| bytes.get(start..end))
        .ok_or(Error::Device)
}
