//! The real kernel behind [`Machine`].

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::ops::Range;

use libipc::proto::memory::{ImageSegment, MemoryError, Protection};
use libsys::abi::layout::USER_END;
use libsys::abi::{MAX_MAP_PAGES, MAX_PAGE_RUNS, MapItem, ObjectKind, PageRun, ProcessState};
use libsys::batch::Batch;
use libsys::state::MappedMemory;
use libsys::{
    Endpoint, Error, Handle, MapFlags, Memory, Notification, Process, Rights, Sender, handle,
    startup, time,
};
use memory_manager::journal::RawHandle;
use memory_manager::machine::{Adopted, Copy, End, Extent, Life, Machine, MappedRun, Target};
use memory_manager::manager::{Content, Mapping};
use memory_manager::spaces::{Era, client_badge, pager_badge};
use memory_manager::zones::Zones;
use memory_manager::{Frame, PAGE_BYTES};

/// Exit code of a process that was registered and then forgotten before it ran.
const NEVER_STARTED: u64 = 126;
/// Exit code of a process of which nobody can tell any more what its memory is to be.
const SPACE_LOST: u64 = 125;
/// What clients may do with objects: everything but own the frames.
const OBJECT_RIGHTS: Rights = Rights::ALL.without(Rights::OWN).without(Rights::MANAGE);

/// An era begins every so many ns at most, as a power of two: 262 µs.
const ERA_BITS: u32 = 18;
/// Time between two looks at a process that is being taken apart, ns.
const PAUSE_NS: u64 = 50_000;
/// Bytes at the start of a page, and at the ends of an object, that are looked at again.
const LOOKED_AT: usize = 64;

/// The kernel, and what is needed to ask it for things.
pub(crate) struct Kernel {
    /// The RAM objects, in the order of the zones.
    ram: Vec<Handle<Memory>>,
    zones: Zones,
    /// The manager's endpoint, for minting senders.
    endpoint: Rc<Handle<Endpoint>>,
    /// Is set when a process that is watched ends.
    death: Handle<Notification>,
    /// The handles that were given at the start, and those made since, sorted.
    given: Vec<RawHandle>,
    /// A page on its way from an image to a frame.
    page: Box<[u8; PAGE_BYTES as usize]>,
}

impl Kernel {
    pub(crate) fn new(
        ram: Vec<Handle<Memory>>,
        zones: Zones,
        endpoint: Rc<Handle<Endpoint>>,
        death: Handle<Notification>,
        mut given: Vec<RawHandle>,
    ) -> Self {
        given.push(death.raw().0);
        given.sort_unstable();
        Kernel {
            ram,
            zones,
            endpoint,
            death,
            given,
            page: Box::new([0; PAGE_BYTES as usize]),
        }
    }

    /// Returns the item that maps the pages of a resolved fault.
    ///
    /// # Panics
    ///
    /// As [`Kernel::frame`].
    pub(crate) fn map_item(&self, mapping: &Mapping) -> MapItem {
        let (memory, page_offset) = self.frame(mapping.frame);
        let content = match mapping.content {
            Content::Foreign => MapFlags::ZERO,
            Content::New => MapFlags::default(),
            Content::Present => MapFlags::REPLACE,
        };
        MapItem {
            address: mapping.page * PAGE_BYTES,
            page_offset,
            pages: mapping.pages,
            memory: memory.raw().0,
            flags: flags(mapping.protection) | content,
        }
    }

    /// Returns the RAM object of a frame and the page within it.
    ///
    /// # Panics
    ///
    /// When it lies in none: then the manager has a frame that it was never given.
    #[inline]
    fn frame(&self, frame: Frame) -> (&Handle<Memory>, u64) {
        let place = self.zones.locate(frame);
        match place.and_then(|(index, page)| Some((self.ram.get(index)?, page))) {
            Some(place) => place,
            None => nowhere(frame),
        }
    }
}

#[cold]
fn nowhere(frame: Frame) -> ! {
    panic!("frame {frame:#x} lies in no zone")
}

/// Looks whether a page was copied to a frame: whether both begin alike.
///
/// # Panics
///
/// When they do not.
fn check_copy(from: (&Handle<Memory>, u64), to: (&Handle<Memory>, u64), bytes: usize) {
    let (mut wanted, mut copied) = ([0; LOOKED_AT], [1; LOOKED_AT]);
    let part = ..bytes.min(LOOKED_AT);
    let is_alike = from.0.read(from.1, &mut wanted[part]).is_ok()
        && to.0.read(to.1, &mut copied[part]).is_ok()
        && wanted[part] == copied[part];
    assert!(is_alike, "a page was not copied");
}

