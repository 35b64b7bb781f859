//! The first process: `init`, made by the kernel from the boot bundle.
//!
//! This is the only program that the kernel loads. It gets a handle to everything: the machine,
//! all free RAM, the bundle, itself.

use bootloader_api::info::{MemoryRegionKind, MemoryRegions};
use heapless::{String, Vec};
use serde::Serialize;
use skink_abi::layout::{self, StartupHeader};
use skink_abi::{Error, MapFlags, NAME_BYTES, ObjectKind, PAGE_SIZE, Rights};
use skink_kcore::handles::Entry;
use skink_manifest::bundle::{Bundle, Kind};

use crate::arch::x86_64::physical;
use crate::lock::Held;
use crate::memory::{self, MEMORIES, Medium};
use crate::process::{PROCESSES, Process};
use crate::sched::{self, Urgency};
use crate::thread::{Family, THREADS};

const PAGE: u64 = PAGE_SIZE as u64;
const HEAP_PAGES: u64 = 1024;
const STACK_PAGES: u64 = 32;
/// Most pieces of RAM; smaller ones beyond that are left unused.
const MAX_RAM: usize = 24;
/// A piece of RAM smaller than this is not worth a handle, pages.
const MIN_RAM_PAGES: u64 = 16;

/// The machine, the process, the bundle, and RAM.
const MAX_HANDLES: usize = 3 + MAX_RAM;
/// Handles by name.
type Handles = Vec<(String<8>, u32), MAX_HANDLES>;

/// `libsys::startup::Startup` as the kernel writes it: the same fields, borrowed.
#[derive(Serialize)]
struct Startup<'a> {
    name: &'a str,
    arguments: &'a [&'a str],
    variables: &'a [(&'a str, &'a str)],
    handles: &'a [(&'a str, u32)],
}

/// What `init` is made from.
pub(crate) struct Boot<'a> {
    /// The boot bundle.
    pub(crate) bundle: &'a [u8],
    /// Its physical address, page aligned.
    pub(crate) bundle_physical: u64,
    /// The kernel's command line.
    pub(crate) command_line: &'a str,
    /// All memory, with the kernel's pool taken out.
    pub(crate) free: Vec<(u64, u64), 128>,
}

/// Collects the free RAM: whole pages of usable regions above the first MiB.
pub(crate) fn free_memory(regions: &MemoryRegions) -> Vec<(u64, u64), 128> {
    let mut free = Vec::new();
    for region in regions
        .iter()
        .filter(|region| region.kind == MemoryRegionKind::Usable)
    {
        let start = region.start.max(1 << 20).next_multiple_of(PAGE);
        let end = region.end & !(PAGE - 1);
        if start < end && free.push((start, end)).is_err() {
            log::warn!("memory map with too many pieces: {start:#x}..{end:#x} is not used");
        }
    }
    free
}

/// Takes `bytes` (whole pages) of free RAM, from the end of the largest piece.
pub(crate) fn take(free: &mut Vec<(u64, u64), 128>, bytes: u64) -> Option<u64> {
    let largest = free.iter_mut().max_by_key(|(start, end)| end - start)?;
    if largest.1 - largest.0 < bytes {
        return None;
    }
    largest.1 -= bytes;
    Some(largest.1)
}

