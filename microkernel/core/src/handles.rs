//! Handle tables: generations, free entries, rights.
//!
//! The entries live in pages that the kernel supplies one by one through [`Entries`]; this module
//! decides which entry is used and what a number proves.

use skink_abi::{Error, MAX_PROCESS_HANDLES, ObjectKind, RawHandle, Rights};

use crate::{Id, NONE};

/// One entry of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What it names, or `None` when it is free.
    pub kind: Option<ObjectKind>,
    /// What the holder may do.
    pub rights: Rights,
    /// Counts the uses of this entry; never 0 in a handle.
    generation: u16,
    /// The object's index in its arena; for a free entry the next free one.
    pub object: Id,
    /// Kind-specific: bits of a notification handle, range of ports.
    pub detail: u64,
}

impl Entry {
    /// An entry that was never used.
    pub const FREE: Entry = Entry {
        kind: None,
        rights: Rights::NONE,
        generation: 0,
        object: NONE,
        detail: 0,
    };

    /// Makes the contents of an entry.
    pub const fn new(kind: ObjectKind, rights: Rights, object: Id, detail: u64) -> Entry {
        Entry {
            kind: Some(kind),
            rights,
            generation: 0,
            object,
            detail,
        }
    }

    /// Returns the entry as two words. The first holds all that a lookup compares, so that it can
    /// be read without the table's lock: rights (16 bits), generation (16, where a handle has it),
    /// kind, and whether the handle may be used for what that is for (8), object (24).
    pub const fn to_words(self) -> [u64; 2] {
        let kind = match self.kind {
            Some(kind) => Entry::kind_byte(kind, self.rights),
            None => 0,
        };
        let object = (self.object & OBJECT_MASK) as u64;
        let first =
            self.rights.0 as u64 | (self.generation as u64) << 16 | kind << 32 | object << 40;
        [first, self.detail]
    }

    /// Returns the entry that was written as these words.
    pub const fn from_words([first, detail]: [u64; 2]) -> Entry {
        let object = Entry::object_of(first);
        Entry {
            kind: ObjectKind::from_number((first >> 32) as u8 & !MAY_USE),
            rights: Rights(first as u16),
            generation: (first >> 16) as u16,
            object: if object == OBJECT_MASK { NONE } else { object },
            detail,
        }
    }

    /// Returns a kind as the first word of an entry has it.
    const fn kind_byte(kind: ObjectKind, rights: Rights) -> u64 {
        let may_use = match kind {
            ObjectKind::Sender => rights.contains(Rights::CALL),
            ObjectKind::Endpoint => rights.contains(Rights::RECEIVE),
            ObjectKind::Notification => rights.contains(Rights::NOTIFY),
            _ => false,
        };
        kind as u64 | if may_use { MAY_USE as u64 } else { 0 }
    }

    /// Returns what bits 16 to 39 of the exclusive or of an entry's first word and a handle must
    /// be for the handle to name an object of a kind and may do with it what that kind is for.
    pub const fn usable(kind: ObjectKind) -> u32 {
        (kind as u32 | MAY_USE as u32) << 16
    }

    /// Returns whether an entry with this first word is what a handle names, of a kind and with
    /// rights.
    #[inline]
    pub const fn matches(first: u64, handle: RawHandle, kind: ObjectKind, rights: Rights) -> bool {
        let has_generation = (first as u32 ^ handle.0) >> 16 == 0;
        let has_rights = first as u16 & rights.0 == rights.0;
        has_generation && has_rights && (first >> 32) as u8 & !MAY_USE == kind as u8
    }

    /// Returns the rights that the first word of an entry holds.
    #[inline(always)]
    pub const fn rights_of(first: u64) -> Rights {
        Rights(first as u16)
    }

    /// Returns the object that the first word of an entry names.
    #[inline(always)]
    pub const fn object_of(first: u64) -> Id {
        (first >> 40) as Id
    }