/// Looks whether an object is as long as it should be, lies where it should, and has zeros at both ends.
///
/// # Panics
///
/// When it does not.
fn check_object(memory: &Handle<Memory>, physical: u64, pages: u64) {
    let is_right = memory
        .info()
        .is_ok_and(|info| info.pages == pages && info.physical == physical);
    let is_zero = |at| {
        let mut part = [1; LOOKED_AT];
        memory.read(at, &mut part).is_ok() && part == [0; LOOKED_AT]
    };
    assert!(
        is_right && is_zero(0) && is_zero(pages * PAGE_BYTES - LOOKED_AT as u64),
        "an object is not what it should be"
    );
}

/// Looks whether pages of a process are mapped, by the first and the last of them.
///
/// # Panics
///
/// When they are not.
fn check_mapped(process: &Handle<Process>, first: u64, pages: u64) {
    let is_mapped = |address| match first_mapped(process, address) {
        Some(found) => found == Some(address),
        None => true,
    };
    assert!(
        is_mapped(first) && is_mapped(first + (pages - 1) * PAGE_BYTES),
        "pages were not mapped"
    );
}

/// Looks whether nothing of a range of pages of a process is mapped.
///
/// # Panics
///
/// When something is.
fn check_unmapped(process: &Handle<Process>, range: &Range<u64>) {
    let found = first_mapped(process, range.start * PAGE_BYTES).flatten();
    let is_free = found.is_none_or(|found| found >= range.end * PAGE_BYTES);
    assert!(is_free, "pages were not unmapped");
}

/// Returns the first address not before this one that is mapped in a process; `None` when the process
/// is being taken apart.
fn first_mapped(process: &Handle<Process>, address: u64) -> Option<Option<u64>> {
    let mut runs = [PageRun::default()];
    let (count, _) = process.mappings(address, &mut runs).ok()?;
    Some((count > 0).then_some(runs[0].address))
}

impl Machine for Kernel {
    type Process = Handle<Process>;
    type Memory = Handle<Memory>;
    type Sender = Handle<Sender>;
    type Store = MappedMemory;

    fn process_handle(process: &Handle<Process>) -> RawHandle {
        process.raw().0
    }

    fn memory_handle(memory: &Handle<Memory>) -> RawHandle {
        memory.raw().0
    }

    fn take_process(&mut self, handle: RawHandle) -> Result<Handle<Process>, MemoryError> {
        Handle::adopt(libsys::RawHandle(handle)).map_err(memory_error)
    }

    fn leave_process(&self, process: Handle<Process>) {
        let _ = process.into_raw();
    }

    fn take_memory(&mut self, handle: RawHandle) -> Result<Handle<Memory>, MemoryError> {
        Handle::adopt(libsys::RawHandle(handle)).map_err(memory_error)
    }

    fn others(&self) -> Vec<(RawHandle, Target)> {
        // Each life is given handles to the same process and the same RAM once more.
        let own = startup::process().info().map(|info| info.id).ok();
        let identity = |ram: &Handle<Memory>| ram.info().map(|info| info.identity).ok();
        let ram: Vec<u64> = self.ram.iter().filter_map(identity).collect();
        let target = |(raw, kind): (libsys::RawHandle, ObjectKind)| {
            if self.given.binary_search(&raw.0).is_ok() {
                return None;
            }
            let target = match kind {
                ObjectKind::Process if process_number(raw) == own => return None,
                ObjectKind::Process => Target::Process,
                ObjectKind::Memory => match extent(raw) {
                    Some(extent) if ram.contains(&extent.identity) => return None,
                    extent => Target::Memory(extent),
                },
                _ => return None,
            };
            Some((raw.0, target))
        };
        handle::own().filter_map(target).collect()
    }

    fn begin_era(&self) -> Era {
        let unit = time::now() >> ERA_BITS;
        // Whoever begins one after this begins another one.
        time::sleep_until((unit + 1) << ERA_BITS);
        Era::beginning_at(unit)
    }

    fn close_others(&mut self, kept: &[RawHandle]) {
        for (raw, kind) in handle::own() {
            let is_known = |list: &[RawHandle]| list.binary_search(&raw.0).is_ok();
            if !is_known(kept) && !is_known(&self.given) {
                close(raw, kind);
            }
        }
    }

