//! Page tables (Intel SDM vol. 3A, 4.5): of the kernel, and of each process.
//!
//! All processes share the upper half. Its top-level entries are made at boot and never change,
//! so that a new process only copies them. User pages are 4 KiB. Two of the bits that the
//! processor ignores remember what the memory handle allowed when the page was mapped, so that
//! `protect` cannot raise it.

use core::sync::atomic::{AtomicU64, Ordering};

use skink_abi::{Error, MapFlags, PAGE_SIZE, PageRun, layout};
use skink_kcore::range::UserRange;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::structures::paging::{PageTable, PageTableFlags};
use x86_64::{PhysAddr, VirtAddr};

use super::physical;
use crate::pool;

/// Start of the kernel's own mappings: stacks, device registers. One top-level entry.
const KERNEL_WINDOW: u64 = 0xffff_c000_0000_0000;
/// Where the arenas are, above the kernel's image: in the last 2 GiB of the address space, so that
/// an address in an arena is an offset in a register plus a 32-bit displacement.
const ARENA_WINDOW: u64 = 0xffff_ffff_9000_0000;
/// Bytes of address space of one arena.
pub(crate) const ARENA_BYTES: u64 = 1 << 27;
/// Most arenas.
const ARENAS: u64 = 8;

const _: () = assert!(ARENA_WINDOW.checked_add(ARENAS * ARENA_BYTES).is_some());

/// The handle allowed writing.
const MAY_WRITE: PageTableFlags = PageTableFlags::BIT_9;
const NO_EXECUTE: PageTableFlags = PageTableFlags::NO_EXECUTE;
/// The handle allowed executing.
const MAY_EXECUTE: PageTableFlags = PageTableFlags::BIT_10;

static NEXT_MAPPING: AtomicU64 = AtomicU64::new(KERNEL_WINDOW);
static KERNEL_ROOT: AtomicU64 = AtomicU64::new(0);

fn table(frame: u64) -> *mut PageTable {
    physical::pointer(frame)
}

fn index(address: u64, level: u32) -> usize {
    (address >> (3 + 9 * level)) as usize & 511
}

/// Takes over the loader's page tables: drops its lower half, makes the kernel's window.
///
/// # Errors
///
/// `NoMemory`.
///
/// # Safety
///
/// Once, on the first processor, when nothing below the upper half is needed any more.
pub(crate) unsafe fn init() -> Result<(), Error> {
    let root = Cr3::read().0.start_address().as_u64();
    KERNEL_ROOT.store(root, Ordering::Relaxed);
    let window = pool::allocate_zeroed()?;
    // SAFETY: the live top-level table; one processor runs, and the entry was unused.
    unsafe {
        let entry = &mut (&mut *table(root))[index(KERNEL_WINDOW, 4)];
        if !entry.is_unused() {
            return Err(Error::AlreadyMapped);
        }
        entry.set_addr(
            PhysAddr::new(window),
            PageTableFlags::PRESENT | PageTableFlags::WRITABLE,
        );
    }
    Ok(())
}

/// Drops the lower half of the boot page tables.
///
/// # Safety
///
/// Nothing in it is in use: all processors have left their start-up code.
pub(crate) unsafe fn drop_lower_half() {
    let root = KERNEL_ROOT.load(Ordering::Relaxed);
    for i in 0..256 {
        // SAFETY: by the caller's duty.
        unsafe { (&mut *table(root))[i].set_unused() };
    }
    load_kernel();
}

/// Maps the low page for starting other processors, one to one.
///
/// # Errors
///
/// `NoMemory`.
pub(crate) fn map_low_page(page: u64) -> Result<(), Error> {
    let root = KERNEL_ROOT.load(Ordering::Relaxed);
    let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
    // SAFETY: the boot tables, while one processor runs.
    let entry = unsafe { walk(root, page, flags, &mut pool::allocate_zeroed)? };
    entry.set_addr(PhysAddr::new(page), flags);
    Ok(())
}

/// Returns the kernel's top-level table.
pub(crate) fn kernel_root() -> u64 {
    KERNEL_ROOT.load(Ordering::Relaxed)
}

/// Returns the first address of the arena with a number.
pub(crate) const fn arena_base(number: u64) -> u64 {
    assert!(number < ARENAS);
    ARENA_WINDOW + number * ARENA_BYTES
}

