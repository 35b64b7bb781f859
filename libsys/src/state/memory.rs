//! The memory under a state region.

use core::ops::RangeBounds;

/// Memory that keeps what was stored when its writer dies.
///
/// The writer can die between any two stores; a store of an aligned word happens or does not.
/// Implementations keep the order: what was written before a [`StateMemory::commit`] is there
/// when the committed word is.
pub trait StateMemory {
    /// Returns the size.
    fn bytes(&self) -> usize;

    /// Returns whether records need not be kept: only for measuring what keeping them costs.
    fn is_volatile(&self) -> bool {
        false
    }

    /// Gives a range to read.
    ///
    /// # Panics
    ///
    /// When the range is not within the memory.
    fn view(&self, range: impl RangeBounds<usize>) -> &[u8];

    /// Lets `f` write to the room of `room` bytes at `at`. It returns how many of them, from the
    /// first on, it may have changed, and what is returned here.
    ///
    /// # Panics
    ///
    /// When the range is not within the memory.
    fn fill<R>(&mut self, at: usize, room: usize, f: impl FnOnce(&mut [u8]) -> (usize, R)) -> R;

    /// Lets `f` change `bytes` bytes at `at`.
    ///
    /// # Panics
    ///
    /// As [`StateMemory::fill`].
    fn edit<R>(&mut self, at: usize, bytes: usize, f: impl FnOnce(&mut [u8]) -> R) -> R {
        self.fill(at, bytes, |place| (bytes, f(place)))
    }

    /// Stores bytes, in any order.
    ///
    /// # Panics
    ///
    /// When they reach past the memory.
    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.edit(at, bytes.len(), |place| place.copy_from_slice(bytes));
    }

    /// Stores a word at once, after everything before it and before everything after it.
    ///
    /// # Panics
    ///
    /// When `at` is not a multiple of 8 or reaches past the memory.
    fn commit(&mut self, at: usize, value: u64);
}

#[cfg(bare)]
pub use guest::{MappedMemory, mapped, open_mapped};

#[cfg(bare)]
mod guest {
    use core::ops::{Bound, RangeBounds};
    use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, compiler_fence};

    use crate::state::{Region, Report, State, StateMemory};

    /// The state region of this service, or a part of it.
    #[derive(Debug)]
    pub struct MappedMemory {
        bytes: &'static mut [u8],
        is_volatile: bool,
    }

    /// Variable by which `init` says whether records are kept.
    const VARIABLE: &str = "state";
    /// Its value when they are not.
    const VOLATILE: &str = "volatile";

    /// Returns the state region of this service; `None` if it has none, or when it was taken
    /// before. Waits at the [gate](crate::gate) until the state is there.
    pub fn mapped() -> Option<MappedMemory> {
        static IS_TAKEN: AtomicBool = AtomicBool::new(false);
        let header = crate::startup::header();
        if header.state_bytes == 0 || IS_TAKEN.swap(true, Ordering::Relaxed) {
            return None;
        }
        // Who has announced a schema has waited already.
        crate::gate::announce(0);
        let start = core::ptr::with_exposed_provenance_mut::<u8>(header.state_start as usize);
        // SAFETY: init maps the region there, page aligned, readable and writable for as long as
        // the process lives, and never touches it meanwhile; it is given out once only.
        let bytes = unsafe { core::slice::from_raw_parts_mut(start, header.state_bytes as usize) };
        let startup = crate::startup::read();
        let kept = startup
            .as_ref()
            .and_then(|startup| startup.variable(VARIABLE));
        let is_volatile = kept == Some(VOLATILE);
        if is_volatile {
            log::warn!("nothing is kept for the next instance: the command line says so");
        }
        Some(MappedMemory { bytes, is_volatile })
    }

    /// Opens the state region of this service, whose state is `what`, and logs what was found. A
    /// trial says which schema it has, and [waits](crate::gate) until the state is there.
    ///
    /// # Errors
    ///
    /// Why there is no state, for the log.
    pub fn open_mapped<S: State>(
        what: &str,
    ) -> Result<(Region<S, MappedMemory>, Report), &'static str> {
        crate::gate::announce(Region::<S, MappedMemory>::schema());
        let memory = mapped().ok_or("no state region was given")?;
        let (region, report) =
            Region::open_or_fresh(memory).map_err(|_| "the state region is too small")?;
        report.log(what);
        Ok((region, report))
    }

    impl MappedMemory {
        /// Splits the memory at a multiple of the page size.
        ///
        /// # Panics
        ///
        /// When `at` is past the end or no multiple of the page size.
        pub fn split_at(self, at: usize) -> (MappedMemory, MappedMemory) {
            assert!(
                at.is_multiple_of(skink_abi::PAGE_SIZE),
                "state is split between pages"
            );
            let (first, second) = self.bytes.split_at_mut(at);
            (
                MappedMemory {
                    bytes: first,
                    is_volatile: self.is_volatile,
                },
                MappedMemory {
                    bytes: second,
                    is_volatile: self.is_volatile,
                },
            )
        }
    }

    impl StateMemory for MappedMemory {
        fn bytes(&self) -> usize {
            self.bytes.len()
        }

        fn is_volatile(&self) -> bool {
            self.is_volatile
        }

        #[inline]
        fn view(&self, range: impl RangeBounds<usize>) -> &[u8] {
            let start = match range.start_bound() {
                Bound::Included(start) => *start,
                Bound::Excluded(before) => *before + 1,
                Bound::Unbounded => 0,
            };
            let end = match range.end_bound() {
                Bound::Included(last) => *last + 1,
                Bound::Excluded(end) => *end,
                Bound::Unbounded => self.bytes.len(),
            };
            &self.bytes[start..end]
        }

        #[inline]
        fn fill<R>(
            &mut self,
            at: usize,
            room: usize,
            f: impl FnOnce(&mut [u8]) -> (usize, R),
        ) -> R {
            f(&mut self.bytes[at..at + room]).1
        }

        #[inline]
        fn commit(&mut self, at: usize, value: u64) {
            let place = &mut self.bytes[at..at + 8];
            assert!(at.is_multiple_of(8), "a committed word is aligned");
            // A dead process has made all stores up to some instruction, in program order: it is
            // the compiler that has to keep the order.
            compiler_fence(Ordering::SeqCst);
            #[expect(
                clippy::cast_ptr_alignment,
                reason = "page-aligned base plus a multiple of 8"
            )]
            let word = place.as_mut_ptr().cast::<u64>();
            // SAFETY: eight bytes that are borrowed mutably, aligned as checked above.
            unsafe { AtomicU64::from_ptr(word) }.store(value, Ordering::Release);
            compiler_fence(Ordering::SeqCst);
        }
    }
}