    fn mappings(
        &self,
        process: &Handle<Process>,
        tell: &mut dyn FnMut(MappedRun),
    ) -> Result<(), MemoryError> {
        let mut runs = [PageRun::default(); MAX_PAGE_RUNS];
        let mut at = 0;
        while at < USER_END {
            let (count, next) = process.mappings(at, &mut runs).map_err(memory_error)?;
            for run in runs.iter().take(count) {
                tell(MappedRun {
                    page: run.address / PAGE_BYTES,
                    physical: run.physical / PAGE_BYTES,
                    pages: run.pages,
                });
            }
            at = next;
        }
        Ok(())
    }

    fn pause(&self) {
        time::sleep(PAUSE_NS);
    }

    fn process_number(&self, process: &Handle<Process>) -> Result<u64, MemoryError> {
        process.info().map(|info| info.id).map_err(memory_error)
    }

    fn adopt(
        &mut self,
        process: &Handle<Process>,
        era: Era,
        space: u32,
    ) -> Result<Adopted<Handle<Sender>>, MemoryError> {
        let pager = self
            .endpoint
            .mint(pager_badge(era, space))
            .map_err(memory_error)?;
        let client = self
            .endpoint
            .mint(client_badge(era, space))
            .map_err(memory_error)?;
        process.watch(&self.death).map_err(memory_error)?;
        process.set_pager(&pager).map_err(memory_error)?;
        Ok(Adopted {
            client_badge: badge(&client)?,
            pager_badge: badge(&pager)?,
            sender: client,
        })
    }

    fn has_ended(&self, process: &Handle<Process>) -> bool {
        process
            .info()
            .is_ok_and(|info| info.state != ProcessState::Alive as u32)
    }

    fn life(&self, process: &Handle<Process>) -> Life {
        match process.info() {
            Ok(info) if info.state == ProcessState::Dead as u32 => Life::Gone,
            Ok(info) if info.state == ProcessState::Alive as u32 && info.threads == 0 => {
                Life::Unstarted
            }
            // Frames are never taken on a guess.
            _ => Life::Running,
        }
    }

    fn kill(&mut self, process: &Handle<Process>, end: End) {
        let code = match end {
            End::NeverStarted => NEVER_STARTED,
            End::Lost => SPACE_LOST,
        };
        // An error means that it has ended already.
        let _ = process.kill(code);
    }

    fn unmap(
        &mut self,
        process: &Handle<Process>,
        ranges: &[Range<u64>],
    ) -> Result<(), MemoryError> {
        let mut batch = Batch::with_capacity(ranges.len());
        for range in ranges {
            // Shared regions were mapped in the same parts, as the kernel wants them unmapped.
            for (first, count) in parts(range.end - range.start) {
                batch.unmap(process, (range.start + first) * PAGE_BYTES, count);
            }
        }
        batch.run().check().map_err(memory_error)?;
        if let Some(last) = ranges.last() {
            check_unmapped(process, last);
        }
        Ok(())
    }

    fn protect(
        &mut self,
        process: &Handle<Process>,
        ranges: &[Range<u64>],
        protection: Protection,
    ) -> Result<(), MemoryError> {
        let flags = flags(protection);
        let mut batch = Batch::with_capacity(ranges.len());
        for range in ranges {
            for (first, count) in parts(range.end - range.start) {
                batch.protect(process, (range.start + first) * PAGE_BYTES, count, flags);
            }
        }
        batch.run().check().map_err(memory_error)
    }

    fn map_shared(
        &mut self,
        process: &Handle<Process>,
        segment: &ImageSegment,
        memory: &Handle<Memory>,
    ) -> Result<(), MemoryError> {
        let flags = flags(segment.protection);
        for (first, count) in parts(segment.pages) {
            let address = segment.address + first * PAGE_BYTES;
            let offset = segment.page_offset + first;
            if let Err(error) = process.map_one(address, memory, offset, count, flags) {
                for (first, count) in parts(first) {
                    // The process may have ended, which unmaps it too.
                    let _ = process.unmap(segment.address + first * PAGE_BYTES, count);
                }
                return Err(memory_error(error));
            }
        }
        check_mapped(process, segment.address, segment.pages);
        Ok(())
    }

    fn readable_pages(&self, memory: &Handle<Memory>) -> Result<u64, MemoryError> {
        // Device registers cannot be read so, nor can memory without the right.
        memory.read(0, &mut [0]).map_err(memory_error)?;
        memory.info().map(|info| info.pages).map_err(memory_error)
    }

