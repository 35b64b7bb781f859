//! Shared memory and device registers in this process's address space.
//!
//! [`Mapping`] maps a memory object for as long as it lives and gives checked access to its bytes.
//! All access is volatile or atomic, each in one instruction of exactly the asked width, so the
//! same type serves rings shared with another process and registers of a device. The other side
//! may write at any moment: read a value once, check the copy, use the copy.
//!
//! Addresses come from [`Reservation`]s in the upper part of [`skink_abi::layout::MAPPINGS`]; the first
//! [`FIXED_BYTES`] stay for what a parent places there before the program starts.

#[cfg(not(bare))]
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64};

use skink_abi::PAGE_SIZE;
#[cfg(bare)]
use skink_abi::layout;

use crate::{Error, Handle, MapFlags, Memory, Result};

mod ranges;

pub use ranges::Ranges;

/// Bytes at the start of [`skink_abi::layout::MAPPINGS`] that are never reserved here.
pub const FIXED_BYTES: u64 = 1 << 30;

/// Base of a mapping without bytes: aligned, as any base.
#[cfg(not(bare))]
const NOWHERE: *mut u8 = core::ptr::without_provenance_mut(PAGE_SIZE);

/// Unmapped pages behind each reservation, so that running past one end faults.
#[cfg(bare)]
const GUARD_PAGES: u64 = 1;

#[cfg(bare)]
static RANGES: spin::Mutex<Ranges> = spin::Mutex::new(Ranges::new(
    layout::MAPPINGS + FIXED_BYTES,
    layout::MAPPINGS_END,
));

/// A range of addresses that nothing else in this process uses. Nothing is mapped there yet.
#[derive(Debug)]
pub struct Reservation {
    address: u64,
    pages: u64,
}

impl Reservation {
    /// Reserves room for `pages` pages.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for no pages, `NoMemory` when the room is used up.
    #[cfg(bare)]
    pub fn new(pages: u64) -> Result<Self> {
        let total = pages
            .checked_add(GUARD_PAGES)
            .ok_or(Error::InvalidArgument)?;
        if pages == 0 {
            return Err(Error::InvalidArgument);
        }
        let address = RANGES.lock().take(total).ok_or(Error::NoMemory)?;
        Ok(Reservation { address, pages })
    }

    /// Fails: on the host there is no address space to reserve from.
    ///
    /// # Errors
    ///
    /// Always `InvalidSyscall`.
    #[cfg(not(bare))]
    pub fn new(_pages: u64) -> Result<Self> {
        Err(Error::InvalidSyscall)
    }

    /// Returns the first address.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Returns the number of pages.
    pub fn pages(&self) -> u64 {
        self.pages
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        #[cfg(bare)]
        RANGES
            .lock()
            .give_back(self.address, self.pages + GUARD_PAGES);
    }
}

/// Who frees the bytes of a mapping.
#[derive(Debug)]
#[cfg_attr(
    not(bare),
    expect(dead_code, reason = "kept for what dropping it does")
)]
enum Owner {
    /// Mapped by this value, unmapped when it is dropped.
    Mapped(Reservation),
    /// Mapped by whoever started the process; stays.
    Given,
    /// Memory of the host, for tests.
    #[cfg(not(bare))]
    Heap(Arc<HostPages>),
}

/// A memory object in this process's space, with checked access to its bytes.
#[derive(Debug)]
pub struct Mapping {
    base: *mut u8,
    bytes: usize,
    owner: Owner,
}

