//! Directories: lists of names.
//!
//! Indexed directories are read as plain ones: their index blocks look like empty entries to a
//! reader that does not know them, which is how the format keeps old readers working.

use alloc::rc::Rc;
use core::ops::ControlFlow;

use libipc::proto::file_system::Seal;

use crate::cache::{Block, Purpose};
use crate::checksum::crc32c;
use crate::device::BlockReader;
use crate::error::{Damage, Error, Result};
use crate::fields::Fields;
use crate::inode::{Inode, Kind, Layout, ROOT};
use crate::superblock::{Checksums, EntryKinds};
use crate::volume::Volume;

/// Longest name.
pub const MAX_NAME_BYTES: usize = 255;

const HEADER_BYTES: usize = 8;
const TAIL_BYTES: usize = 12;
const TAIL_TYPE: u8 = 0xde;
/// Inline directories start with the number of the parent; real entries follow.
const INLINE_PARENT_BYTES: usize = 4;

/// A name in a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// The inode that it names.
    pub inode: u32,
    /// Its kind, if the directory says.
    pub kind: Option<Kind>,
    /// The name, 1 to 255 bytes without `/` and NUL.
    pub name: &'a [u8],
}

impl<R: BlockReader> Volume<R> {
    /// Finds a name in a directory.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotADirectory`, `BadName`, `NameTooLong`, `Damaged`, `Device`.
    pub async fn lookup(&self, directory: &Inode, name: &[u8]) -> Result<u32> {
        self.find(directory, name).await.map(|(inode, _)| inode)
    }

    /// As [`Volume::lookup`]; tells also the seal of the name that was found.
    pub(crate) async fn find(&self, directory: &Inode, name: &[u8]) -> Result<(u32, Seal)> {
        match name.len() {
            0 => return Err(Error::BadName),
            1..=MAX_NAME_BYTES => {}
            _ => return Err(Error::NameTooLong),
        }
        let mut found = Err(Error::NotFound);
        self.for_each_entry(directory, 0, &mut |entry, _| {
            if entry.name != name {
                return ControlFlow::Continue(());
            }
            let seal = Seal::name(directory.id(), entry.name);
            found = Ok((entry.inode, seal));
            ControlFlow::Break(())
        })
        .await?;
        found
    }