    fn copy(&mut self, memory: &Handle<Memory>, copy: Copy) -> Result<(), MemoryError> {
        let bytes = (copy.bytes as usize).min(self.page.len());
        let (content, rest) = self.page.split_at_mut(bytes);
        memory
            .read(copy.image_page * PAGE_BYTES, content)
            .map_err(memory_error)?;
        rest.fill(0);
        let (ram, page) = self.frame(copy.frame);
        ram.write(page * PAGE_BYTES, self.page.as_slice())
            .map_err(memory_error)?;
        let from = (memory, copy.image_page * PAGE_BYTES);
        check_copy(from, (ram, page * PAGE_BYTES), bytes);
        Ok(())
    }

    fn make_object(
        &mut self,
        first: Frame,
        pages: u32,
    ) -> Result<(Handle<Memory>, Handle<Memory>), MemoryError> {
        let pages = u64::from(pages);
        let (ram, page) = self.frame(first);
        let kept = ram.slice(page, pages).map_err(memory_error)?;
        kept.zero(0, pages * PAGE_BYTES).map_err(memory_error)?;
        let given = kept.duplicate(OBJECT_RIGHTS).map_err(memory_error)?;
        let zones = self.zones.all().iter();
        let zone = zones.rev().find(|zone| zone.first <= first);
        let physical = zone.map(|zone| zone.physical + u64::from(first - zone.first));
        let physical = physical.unwrap_or(u64::MAX).saturating_mul(PAGE_BYTES);
        for memory in [&kept, &given] {
            check_object(memory, physical, pages);
        }
        Ok((kept, given))
    }

    fn is_used(&self, memory: &Handle<Memory>) -> bool {
        // Frames are never taken on a guess.
        memory.info().map_or(true, |info| info.references > 1)
    }
}

/// Asks the kernel for the badge of a sender.
fn badge(sender: &Handle<Sender>) -> Result<u64, MemoryError> {
    let info = sender.handle_info().map_err(memory_error)?;
    Ok(info.badge)
}

/// Tells which process is behind a handle. The handle stays open.
fn process_number(raw: libsys::RawHandle) -> Option<u64> {
    let process = Handle::<Process>::adopt(raw).ok()?;
    let info = process.info();
    let _ = process.into_raw();
    info.map(|info| info.id).ok()
}

/// Tells where the memory behind a handle lies, if that may be known. The handle stays open.
fn extent(raw: libsys::RawHandle) -> Option<Extent> {
    let memory = Handle::<Memory>::adopt(raw).ok()?;
    let info = memory.info();
    let _ = memory.into_raw();
    let info = info.ok().filter(|info| info.physical != u64::MAX)?;
    Some(Extent {
        identity: info.identity,
        physical: info.physical / PAGE_BYTES,
        pages: info.pages,
        references: info.references,
    })
}

/// Closes a handle of an earlier instance.
fn close(raw: libsys::RawHandle, kind: ObjectKind) {
    log::debug!("left over: {kind:?} {:#x}", raw.0);
    // The kernel does not look at the kind when it closes.
    drop(Handle::<Memory>::from_raw(raw));
}

/// Splits so many pages into parts that one system call takes: first page and length of each.
fn parts(pages: u64) -> impl Iterator<Item = (u64, u64)> {
    let step = MAX_MAP_PAGES as usize;
    (0..pages)
        .step_by(step)
        .map(move |first| (first, MAX_MAP_PAGES.min(pages - first)))
}

fn flags(protection: Protection) -> MapFlags {
    match protection {
        Protection::Read => MapFlags::READ,
        Protection::ReadWrite => MapFlags::READ | MapFlags::WRITE,
        Protection::ReadExecute => MapFlags::READ | MapFlags::EXECUTE,
    }
}

fn memory_error(error: Error) -> MemoryError {
    match error {
        Error::InvalidHandle | Error::WrongKind | Error::Revoked => MemoryError::BadHandle,
        Error::MissingRight => MemoryError::MissingRight,
        Error::Dead => MemoryError::ProcessDead,
        Error::AlreadyMapped => MemoryError::InTheWay,
        Error::NotMapped => MemoryError::NotMapped,
        Error::NoMemory => MemoryError::NoKernelMemory,
        Error::TooManyHandles | Error::AlreadyBound => MemoryError::LimitReached,
        _ => MemoryError::BadRange,
    }
}
