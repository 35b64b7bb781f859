//! Memory of programs: read and written through their page tables, never through their addresses.
//!
//! The kernel does not fault on a program's pointer: it looks the page up and copies through the
//! linear mapping. The space lock is held meanwhile, so a page cannot be taken away and used for
//! something else. A page that the pager has not brought yet is `BadAddress`; the stubs in
//! `libsys` touch it and ask again.

use skink_abi::{Error, PAGE_SIZE};
use skink_kcore::range;

use crate::arch::x86_64::paging::Access;
use crate::arch::x86_64::physical;
use crate::lock::Held;
use crate::process::Process;

/// A struct of whole words without padding, for which any bytes are a value.
///
/// # Safety
///
/// Implementer: `repr(C)`, no padding, no invalid values.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: whole words.
unsafe impl Plain for u64 {}
// SAFETY: whole words.
unsafe impl Plain for [u64; 2] {}
// SAFETY: repr(C): 8, 8, 8, 4, 4 bytes.
unsafe impl Plain for skink_abi::MapItem {}
// SAFETY: repr(C): words only.
unsafe impl Plain for skink_abi::MemoryInfo {}
// SAFETY: repr(C): 8, 8, 8, 4, 4 bytes.
unsafe impl Plain for skink_abi::PageRun {}
// SAFETY: repr(C): 4, 4, 8 bytes.
unsafe impl Plain for skink_abi::HandleInfo {}
// SAFETY: repr(C): four words and two halves.
unsafe impl Plain for skink_abi::ThreadParams {}
// SAFETY: repr(C): no padding by the sizes of its fields, asserted below.
unsafe impl Plain for skink_abi::ProcessInfo {}
// SAFETY: repr(C): words only.
unsafe impl Plain for skink_abi::SystemInfo {}
// SAFETY: repr(C): words only.
unsafe impl Plain for skink_abi::KernelStats {}
// SAFETY: repr(C): 2, 2, 1, 1, 2, 4, 4, 8, 8 bytes with no gap.
unsafe impl Plain for skink_abi::PortStream {}

// Words: id, code to faults, calls, kernel bytes to pages (11); halves: 6.
const _: () =
    assert!(size_of::<skink_abi::ProcessInfo>() == 12 * 8 + 6 * 4 + skink_abi::NAME_BYTES);
const _: () = assert!(size_of::<skink_abi::PortStream>() == 32);

/// Goes over the pieces of a user range, page by page, as physical addresses.
///
/// # Errors
///
/// `BadAddress`, or what `piece` returns. Pieces before the error were passed.
#[expect(
    clippy::too_many_arguments,
    reason = "whose memory, which part of it, and what to do"
)]
pub(crate) fn pieces<const H: u8>(
    held: &mut Held<H>,
    process: &Process,
    address: u64,
    bytes: u64,
    access: Access,
    mut piece: impl FnMut(u64, u64, u64) -> Result<(), Error>,
) -> Result<(), Error> {
    range::user_bytes(address, bytes)?;
    let tables = process.tables.lock(held);
    let mut done = 0;
    while done < bytes {
        let at = address + done;
        let length = (PAGE_SIZE as u64 - at % PAGE_SIZE as u64).min(bytes - done);
        let physical = tables.translate(at, access).ok_or(Error::BadAddress)?;
        piece(physical, done, length)?;
        done += length;
    }
    Ok(())
}

/// Reads bytes.
///
/// # Errors
///
/// `BadAddress`.
pub(crate) fn read_bytes<const H: u8>(
    held: &mut Held<H>,
    process: &Process,
    address: u64,
    buffer: &mut [u8],
) -> Result<(), Error> {
    let bytes = buffer.len() as u64;
    pieces(
        held,
        process,
        address,
        bytes,
        Access::Read,
        |physical, done, length| {
            let part = &mut buffer[done as usize..(done + length) as usize];
            // SAFETY: a mapped page of RAM under the space lock.
            unsafe { physical::read(physical, part) };
            Ok(())
        },
    )
}

/// Writes bytes.
///
/// # Errors
///
/// `BadAddress`.
pub(crate) fn write_bytes<const H: u8>(
    held: &mut Held<H>,
    process: &Process,
    address: u64,
    bytes: &[u8],
) -> Result<(), Error> {
    pieces(
        held,
        process,
        address,
        bytes.len() as u64,
        Access::Write,
        |physical, done, length| {
            let part = &bytes[done as usize..(done + length) as usize];
            // SAFETY: a page that the program itself may write, under the space lock.
            unsafe { physical::write(physical, part) };
            Ok(())
        },
    )
}

/// Reads a struct.
///
/// # Errors
///
/// `BadAddress`.
pub(crate) fn read<T: Plain, const H: u8>(
    held: &mut Held<H>,
    process: &Process,
    address: u64,
) -> Result<T, Error> {
    let mut value = core::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: zeroed, so all bytes are initialised; `Plain` allows any bytes.
    let buffer =
        unsafe { core::slice::from_raw_parts_mut(value.as_mut_ptr().cast::<u8>(), size_of::<T>()) };
    read_bytes(held, process, address, buffer)?;
    // SAFETY: `Plain`.
    Ok(unsafe { value.assume_init() })
}

/// Writes a struct.
///
/// # Errors
///
/// `BadAddress`.
pub(crate) fn write<T: Plain, const H: u8>(
    held: &mut Held<H>,
    process: &Process,
    address: u64,
    value: &T,
) -> Result<(), Error> {
    // SAFETY: `Plain` has no padding: all bytes are initialised.
    let bytes =
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>()) };
    write_bytes(held, process, address, bytes)
}