    /// Returns whether the holder may do all of `rights`.
    ///
    /// # Errors
    ///
    /// `MissingRight`.
    pub const fn require(&self, rights: Rights) -> Result<(), Error> {
        if self.rights.contains(rights) {
            Ok(())
        } else {
            Err(Error::MissingRight)
        }
    }
}

/// In the byte of an entry's first word that says the kind: the handle may be used for what the
/// kind is for, that is to call, receive or notify.
const MAY_USE: u8 = 0x80;

/// Objects have ids below this: an entry holds 24 bits of them.
pub const OBJECT_MASK: Id = 0x00ff_ffff;

/// The pages of a table.
pub trait Entries {
    /// Returns the number of entries that exist.
    fn len(&self) -> usize;
    /// Returns whether no entry exists.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Reads an existing entry.
    fn get(&self, index: usize) -> Entry;
    /// Writes an existing entry.
    fn set(&mut self, index: usize, entry: Entry);
    /// Adds entries, all of them [`Entry::FREE`].
    ///
    /// # Errors
    ///
    /// `NoMemory`.
    fn grow(&mut self) -> Result<(), Error>;
}

/// A table of handles.
#[derive(Debug)]
pub struct HandleTable<E> {
    entries: E,
    first_free: Id,
    used: u32,
}

impl<E: Entries> HandleTable<E> {
    /// Makes an empty table.
    pub const fn new(entries: E) -> Self {
        HandleTable {
            entries,
            first_free: NONE,
            used: 0,
        }
    }

    /// Returns the pages, to give them back.
    pub const fn entries_mut(&mut self) -> &mut E {
        &mut self.entries
    }

    /// Returns the number of handles.
    pub const fn used(&self) -> u32 {
        self.used
    }

    /// Finds what a handle names.
    ///
    /// # Errors
    ///
    /// `InvalidHandle`.
    pub fn get(&self, handle: RawHandle) -> Result<Entry, Error> {
        let index = usize::from(handle.index());
        if index >= self.entries.len() {
            return Err(Error::InvalidHandle);
        }
        let entry = self.entries.get(index);
        if entry.kind.is_none() || entry.generation != handle.generation() {
            return Err(Error::InvalidHandle);
        }
        Ok(entry)
    }

    /// Finds what a handle names, if it is of the kind and has the rights.
    ///
    /// # Errors
    ///
    /// `InvalidHandle`, `WrongKind`, `MissingRight`.
    pub fn find(
        &self,
        handle: RawHandle,
        kind: ObjectKind,
        rights: Rights,
    ) -> Result<Entry, Error> {
        let entry = self.get(handle)?;
        if entry.kind != Some(kind) {
            return Err(Error::WrongKind);
        }
        entry.require(rights)?;
        Ok(entry)
    }

    /// Adds a handle.
    ///
    /// # Errors
    ///
    /// `TooManyHandles`, `NoMemory`.
    pub fn insert(&mut self, mut entry: Entry) -> Result<RawHandle, Error> {
        let index = self.free_index()?;
        let old = self.entries.get(index as usize);
        self.first_free = old.object;
        entry.generation = match old.generation.wrapping_add(1) {
            0 => 1,
            generation => generation,
        };
        self.entries.set(index as usize, entry);
        self.used += 1;
        Ok(RawHandle::new(index as u16, entry.generation))
    }

    /// Takes a handle out.
    ///
    /// # Errors
    ///
    /// `InvalidHandle`.
    pub fn remove(&mut self, handle: RawHandle) -> Result<Entry, Error> {
        let entry = self.get(handle)?;
        self.release(usize::from(handle.index()), entry);
        Ok(entry)
    }

