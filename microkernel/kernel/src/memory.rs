//! Memory objects, and mapping them.
//!
//! A mapping is *tracked*: the process keeps a record that holds a reference to the object, so
//! that the object's owner can see when nobody uses it any more. Only a handle with
//! [`Rights::OWN`] maps without a record: the memory manager's RAM, of which it keeps track itself.

use core::sync::atomic::{AtomicU64, Ordering};

use skink_abi::{
    Error, Info, MAX_MAP_PAGES, MAX_ZERO_PAGES, MapFlags, MapItem, ObjectKind, PAGE_SIZE, Rights,
};
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
/// All tracked mappings.
pub(crate) static MAPPINGS: Arena<Mapping> = Arena::new();
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

/// What is mapped: read while the handle that names it could not be closed.
struct Source {
    /// The object. A reference is held if the mapping is to be tracked: its owner must not find it
    /// unused in between. Frames that are mapped without a record are the mapper's own, whatever
    /// becomes of the object.
    object: Id,
    /// What the handle allows.
    rights: Rights,
    /// Physical address of the first page.
    first: u64,
    /// What it is a range of.
    medium: Medium,
}

impl Source {
    fn is_tracked(&self) -> bool {
        !self.rights.contains(Rights::OWN)
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
    let source = find_source(held, owner, item)?;
    if item.flags.contains(MapFlags::ZERO) {
        // SAFETY: RAM of an object that the handle may write.
        unsafe { physical::zero(source.first, item.pages * PAGE) };
    }
    let result = map_source(held, target, &source, item.flags, range);
    if source.is_tracked() {
        release(source.object);
    }
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

/// Finds the frames that an item names.
fn find_source(held: &mut Held<0>, owner: &Process, item: &MapItem) -> Result<Source, Error> {
    let is_zeroed = item.flags.contains(MapFlags::ZERO);
    let is_code = item.flags.contains(MapFlags::EXECUTE);
    let mut needed = Rights::READ;
    if item.flags.contains(MapFlags::WRITE) || is_zeroed {
        needed = needed | Rights::WRITE;
    }
    if is_code {
        needed = needed | Rights::EXECUTE;
    }
    let handles = owner.handles.lock(held);
    let handle = skink_abi::RawHandle(item.memory);
    let Some(found) = owner.glance(handle, ObjectKind::Memory, needed) else {
        drop(handles);
        return Err(owner.why_not(held, handle, ObjectKind::Memory, needed));
    };
    let memory = MEMORIES.get(found.object());
    memory.check()?;
    range::within(item.page_offset, item.pages, memory.pages.get())?;
    let source = Source {
        object: found.object(),
        rights: found.rights(),
        first: memory.start.get() + item.page_offset * PAGE,
        medium: memory.medium(),
    };
    if source.medium == Medium::Device && (is_zeroed || is_code) {
        return Err(Error::InvalidArgument);
    }
    if source.is_tracked() {
        MEMORIES.retain(source.object);
    }
    Ok(source)
}

fn map_source(
    held: &mut Held<0>,
    target: &Process,
    source: &Source,
    flags: MapFlags,
    range: UserRange,
) -> Result<(), Error> {
    let mode = PageMode {
        flags,
        limit: limit_of(source.rights),
        is_device: source.medium == Medium::Device,
    };
    let (mapped, record) = {
        let mut state = target.state.lock(held);
        if !target.is_alive() {
            return Err(Error::Dead);
        }
        let record = if source.is_tracked() {
            Some(new_record(target, source.object, range)?)
        } else {
            None
        };
        let mapped = map_pages(state.held(), target, range, source.first, mode);
        if let (Ok(_), Some(record)) = (mapped, record) {
            state.mappings.push_back(&MappingNodes, record);
        }
        (mapped, record)
    };
    match mapped {
        Ok(Replaced::Nothing) => Ok(()),
        Ok(Replaced::Some) => {
            space::flush(held, target.id.get(), range);
            Ok(())
        }
        Err(error) => {
            // Another thread may have used the pages that were mapped for a moment.
            space::flush(held, target.id.get(), range);
            if let Some(record) = record {
                free_record(record);
            }
            Err(error)
        }
    }
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

/// Whether pages that were mapped took the place of others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replaced {
    /// They did not: no processor has old translations.
    Nothing,
    /// Some did.
    Some,
}

/// Maps the pages of a range, all or none of them, and counts them; what a failed call had
/// replaced by then stays unmapped.
fn map_pages<const H: u8>(
    held: &mut Held<H>,
    target: &Process,
    range: UserRange,
    first: u64,
    mode: PageMode,
) -> Result<Replaced, Error> {
    let mapped = &target.counters.pages;
    let mut tables = target.tables.lock(held);
    match tables.map(range, first, mode, &mut || target.charged_frame()) {
        Ok(0) => {
            mapped.fetch_add(range.pages(), Ordering::Relaxed);
            Ok(Replaced::Nothing)
        }
        Ok(replaced) => {
            mapped.fetch_add(range.pages() - replaced, Ordering::Relaxed);
            Ok(Replaced::Some)
        }
        Err((error, replaced)) => {
            mapped.fetch_sub(replaced, Ordering::Relaxed);
            Err(error)
        }
    }
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
    const MOST: usize = 16;
    let bytes = info.bytes();
    let count = bytes / size_of::<MapItem>();
    if !bytes.is_multiple_of(size_of::<MapItem>()) || count > MOST {
        return Err(Error::InvalidArgument);
    }
    let owner = PROCESSES.get(pager.process.get());
    if bytes <= skink_abi::REGISTER_BYTES {
        let words = pager.registers.payload();
        for [address, page_offset, pages, rest] in words.as_chunks::<4>().0.iter().take(count) {
            let words = [address.get(), page_offset.get(), pages.get(), rest.get()];
            map_item(held, owner, target, &item_of(words))?;
        }
        return Ok(());
    }
    let page = physical::pointer::<[u64; 4]>(pager.ipc_page());
    for index in 0..count {
        // SAFETY: within the pager's IPC page; read once, since the pager may change it.
        let words = unsafe { page.add(index).read_volatile() };
        map_item(held, owner, target, &item_of(words))?;
    }
    Ok(())
}

/// Reads an item as it lies in a payload.
fn item_of([address, page_offset, pages, rest]: [u64; 4]) -> MapItem {
    MapItem {
        address,
        page_offset,
        pages,
        memory: rest as u32,
        flags: MapFlags((rest >> 32) as u32),
    }
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
        let unmapped = target.tables.lock(state.held()).unmap(range);
        target.counters.pages.fetch_sub(unmapped, Ordering::Relaxed);
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
    let result = {
        let mut tables = target.tables.lock(held);
        if tables.root() == 0 {
            return Err(Error::Dead);
        }
        tables.protect(range, flags)
    };
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
