//! Places for kernel objects of one kind.
//!
//! An arena grows page by page in the kernel's own address window and never shrinks: a place
//! stays a place for the same kind of object for ever. So an old [`Id`] can be followed at any
//! time and leads to *some* object of its kind; whether it is still the one meant is checked by
//! what the object says of itself (a call number, a process id) under its lock. Nothing in the
//! kernel can dangle.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering};

use skink_abi::{Error, PAGE_SIZE};
use skink_kcore::{Id, NONE};
use spin::Mutex;

use crate::arch::x86_64::entry::Word;
use crate::arch::x86_64::paging;
use crate::cell::Field;
use crate::process::{PROCESSES, Process};

/// An object that can live in an arena.
pub(crate) trait Object: Sync + 'static {
    /// What a place holds before its first use.
    const NEW: Self;
    /// The number of the kind's arena.
    const ARENA: u64;
}

/// An object and what the arena keeps about it. The object comes first: the entry code finds a
/// thread's registers at the address of its place.
#[repr(C)]
struct Place<T> {
    object: T,
    references: AtomicU32,
    next_free: AtomicU32,
    /// Whose quota pays for it.
    payer: Payer,
}

/// A process that pays for an object, while it lives.
struct Payer {
    process: Field,
    number: Word,
}

struct State {
    /// Places that were ever used.
    made: u32,
    /// Places that are in use.
    used: u32,
    first_free: Id,
    mapped_end: u64,
}

/// Places for objects of kind `T`.
#[repr(C)]
pub(crate) struct Arena<T> {
    made: AtomicU32,
    state: Mutex<State>,
    kind: PhantomData<fn() -> T>,
}

impl<T: Object> Arena<T> {
    /// Bytes of one place, which is what an object is charged.
    pub(crate) const BYTES: u64 = size_of::<Place<T>>() as u64;

    /// Where the first place is, for code in assembly.
    pub(crate) const BASE: u64 = paging::arena_base(T::ARENA);
    /// Offset of the number of places that were ever used, for code in assembly.
    pub(crate) const MADE: usize = core::mem::offset_of!(Self, made);

    /// Most places: as many as its part of the address space holds, and handles can name.
    const MOST: u32 = {
        let places = paging::ARENA_BYTES / Self::BYTES;
        let named = skink_kcore::handles::OBJECT_MASK;
        if places < named as u64 {
            places as u32
        } else {
            named
        }
    };

    /// Makes an arena with no places.
    pub(crate) const fn new() -> Self {
        let state = State {
            made: 0,
            used: 0,
            first_free: NONE,
            mapped_end: Self::BASE,
        };
        Arena {
            made: AtomicU32::new(0),
            state: Mutex::new(state),
            kind: PhantomData,
        }
    }

    /// Takes a free place with one reference to it. The object there is as its last user left it.
    ///
    /// # Errors
    ///
    /// `NoMemory`.
    pub(crate) fn allocate(&self) -> Result<Id, Error> {
        self.take_place()
    }

    /// Takes a free place as [`Arena::allocate`] does, charged to a process until it is freed.
    ///
    /// # Errors
    ///
    /// `NoMemory`.
    pub(crate) fn allocate_for(&self, process: &Process) -> Result<Id, Error> {
        process.charge(Self::BYTES)?;
        let id = self
            .take_place()
            .inspect_err(|_| process.refund(Self::BYTES))?;
        let payer = &self.place(id).payer;
        payer.process.set(process.id.get());
        payer.number.set(process.number());
        Ok(id)
    }

    fn take_place(&self) -> Result<Id, Error> {
        let mut state = self.state.lock();
        let id = if state.first_free != NONE {
            let id = state.first_free;
            state.first_free = self.place(id).next_free.load(Ordering::Relaxed);
            id
        } else {
            let id = state.made;
            if id >= Self::MOST {
                return Err(Error::NoMemory);
            }
            let end = Self::address(id) + Self::BYTES;
            while state.mapped_end < end {
                // SAFETY: this arena's part of the window, under its lock.
                unsafe { paging::back_kernel_page(state.mapped_end)? };
                state.mapped_end += PAGE_SIZE as u64;
            }
            let place = Place {
                object: T::NEW,
                references: AtomicU32::new(0),
                next_free: AtomicU32::new(NONE),
                payer: Payer {
                    process: Field::new(NONE),
                    number: Word::ZERO,
                },
            };
            // SAFETY: mapped just now, and no reference to the place exists yet.
            unsafe { Self::pointer(id).write(place) };
            state.made += 1;
            self.made.store(state.made, Ordering::Release);
            id
        };
        state.used += 1;
        self.place(id).references.store(1, Ordering::Release);
        Ok(id)
    }

    /// Gives a place back.
    pub(crate) fn free(&self, id: Id) {
        let payer = &self.place(id).payer;
        if payer.process.get() != NONE {
            let process = PROCESSES.get(payer.process.get());
            // One that has ended may be revived, with its account.
            if process.number() == payer.number.get() {
                process.refund(Self::BYTES);
            }
            payer.process.set(NONE);
        }
        let mut state = self.state.lock();
        self.place(id)
            .next_free
            .store(state.first_free, Ordering::Relaxed);
        state.first_free = id;
        state.used -= 1;
    }

    /// Returns the object in a place.
    #[inline]
    pub(crate) fn get(&self, id: Id) -> &'static T {
        &self.place(id).object
    }

    /// Returns the number of places that were ever used: ids are below it.
    pub(crate) fn made(&self) -> u32 {
        self.made.load(Ordering::Acquire)
    }

    /// Returns the number of objects.
    pub(crate) fn used(&self) -> u64 {
        self.state.lock().used.into()
    }

    /// Adds a reference.
    #[inline]
    pub(crate) fn retain(&self, id: Id) {
        self.place(id).references.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds a reference to what is in a place, unless it is unused.
    pub(crate) fn retain_used(&self, id: Id) -> bool {
        let add = |references| (references > 0).then_some(references + 1);
        let references = &self.place(id).references;
        references
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, add)
            .is_ok()
    }

    /// Drops a reference. Returns whether it was the last.
    #[inline]
    pub(crate) fn release(&self, id: Id) -> bool {
        self.release_one(id) == 0
    }

    /// Drops a reference. Returns how many are left: each number is told to one caller only.
    #[inline]
    pub(crate) fn release_one(&self, id: Id) -> u32 {
        self.place(id).references.fetch_sub(1, Ordering::AcqRel) - 1
    }

    /// Returns the number of references.
    pub(crate) fn references(&self, id: Id) -> u32 {
        self.place(id).references.load(Ordering::Relaxed)
    }

    #[inline]
    fn place(&self, id: Id) -> &'static Place<T> {
        // Ids are only ever made by `take_place` and kept in objects of the kernel; checking each
        // use would cost the IPC path a dozen comparisons.
        debug_assert!(
            id < self.made.load(Ordering::Relaxed),
            "id beyond its arena"
        );
        // SAFETY: every place below `made` was initialised and is never unmapped; objects are
        // shared by reference only.
        unsafe { &*Self::pointer(id) }
    }

    fn pointer(id: Id) -> *mut Place<T> {
        core::ptr::with_exposed_provenance_mut(Self::address(id) as usize)
    }

    const fn address(id: Id) -> u64 {
        Self::BASE + id as u64 * Self::BYTES
    }
}
