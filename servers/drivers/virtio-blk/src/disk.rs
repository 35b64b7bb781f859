//! A disk as the block server sees it: requests on registered buffers.
//!
//! Every request is answered exactly once: by what [`Disk::accept`] returns, or, when that is
//! [`Accepted::Started`], by [`Disk::poll`]. A device that misbehaves is reset and gets its unfinished
//! requests again; reads, writes and flushes may be done twice without harm as long as their
//! issuer has not been told that they are done.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use libipc::proto::block::{BufferId, IoError, Operation, Receipt, Request, SECTOR_BYTES};

use crate::{Completion, Device, Fault, Geometry, Kind, Registers, Told, Transfer};

/// Most buffers that one disk has.
pub const MAX_BUFFERS: usize = 96;
/// How long a device may take without finishing anything before it is reset: longer than a real
/// disk retries, shorter than a user waits.
pub const STALL_NS: u64 = 20_000_000_000;
/// Resets without any request finished in between before the device is given up.
const MAX_RESETS: u32 = 3;

/// Memory that requests may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// Physical address.
    pub physical: u64,
    /// Size.
    pub bytes: u64,
    /// Whether the device may write to it.
    pub is_writable: bool,
}

/// What became of a request that was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepted {
    /// The device has it.
    Started,
    /// It is done: there was nothing to do.
    Finished,
}

/// A request that is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Done {
    /// The number that came with the request.
    pub token: u64,
    /// How it went, and what the device was told to transfer.
    pub outcome: Result<Receipt, IoError>,
}

#[derive(Debug)]
struct Registered {
    buffer: Buffer,
    /// Transfers at the device that use it.
    uses: usize,
}

/// A device and the buffers for it.
#[derive(Debug)]
pub struct Disk<R> {
    device: Device<R>,
    buffers: BTreeMap<u32, Registered>,
    /// Resets since the last request was finished.
    resets: u32,
    is_gone: bool,
    is_stuck: bool,
    last_token: u64,
    /// When a request was last finished, or the device last had nothing to do.
    progress_ns: u64,
}

impl<R: Registers> Disk<R> {
    /// Makes a disk of a device that is set up.
    pub fn new(device: Device<R>) -> Self {
        Disk {
            device,
            buffers: BTreeMap::new(),
            resets: 0,
            is_gone: false,
            is_stuck: false,
            last_token: 0,
            progress_ns: 0,
        }
    }

    /// Returns what the device is.
    pub fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    /// Returns a number for a request that no other request has.
    pub fn new_token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    /// Returns how many requests the device works on at once.
    pub fn depth(&self) -> usize {
        self.device.depth()
    }

    /// Returns how many accepted requests are not answered yet.
    pub fn in_flight(&self) -> usize {
        self.device.in_flight()
    }

    /// Returns whether the device can take another request.
    pub fn has_room(&self) -> bool {
        self.room() > 0
    }

    /// Returns how many more requests the device can take.
    pub fn room(&self) -> usize {
        self.device.depth().saturating_sub(self.device.in_flight())
    }

    /// Returns whether a transfer at the device uses the buffer.
    pub fn is_in_use(&self, buffer: BufferId) -> bool {
        self.buffers
            .get(&buffer.0)
            .is_some_and(|known| known.uses > 0)
    }

    /// Registers a buffer, in place of an earlier one of that number. Returns false, and does
    /// nothing, while the earlier one is in use or when there are too many.
    pub fn register(&mut self, id: BufferId, buffer: Buffer) -> bool {
        let is_known = self.buffers.contains_key(&id.0);
        if self.is_in_use(id) || (!is_known && self.buffers.len() >= MAX_BUFFERS) {
            return false;
        }
        self.buffers.insert(id.0, Registered { buffer, uses: 0 });
        true
    }

    /// Forgets a buffer. Returns false, and does nothing, while it is in use.
    pub fn unregister(&mut self, id: BufferId) -> bool {
        if self.is_in_use(id) {
            return false;
        }
        self.buffers.remove(&id.0);
        true
    }

    /// Returns the numbers of the registered buffers.
    pub fn buffers(&self) -> Vec<BufferId> {
        self.buffers.keys().map(|id| BufferId(*id)).collect()
    }

    /// Takes a request, when [`Disk::has_room`] said so. [`Disk::kick`] hands what was taken to
    /// the device.
    ///
    /// # Errors
    ///
    /// The answer to a request that cannot be done.
    pub fn accept(
        &mut self,
        token: u64,
        request: &Request,
        now_ns: u64,
    ) -> Result<Accepted, IoError> {
        if self.is_gone {
            return Err(IoError::Gone);
        }
        let transfer = self.transfer(token, request)?;
        if self.device.in_flight() == 0 {
            self.progress_ns = now_ns;
        }
        if transfer.kind == Kind::Flush && !self.geometry().has_cache {
            return Ok(Accepted::Finished);
        }
        if !self.device.submit(transfer) {
            return Err(IoError::Gone);
        }
        if transfer.kind != Kind::Flush
            && let Some(known) = self.buffers.get_mut(&transfer.buffer)
        {
            known.uses += 1;
        }
        Ok(Accepted::Started)
    }

