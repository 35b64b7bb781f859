//! Memory objects, and mapping them.
//!
//! A mapping is *tracked*: the process keeps a record that holds a reference to the object, so
//! that the object's owner can see when nobody uses it any more. Only a handle with
//! [`Rights::OWN`] maps without a record: the memory manager's RAM, of which it keeps track itself.

use core::sync::atomic::{AtomicU64, Ordering};

use skink_abi::{
    Error, Info, MAX_MAP_PAGES, MAX_ZERO_PAGES, MapFlags, MapItem, ObjectKind, PAGE_SIZE, Rights,
};
use skink_kcore::handles::Entry;
use skink_kcore::list::{Links, List, Nodes};
use skink_kcore::range::{self, UserRange};
use skink_kcore::{Id, NONE};

use crate::arch::x86_64::entry::Word;
use crate::arch::x86_64::paging::PageMode;
use crate::arch::x86_64::physical;
use crate::arena::{Arena, Object};
use crate::cell::{Field, LinkFields};
use crate::lock::Held;
use crate::process::{PROCESSES, Process, State};
use crate::space;
use crate::thread::Thread;

const PAGE: u64 = PAGE_SIZE as u64;

/// What a memory object is a range of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Medium {
    /// RAM.
    Ram,
    /// Device registers: mapped uncached, never copied.
    Device,
}

/// A range of physical memory. All fields are set once.
pub(crate) struct Memory {
    /// Physical address.
    pub(crate) start: Word,
    /// Pages.
    pub(crate) pages: Word,
    /// A number that no other object has.
    pub(crate) identity: Word,
    /// RAM (1) or device registers (0).
    is_ram: Field,
    /// Whether it was revoked (1).
    revoked: Field,
    /// The object that this is a slice of, or [`NONE`]; a reference is held, so that the owner of
    /// that object sees that it is in use.
    parent: Field,
}

/// A tracked mapping.
pub(crate) struct Mapping {
    memory: Field,
    start: Word,
    pages: Word,
    links: LinkFields,
}

impl Object for Memory {
    const ARENA: u64 = 5;
    const NEW: Memory = Memory {
        start: Word::ZERO,
        pages: Word::ZERO,
        identity: Word::ZERO,
        is_ram: Field::new(0),
        revoked: Field::new(0),
        parent: Field::new(NONE),
    };
}

impl Object for Mapping {
    const ARENA: u64 = 7;
    const NEW: Mapping = Mapping {
        memory: Field::new(NONE),
        start: Word::ZERO,
        pages: Word::ZERO,
        links: LinkFields::new(),
    };
}

/// All memory objects.
pub(crate) static MEMORIES: Arena<Memory> = Arena::new();
static MAPPINGS: Arena<Mapping> = Arena::new();
static NEXT_IDENTITY: AtomicU64 = AtomicU64::new(1);

struct MappingNodes;

impl Nodes for MappingNodes {
    fn links(&self, id: Id) -> Links {
        MAPPINGS.get(id).links.get()
    }

    fn set_links(&self, id: Id, links: Links) {
        MAPPINGS.get(id).links.set(links);
    }
}

impl Memory {
    /// Returns whether it is RAM.
    pub(crate) fn is_ram(&self) -> bool {
        self.is_ram.get() != 0
    }

    /// Returns what it is a range of.
    pub(crate) fn medium(&self) -> Medium {
        if self.is_ram() {
            Medium::Ram
        } else {
            Medium::Device
        }
    }

    /// Revokes it: nothing more can be done with its handles. What is mapped stays mapped.
    pub(crate) fn revoke(&self) {
        self.revoked.set(1);
    }

    /// Checks that it was not revoked.
    ///
    /// # Errors
    ///
    /// `Revoked`.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.revoked.get() == 0 {
            Ok(())
        } else {
            Err(Error::Revoked)
        }
    }
}

