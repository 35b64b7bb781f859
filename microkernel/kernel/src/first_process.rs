//! The first process: `init`, made by the kernel from the boot bundle.
//!
//! This is the only program that the kernel loads. It gets a handle to everything: the machine,
//! all free RAM, the bundle, itself.
//!
//! Nobody is above `init` who could start it again when it ends, so the kernel does: its handles
//! and its state region are kept, its image, heap and stack are made as they were at first, and it
//! is told how often that was done. The work is done in slices, as the last part of its teardown.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bootloader_api::info::{MemoryRegionKind, MemoryRegions};
use heapless::{String, Vec};
use serde::Serialize;
use skink_abi::layout::{self, StartupHeader};
use skink_abi::{
    Error, ExitReason, MAX_MAP_PAGES, MAX_ZERO_PAGES, MapFlags, NAME_BYTES, ObjectKind, PAGE_SIZE,
    ProcessState, Rights,
};
use skink_kcore::Id;
use skink_kcore::handles::Entry;
use skink_manifest::bundle::{Bundle, Kind};

use crate::arch::x86_64::{physical, time};
use crate::lock::Held;
use crate::memory::{self, MEMORIES, Medium};
use crate::process::{Exit, PROCESSES, Process};
use crate::sched::{self, Urgency};
use crate::thread::{Family, THREADS};
use crate::{panic, revival, teardown};

const PAGE: u64 = PAGE_SIZE as u64;
const HEAP_PAGES: u64 = 1024;
const STACK_PAGES: u64 = 32;
/// Pages of its state region.
const STATE_PAGES: u64 = 256;
/// Most ranges of its space that the kernel maps.
const MAX_PIECES: usize = 16;
/// It is given up when it ends more often than this in a row, each time within [`SHORT_RUN_NS`] of
/// its start.
const MAX_SHORT_RUNS: u32 = 8;
/// Exit code of an `init` that found that the system cannot be started. In its first life that is the
/// last word: nothing is there yet that another life could save.
const CANNOT_START: u64 = 1;
/// A second in all.
const SHORT_RUN_NS: u64 = 125_000_000;
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

/// A range of `init`'s space.
struct Piece {
    address: u64,
    frames: u64,
    pages: u64,
    flags: MapFlags,
    content: Content,
}

