//! Memory objects and the address space.

use skink_abi::{MapFlags, MapItem, MemoryInfo, RawHandle, Syscall};

use crate::{Error, Handle, Memory, Process, Result, raw};

/// Most bytes that one `memory_read`, `memory_write` or `memory_zero` moves.
pub const MAX_COPY: usize = 64 * 1024;

impl Handle<Memory> {
    /// Makes an object of a part of this one.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` past the end, `NoMemory`, `TooManyHandles`.
    pub fn slice(&self, first_page: u64, pages: u64) -> Result<Handle<Memory>> {
        let arguments = [self.raw().0.into(), first_page, pages];
        let (raw, _) = raw::plain(Syscall::MemorySlice, arguments)?;
        Ok(Handle::from_raw(RawHandle(raw as u32)))
    }

    /// Tells size, references and identity, and with [`crate::Rights::DMA`] the physical address.
    ///
    /// # Errors
    ///
    /// Those of a bad handle.
    pub fn info(&self) -> Result<MemoryInfo> {
        let mut info = MemoryInfo::default();
        raw::plain(
            Syscall::MemoryInfo,
            [self.raw().0.into(), &raw mut info as u64],
        )?;
        Ok(info)
    }

    /// Copies bytes out of the object, in as many calls as it takes.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` past the end, `MissingRight`, `WrongKind` for device registers.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut at = offset;
        for part in buffer.chunks_mut(MAX_COPY) {
            let bytes = part.len() as u64;
            let arguments = [
                self.raw().0.into(),
                at,
                part.as_mut_ptr() as u64,
                bytes,
                0,
                0,
            ];
            copy_touching(Syscall::MemoryRead, arguments, part)?;
            at += bytes;
        }
        Ok(())
    }

    /// Copies bytes into the object, in as many calls as it takes.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` past the end, `MissingRight`, `WrongKind` for device registers.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut at = offset;
        for part in bytes.chunks(MAX_COPY) {
            let arguments = [
                self.raw().0.into(),
                at,
                part.as_ptr() as u64,
                part.len() as u64,
                0,
                0,
            ];
            match raw::plain(Syscall::MemoryWrite, arguments) {
                Err(Error::BadAddress) => {
                    touch(part);
                    raw::plain(Syscall::MemoryWrite, arguments)?;
                }
                other => {
                    other?;
                }
            }
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Fills a part of the object with zeros.
    ///
    /// # Errors
    ///
    /// As [`Handle::<Memory>::write`].
    pub fn zero(&self, offset: u64, bytes: u64) -> Result<()> {
        let mut done = 0;
        while done < bytes {
            let part = (bytes - done).min(MAX_COPY as u64);
            raw::plain(
                Syscall::MemoryZero,
                [self.raw().0.into(), offset + done, part],
            )?;
            done += part;
        }
        Ok(())
    }
}

impl Handle<Process> {
    /// Maps ranges into the process's space; needs [`crate::Rights::MANAGE`] on it.
    ///
    /// # Errors
    ///
    /// `AlreadyMapped`, `InvalidArgument` for a misaligned, kernel or W+X range, `NoMemory` for
    /// page tables. Items before the failing one stay mapped.
    pub fn map(&self, items: &[MapItem]) -> Result<()> {
        let mut batch = Batch::new(self);
        for item in items {
            let mut rest = *item;
            while rest.pages > 0 {
                let part = MapItem {
                    pages: rest.pages.min(most_pages(rest.flags)),
                    ..rest
                };
                batch.push(part)?;
                rest.address = rest.address.wrapping_add(part.pages * PAGE);
                rest.page_offset = rest.page_offset.wrapping_add(part.pages);
                rest.pages -= part.pages;
            }
        }
        batch.flush()
    }

    /// Maps `pages` pages of `memory` at `address`.
    ///
    /// # Errors
    ///
    /// As [`Handle::<Process>::map`].
    #[expect(clippy::too_many_arguments, reason = "the fields of a MapItem")]
    pub fn map_one(
        &self,
        address: u64,
        memory: &Handle<Memory>,
        page_offset: u64,
        pages: u64,
        flags: MapFlags,
    ) -> Result<()> {
        self.map(&[MapItem {
            address,
            page_offset,
            pages,
            memory: memory.raw().0,
            flags,
        }])
    }

