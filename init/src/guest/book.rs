//! The ledger in `init`'s state region, shared by its threads.

use alloc::collections::BTreeSet;
use core::fmt;

use init::ledger::{Key, Ledger, Number, Record};
use libsys::abi::RawHandle;
use libsys::state::{Found, Full, MappedMemory, Purpose, Region, mapped};
use libsys::{Error, Handle, Kind};
use spin::Mutex;

/// The ledger.
pub(crate) struct Book {
    region: Mutex<Region<Ledger, MappedMemory>>,
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book").finish_non_exhaustive()
    }
}

/// Why something could not be made or taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BookError {
    /// The kernel refused.
    Kernel(Error),
    /// The region has no room.
    Full(Full),
    /// There is no region, or what it held is lost: nobody knows any more what the handles are
    /// for.
    Lost,
}

impl fmt::Display for BookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BookError::Kernel(error) => write!(f, "the kernel refused: {error}"),
            BookError::Full(error) => write!(f, "own {error}"),
            BookError::Lost => f.write_str("own state region is missing or damaged"),
        }
    }
}

impl From<Error> for BookError {
    fn from(error: Error) -> Self {
        BookError::Kernel(error)
    }
}

impl From<Full> for BookError {
    fn from(error: Full) -> Self {
        BookError::Full(error)
    }
}

impl Book {
    /// Reads what the last instance wrote.
    pub(crate) fn open() -> Result<Book, BookError> {
        let (region, report) = Region::open_or_fresh(mapped().ok_or(BookError::Lost)?)?;
        if report.has_losses() {
            log::error!("ledger: {report}");
        }
        match report.found {
            Found::Fresh | Found::Intact | Found::SnapshotDamaged => Ok(Book {
                region: Mutex::new(region),
            }),
            _ => Err(BookError::Lost),
        }
    }

    /// Reads in it. `f` must not come back here.
    pub(crate) fn read<R>(&self, f: impl FnOnce(&Ledger) -> R) -> R {
        f(self.region.lock().state())
    }

    /// Notes a change.
    pub(crate) fn note(&self, record: Record) -> Result<(), Full> {
        self.region.lock().append(record, Purpose::Grow)
    }

    /// Takes up what an earlier instance made for this, or makes it.
    pub(crate) fn keep<K: Kind, E: From<BookError>>(
        &self,
        key: Key,
        make: impl FnOnce() -> Result<Handle<K>, E>,
    ) -> Result<Handle<K>, E> {
        if let Some(number) = self.read(|ledger| ledger.handle(key)) {
            return Ok(adopt(number)?);
        }
        let handle = make()?;
        self.note(Record::Handle(key, handle.raw().0))
            .map_err(BookError::from)?;
        Ok(handle)
    }

    /// Returns all handles that it names.
    pub(crate) fn numbers(&self) -> BTreeSet<Number> {
        self.read(Ledger::numbers)
    }
}

/// Takes up a handle of an earlier instance.
pub(crate) fn adopt<K: Kind>(number: Number) -> Result<Handle<K>, BookError> {
    Ok(Handle::adopt(RawHandle(number))?)
}