/// Makes a memory object with one reference, charged to a process.
///
/// # Errors
///
/// `NoMemory`.
pub(crate) fn create(payer: &Process, start: u64, pages: u64, medium: Medium) -> Result<Id, Error> {
    let id = MEMORIES.allocate_for(payer)?;
    let memory = MEMORIES.get(id);
    memory.start.set(start);
    memory.pages.set(pages);
    memory
        .identity
        .set(NEXT_IDENTITY.fetch_add(1, Ordering::Relaxed));
    memory.is_ram.set((medium == Medium::Ram).into());
    memory.revoked.set(0);
    memory.parent.set(NONE);
    Ok(id)
}

/// Makes an object of a part of another, which it keeps alive.
///
/// # Errors
///
/// `NoMemory`.
pub(crate) fn create_slice(
    payer: &Process,
    whole: Id,
    first: u64,
    pages: u64,
) -> Result<Id, Error> {
    let object = MEMORIES.get(whole);
    let start = object.start.get() + first * PAGE;
    let id = create(payer, start, pages, object.medium())?;
    MEMORIES.retain(whole);
    MEMORIES.get(id).parent.set(whole);
    Ok(id)
}

/// Drops a reference to a memory object, and what the last one kept alive.
pub(crate) fn release(mut id: Id) {
    while id != NONE && MEMORIES.release(id) {
        let parent = MEMORIES.get(id).parent.get();
        MEMORIES.free(id);
        id = parent;
    }
}

/// Maps one item into a process. `owner` holds the memory handle.
///
/// # Errors
///
/// As `Handle::<Process>::map` in `libsys` documents; then nothing of the item is mapped.
pub(crate) fn map_item(
    held: &mut Held<0>,
    owner: &Process,
    target: &Process,
    item: &MapItem,
) -> Result<(), Error> {
    let range = check_item(item)?;
    let mut needed = Rights::READ;
    if item.flags.contains(MapFlags::WRITE) || item.flags.contains(MapFlags::ZERO) {
        needed = needed | Rights::WRITE;
    }
    if item.flags.contains(MapFlags::EXECUTE) {
        needed = needed | Rights::EXECUTE;
    }
    let entry = {
        let handles = owner.handles.lock(held);
        let handle = skink_abi::RawHandle(item.memory);
        let entry = handles.find(handle, ObjectKind::Memory, needed)?;
        MEMORIES.retain(entry.object);
        entry
    };
    let result = map_object(held, target, &entry, item, range);
    release(entry.object);
    result
}

fn check_item(item: &MapItem) -> Result<UserRange, Error> {
    range::write_xor_execute(item.flags)?;
    let limit = if item.flags.contains(MapFlags::ZERO) {
        MAX_ZERO_PAGES
    } else {
        MAX_MAP_PAGES
    };
    if item.pages > limit {
        return Err(Error::InvalidArgument);
    }
    UserRange::new(item.address, item.pages)
}

fn map_object(
    held: &mut Held<0>,
    target: &Process,
    entry: &Entry,
    item: &MapItem,
    range: UserRange,
) -> Result<(), Error> {
    let memory = MEMORIES.get(entry.object);
    memory.check()?;
    range::within(item.page_offset, item.pages, memory.pages.get())?;
    let first = memory.start.get() + item.page_offset * PAGE;
    let is_device = !memory.is_ram();
    let special = item.flags.contains(MapFlags::ZERO) || item.flags.contains(MapFlags::EXECUTE);
    if is_device && special {
        return Err(Error::InvalidArgument);
    }
    if item.flags.contains(MapFlags::ZERO) {
        // SAFETY: RAM of an object that the handle may write.
        unsafe { physical::zero(first, item.pages * PAGE) };
    }
    let mode = PageMode {
        flags: item.flags,
        limit: limit_of(entry.rights),
        is_device,
    };
    let is_tracked = !entry.rights.contains(Rights::OWN);
    let result = {
        let mut state = target.state.lock(held);
        if !target.is_alive() {
            return Err(Error::Dead);
        }
        let record = if is_tracked {
            Some(new_record(target, entry.object, range)?)
        } else {
            None
        };
        match map_pages(state.held(), target, range, first, mode) {
            Ok(replaced) => {
                if let Some(record) = record {
                    state.mappings.push_back(&MappingNodes, record);
                }
                Ok(replaced)
            }
            Err(error) => Err((error, record)),
        }
    };
    let replaced = match result {
        Ok(replaced) => replaced,
        Err((error, record)) => {
            // Another thread may have used the pages that were mapped for a moment.
            space::flush(held, target.id.get(), range);
            if let Some(record) = record {
                free_record(record);
            }
            return Err(error);
        }
    };
    if replaced {
        space::flush(held, target.id.get(), range);
    }
    Ok(())
}