/// Backs a page of the kernel's window with a fresh frame of zeros.
///
/// # Errors
///
/// `NoMemory`.
///
/// # Safety
///
/// The page is not mapped, and the caller alone maps this part of the window.
pub(crate) unsafe fn back_kernel_page(address: u64) -> Result<(), Error> {
    let frame = pool::allocate_zeroed()?;
    let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE;
    // SAFETY: by the caller's duty.
    unsafe { map_kernel_page(address, frame, flags) }
}

/// Kernel tables below the window are changed by one processor at a time.
static WINDOW: spin::Mutex<()> = spin::Mutex::new(());

/// # Safety
///
/// As [`back_kernel_page`]; `frame` may be accessed as `flags` say.
unsafe fn map_kernel_page(address: u64, frame: u64, flags: PageTableFlags) -> Result<(), Error> {
    let _one = WINDOW.lock();
    let inner = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
    let root = KERNEL_ROOT.load(Ordering::Relaxed);
    // SAFETY: under the lock of the window.
    let entry = unsafe { walk(root, address, inner, &mut pool::allocate_zeroed)? };
    entry.set_addr(PhysAddr::new(frame), flags);
    Ok(())
}

/// Maps device registers for the kernel, uncached.
///
/// # Errors
///
/// `NoMemory`.
pub(crate) fn map_device<T>(physical: u64, pages: u64) -> Result<*mut T, Error> {
    let bytes = pages * PAGE_SIZE as u64;
    let start = NEXT_MAPPING.fetch_add(bytes, Ordering::Relaxed);
    let flags = PageTableFlags::PRESENT
        | PageTableFlags::WRITABLE
        | PageTableFlags::NO_EXECUTE
        | PageTableFlags::NO_CACHE
        | PageTableFlags::WRITE_THROUGH;
    for at in (0..bytes).step_by(PAGE_SIZE) {
        // SAFETY: addresses of this range are given out once; device registers are not RAM.
        unsafe { map_kernel_page(start + at, (physical & !0xfff) + at, flags)? };
    }
    Ok(core::ptr::with_exposed_provenance_mut(start as usize))
}

/// Makes a kernel stack with an unmapped page below it and returns its end.
///
/// # Errors
///
/// `NoMemory`.
pub(crate) fn make_stack(pages: u64) -> Result<u64, Error> {
    let bytes = (pages + 1) * PAGE_SIZE as u64;
    let start = NEXT_MAPPING.fetch_add(bytes, Ordering::Relaxed);
    for page in 1..=pages {
        // SAFETY: addresses of this range are given out once.
        unsafe { back_kernel_page(start + page * PAGE_SIZE as u64)? };
    }
    Ok(start + bytes)
}

/// Finds the lowest-level entry of an address, making tables on the way.
///
/// # Safety
///
/// `root` is a top-level table that nobody else changes meanwhile; the entry must not be used
/// longer than that.
unsafe fn walk<'a>(
    root: u64,
    address: u64,
    inner: PageTableFlags,
    allocate: &mut dyn FnMut() -> Result<u64, Error>,
) -> Result<&'a mut PageTableEntry, Error> {
    // SAFETY: by the caller's duty.
    let lowest = unsafe { make_lowest(root, address, inner, allocate)? };
    // SAFETY: as above.
    Ok(unsafe { &mut (&mut *table(lowest))[index(address, 1)] })
}

/// Returns the lowest table on the way to an address, making tables where there are none.
///
/// # Safety
///
/// As [`walk`].
unsafe fn make_lowest(
    root: u64,
    address: u64,
    inner: PageTableFlags,
    allocate: &mut dyn FnMut() -> Result<u64, Error>,
) -> Result<u64, Error> {
    let mut frame = root;
    for level in [4, 3, 2] {
        // SAFETY: by the caller's duty; `frame` is a table of this tree.
        let entry = unsafe { &mut (&mut *table(frame))[index(address, level)] };
        if entry.is_unused() {
            make_table(entry, inner, allocate)?;
        }
        frame = entry.addr().as_u64();
    }
    Ok(frame)
}

/// Lets an entry point to a new table; out of line, since it is rare.
#[cold]
#[inline(never)]
fn make_table(
    entry: &mut PageTableEntry,
    inner: PageTableFlags,
    allocate: &mut dyn FnMut() -> Result<u64, Error>,
) -> Result<(), Error> {
    entry.set_addr(PhysAddr::new(allocate()?), inner);
    Ok(())
}

/// Returns the lowest table on the way to an address, or `None` where a table is missing.
///
/// # Safety
///
/// As [`walk`].
unsafe fn find_lowest(root: u64, address: u64) -> Option<u64> {
    let mut frame = root;
    for level in [4, 3, 2] {
        // SAFETY: by the caller's duty.
        let entry = unsafe { &(&*table(frame))[index(address, level)] };
        if entry.is_unused() {
            return None;
        }
        frame = entry.addr().as_u64();
    }
    Some(frame)
}

