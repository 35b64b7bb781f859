//! Calls on memory objects and address spaces.

use skink_abi::{Error, MapFlags, MapItem, MemoryInfo, ObjectKind, PAGE_SIZE, Rights};
use skink_kcore::Id;
use skink_kcore::handles::Entry;
use skink_kcore::range;

use super::objects::give;
use super::{Call, Result};
use crate::arch::x86_64::paging::Access;
use crate::arch::x86_64::physical;
use crate::ipc::RawHandle32;
use crate::memory::{self, MEMORIES, Memory};
use crate::process::{PROCESSES, Process};
use crate::{object, user};

/// Most bytes that one call copies.
const MAX_COPY: u64 = 64 * 1024;
/// Most items of one `memory_map` call.
const MAX_ITEMS: u64 = 64;

/// Runs `f` on the memory object that a handle names, holding a reference to it.
fn with_memory(
    call: &mut Call<'_>,
    handle: u64,
    rights: Rights,
    f: impl FnOnce(&mut Call<'_>, &'static Memory, Entry) -> Result,
) -> Result {
    let entry = {
        let handle = RawHandle32::check(handle)?;
        let handles = call.process.handles.lock(call.held);
        let entry = handles.find(handle, ObjectKind::Memory, rights)?;
        MEMORIES.retain(entry.object);
        entry
    };
    let object = MEMORIES.get(entry.object);
    let result = object.check().and_then(|()| f(call, object, entry));
    memory::release(entry.object);
    result
}

/// Finds a process that the caller may map into, with a reference.
fn take_process(call: &mut Call<'_>, handle: u64) -> core::result::Result<Id, Error> {
    let handle = RawHandle32::check(handle)?;
    let handles = call.process.handles.lock(call.held);
    let entry = handles.find(handle, ObjectKind::Process, Rights::MANAGE)?;
    PROCESSES.retain(entry.object);
    Ok(entry.object)
}

fn with_space(
    call: &mut Call<'_>,
    f: impl FnOnce(&mut Call<'_>, &'static Process) -> Result,
) -> Result {
    let id = take_process(call, call.arguments[0])?;
    let result = f(call, PROCESSES.get(id));
    object::release_process(call.held, id);
    result
}

pub(super) fn slice(call: &mut Call<'_>) -> Result {
    let [handle, first, pages, ..] = call.arguments;
    with_memory(call, handle, Rights::NONE, |call, whole, entry| {
        range::within(first, pages, whole.pages.get())?;
        let id = memory::create_slice(call.process, entry.object, first, pages)?;
        // The owner of RAM may hand a part of it to another owner; who gives slices to clients
        // leaves `OWN` out, so that their mappings are tracked.
        give(call, Entry::new(ObjectKind::Memory, entry.rights, id, 0))
    })
}

pub(super) fn info(call: &mut Call<'_>) -> Result {
    let [handle, out, ..] = call.arguments;
    with_memory(call, handle, Rights::NONE, |call, object, entry| {
        let may_know = entry.rights.contains(Rights::DMA);
        let info = MemoryInfo {
            pages: object.pages.get(),
            physical: if may_know {
                object.start.get()
            } else {
                u64::MAX
            },
            // Without the one that is held for this call.
            references: u64::from(MEMORIES.references(entry.object) - 1),
            identity: object.identity.get(),
            is_ram: object.is_ram().into(),
        };
        user::write(call.held, call.process, out, &info)?;
        Ok((0, 0))
    })
}

pub(super) fn map(call: &mut Call<'_>) -> Result {
    let [_, items, count, ..] = call.arguments;
    if count > MAX_ITEMS {
        return Err(Error::InvalidArgument);
    }
    with_space(call, |call, target| {
        let mut pages = 0;
        for index in 0..count {
            let at = items.checked_add(index * size_of::<MapItem>() as u64);
            let item: MapItem = user::read(call.held, call.process, at.ok_or(Error::BadAddress)?)?;
            // The work of one call is bounded by pages, those to be zeroed counting more.
            let weight = if item.flags.contains(MapFlags::ZERO) {
                skink_abi::MAX_MAP_PAGES / skink_abi::MAX_ZERO_PAGES
            } else {
                1
            };
            pages += item.pages.saturating_mul(weight).min(u64::from(u32::MAX));
            if pages > skink_abi::MAX_MAP_PAGES {
                return if index == 0 {
                    Err(Error::InvalidArgument)
                } else {
                    Ok((index, 0))
                };
            }
            memory::map_item(call.held, call.process, target, &item)?;
        }
        Ok((count, 0))
    })
}

pub(super) fn unmap(call: &mut Call<'_>) -> Result {
    let [_, address, pages, ..] = call.arguments;
    with_space(call, |call, target| {
        memory::unmap(call.held, target, address, pages)?;
        Ok((0, 0))
    })
}

pub(super) fn protect(call: &mut Call<'_>) -> Result {
    let [_, address, pages, flags, ..] = call.arguments;
    with_space(call, |call, target| {
        let flags = MapFlags(u32::try_from(flags).map_err(|_| Error::InvalidArgument)?);
        memory::protect(call.held, target, address, pages, flags)?;
        Ok((0, 0))
    })
}

/// Checks a copy of `bytes` bytes at `offset` of an object: the physical address.
fn check_copy(object: &Memory, offset: u64, bytes: u64) -> core::result::Result<u64, Error> {
    if !object.is_ram() {
        return Err(Error::WrongKind);
    }
    let size = object.pages.get() * PAGE_SIZE as u64;
    if bytes > MAX_COPY || offset.checked_add(bytes).is_none_or(|end| end > size) {
        return Err(Error::InvalidArgument);
    }
    Ok(object.start.get() + offset)
}

pub(super) fn read(call: &mut Call<'_>) -> Result {
    let [handle, offset, buffer, bytes, ..] = call.arguments;
    with_memory(call, handle, Rights::READ, |call, object, _| {
        let start = check_copy(object, offset, bytes)?;
        user::pieces(
            call.held,
            call.process,
            buffer,
            bytes,
            Access::Write,
            |page, done, length| {
                // SAFETY: RAM of the object, and a page that the program may write.
                unsafe { physical::copy(start + done, page, length) };
                Ok(())
            },
        )?;
        Ok((bytes, 0))
    })
}

pub(super) fn write(call: &mut Call<'_>) -> Result {
    let [handle, offset, buffer, bytes, ..] = call.arguments;
    with_memory(call, handle, Rights::WRITE, |call, object, _| {
        let start = check_copy(object, offset, bytes)?;
        user::pieces(
            call.held,
            call.process,
            buffer,
            bytes,
            Access::Read,
            |page, done, length| {
                // SAFETY: a page that the program may read, and RAM of an object that it may write.
                unsafe { physical::copy(page, start + done, length) };
                Ok(())
            },
        )?;
        Ok((bytes, 0))
    })
}

pub(super) fn zero(call: &mut Call<'_>) -> Result {
    let [handle, offset, bytes, ..] = call.arguments;
    with_memory(call, handle, Rights::WRITE, |_, object, _| {
        let start = check_copy(object, offset, bytes)?;
        // SAFETY: RAM of an object that the program may write.
        unsafe { physical::zero(start, bytes) };
        Ok((bytes, 0))
    })
}