    /// Takes out whatever is at an index, for emptying a table in slices. Returns `Ok(None)` for
    /// a free entry.
    ///
    /// # Errors
    ///
    /// `InvalidHandle` past the end.
    pub fn remove_at(&mut self, index: usize) -> Result<Option<Entry>, Error> {
        if index >= self.entries.len() {
            return Err(Error::InvalidHandle);
        }
        let entry = self.entries.get(index);
        if entry.kind.is_none() {
            return Ok(None);
        }
        self.release(index, entry);
        Ok(Some(entry))
    }

    /// Returns what is at an index, for going over a table in slices: `Ok(None)` for a free entry.
    ///
    /// # Errors
    ///
    /// `InvalidHandle` past the end.
    pub fn at(&self, index: usize) -> Result<Option<Entry>, Error> {
        if index >= self.entries.len() {
            return Err(Error::InvalidHandle);
        }
        let entry = self.entries.get(index);
        Ok(entry.kind.map(|_| entry))
    }

    /// Returns the handle with the lowest index from `first` on, and its kind.
    pub fn next(&self, first: usize) -> Option<(RawHandle, ObjectKind)> {
        (first..self.entries.len()).find_map(|index| {
            let entry = self.entries.get(index);
            let handle = RawHandle::new(index as u16, entry.generation);
            entry.kind.map(|kind| (handle, kind))
        })
    }

    fn release(&mut self, index: usize, entry: Entry) {
        let free = Entry {
            generation: entry.generation,
            object: self.first_free,
            ..Entry::FREE
        };
        self.entries.set(index, free);
        self.first_free = index as Id;
        self.used -= 1;
    }