/// Bytes of a page.
const PAGE: u64 = PAGE_SIZE as u64;
/// Entries of a table.
const ENTRIES: u64 = 512;

/// Returns how many of `pages` pages from an address on have their entries in the same lowest
/// table.
fn pages_in_table(address: u64, pages: u64) -> u64 {
    pages.min(ENTRIES - index(address, 1) as u64)
}

/// Returns the entries of `pages` pages from an address on in their lowest table; all of them
/// must be in there.
///
/// # Safety
///
/// As [`walk`], for the table.
unsafe fn entries<'a>(lowest: u64, address: u64, pages: u64) -> &'a mut [PageTableEntry] {
    let first = physical::pointer::<PageTableEntry>(lowest).wrapping_add(index(address, 1));
    // SAFETY: within the table, as the caller makes sure.
    unsafe { core::slice::from_raw_parts_mut(first, pages as usize) }
}

/// Finds the entry of the page at an address, or tells how large the smallest aligned range around
/// it is in which nothing is mapped.
///
/// # Safety
///
/// As [`walk`].
unsafe fn find_entry<'a>(root: u64, address: u64) -> Result<&'a PageTableEntry, u64> {
    let mut frame = root;
    for level in [4, 3, 2] {
        // SAFETY: by the caller's duty.
        let entry = unsafe { &(&*table(frame))[index(address, level)] };
        if entry.is_unused() {
            return Err(1 << (3 + 9 * level));
        }
        frame = entry.addr().as_u64();
    }
    // SAFETY: by the caller's duty.
    let entry = unsafe { &(&*table(frame))[index(address, 1)] };
    if entry.is_unused() {
        Err(PAGE)
    } else {
        Ok(entry)
    }
}

/// How a page of a process is mapped.
#[derive(Clone, Copy)]
pub(crate) struct PageMode {
    /// Writing, executing.
    pub(crate) flags: MapFlags,
    /// What the handle would have allowed.
    pub(crate) limit: MapFlags,
    /// Device registers: uncached.
    pub(crate) is_device: bool,
}

/// What is done with a program's memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It is only read.
    Read,
    /// It is written.
    Write,
}

fn user_flags(mode: PageMode) -> PageTableFlags {
    let mut flags = PageTableFlags::PRESENT | PageTableFlags::USER_ACCESSIBLE;
    flags.set(
        PageTableFlags::WRITABLE,
        mode.flags.contains(MapFlags::WRITE),
    );
    flags.set(
        PageTableFlags::NO_EXECUTE,
        !mode.flags.contains(MapFlags::EXECUTE),
    );
    flags.set(
        PageTableFlags::NO_CACHE | PageTableFlags::WRITE_THROUGH,
        mode.is_device,
    );
    flags.set(MAY_WRITE, mode.limit.contains(MapFlags::WRITE));
    flags.set(MAY_EXECUTE, mode.limit.contains(MapFlags::EXECUTE));
    flags
}

/// Returns what a page may be used for that is marked with `write`, `execute`, or both.
fn uses(flags: PageTableFlags, write: PageTableFlags, execute: PageTableFlags) -> MapFlags {
    let mut uses = MapFlags::READ;
    if flags.contains(write) {
        uses = uses | MapFlags::WRITE;
    }
    if flags.contains(execute) {
        uses = uses | MapFlags::EXECUTE;
    }
    uses
}

/// Lets entries map frames in a row, up to one that is used and that the mode does not say to
/// replace. Returns how many were set, and how many of those were used before.
#[inline]
fn set_entries(entries: &mut [PageTableEntry], physical: u64, mode: PageMode) -> (u64, u64) {
    let flags = user_flags(mode);
    let may_replace = mode.flags.contains(MapFlags::REPLACE);
    let (mut set, mut replaced) = (0, 0);
    for entry in entries {
        if !entry.is_unused() {
            if !may_replace {
                break;
            }
            replaced += 1;
        }
        entry.set_addr(PhysAddr::new_truncate(physical + set * PAGE), flags);
        set += 1;
    }
    (set, replaced)
}

/// The page tables of a process. All methods need the process's space lock, which is why they
/// take `&mut self`.
pub(crate) struct Tables {
    root: u64,
}

impl Tables {
    /// No page tables: of a process that is gone.
    pub(crate) const NONE: Tables = Tables { root: 0 };