fn limit_of(rights: Rights) -> MapFlags {
    let mut limit = MapFlags::READ;
    if rights.contains(Rights::WRITE) {
        limit = limit | MapFlags::WRITE;
    }
    if rights.contains(Rights::EXECUTE) {
        limit = limit | MapFlags::EXECUTE;
    }
    limit
}

fn new_record(target: &Process, memory: Id, range: UserRange) -> Result<Id, Error> {
    let id = MAPPINGS.allocate_for(target)?;
    MEMORIES.retain(memory);
    let record = MAPPINGS.get(id);
    record.memory.set(memory);
    record.start.set(range.start());
    record.pages.set(range.pages());
    Ok(id)
}

fn free_record(id: Id) {
    release(MAPPINGS.get(id).memory.get());
    MAPPINGS.free(id);
}

/// Maps the pages of a range, all or none of them, and counts them. Returns whether any replaced
/// another; what a failed call had replaced by then stays unmapped.
fn map_pages<const H: u8>(
    held: &mut Held<H>,
    target: &Process,
    range: UserRange,
    first: u64,
    mode: PageMode,
) -> Result<bool, Error> {
    let mut replaced = 0;
    let mapped = &target.counters.pages;
    let mut tables = target.tables.lock(held);
    let mut allocate = || target.charged_frame();
    for page in 0..range.pages() {
        let address = range.start() + page * PAGE;
        match tables.map(address, first + page * PAGE, mode, &mut allocate) {
            Ok(was_mapped) => replaced += u64::from(was_mapped),
            Err(error) => {
                for done in 0..page {
                    tables.unmap(range.start() + done * PAGE);
                }
                mapped.fetch_sub(replaced, Ordering::Relaxed);
                return Err(error);
            }
        }
    }
    mapped.fetch_add(range.pages() - replaced, Ordering::Relaxed);
    Ok(replaced > 0)
}

/// Installs the mappings that a pager's reply carries.
///
/// # Errors
///
/// As [`map_item`]; `InvalidArgument` for a payload that is no list of items.
pub(crate) fn map_from_reply(
    held: &mut Held<0>,
    pager: &Thread,
    target: &Process,
    info: Info,
) -> Result<(), Error> {
    const BYTES: usize = size_of::<MapItem>();
    const MOST: usize = 16;
    let count = info.bytes() / BYTES;
    if !info.bytes().is_multiple_of(BYTES) || count > MOST {
        return Err(Error::InvalidArgument);
    }
    let mut words = [0_u64; MOST * BYTES / 8];
    if info.bytes() <= skink_abi::REGISTER_BYTES {
        for (word, register) in words.iter_mut().zip(pager.registers.payload()) {
            *word = register.get();
        }
    } else {
        let page = physical::pointer::<u64>(pager.ipc_page());
        for (index, word) in words.iter_mut().take(info.bytes() / 8).enumerate() {
            // SAFETY: within the pager's IPC page; read once, since the pager may change it.
            *word = unsafe { page.add(index).read_volatile() };
        }
    }
    let owner = PROCESSES.get(pager.process.get());
    for [address, page_offset, pages, rest] in words.as_chunks::<4>().0.iter().take(count) {
        let item = MapItem {
            address: *address,
            page_offset: *page_offset,
            pages: *pages,
            memory: *rest as u32,
            flags: MapFlags((rest >> 32) as u32),
        };
        map_item(held, owner, target, &item)?;
    }
    Ok(())
}