/// What a range of `init`'s space holds when `init` starts.
enum Content {
    /// What it held before.
    Kept,
    /// Zeros, but for bytes of the boot bundle from an offset on.
    Fresh(u64, &'static [u8]),
}

/// How `init` is started.
struct Image {
    pieces: Vec<Piece, MAX_PIECES>,
    entry: u64,
    /// Physical address of the start-up pages.
    startup: u64,
    /// Physical address of the main thread's control pages, and their object. A reference is held.
    control: (u64, Id),
}

/// Set at boot.
static IMAGE: spin::Once<Image> = spin::Once::new();
/// When `init` was started, ns since boot.
static STARTED_AT: AtomicU64 = AtomicU64::new(0);
/// When it ended last, ns since boot.
static ENDED_AT: AtomicU64 = AtomicU64::new(0);
/// How many times it was started again.
static GENERATION: AtomicU32 = AtomicU32::new(0);
/// How many times in a row it ended within [`SHORT_RUN_NS`].
static SHORT_RUNS: AtomicU32 = AtomicU32::new(0);

/// What `init` is made from.
pub(crate) struct Boot {
    /// The boot bundle.
    pub(crate) bundle: &'static [u8],
    /// Its physical address, page aligned.
    pub(crate) bundle_physical: u64,
    /// The kernel's command line.
    pub(crate) command_line: &'static str,
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
pub(crate) fn start(held: &mut Held<0>, boot: Boot, quota: u64) -> Result<(), &'static str> {
    let bundle = Bundle::parse(boot.bundle).map_err(|_| "the boot bundle is damaged")?;
    let init = bundle
        .find_kind(Kind::Init)
        .ok_or("the boot bundle has no init")?;
    let mut name = [0; NAME_BYTES];
    name[..4].copy_from_slice(b"init");
    let id = Process::create(held, None, quota, name).map_err(|_| "no memory for init")?;
    let process = PROCESSES.get(id);
    process.keep_handles();
    process.set_urgent();
    let loader = Loader {
        held,
        process,
        boot,
        pieces: Vec::new(),
    };
    let image = loader.plan(init.data);
    let image = image.map_err(|_| "init's image is damaged, or there is no memory for it")?;
    let image = IMAGE.call_once(|| image);
    let mut next = Some(0);
    while let Some(first) = next {
        next = image
            .load_some(held, process, first)
            .map_err(|_| "no memory for init's page tables, or two parts of it overlap")?;
    }
    image
        .start_thread(held, process)
        .map_err(|_| "no memory for init's thread")
}

/// Notes that `init` has ended, and gives it up if it does nothing else.
pub(crate) fn note_end(exit: &Exit) {
    let is_first = GENERATION.load(Ordering::Relaxed) == 0;
    if is_first && matches!(exit.reason, ExitReason::Exited) && exit.code == CANNOT_START {
        panic::init_ended(exit);
    }
    let now = time::now();
    ENDED_AT.store(now, Ordering::Relaxed);
    let ran = now.saturating_sub(STARTED_AT.load(Ordering::Relaxed));
    // To be ended on purpose is no failure.
    if ran > SHORT_RUN_NS || exit.reason == ExitReason::Killed {
        SHORT_RUNS.store(0, Ordering::Relaxed);
    } else if SHORT_RUNS.fetch_add(1, Ordering::Relaxed) >= MAX_SHORT_RUNS {
        panic::init_ended(exit);
    }
    log::error!(
        "init has ended after {} ms and is started again: {:?}, code {}, at {:#x}, address {:#x}",
        ran / 1_000_000,
        exit.reason,
        exit.code,
        exit.address,
        exit.fault_address
    );
}

/// Gives `init`, of which nothing is left but its handles, an empty space to be loaded.
pub(crate) fn begin_reload(held: &mut Held<0>, process: &Process) {
    revival::renew(held, process).expect("its page tables are paid for");
    process.teardown.begin(teardown::RELOAD);
}

/// Loads a slice of `init` anew. Returns whether that was the last: then it runs.
pub(crate) fn reload_slice(held: &mut Held<0>, process: &'static Process) -> bool {
    let image = IMAGE.get().expect("set before init first ran");
    let position = &process.teardown.next_index;
    let next = image.load_some(held, process, position.get().into());
    match next.expect("its page tables are paid for") {
        Some(next) => {
            position.set(next as u32);
            return false;
        }
        None => process.teardown.restart(),
    }
    let generation = GENERATION.fetch_add(1, Ordering::Relaxed) + 1;
    let header = physical::pointer::<StartupHeader>(image.startup);
    // SAFETY: the frames that were written at boot; nobody runs who could read them.
    unsafe {
        (&raw mut (*header).generation).write(generation);
        (&raw mut (*header).ended_ns).write(ENDED_AT.load(Ordering::Relaxed));
    }
    let started = image.start_thread(held, process);
    started.expect("its thread is paid for");
    true
}

impl Image {
    /// Fills and maps a slice of pages from the one with a number on, counted over all pieces.
    /// Returns the number to go on with, or `None` when nothing is left.
    fn load_some(
        &self,
        held: &mut Held<0>,
        process: &Process,
        mut first: u64,
    ) -> Result<Option<u64>, Error> {
        let mut before = 0;
        for piece in &self.pieces {
            if first < piece.pages {
                let pages = piece.load_some(held, process, first)?;
                return Ok(Some(before + first + pages));
            }
            first -= piece.pages;
            before += piece.pages;
        }
        Ok(None)
    }

    fn start_thread(&self, held: &mut Held<0>, process: &'static Process) -> Result<(), Error> {
        let (control, memory) = self.control;
        // The first word of the control page is its own address.
        // SAFETY: frames of its own, which nobody uses yet.
        unsafe { physical::pointer::<u64>(control).write(layout::THREAD_CONTROL) };
        let id = THREADS.allocate_for(process)?;
        MEMORIES.retain(memory);
        let thread = THREADS.get(id);
        thread.reset(id, process.id.get());
        // As after a call: the stack pointer is 8 below a multiple of 16.
        thread.registers.start(self.entry, layout::STACK_TOP - 8, 0);
        thread.set_control(control);
        thread.control_memory.set(memory);
        thread.fs_base.set(layout::THREAD_CONTROL);
        STARTED_AT.store(time::now(), Ordering::Relaxed);
        {
            let mut state = process.state.lock(held);
            state.threads.push_back(&Family, id);
            state.thread_count += 1;
            process.set_status(ProcessState::Alive);
        }
        sched::make_ready(held, thread, Urgency::Normal);
        Ok(())
    }
}

impl Piece {
    /// Fills and maps some pages of it. Returns how many.
    fn load_some(&self, held: &mut Held<0>, process: &Process, first: u64) -> Result<u64, Error> {
        let start = self.frames + first * PAGE;
        let mut pages = self.pages - first;
        match self.content {
            Content::Kept => pages = pages.min(MAX_MAP_PAGES),
            Content::Fresh(skew, data) => {
                pages = pages.min(MAX_ZERO_PAGES);
                // SAFETY: frames of `init` alone, which does not run.
                unsafe { physical::zero(start, pages * PAGE) };
                let part =
                    |page: u64| ((page * PAGE).saturating_sub(skew) as usize).min(data.len());
                let data = &data[part(first)..part(first + pages)];
                let skew = if first == 0 { skew } else { 0 };
                // SAFETY: as above; the data ends where the last of the pages does at the latest.
                unsafe { physical::write(start + skew, data) };
            }
        }
        let address = self.address + first * PAGE;
        memory::map_at_boot(held, process, address, start, pages, self.flags)?;
        Ok(pages)
    }
}

/// Decides what goes where, and takes the frames for it.
struct Loader<'a> {
    held: &'a mut Held<0>,
    process: &'static Process,
    boot: Boot,
    pieces: Vec<Piece, MAX_PIECES>,
}