    /// Tells the device about accepted requests.
    pub fn kick(&self) {
        self.device.kick();
    }

    /// Collects what was finished. Returns what the device did wrong, if anything; it has been
    /// reset, or given up, by then.
    pub fn poll(&mut self, now_ns: u64, done: &mut Vec<Done>) -> Option<Fault> {
        if self.is_gone {
            return None;
        }
        let fault = loop {
            match self.device.next_completion() {
                Ok(Some(completion)) => {
                    (self.resets, self.progress_ns) = (0, now_ns);
                    self.finish(completion, done);
                }
                Ok(None) if self.device.in_flight() == 0 => return None,
                Ok(None) => break self.stalled(now_ns)?,
                Err(fault) => break fault,
            }
        };
        self.recover(now_ns, done);
        Some(fault)
    }

    /// Returns whether the device was given up.
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Returns whether the device was given up and did not even obey its reset: it may still write
    /// to the buffers of requests that it was given, so they must not be used for anything else.
    pub fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Checks for a device that has work and does nothing. The register is only read when the
    /// device has been quiet for a while: reading it is slow.
    fn stalled(&self, now_ns: u64) -> Option<Fault> {
        let quiet_ns = now_ns.saturating_sub(self.progress_ns);
        if quiet_ns > STALL_NS {
            return Some(Fault::Stalled);
        }
        (quiet_ns > STALL_NS / 20 && self.device.needs_reset()).then_some(Fault::NeedsReset)
    }

    /// Resets the device and has it start again, or gives it up.
    fn recover(&mut self, now_ns: u64, done: &mut Vec<Done>) {
        self.resets += 1;
        self.progress_ns = now_ns;
        if self.resets <= MAX_RESETS && self.device.restart().is_ok() {
            return;
        }
        self.is_gone = true;
        self.is_stuck = !self.device.silence();
        let abandoned: Vec<Transfer> = self.device.abandon().collect();
        for transfer in abandoned {
            self.finish(
                Completion {
                    transfer,
                    told: None,
                    outcome: Err(IoError::Gone),
                },
                done,
            );
        }
    }

    fn finish(&mut self, completion: Completion, done: &mut Vec<Done>) {
        let Completion {
            transfer,
            told,
            outcome,
        } = completion;
        // What makes no sense is the receipt of nothing.
        let receipt = told.and_then(|told| self.receipt(transfer.buffer, &told));
        if transfer.kind != Kind::Flush
            && let Some(known) = self.buffers.get_mut(&transfer.buffer)
        {
            known.uses = known.uses.saturating_sub(1);
        }
        done.push(Done {
            token: transfer.token,
            outcome: outcome.map(|()| receipt.unwrap_or_default()),
        });
    }

    /// Returns the receipt for what the device was told to do with a buffer.
    #[inline(never)]
    fn receipt(&self, buffer: u32, told: &Told) -> Option<Receipt> {
        let operation = match told.kind {
            Kind::Read => Operation::Read,
            Kind::Write => Operation::Write,
            Kind::Flush => return Some(Receipt::of(&Request::flush())),
        };
        let known = &self.buffers.get(&buffer)?.buffer;
        let bytes = u64::from(told.bytes);
        bytes.is_multiple_of(SECTOR_BYTES).then(|| {
            Receipt::of(&Request {
                operation,
                buffer: BufferId(buffer),
                offset: told.physical.wrapping_sub(known.physical),
                sector: told.sector,
                sectors: bytes / SECTOR_BYTES,
            })
        })
    }

    /// Checks a request and finds where its data is.
    fn transfer(&self, token: u64, request: &Request) -> Result<Transfer, IoError> {
        let geometry = self.geometry();
        let Request {
            operation,
            buffer: id,
            offset,
            sector,
            sectors,
        } = *request;
        let kind = match operation {
            Operation::Flush => {
                let kind = Kind::Flush;
                return Ok(Transfer {
                    kind,
                    sector: 0,
                    physical: 0,
                    bytes: 0,
                    buffer: 0,
                    token,
                });
            }
            Operation::Read => Kind::Read,
            Operation::Write => Kind::Write,
        };
        if sectors == 0 || sectors > geometry.max_sectors.into() || offset % SECTOR_BYTES != 0 {
            return Err(IoError::Invalid);
        }
        if sector
            .checked_add(sectors)
            .is_none_or(|end| end > geometry.sectors)
        {
            return Err(IoError::OutOfRange);
        }
        let buffer = self.buffers.get(&id.0).ok_or(IoError::BadBuffer)?.buffer;
        let bytes = sectors * SECTOR_BYTES;
        if offset
            .checked_add(bytes)
            .is_none_or(|end| end > buffer.bytes)
        {
            return Err(IoError::BadBuffer);
        }
        let is_refused = match kind {
            Kind::Read => !buffer.is_writable,
            Kind::Write | Kind::Flush => geometry.is_read_only,
        };
        if is_refused {
            return Err(IoError::ReadOnly);
        }
        let physical = buffer
            .physical
            .checked_add(offset)
            .ok_or(IoError::BadBuffer)?;
        Ok(Transfer {
            kind,
            sector,
            physical,
            bytes: bytes as u32,
            buffer: id.0,
            token,
        })
    }
}

#[cfg(test)]
mod tests;