// SAFETY: the bytes are reached by volatile and atomic accesses only, as shared memory must be;
// which thread does it makes no difference.
unsafe impl Send for Mapping {}
// SAFETY: as above; no method gives out a plain reference to the bytes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the whole object.
    ///
    /// # Errors
    ///
    /// `MissingRight` when the flags ask for more than the handle allows, `NoMemory`.
    pub fn map(memory: &Handle<Memory>, flags: MapFlags) -> Result<Self> {
        let pages = memory.info()?.pages;
        Self::map_part(memory, 0, pages, flags)
    }

    /// Maps `pages` pages of the object from `first_page` on.
    ///
    /// # Errors
    ///
    /// As [`Mapping::map`], and `InvalidArgument` past the end.
    #[cfg(bare)]
    pub fn map_part(
        memory: &Handle<Memory>,
        first_page: u64,
        pages: u64,
        flags: MapFlags,
    ) -> Result<Self> {
        let place = Reservation::new(pages)?;
        let process = crate::startup::process();
        process.map_one(place.address(), memory, first_page, pages, flags)?;
        let base = core::ptr::with_exposed_provenance_mut::<u8>(place.address() as usize);
        let bytes = pages as usize * PAGE_SIZE;
        Ok(Mapping {
            base,
            bytes,
            owner: Owner::Mapped(place),
        })
    }

    /// Fails: on the host there are no memory objects. Use [`Mapping::on_heap`].
    ///
    /// # Errors
    ///
    /// Always `InvalidSyscall`.
    #[cfg(not(bare))]
    pub fn map_part(
        _memory: &Handle<Memory>,
        _first_page: u64,
        pages: u64,
        _flags: MapFlags,
    ) -> Result<Self> {
        let place = Reservation::new(pages)?;
        Ok(Mapping {
            base: NOWHERE,
            bytes: 0,
            owner: Owner::Mapped(place),
        })
    }

    /// Returns the state region of this service, or `None` when its manifest asks for none.
    #[cfg(bare)]
    pub fn state_region() -> Option<Self> {
        let header = crate::startup::header();
        if header.state_start == 0 || header.state_bytes == 0 {
            return None;
        }
        let base = core::ptr::with_exposed_provenance_mut::<u8>(header.state_start as usize);
        Some(Mapping {
            base,
            bytes: header.state_bytes as usize,
            owner: Owner::Given,
        })
    }

    /// Returns nothing: on the host there is no state region.
    #[cfg(not(bare))]
    pub fn state_region() -> Option<Self> {
        None::<Owner>.map(|owner| Mapping {
            base: NOWHERE,
            bytes: 0,
            owner,
        })
    }

    /// Makes zero-filled memory that behaves like a mapped object, for tests on the host.
    #[cfg(not(bare))]
    pub fn on_heap(bytes: usize) -> Self {
        let pages = Arc::new(HostPages::new(bytes));
        Mapping {
            base: pages.start(),
            bytes,
            owner: Owner::Heap(pages),
        }
    }

    /// Returns a second view of memory made by [`Mapping::on_heap`], as a peer would have it;
    /// `None` for other memory.
    #[cfg(not(bare))]
    pub fn alias(&self) -> Option<Self> {
        match &self.owner {
            Owner::Heap(pages) => Some(Mapping {
                base: self.base,
                bytes: self.bytes,
                owner: Owner::Heap(Arc::clone(pages)),
            }),
            Owner::Mapped(_) | Owner::Given => None,
        }
    }

    /// Returns the number of bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the first address, to be passed on as a number.
    pub fn address(&self) -> u64 {
        self.base.expose_provenance() as u64
    }

    /// Returns a word that both sides change atomically.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` past the end or misaligned.
    pub fn atomic_u32(&self, offset: usize) -> Result<&AtomicU32> {
        let word = self.at::<u32>(offset)?;
        // SAFETY: aligned and within the mapping, which lives as long as `self`; all accesses to
        // shared memory are atomic or volatile.
        Ok(unsafe { AtomicU32::from_ptr(word) })
    }

    /// Returns a double word that both sides change atomically.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` past the end or misaligned.
    pub fn atomic_u64(&self, offset: usize) -> Result<&AtomicU64> {
        let word = self.at::<u64>(offset)?;
        // SAFETY: as in `atomic_u32`.
        Ok(unsafe { AtomicU64::from_ptr(word) })
    }

    /// Returns all whole double words, which both sides change atomically.
    #[inline]
    pub fn atomic_words(&self) -> &[AtomicU64] {
        debug_assert!(
            self.base.addr().is_multiple_of(PAGE_SIZE),
            "mapped by pages"
        );
        // SAFETY: mappings start with a page, and these words are all within it, which lives as
        // long as `self`; all accesses to shared memory are atomic or volatile.
        unsafe { core::slice::from_raw_parts(self.base.cast(), self.bytes / 8) }
    }

    /// Copies bytes out.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` past the end; nothing is copied then.
    pub fn read_bytes(&self, offset: usize, into: &mut [u8]) -> Result<()> {
        self.check(offset, into.len())?;
        let (words, rest) = into.as_chunks_mut::<8>();
        let (mut at, wide) = (offset, offset.is_multiple_of(8));
        for word in words {
            if wide {
                *word = self.read_u64(at)?.to_le_bytes();
            } else {
                self.read_single(at, word)?;
            }
            at += 8;
        }
        self.read_single(at, rest)
    }

    /// Copies bytes in.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` past the end; nothing is copied then.
    pub fn write_bytes(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.check(offset, bytes.len())?;
        let (words, rest) = bytes.as_chunks::<8>();
        let (mut at, wide) = (offset, offset.is_multiple_of(8));
        for word in words {
            if wide {
                self.write_u64(at, u64::from_le_bytes(*word))?;
            } else {
                self.write_single(at, word)?;
            }
            at += 8;
        }
        self.write_single(at, rest)
    }

    fn read_single(&self, offset: usize, into: &mut [u8]) -> Result<()> {
        for (i, byte) in into.iter_mut().enumerate() {
            *byte = self.read_u8(offset + i)?;
        }
        Ok(())
    }

    fn write_single(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        for (i, byte) in bytes.iter().enumerate() {
            self.write_u8(offset + i, *byte)?;
        }
        Ok(())
    }

    fn check(&self, offset: usize, bytes: usize) -> Result<()> {
        match offset.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(()),
            _ => Err(Error::InvalidArgument),
        }
    }

    /// Returns a pointer to an aligned `T` within the mapping.
    fn at<T>(&self, offset: usize) -> Result<*mut T> {
        self.check(offset, size_of::<T>())?;
        let pointer = self.base.wrapping_add(offset).cast::<T>();
        if pointer.is_aligned() {
            Ok(pointer)
        } else {
            Err(Error::InvalidArgument)
        }
    }
}