/// Unmaps a range. Tracked mappings must be unmapped as a whole.
///
/// # Errors
///
/// `InvalidArgument` for a bad range or a part of a tracked mapping, `Dead`.
pub(crate) fn unmap(
    held: &mut Held<0>,
    target: &Process,
    address: u64,
    pages: u64,
) -> Result<(), Error> {
    if pages > MAX_MAP_PAGES {
        return Err(Error::InvalidArgument);
    }
    let range = UserRange::new(address, pages)?;
    let mut records = {
        let mut state = target.state.lock(held);
        if !target.is_alive() {
            return Err(Error::Dead);
        }
        let records = take_records(&mut state, range)?;
        let mut tables = target.tables.lock(state.held());
        for page in 0..pages {
            if tables.unmap(address + page * PAGE) {
                target.counters.pages.fetch_sub(1, Ordering::Relaxed);
            }
        }
        records
    };
    // The objects may go only when no processor can reach them any more.
    space::flush(held, target.id.get(), range);
    while let Some(record) = records.pop_front(&MappingNodes) {
        free_record(record);
    }
    Ok(())
}

/// Takes the records of all tracked mappings in a range out of the process's list.
fn take_records(state: &mut State, range: UserRange) -> Result<List, Error> {
    let bounds = |id| {
        let record = MAPPINGS.get(id);
        (
            record.start.get(),
            record.start.get() + record.pages.get() * PAGE,
        )
    };
    let is_cut = state
        .mappings
        .iter(&MappingNodes)
        .map(bounds)
        .any(|(start, end)| {
            let overlaps = start < range.end() && range.start() < end;
            overlaps && (start < range.start() || end > range.end())
        });
    if is_cut {
        return Err(Error::InvalidArgument);
    }
    let mut taken = List::EMPTY;
    loop {
        let inside = state.mappings.iter(&MappingNodes).find(|&id| {
            let (start, end) = bounds(id);
            start >= range.start() && end <= range.end()
        });
        let Some(id) = inside else { return Ok(taken) };
        state.mappings.remove(&MappingNodes, id);
        taken.push_back(&MappingNodes, id);
    }
}

/// Changes how the mapped pages of a range may be used.
///
/// # Errors
///
/// `InvalidArgument`, `MissingRight` for more than the handles allowed; pages before the one that
/// failed are changed.
pub(crate) fn protect(
    held: &mut Held<0>,
    target: &Process,
    address: u64,
    pages: u64,
    flags: MapFlags,
) -> Result<(), Error> {
    range::write_xor_execute(flags)?;
    if pages > MAX_MAP_PAGES {
        return Err(Error::InvalidArgument);
    }
    let range = UserRange::new(address, pages)?;
    let mut result = Ok(());
    {
        let mut tables = target.tables.lock(held);
        if tables.root() == 0 {
            return Err(Error::Dead);
        }
        for page in 0..pages {
            if let Err(error) = tables.protect(address + page * PAGE, flags) {
                result = Err(error);
                break;
            }
        }
    }
    space::flush(held, target.id.get(), range);
    result
}

/// Drops up to `budget` mapping records of a process that has ended and whose page tables nobody
/// uses. Returns whether all are gone.
pub(crate) fn drop_mappings(held: &mut Held<0>, process: &Process, budget: usize) -> bool {
    for _ in 0..budget {
        let record = process.state.lock(held).mappings.pop_front(&MappingNodes);
        match record {
            Some(record) => free_record(record),
            None => return true,
        }
    }
    false
}

/// Maps memory into the first process while it is being made: no limits, no record.
///
/// # Errors
///
/// `NoMemory`, `AlreadyMapped`.
#[expect(
    clippy::too_many_arguments,
    reason = "a MapItem without a handle, and the target"
)]
pub(crate) fn map_at_boot(
    held: &mut Held<0>,
    target: &Process,
    address: u64,
    physical: u64,
    pages: u64,
    flags: MapFlags,
) -> Result<(), Error> {
    let range = UserRange::new(address, pages)?;
    let mode = PageMode {
        flags,
        limit: flags,
        is_device: false,
    };
    map_pages(held, target, range, physical, mode).map(|_| ())
}