    /// Returns the tables with this top-level table.
    pub(crate) const fn of(root: u64) -> Tables {
        Tables { root }
    }

    /// Makes tables with an empty lower half.
    ///
    /// # Errors
    ///
    /// `NoMemory`.
    pub(crate) fn new() -> Result<Tables, Error> {
        let root = pool::allocate_zeroed()?;
        // SAFETY: two top-level tables; the kernel's upper half does not change after boot.
        unsafe {
            let (new, kernel) = (&mut *table(root), &*table(kernel_root()));
            for i in 256..512 {
                new[i] = kernel[i].clone();
            }
        }
        Ok(Tables { root })
    }

    /// Returns the physical address of the top-level table, 0 when there is none.
    pub(crate) const fn root(&self) -> u64 {
        self.root
    }

    /// Maps pages in a row, all or none of them. Returns how many others they replaced.
    ///
    /// # Errors
    ///
    /// `AlreadyMapped` unless the mode says to replace, and those of `allocate`; with the number
    /// of pages that were replaced by then, which are not mapped any more either.
    pub(crate) fn map(
        &mut self,
        range: UserRange,
        physical: u64,
        mode: PageMode,
        allocate: &mut dyn FnMut() -> Result<u64, Error>,
    ) -> Result<u64, (Error, u64)> {
        let inner =
            PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::USER_ACCESSIBLE;
        let (mut done, mut replaced) = (0, 0);
        // A range has a page at least.
        loop {
            let address = range.start() + done * PAGE;
            let pages = pages_in_table(address, range.pages() - done);
            // SAFETY: `&mut self` under the space lock; user addresses only, as of a `UserRange`.
            let made = unsafe { make_lowest(self.root, address, inner, allocate) };
            let lowest = match made {
                Ok(lowest) => lowest,
                Err(error) => {
                    self.unmap_pages(range.start(), done);
                    return Err((error, replaced));
                }
            };
            // SAFETY: as above.
            let entries = unsafe { entries(lowest, address, pages) };
            let (set, others) = set_entries(entries, physical + done * PAGE, mode);
            done += set;
            replaced += others;
            if set < pages {
                self.unmap_pages(range.start(), done);
                return Err((Error::AlreadyMapped, replaced));
            }
            if done == range.pages() {
                return Ok(replaced);
            }
        }
    }

    /// Unmaps the pages of a range. Returns how many were mapped.
    pub(crate) fn unmap(&mut self, range: UserRange) -> u64 {
        self.unmap_pages(range.start(), range.pages())
    }

    fn unmap_pages(&mut self, start: u64, pages: u64) -> u64 {
        let mut unmapped = 0;
        self.for_each_table(start, pages, |entries| {
            for entry in entries {
                unmapped += u64::from(!entry.is_unused());
                entry.set_unused();
            }
            Ok(())
        })
        .map_or(0, |()| unmapped)
    }

    /// Changes how the mapped pages of a range may be used.
    ///
    /// # Errors
    ///
    /// `MissingRight` for more than the handle of a page allowed; those before it are changed.
    pub(crate) fn protect(&mut self, range: UserRange, flags: MapFlags) -> Result<(), Error> {
        let write = flags.contains(MapFlags::WRITE);
        let execute = flags.contains(MapFlags::EXECUTE);
        self.for_each_table(range.start(), range.pages(), |entries| {
            for entry in entries.iter_mut().filter(|entry| !entry.is_unused()) {
                let mut bits = entry.flags();
                if write && !bits.contains(MAY_WRITE) || execute && !bits.contains(MAY_EXECUTE) {
                    return Err(Error::MissingRight);
                }
                bits.set(PageTableFlags::WRITABLE, write);
                bits.set(PageTableFlags::NO_EXECUTE, !execute);
                entry.set_flags(bits);
            }
            Ok(())
        })
    }