macro_rules! volatile_access {
    ($($type:ident $read:ident $write:ident;)*) => {
        impl Mapping {
            $(
                /// Reads one value, in one access of its width.
                ///
                /// # Errors
                ///
                /// `InvalidArgument` past the end or misaligned.
                pub fn $read(&self, offset: usize) -> Result<$type> {
                    let pointer = self.at::<$type>(offset)?;
                    // SAFETY: aligned and within the mapping, which lives as long as `self`; any
                    // bytes are a valid integer.
                    Ok(unsafe { pointer.read_volatile() })
                }

                /// Writes one value, in one access of its width. Memory that was mapped read
                /// only faults, as any wild write does.
                ///
                /// # Errors
                ///
                /// `InvalidArgument` past the end or misaligned.
                pub fn $write(&self, offset: usize, value: $type) -> Result<()> {
                    let pointer = self.at::<$type>(offset)?;
                    // SAFETY: as for reading; no reference to these bytes exists.
                    unsafe { pointer.write_volatile(value) };
                    Ok(())
                }
            )*
        }
    };
}

volatile_access! {
    u8 read_u8 write_u8;
    u16 read_u16 write_u16;
    u32 read_u32 write_u32;
    u64 read_u64 write_u64;
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[cfg(bare)]
        if let Owner::Mapped(place) = &self.owner {
            // The range was mapped by this value as a whole, so unmapping it cannot be refused;
            // were it refused, the range would only stay mapped.
            let _ = crate::startup::process().unmap(place.address(), place.pages());
        }
    }
}

/// Zeroed, page-aligned memory of the host.
#[cfg(not(bare))]
#[derive(Debug)]
struct HostPages {
    pages: alloc::boxed::Box<[core::cell::UnsafeCell<HostPage>]>,
}

#[cfg(not(bare))]
#[derive(Debug)]
#[repr(C, align(4096))]
struct HostPage([u8; PAGE_SIZE]);

// SAFETY: only a `Mapping` reaches the bytes, by volatile and atomic accesses.
#[cfg(not(bare))]
unsafe impl Send for HostPages {}
// SAFETY: as above.
#[cfg(not(bare))]
unsafe impl Sync for HostPages {}

#[cfg(not(bare))]
impl HostPages {
    fn new(bytes: usize) -> Self {
        let pages = bytes.div_ceil(PAGE_SIZE);
        let fresh = || core::cell::UnsafeCell::new(HostPage([0; PAGE_SIZE]));
        HostPages {
            pages: (0..pages).map(|_| fresh()).collect(),
        }
    }

    fn start(&self) -> *mut u8 {
        self.pages.as_ptr().cast::<u8>().cast_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::Mapping;
    use crate::Error;

    #[test]
    fn both_views_see_the_same_bytes() {
        let ours = Mapping::on_heap(4096);
        let theirs = ours.alias().unwrap();
        ours.write_u32(8, 0x0403_0201).unwrap();
        assert_eq!(theirs.read_u8(9), Ok(2));
        assert_eq!(theirs.read_u16(10), Ok(0x0403));
        theirs
            .atomic_u64(16)
            .unwrap()
            .store(7, core::sync::atomic::Ordering::Release);
        assert_eq!(ours.read_u64(16), Ok(7));
    }

    #[test]
    fn copies_at_any_offset_and_length() {
        let memory = Mapping::on_heap(4096);
        let bytes: [u8; 29] = core::array::from_fn(|i| i as u8 + 1);
        for offset in [0, 1, 8, 4096 - 29] {
            memory.write_bytes(offset, &bytes).unwrap();
            let mut back = [0; 29];
            memory.read_bytes(offset, &mut back).unwrap();
            assert_eq!(back, bytes);
        }
    }

    #[test]
    fn out_of_range_and_misaligned_access_is_refused() {
        let memory = Mapping::on_heap(4096);
        assert_eq!(memory.read_u32(4093), Err(Error::InvalidArgument));
        assert_eq!(memory.read_u32(2), Err(Error::InvalidArgument));
        assert_eq!(memory.read_u64(usize::MAX - 3), Err(Error::InvalidArgument));
        assert_eq!(
            memory.write_bytes(4090, &[0; 7]),
            Err(Error::InvalidArgument)
        );
        assert!(memory.atomic_u64(4096).is_err());
    }
}
