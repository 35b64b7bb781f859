//! The kernel's first page tables: four levels, W^X, built in frames of the loader.

use crate::elf::Access;
use crate::{Frames, LoadError, PAGE, PhysicalMemory};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const ENTRIES: u64 = 512;

/// Bytes that one entry of a level-4 table covers.
pub const SLOT: u64 = 1 << 39;

/// Size of the pages of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    Large,
    /// 1 GiB, where the CPU has it.
    Huge,
}

impl PageSize {
    /// Returns the size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.shift()
    }

    const fn shift(self) -> u32 {
        match self {
            Self::Small => 12,
            Self::Large => 21,
            Self::Huge => 30,
        }
    }
}

/// A page-table tree under construction.
#[derive(Debug)]
pub struct AddressSpace {
    root: u64,
}

impl AddressSpace {
    /// Starts with an empty level-4 table.
    ///
    /// # Errors
    /// [`LoadError::OutOfMemory`].
    pub fn new(memory: &mut impl PhysicalMemory, frames: &mut Frames) -> Result<Self, LoadError> {
        Ok(Self {
            root: frames.allocate(memory, 1)?,
        })
    }

    /// Returns the physical address of the level-4 table.
    #[must_use]
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Maps `bytes` of physical memory from `physical` on at `address`. All three are multiples
    /// of the page size.
    ///
    /// # Errors
    /// [`LoadError::AddressTaken`] when a page is mapped already, [`LoadError::OutOfMemory`].
    pub fn map(
        &self,
        memory: &mut impl PhysicalMemory,
        frames: &mut Frames,
        mapping: Mapping,
    ) -> Result<(), LoadError> {
        let step = mapping.size.bytes();
        let mut done = 0;
        while done < mapping.bytes {
            let address = mapping.address.checked_add(done);
            let address = address.ok_or(LoadError::AddressTaken(mapping.address))?;
            let entry = self.entry(memory, frames, address, mapping.size)?;
            if read(memory, entry)? & PRESENT != 0 {
                return Err(LoadError::AddressTaken(address));
            }
            let flags = match mapping.access {
                Access::Read => PRESENT | NO_EXECUTE,
                Access::Write => PRESENT | WRITABLE | NO_EXECUTE,
                Access::Execute => PRESENT,
            };
            let large = if mapping.size == PageSize::Small {
                0
            } else {
                LARGE
            };
            write(memory, entry, (mapping.physical + done) | flags | large)?;
            done += step;
        }
        Ok(())
    }

    /// Makes the tree see itself through one entry of the level-4 table.
    ///
    /// # Errors
    /// [`LoadError::AddressTaken`].
    pub fn map_recursive(
        &self,
        memory: &mut impl PhysicalMemory,
        slot: u16,
    ) -> Result<(), LoadError> {
        let entry = self.root + u64::from(slot) % ENTRIES * 8;
        if read(memory, entry)? & PRESENT != 0 {
            return Err(LoadError::AddressTaken(slot_address(slot)));
        }
        write(memory, entry, self.root | PRESENT | WRITABLE | NO_EXECUTE)
    }

    /// Returns the first entry of the level-4 table in a range of entries that is not in use.
    #[must_use]
    pub fn free_slot(
        &self,
        memory: &impl PhysicalMemory,
        mut slots: core::ops::Range<u16>,
    ) -> Option<u16> {
        slots.find(|&slot| memory.read_u64(self.root + u64::from(slot) * 8) == Some(0))
    }

    /// Walks down to the entry that maps a page of a size, making tables on the way.
    fn entry(
        &self,
        memory: &mut impl PhysicalMemory,
        frames: &mut Frames,
        address: u64,
        size: PageSize,
    ) -> Result<u64, LoadError> {
        let mut table = self.root;
        let mut shift = 39;
        loop {
            let entry = table + ((address >> shift) % ENTRIES) * 8;
            if shift == size.shift() {
                return Ok(entry);
            }
            let mut value = read(memory, entry)?;
            if value & PRESENT == 0 {
                value = frames.allocate(memory, 1)? | PRESENT | WRITABLE;
                write(memory, entry, value)?;
            } else if value & LARGE != 0 {
                return Err(LoadError::AddressTaken(address));
            }
            table = value & ADDRESS;
            shift -= 9;
        }
    }
}

/// A range to map.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// Virtual address.
    pub address: u64,
    /// Physical address.
    pub physical: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// Size of the pages to use.
    pub size: PageSize,
    /// Access rights.
    pub access: Access,
}

impl Mapping {
    /// Returns a mapping by 4 KiB pages that covers all bytes from `physical` on.
    #[must_use]
    pub fn small(address: u64, physical: u64, bytes: u64, access: Access) -> Self {
        let bytes = bytes.next_multiple_of(PAGE);
        Self {
            address,
            physical,
            bytes,
            size: PageSize::Small,
            access,
        }
    }
}

/// Returns the canonical address that an entry of the level-4 table starts at.
#[must_use]
pub const fn slot_address(slot: u16) -> u64 {
    let address = (slot as u64 % ENTRIES) * SLOT;
    if slot as u64 >= ENTRIES / 2 {
        address | 0xffff_0000_0000_0000
    } else {
        address
    }
}

fn read(memory: &impl PhysicalMemory, at: u64) -> Result<u64, LoadError> {
    memory.read_u64(at).ok_or(LoadError::OutOfMemory)
}

fn write(memory: &mut impl PhysicalMemory, at: u64, value: u64) -> Result<(), LoadError> {
    memory.write_u64(at, value).ok_or(LoadError::OutOfMemory)
}