    /// Runs `f` on the entries of pages in a row, those of one table at a time. Where there is no
    /// table it is left out.
    #[inline]
    fn for_each_table(
        &mut self,
        start: u64,
        pages: u64,
        mut f: impl FnMut(&mut [PageTableEntry]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut done = 0;
        while done < pages {
            let address = start + done * PAGE;
            let count = pages_in_table(address, pages - done);
            // SAFETY: `&mut self` under the space lock.
            if let Some(lowest) = unsafe { find_lowest(self.root, address) } {
                // SAFETY: as above.
                f(unsafe { entries(lowest, address, count) })?;
            }
            done += count;
        }
        Ok(())
    }

    /// Translates an address of the process, if it may be used so there.
    pub(crate) fn translate(&self, address: u64, access: Access) -> Option<u64> {
        // SAFETY: under the space lock.
        let lowest = unsafe { find_lowest(self.root, address)? };
        // SAFETY: as above; the entry is only read.
        let entry = unsafe { &(&*table(lowest))[index(address, 1)] };
        let flags = entry.flags();
        let needed = PageTableFlags::PRESENT | PageTableFlags::USER_ACCESSIBLE;
        let is_device = flags.contains(PageTableFlags::NO_CACHE);
        let is_refused = access == Access::Write && !flags.contains(PageTableFlags::WRITABLE);
        if !flags.contains(needed) || is_device || is_refused {
            return None;
        }
        Some(entry.addr().as_u64() + (address & 0xfff))
    }

    /// Frees up to `budget` tables. Returns how many; fewer say that all are gone.
    ///
    /// # Safety
    ///
    /// No processor has these tables loaded.
    pub(crate) unsafe fn free_some(&mut self, budget: usize) -> usize {
        let mut freed = 0;
        while freed < budget && self.root != 0 {
            freed += 1;
            let mut frame = self.root;
            let mut parent: Option<&mut PageTableEntry> = None;
            for level in [4_u32, 3, 2] {
                let limit = if level == 4 { 256 } else { 512 };
                // SAFETY: tables of this tree, which nobody else uses any more.
                let entries = unsafe { &mut *table(frame) };
                let next = entries
                    .iter_mut()
                    .take(limit)
                    .find(|entry| !entry.is_unused());
                match next {
                    Some(entry) => {
                        frame = entry.addr().as_u64();
                        parent = Some(entry);
                    }
                    None => break,
                }
            }
            // `frame` is a table with nothing below it that is a table.
            // SAFETY: unlinked in the next step, used by nobody.
            unsafe { pool::free(frame) };
            match parent {
                Some(entry) => entry.set_unused(),
                None => self.root = 0,
            }
        }
        freed
    }

    /// Puts the runs of mapped pages from an address on into `runs` until that is full or `budget`
    /// entries of tables were looked at. Returns how many runs there are, and the address to go on
    /// with.
    pub(crate) fn runs(
        &self,
        mut address: u64,
        runs: &mut [PageRun],
        mut budget: usize,
    ) -> (usize, u64) {
        let mut count = 0;
        while address < layout::USER_END && budget > 0 {
            budget -= 1;
            // SAFETY: under the space lock; user addresses only.
            let (flags, frame) = match unsafe { find_entry(self.root, address) } {
                Ok(entry) => (entry.flags(), entry.addr().as_u64()),
                Err(empty_bytes) => {
                    address = (address & !(empty_bytes - 1)) + empty_bytes;
                    continue;
                }
            };
            let run = PageRun {
                address,
                physical: frame,
                pages: 1,
                flags: uses(flags ^ NO_EXECUTE, PageTableFlags::WRITABLE, NO_EXECUTE),
                limit: uses(flags, MAY_WRITE, MAY_EXECUTE),
            };
            let last = runs[..count].last_mut().filter(|last| last.continues(&run));
            if let Some(last) = last {
                last.pages += 1;
            } else if let Some(place) = runs.get_mut(count) {
                *place = run;
                count += 1;
            } else {
                break;
            }
            address += PAGE;
        }
        (count, address.min(layout::USER_END))
    }
}

/// Loads page tables on the calling processor; drops its translations.
///
/// # Safety
///
/// `root` is a top-level table with the kernel's upper half that lives while it is loaded.
#[inline]
pub(crate) unsafe fn load(root: u64) {
    // Not `Cr3::write`: it would mask the address, on the hottest path there is.
    // SAFETY: by the caller's duty.
    unsafe {
        core::arch::asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags));
    }
}

/// Loads page tables that map nothing but the kernel.
pub(crate) fn load_kernel() {
    // SAFETY: the kernel's own tables live for ever.
    unsafe { load(kernel_root()) };
}

/// Loads page tables that map nothing but the kernel, then others: two switches of address space
/// and nothing else.
///
/// # Safety
///
/// As [`load`].
pub(crate) unsafe fn load_kernel_and(root: u64) {
    load_kernel();
    // SAFETY: by the caller's duty.
    unsafe { load(root) };
}

/// Drops one translation of the calling processor.
pub(crate) fn flush_page(address: u64) {
    x86_64::instructions::tlb::flush(VirtAddr::new_truncate(address));
}

/// Drops all translations of the calling processor.
pub(crate) fn flush_all() {
    x86_64::instructions::tlb::flush_all();
}