impl Loader<'_> {
    fn plan(mut self, image: &'static [u8]) -> Result<Image, Error> {
        let entry = self.plan_segments(image)?;
        let write = MapFlags::READ | MapFlags::WRITE;
        let zeros = || Content::Fresh(0, &[]);
        self.add(layout::HEAP, HEAP_PAGES, write, zeros())?;
        let stack = layout::STACK_TOP - STACK_PAGES * PAGE;
        self.add(stack, STACK_PAGES, write, zeros())?;
        let control = self.add(layout::THREAD_CONTROL, 2, write, zeros())?;
        self.add(layout::STATE_REGION, STATE_PAGES, write, Content::Kept)?;
        let bundle_pages = (self.boot.bundle.len() as u64).div_ceil(PAGE);
        let bundle = self.boot.bundle_physical;
        self.add_at(
            layout::MAPPINGS,
            (bundle, bundle_pages),
            MapFlags::READ,
            Content::Kept,
        )?;
        let startup = layout::STARTUP_BYTES / PAGE;
        let startup = self.add(layout::STARTUP, startup, MapFlags::READ, Content::Kept)?;
        self.write_startup(startup, bundle_pages)?;
        let memory = memory::create(self.process, control, 2, Medium::Ram)?;
        Ok(Image {
            pieces: self.pieces,
            entry,
            startup,
            control: (control, memory),
        })
    }

    /// Takes frames of free RAM, filled with zeros, for a range. Returns where they are.
    fn add(
        &mut self,
        address: u64,
        pages: u64,
        flags: MapFlags,
        content: Content,
    ) -> Result<u64, Error> {
        let start = take(&mut self.boot.free, pages * PAGE).ok_or(Error::NoMemory)?;
        // SAFETY: free RAM, just taken.
        unsafe { physical::zero(start, pages * PAGE) };
        self.add_at(address, (start, pages), flags, content)?;
        Ok(start)
    }

    fn add_at(
        &mut self,
        address: u64,
        (frames, pages): (u64, u64),
        flags: MapFlags,
        content: Content,
    ) -> Result<(), Error> {
        let piece = Piece {
            address,
            frames,
            pages,
            flags,
            content,
        };
        self.pieces.push(piece).map_err(|_| Error::NoMemory)
    }

    /// Gives each segment of an ELF image frames of its own, and returns the entry point.
    fn plan_segments(&mut self, image: &'static [u8]) -> Result<u64, Error> {
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
            let mode = match (flags & 1 != 0, flags & 2 != 0) {
                (true, false) => MapFlags::READ | MapFlags::EXECUTE,
                (false, true) => MapFlags::READ | MapFlags::WRITE,
                (false, false) => MapFlags::READ,
                (true, true) => return Err(bad),
            };
            self.add(address - skew, pages, mode, Content::Fresh(skew, data))?;
        }
        u64_at(0x18).ok_or(bad)
    }

    /// Writes the start-up pages and makes the handles that they name.
    fn write_startup(&mut self, frames: u64, bundle_pages: u64) -> Result<(), Error> {
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
            state_start: layout::STATE_REGION,
            state_bytes: STATE_PAGES * PAGE,
            has_service_page: 0,
            process,
            blob_bytes: used as u32,
            generation: 0,
            ended_ns: 0,
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
}
