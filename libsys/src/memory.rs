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
        let arguments = [self.raw().0.into(), first_page, pages, 0, 0, 0];
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
        raw::plain(Syscall::MemoryInfo, [self.raw().0.into(), &raw mut info as u64, 0, 0, 0, 0])?;
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
            let arguments = [self.raw().0.into(), at, part.as_mut_ptr() as u64, bytes, 0, 0];
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
            let arguments =
                [self.raw().0.into(), at, part.as_ptr() as u64, part.len() as u64, 0, 0];
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
            raw::plain(Syscall::MemoryZero, [self.raw().0.into(), offset + done, part, 0, 0, 0])?;
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
        let arguments =
            [self.raw().0.into(), items.as_ptr() as u64, items.len() as u64, 0, 0, 0];
        match raw::plain(Syscall::MemoryMap, arguments) {
            Err(Error::BadAddress) => {
                touch(items);
                raw::plain(Syscall::MemoryMap, arguments).map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }

    /// Maps `pages` pages of `memory` at `address`.
    ///
    /// # Errors
    ///
    /// As [`Handle::<Process>::map`].
    pub fn map_one(
        &self,
        address: u64,
        memory: &Handle<Memory>,
        page_offset: u64,
        pages: u64,
        flags: MapFlags,
    ) -> Result<()> {
        self.map(&[MapItem { address, page_offset, pages, memory: memory.raw().0, flags }])
    }

    /// Unmaps a range. What is mapped with tracking must be unmapped as it was mapped.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, `NotMapped`.
    pub fn unmap(&self, address: u64, pages: u64) -> Result<()> {
        let arguments = [self.raw().0.into(), address, pages, 0, 0, 0];
        raw::plain(Syscall::MemoryUnmap, arguments).map(|_| ())
    }

    /// Changes how the mapped pages of a range may be used. Never raises more than the memory
    /// handle allowed when it was mapped.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, `MissingRight`.
    pub fn protect(&self, address: u64, pages: u64, flags: MapFlags) -> Result<()> {
        let arguments = [self.raw().0.into(), address, pages, flags.0.into(), 0, 0];
        raw::plain(Syscall::MemoryProtect, arguments).map(|_| ())
    }
}

/// Makes a copying call, and once more after touching the buffer: the kernel never faults, so a
/// page of the buffer that the pager has not brought yet must be touched first.
fn copy_touching(call: Syscall, arguments: [u64; 6], buffer: &mut [u8]) -> Result<()> {
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
fn touch<T>(items: &[T]) {
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