    /// Unmaps a range. What is mapped with tracking must be unmapped as it was mapped.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, `NotMapped`.
    pub fn unmap(&self, address: u64, pages: u64) -> Result<()> {
        for (address, pages) in parts(address, pages) {
            let arguments = [self.raw().0.into(), address, pages];
            raw::plain(Syscall::MemoryUnmap, arguments)?;
        }
        Ok(())
    }

    /// Changes how the mapped pages of a range may be used. Never raises more than the memory
    /// handle allowed when it was mapped.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, `MissingRight`.
    pub fn protect(&self, address: u64, pages: u64, flags: MapFlags) -> Result<()> {
        for (address, pages) in parts(address, pages) {
            let arguments = [self.raw().0.into(), address, pages, flags.0.into()];
            raw::plain(Syscall::MemoryProtect, arguments)?;
        }
        Ok(())
    }
}

/// Items on their way into the kernel: as many as fit on the stack go in one crossing.
struct Batch<'a> {
    process: &'a Handle<Process>,
    items: [MapItem; BATCH],
    count: usize,
}

const BATCH: usize = 16;
const PAGE: u64 = skink_abi::PAGE_SIZE as u64;

impl<'a> Batch<'a> {
    fn new(process: &'a Handle<Process>) -> Self {
        let empty = MapItem {
            address: 0,
            page_offset: 0,
            pages: 0,
            memory: 0,
            flags: MapFlags(0),
        };
        Batch {
            process,
            items: [empty; BATCH],
            count: 0,
        }
    }

    fn push(&mut self, item: MapItem) -> Result<()> {
        if self.count == BATCH {
            self.flush()?;
        }
        self.items[self.count] = item;
        self.count += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let mut rest = &self.items[..self.count];
        while !rest.is_empty() {
            let arguments = [
                self.process.raw().0.into(),
                rest.as_ptr() as u64,
                rest.len() as u64,
                0,
                0,
                0,
            ];
            // The items lie on the stack, which is touched by writing them.
            let (done, _) = raw::plain(Syscall::MemoryMap, arguments)?;
            rest = rest.get(done as usize..).unwrap_or(&[]);
        }
        self.count = 0;
        Ok(())
    }
}

/// Returns the most pages that one item may name.
const fn most_pages(flags: MapFlags) -> u64 {
    if flags.contains(MapFlags::ZERO) {
        skink_abi::MAX_ZERO_PAGES
    } else {
        skink_abi::MAX_MAP_PAGES
    }
}

/// Cuts a range into parts that one call may name.
fn parts(address: u64, pages: u64) -> impl Iterator<Item = (u64, u64)> {
    let starts = (0..pages).step_by(skink_abi::MAX_MAP_PAGES as usize);
    starts.map(move |done| {
        let part = (pages - done).min(skink_abi::MAX_MAP_PAGES);
        (address.wrapping_add(done.wrapping_mul(PAGE)), part)
    })
}

/// Makes a copying call, and once more after touching the buffer: the kernel never faults, so a
/// page of the buffer that the pager has not brought yet must be touched first.
pub(crate) fn copy_touching(call: Syscall, arguments: [u64; 6], buffer: &mut [u8]) -> Result<()> {
    match raw::plain(call, arguments) {
        Err(Error::BadAddress) => {
            for byte in buffer.iter_mut().step_by(skink_abi::PAGE_SIZE) {
                // SAFETY: a volatile read and write of a byte that is borrowed mutably.
                unsafe { core::ptr::from_mut(byte).write_volatile(core::ptr::read_volatile(byte)) };
            }
            if let Some(last) = buffer.last_mut() {
                // SAFETY: as above.
                unsafe { core::ptr::from_mut(last).write_volatile(core::ptr::read_volatile(last)) };
            }
            raw::plain(call, arguments).map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

/// Reads a byte of every page, so that all of them are mapped.
pub(crate) fn touch<T>(items: &[T]) {
    let bytes = core::mem::size_of_val(items);
    let start = items.as_ptr().cast::<u8>();
    let mut at = 0;
    while at < bytes {
        // SAFETY: within the borrowed slice.
        unsafe { core::ptr::read_volatile(start.wrapping_add(at)) };
        at += skink_abi::PAGE_SIZE;
    }
    if bytes > 0 {
        // SAFETY: the last byte of the borrowed slice.
        unsafe { core::ptr::read_volatile(start.wrapping_add(bytes - 1)) };
    }
}