/// Makes `init` and lets it run.
///
/// # Errors
///
/// A sentence that says what is missing.
pub(crate) fn start(held: &mut Held<0>, boot: Boot<'_>, quota: u64) -> Result<(), &'static str> {
    let bundle = Bundle::parse(boot.bundle).map_err(|_| "the boot bundle is damaged")?;
    let init = bundle
        .find_kind(Kind::Init)
        .ok_or("the boot bundle has no init")?;
    let mut name = [0; NAME_BYTES];
    name[..4].copy_from_slice(b"init");
    let id = Process::create(held, None, quota, name).map_err(|_| "no memory for init")?;
    Loader {
        held,
        process: PROCESSES.get(id),
        boot,
    }
    .load(init.data)
    .map_err(|_| "init's image is damaged, or there is no memory for it")
}

struct Loader<'a, 'b> {
    held: &'a mut Held<0>,
    process: &'static Process,
    boot: Boot<'b>,
}

impl Loader<'_, '_> {
    fn load(mut self, image: &[u8]) -> Result<(), Error> {
        let entry = self.load_image(image)?;
        let heap = self.fresh(HEAP_PAGES)?;
        let write = MapFlags::READ | MapFlags::WRITE;
        self.map(layout::HEAP, heap, HEAP_PAGES, write)?;
        let stack = self.fresh(STACK_PAGES)?;
        self.map(
            layout::STACK_TOP - STACK_PAGES * PAGE,
            stack,
            STACK_PAGES,
            write,
        )?;
        let control = self.fresh(2)?;
        self.map(layout::THREAD_CONTROL, control, 2, write)?;
        // The first word of the control page is its own address.
        // SAFETY: a fresh frame.
        unsafe { physical::pointer::<u64>(control).write(layout::THREAD_CONTROL) };
        let bundle_pages = (self.boot.bundle.len() as u64).div_ceil(PAGE);
        self.map(
            layout::MAPPINGS,
            self.boot.bundle_physical,
            bundle_pages,
            MapFlags::READ,
        )?;
        self.write_startup(bundle_pages)?;
        self.start_thread(entry, control)
    }

    /// Takes frames of free RAM, filled with zeros.
    fn fresh(&mut self, pages: u64) -> Result<u64, Error> {
        let start = take(&mut self.boot.free, pages * PAGE).ok_or(Error::NoMemory)?;
        // SAFETY: free RAM, just taken.
        unsafe { physical::zero(start, pages * PAGE) };
        Ok(start)
    }

    fn map(&mut self, address: u64, start: u64, pages: u64, flags: MapFlags) -> Result<(), Error> {
        memory::map_at_boot(self.held, self.process, address, start, pages, flags)
    }

    /// Maps the segments of an ELF image, each copied into frames of its own, and returns the
    /// entry point.
    fn load_image(&mut self, image: &[u8]) -> Result<u64, Error> {
        let u16_at = |at: usize| -> Option<u16> {
            Some(u16::from_le_bytes(image.get(at..at + 2)?.try_into().ok()?))
        };
        let u32_at = |at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?))
        };
        let u64_at = |at: usize| -> Option<u64> {
            Some(u64::from_le_bytes(
                image.get(at..at.checked_add(8)?)?.try_into().ok()?,
            ))
        };
        let bad = Error::InvalidArgument;
        if image.get(..5) != Some(b"\x7fELF\x02") {
            return Err(bad);
        }
        let headers = u64_at(0x20).ok_or(bad)? as usize;
        let count = usize::from(u16_at(0x38).ok_or(bad)?);
        for index in 0..count {
            let at = headers.checked_add(index * 56).ok_or(bad)?;
            // Type 1 is a segment to load.
            if u32_at(at).ok_or(bad)? != 1 {
                continue;
            }
            let flags = u32_at(at + 4).ok_or(bad)?;
            let offset = u64_at(at + 8).ok_or(bad)? as usize;
            let address = u64_at(at + 16).ok_or(bad)?;
            let file_bytes = u64_at(at + 32).ok_or(bad)? as usize;
            let bytes = u64_at(at + 40).ok_or(bad)?;
            let data = image
                .get(offset..offset.checked_add(file_bytes).ok_or(bad)?)
                .ok_or(bad)?;
            let skew = address % PAGE;
            if bytes < file_bytes as u64 || bytes > 64 << 20 {
                return Err(bad);
            }
            let pages = (skew + bytes).div_ceil(PAGE);
            let frames = self.fresh(pages)?;
            // SAFETY: fresh frames that hold the whole segment.
            unsafe { physical::write(frames + skew, data) };
            let mode = match (flags & 1 != 0, flags & 2 != 0) {
                (true, false) => MapFlags::READ | MapFlags::EXECUTE,
                (false, true) => MapFlags::READ | MapFlags::WRITE,
                (false, false) => MapFlags::READ,
                (true, true) => return Err(bad),
            };
            self.map(address - skew, frames, pages, mode)?;
        }
        u64_at(0x18).ok_or(bad)
    }

    /// Makes the start-up pages and the handles that they name.
    fn write_startup(&mut self, bundle_pages: u64) -> Result<(), Error> {
        let pages = layout::STARTUP_BYTES / PAGE;
        let frames = self.fresh(pages)?;
        self.map(layout::STARTUP, frames, pages, MapFlags::READ)?;
        let handles = self.make_handles(bundle_pages)?;
        let process = handles
            .iter()
            .find(|(name, _)| name == "process")
            .map_or(0, |pair| pair.1);
        let mut names: Vec<(&str, u32), MAX_HANDLES> = Vec::new();
        names.extend(
            handles
                .iter()
                .map(|(name, handle)| (name.as_str(), *handle)),
        );
        let mut address = String::<20>::new();
        let mut bytes = String::<20>::new();
        // Twenty digits hold any 64-bit number.
        let _ = core::fmt::write(&mut address, format_args!("{}", layout::MAPPINGS));
        let _ = core::fmt::write(&mut bytes, format_args!("{}", self.boot.bundle.len()));
        let startup = Startup {
            name: "init",
            arguments: &[],
            variables: &[
                ("bundle_address", &address),
                ("bundle_bytes", &bytes),
                ("cmdline", self.boot.command_line),
            ],
            handles: &names,
        };
        let header_bytes = size_of::<StartupHeader>();
        let room = layout::STARTUP_BYTES as usize - header_bytes;
        let blob = physical::pointer::<u8>(frames + header_bytes as u64);
        // SAFETY: the rest of the start-up frames, which nobody else uses yet.
        let blob = unsafe { core::slice::from_raw_parts_mut(blob, room) };
        let used = postcard::to_slice(&startup, blob)
            .map_err(|_| Error::MessageTooLong)?
            .len();
        let header = StartupHeader {
            magic: layout::STARTUP_MAGIC,
            heap_start: layout::HEAP,
            heap_bytes: HEAP_PAGES * PAGE,
            state_start: 0,
            state_bytes: 0,
            has_service_page: 0,
            process,
            blob_bytes: used as u32,
            reserved: 0,
        };
        // SAFETY: the first bytes of the start-up frames, page aligned.
        unsafe { physical::pointer::<StartupHeader>(frames).write(header) };
        Ok(())
    }

    /// Makes handles to the machine, the process itself, the bundle and all free RAM.
    fn make_handles(&mut self, bundle_pages: u64) -> Result<Handles, Error> {
        let mut handles = Handles::new();
        let system = Entry::new(ObjectKind::System, Rights::ALL, 0, 0);
        self.name(&mut handles, format_args!("system"), system)?;
        let myself = self.process.id.get();
        PROCESSES.retain(myself);
        let process = Entry::new(ObjectKind::Process, Rights::ALL, myself, 0);
        self.name(&mut handles, format_args!("process"), process)?;
        let bundle = self.boot.bundle_physical;
        let bundle = memory::create(self.process, bundle, bundle_pages, Medium::Ram)?;
        let rights = Rights::READ | Rights::EXECUTE | Rights::DUPLICATE | Rights::TRANSFER;
        let bundle = Entry::new(ObjectKind::Memory, rights, bundle, 0);
        self.name(&mut handles, format_args!("bundle"), bundle)?;
        // The largest pieces first: what does not get a handle is small.
        self.boot
            .free
            .sort_unstable_by_key(|(start, end)| core::cmp::Reverse(end - start));
        let pieces = self.boot.free.clone();
        for (number, (start, end)) in pieces.into_iter().take(MAX_RAM).enumerate() {
            let pages = (end - start) / PAGE;
            if pages < MIN_RAM_PAGES {
                break;
            }
            let memory = memory::create(self.process, start, pages, Medium::Ram)?;
            let entry = Entry::new(ObjectKind::Memory, Rights::ALL, memory, 0);
            self.name(&mut handles, format_args!("ram{number}"), entry)?;
        }
        Ok(handles)
    }

    /// Gives the process a handle with a name.
    fn name(
        &mut self,
        handles: &mut Handles,
        name: core::fmt::Arguments<'_>,
        entry: Entry,
    ) -> Result<(), Error> {
        let handle = self.process.handles.lock(self.held).insert(entry)?;
        let mut text = String::new();
        core::fmt::write(&mut text, name).map_err(|_| Error::MessageTooLong)?;
        handles
            .push((text, handle.0))
            .map_err(|_| Error::TooManyHandles)
    }

    fn start_thread(self, entry: u64, control: u64) -> Result<(), Error> {
        let memory = memory::create(self.process, control, 2, Medium::Ram)?;
        debug_assert!(MEMORIES.get(memory).is_ram());
        let id = THREADS.allocate_for(self.process)?;
        let thread = THREADS.get(id);
        thread.reset(id, self.process.id.get());
        // As after a call: the stack pointer is 8 below a multiple of 16.
        thread.registers.start(entry, layout::STACK_TOP - 8, 0);
        thread.set_control(control);
        thread.control_memory.set(memory);
        thread.fs_base.set(layout::THREAD_CONTROL);
        {
            let mut state = self.process.state.lock(self.held);
            state.threads.push_back(&Family, id);
            state.thread_count += 1;
        }
        sched::make_ready(self.held, thread, Urgency::Normal);
        Ok(())
    }
}