    /// Gives the names of a directory from a cookie on, `.` and `..` left out, each with the
    /// cookie that stands for the place before it, until `visit` breaks. 0 is the start.
    ///
    /// # Errors
    ///
    /// `NotADirectory`, `Damaged`, `Device`.
    pub async fn read_dir(
        &self,
        directory: &Inode,
        from: u64,
        visit: &mut dyn FnMut(Entry<'_>, u64) -> ControlFlow<()>,
    ) -> Result<()> {
        self.for_each_entry(directory, from, &mut |entry, cookie| match entry.name {
            b"." | b".." => ControlFlow::Continue(()),
            _ => visit(entry, cookie),
        })
        .await
    }

    /// Returns the directory that a directory lies in, as it says itself.
    ///
    /// # Errors
    ///
    /// `NotADirectory`, `Damaged`, `Device`.
    pub async fn parent(&self, directory: &Inode) -> Result<u32> {
        if directory.kind == Kind::Directory && directory.layout == Layout::Inline {
            let [first, _] = directory.inline_parts();
            return Fields::new(Damage::Directory, first).u32(0);
        }
        match self.lookup(directory, b"..").await {
            Err(Error::NotFound) => Err(damaged("it does not name the one that it lies in")),
            found => found,
        }
    }

    /// Checks that a directory lies in another as both say. Where that holds on all the way from
    /// the root, no directory lies in itself, and whoever walks the tree comes to an end.
    ///
    /// # Errors
    ///
    /// `Damaged`, `Device`.
    pub async fn check_place(&self, directory: &Inode, child: &Inode) -> Result<()> {
        if child.kind != Kind::Directory {
            return Ok(());
        }
        let is_above = child.number == ROOT || child.number == directory.number;
        if is_above || self.parent(child).await? != directory.number {
            return Err(damaged("an entry names a directory that lies elsewhere"));
        }
        Ok(())
    }

    async fn for_each_entry(
        &self,
        directory: &Inode,
        from: u64,
        visit: &mut dyn FnMut(Entry<'_>, u64) -> ControlFlow<()>,
    ) -> Result<()> {
        if directory.kind != Kind::Directory {
            return Err(Error::NotADirectory);
        }
        if directory.layout == Layout::Inline {
            return self.inline_entries(directory, from, visit);
        }
        let block_bytes = u64::from(self.superblock().block_bytes);
        self.check_directory_size(directory)?;
        let blocks = directory.bytes / block_bytes;
        let first = from / block_bytes;
        let mut next = first;
        for index in first..blocks {
            let block = self.directory_block(directory, index).await?;
            let entries = Entries::new(block.bytes(), self.superblock().entry_kinds);
            let flow = give(entries, index * block_bytes, from, visit)?;
            if flow.is_break() {
                return Ok(());
            }
            next = index + 1;
        }
        assert!(next >= blocks, "a part of a directory was left out");
        Ok(())
    }

    fn inline_entries(
        &self,
        directory: &Inode,
        from: u64,
        visit: &mut dyn FnMut(Entry<'_>, u64) -> ControlFlow<()>,
    ) -> Result<()> {
        let [first, rest] = directory.inline_parts();
        let first = first.get(INLINE_PARENT_BYTES..).unwrap_or_default();
        // Cookies count bytes as in a plain directory; the second part follows the first.
        let parts = [(first, 0), (rest, first.len() as u64)];
        for (bytes, start) in parts {
            check_entries(bytes, self.superblock().inodes)?;
            let entries = Entries::new(bytes, self.superblock().entry_kinds);
            if give(entries, start, from, visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// A directory has no holes, so it cannot be larger than its volume: this bounds the work for
    /// one whose extents name the same blocks over and over.
    fn check_directory_size(&self, directory: &Inode) -> Result<()> {
        let block_bytes = u64::from(self.superblock().block_bytes);
        let is_possible = directory.bytes.is_multiple_of(block_bytes)
            && directory.bytes <= self.superblock().volume_bytes();
        if is_possible {
            Ok(())
        } else {
            Err(damaged("impossible size"))
        }
    }

    async fn directory_block(&self, directory: &Inode, index: u64) -> Result<Rc<Block>> {
        let run = self.map(directory, index).await?;
        let physical = run.physical.ok_or(damaged("it has a hole"))?;
        let block = self.block(physical).await?;
        block.check_once(Purpose::Directory(directory.number), |bytes| {
            if matches!(self.superblock().checksums, Checksums::All(_)) {
                check_checksum(bytes, directory.checksum_seed)?;
            }
            check_entries(bytes, self.superblock().inodes)
        })?;
        Ok(block)
    }
}

/// Gives the entries of one stretch whose place is at or past `from`.
///
/// # Panics
///
/// When it comes to its end before the entries do: a name among the others would not be there.
fn give(
    mut entries: Entries<'_>,
    start: u64,
    from: u64,
    visit: &mut dyn FnMut(Entry<'_>, u64) -> ControlFlow<()>,
) -> Result<ControlFlow<()>> {
    for entry in entries.by_ref() {
        let (at, entry) = entry?;
        let cookie = start + at as u64;
        if cookie >= from && entry.inode != 0 && visit(entry, cookie).is_break() {
            entries.check(at, entry);
            return Ok(ControlFlow::Break(()));
        }
    }
    assert!(entries.next().is_none(), "names were left out");
    Ok(ControlFlow::Continue(()))
}

/// Checks all entries of a stretch, so that a listing does not end in the middle of a block.
fn check_entries(bytes: &[u8], inodes: u32) -> Result<()> {
    for entry in Entries::new(bytes, EntryKinds::Present) {
        let (_, entry) = entry?;
        if entry.inode == 0 {
            continue;
        }
        if entry.inode > inodes {
            return Err(damaged("an entry names an impossible inode"));
        }
        if entry.name.is_empty() || entry.name.iter().any(|&byte| byte == 0 || byte == b'/') {
            return Err(damaged("an entry has an impossible name"));
        }
    }
    Ok(())
}

/// Walks the entries of a block, free ones (inode 0) included, with their places.
struct Entries<'a> {
    fields: Fields<'a>,
    at: usize,
    kinds: EntryKinds,
}

impl<'a> Entries<'a> {
    fn new(bytes: &'a [u8], kinds: EntryKinds) -> Self {
        Entries {
            fields: Fields::new(Damage::Directory, bytes),
            at: 0,
            kinds,
        }
    }

    fn read(&self) -> Result<(usize, Entry<'a>)> {
        let fields = self.fields;
        let entry_bytes = self.entry_bytes()?;
        let name_bytes = usize::from(fields.u8(self.at + 6)?);
        let least = (HEADER_BYTES + name_bytes).next_multiple_of(4);
        if entry_bytes < least || !entry_bytes.is_multiple_of(4) {
            return Err(damaged("an entry has an impossible length"));
        }
        // The whole entry must lie within the block, not only its name.
        fields.slice(self.at, entry_bytes)?;
        let kind = if self.kinds == EntryKinds::Present {
            Kind::from_entry(fields.u8(self.at + 7)?)
        } else {
            None
        };
        let name = fields.slice(self.at + HEADER_BYTES, name_bytes)?;
        Ok((
            entry_bytes,
            Entry {
                inode: fields.u32(self.at)?,
                kind,
                name,
            },
        ))
    }

    /// Looks at number and length of an entry once more, as bytes.
    ///
    /// # Panics
    ///
    /// When they are not what was read of them.
    #[inline(never)]
    fn check(&self, at: usize, entry: Entry<'_>) {
        let bytes = self.fields.all().get(at..).unwrap_or_default();
        let is_right = bytes
            .first_chunk()
            .is_some_and(|header: &[u8; HEADER_BYTES]| {
                let [i0, i1, i2, i3, _, _, name_bytes, _] = *header;
                u32::from_le_bytes([i0, i1, i2, i3]) == entry.inode
                    && usize::from(name_bytes) == entry.name.len()
            });
        assert!(is_right, "an entry was misread");
    }

    fn entry_bytes(&self) -> Result<usize> {
        Ok(match self.fields.u16(self.at + 4)? {
            // A block of 64 KiB in one entry does not fit into 16 bits.
            0 | u16::MAX if self.fields.all().len() == 0x1_0000 => 0x1_0000,
            bytes => bytes.into(),
        })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(usize, Entry<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.fields.all().len();
        if self.at >= end {
            return None;
        }
        let at = self.at;
        Some(match self.read() {
            Ok((entry_bytes, entry)) => {
                self.at += entry_bytes;
                Ok((at, entry))
            }
            Err(error) => {
                self.at = end;
                Err(error)
            }
        })
    }
}

/// Checks the checksum of a block of names, or of an index block.
fn check_checksum(bytes: &[u8], seed: u32) -> Result<()> {
    let fields = Fields::new(Damage::Directory, bytes);
    let tail = bytes.len().saturating_sub(TAIL_BYTES);
    let has_tail = fields.u32(tail)? == 0
        && fields.u16(tail + 4)? == TAIL_BYTES as u16
        && fields.u8(tail + 6)? == 0
        && fields.u8(tail + 7)? == TAIL_TYPE;
    let (expected, found) = if has_tail {
        (crc32c(seed, fields.slice(0, tail)?), fields.u32(tail + 8)?)
    } else {
        index_checksum(fields, seed)?
    };
    if expected == found {
        Ok(())
    } else {
        Err(damaged("checksum"))
    }
}

/// Returns the right and the stored checksum of an index block.
fn index_checksum(fields: Fields<'_>, seed: u32) -> Result<(u32, u32)> {
    let block_bytes = fields.all().len();
    let first = usize::from(fields.u16(4)?);
    let counts_at = match first {
        // The root of the index: `.`, then `..` to the end, then 8 bytes of its own.
        12 if usize::from(fields.u16(16)?) == block_bytes - 12 => 32,
        // A node below it: one free entry over the whole block.
        _ if first == block_bytes => 8,
        _ if block_bytes == 0x1_0000 && (first == 0 || first == usize::from(u16::MAX)) => 8,
        _ => return Err(damaged("a block has no checksum")),
    };
    let limit = usize::from(fields.u16(counts_at)?);
    let count = usize::from(fields.u16(counts_at + 2)?);
    let tail = counts_at + limit * 8;
    if count > limit {
        return Err(damaged("index block: too many entries"));
    }
    let crc = crc32c(seed, fields.slice(0, counts_at + count * 8)?);
    let crc = crc32c(crc, fields.slice(tail, 4)?);
    Ok((crc32c(crc, &[0; 4]), fields.u32(tail + 4)?))
}

const fn damaged(what: &'static str) -> Error {
    Error::Damaged(Damage::Directory, what)
}

#[cfg(test)]
mod tests {
    use super::{Entries, check_checksum, check_entries};
    use crate::superblock::EntryKinds;

    proptest::proptest! {
        #[test]
        fn any_bytes_end_in_entries_or_an_error(
            bytes in proptest::collection::vec(0u8..32, 0..512),
        ) {
            let mut count = 0;
            for entry in Entries::new(&bytes, EntryKinds::Present) {
                count += 1;
                if let Ok((at, entry)) = entry {
                    proptest::prop_assert!(at + 8 + entry.name.len() <= bytes.len());
                }
            }
            proptest::prop_assert!(count <= bytes.len() / 8 + 1);
            let _ = check_entries(&bytes, 100);
            let _ = check_checksum(&bytes, 1);
        }
    }
}