    fn free_index(&mut self) -> Result<Id, Error> {
        if self.first_free != NONE {
            return Ok(self.first_free);
        }
        let old = self.entries.len();
        if old >= MAX_PROCESS_HANDLES {
            return Err(Error::TooManyHandles);
        }
        self.entries.grow()?;
        for index in (old..self.entries.len()).rev() {
            self.entries.set(
                index,
                Entry {
                    object: self.first_free,
                    ..Entry::FREE
                },
            );
            self.first_free = index as Id;
        }
        Ok(self.first_free)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skink_abi::{Error, ObjectKind, RawHandle, Rights};

    use super::{Entries, Entry, HandleTable};

    struct Pages(Vec<Entry>, usize);

    impl Entries for Pages {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn get(&self, index: usize) -> Entry {
            self.0[index]
        }

        fn set(&mut self, index: usize, entry: Entry) {
            self.0[index] = entry;
        }

        fn grow(&mut self) -> Result<(), Error> {
            if self.0.len() >= self.1 {
                return Err(Error::NoMemory);
            }
            self.0.extend([Entry::FREE; 4]);
            Ok(())
        }
    }

    #[test]
    fn words_round_trip() {
        let made = Entry {
            generation: 0xabcd,
            ..Entry::new(ObjectKind::System, Rights::ALL, 0x12_3456, 7)
        };
        assert_eq!(Entry::from_words(made.to_words()), made);
        assert_eq!(Entry::from_words(Entry::FREE.to_words()), Entry::FREE);
        assert_eq!(Entry::object_of(made.to_words()[0]), 0x12_3456);
    }

    #[test]
    fn a_word_tells_what_its_handle_may_be_used_for() {
        let word = |rights| {
            let entry = Entry {
                generation: 0xabcd,
                ..Entry::new(ObjectKind::Sender, rights, 0x12_3456, 7)
            };
            entry.to_words()[0]
        };
        let may_call = word(Rights::CALL | Rights::MANAGE);
        // What fastpath.s computes.
        let is_usable = |first: u64, generation, kind| {
            let handle = RawHandle::new(3, generation);
            (first ^ u64::from(handle.0)) >> 16 & 0xff_ffff == u64::from(Entry::usable(kind))
        };
        assert!(is_usable(may_call, 0xabcd, ObjectKind::Sender));
        assert!(!is_usable(may_call, 0xabce, ObjectKind::Sender));
        assert!(!is_usable(may_call, 0xabcd, ObjectKind::Endpoint));
        assert!(!is_usable(word(Rights::MANAGE), 0xabcd, ObjectKind::Sender));
        let [free, _] = Entry::FREE.to_words();
        assert!(!is_usable(free, 0, ObjectKind::Sender));

        let matches = |generation, kind, right| {
            Entry::matches(may_call, RawHandle::new(3, generation), kind, right)
        };
        assert!(matches(0xabcd, ObjectKind::Sender, Rights::MANAGE));
        assert!(!matches(0xabce, ObjectKind::Sender, Rights::MANAGE));
        assert!(!matches(0xabcd, ObjectKind::Endpoint, Rights::MANAGE));
        assert!(!matches(0xabcd, ObjectKind::Sender, Rights::TRANSFER));
    }

    fn entry(object: u32) -> Entry {
        Entry::new(ObjectKind::Memory, Rights::READ, object, 0)
    }

    #[test]
    fn a_closed_handle_stays_invalid_when_its_entry_is_used_again() {
        let mut table = HandleTable::new(Pages(Vec::new(), 4));
        let first = table.insert(entry(1)).unwrap();
        table.remove(first).unwrap();
        let second = table.insert(entry(2)).unwrap();
        assert_eq!(first.index(), second.index());
        assert_eq!(table.get(first), Err(Error::InvalidHandle));
        assert_eq!(table.get(second).unwrap().object, 2);
        assert_eq!(table.get(RawHandle::NONE), Err(Error::InvalidHandle));
    }

    #[test]
    fn kind_and_rights_are_checked() {
        let mut table = HandleTable::new(Pages(Vec::new(), 4));
        let handle = table.insert(entry(1)).unwrap();
        assert!(table.find(handle, ObjectKind::Memory, Rights::READ).is_ok());
        let wrong = table.find(handle, ObjectKind::Process, Rights::NONE);
        assert_eq!(wrong, Err(Error::WrongKind));
        let missing = table.find(handle, ObjectKind::Memory, Rights::WRITE);
        assert_eq!(missing, Err(Error::MissingRight));
    }

    proptest! {
        #[test]
        fn live_handles_are_found_and_others_are_not(steps in prop::collection::vec((any::<bool>(), 0_usize..12), 0..200)) {
            let mut table = HandleTable::new(Pages(Vec::new(), 8));
            let mut live: Vec<(RawHandle, u32)> = Vec::new();
            let mut dead = Vec::new();
            for (number, (insert, pick)) in steps.into_iter().enumerate() {
                if insert {
                    match table.insert(entry(number as u32)) {
                        Ok(handle) => live.push((handle, number as u32)),
                        Err(error) => {
                            prop_assert_eq!(error, Error::NoMemory);
                            prop_assert_eq!(live.len(), 8);
                        }
                    }
                } else if pick < live.len() {
                    let (handle, object) = live.swap_remove(pick);
                    prop_assert_eq!(table.remove(handle).unwrap().object, object);
                    dead.push(handle);
                }
                prop_assert_eq!(table.used() as usize, live.len());
                for (handle, object) in &live {
                    prop_assert_eq!(table.get(*handle).unwrap().object, *object);
                }
                for handle in &dead {
                    prop_assert_eq!(table.get(*handle), Err(Error::InvalidHandle));
                }
                let mut listed = Vec::new();
                while let Some((handle, kind)) =
                    table.next(listed.last().map_or(0, |last: &RawHandle| usize::from(last.index()) + 1))
                {
                    prop_assert_eq!(kind, ObjectKind::Memory);
                    let entry = table.get(handle).unwrap();
                    prop_assert_eq!(table.at(handle.index().into()), Ok(Some(entry)));
                    listed.push(handle);
                }
                let mut all: Vec<RawHandle> = live.iter().map(|(handle, _)| *handle).collect();
                all.sort_by_key(|handle| handle.index());
                prop_assert_eq!(listed, all);
            }
        }
    }
}
