//! The boot bundle: one file with the kernel, `init`, servers, programs and manifests.
//!
//! The host writes it, the loader passes it on untouched, the kernel and `init` read it in place.
//! Layout, all integers little-endian: a 16-byte header (magic, version, number of entries), the
//! index of 104-byte entries, then the blobs in index order, each starting on a page boundary so
//! that its pages can be mapped directly. Reading allocates nothing and trusts nothing: whatever
//! [`Bundle::parse`] accepts has every entry inside the bytes it was given. It does *not* prove
//! that a blob matches its digest; see [`Entry::digest`].

use core::fmt;

/// First eight bytes of every bundle.
pub const MAGIC: [u8; 8] = *b"SKNKBNDL";
/// Version of the layout; a reader refuses any other.
pub const VERSION: u32 = 1;
/// Alignment of blobs in bytes: one page.
pub const BLOB_ALIGN: usize = 4096;
/// Longest entry name in bytes.
pub const NAME_BYTES: usize = 48;
/// Most entries a bundle may have; bounds the work of [`Bundle::parse`].
pub const MAX_ENTRIES: usize = 1024;

const HEADER_BYTES: usize = 16;
const DIGEST_BYTES: usize = 32;
const KIND_AT: usize = NAME_BYTES;
const OFFSET_AT: usize = KIND_AT + 8;
const LEN_AT: usize = OFFSET_AT + 8;
const DIGEST_AT: usize = LEN_AT + 8;
const ENTRY_BYTES: usize = DIGEST_AT + DIGEST_BYTES;

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The kernel's ELF image.
    Kernel,
    /// The image of `init`.
    Init,
    /// The image of a service.
    Server,
    /// The image of a program.
    Program,
    /// Compiled service manifests.
    Manifest,
    /// A plain file.
    File,
}

impl Kind {
    /// All kinds, in the order of their numbers, which start at 1.
    pub const ALL: [Self; 6] = [
        Self::Kernel,
        Self::Init,
        Self::Server,
        Self::Program,
        Self::Manifest,
        Self::File,
    ];

    /// Returns the number that stands for the kind in a bundle.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Kernel => 1,
            Self::Init => 2,
            Self::Server => 3,
            Self::Program => 4,
            Self::Manifest => 5,
            Self::File => 6,
        }
    }

    /// Returns the kind that a number stands for.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// Why bytes are not a bundle. The number is the position of the offending entry in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BundleError {
    /// The bytes end before the header or the index does.
    Truncated,
    /// The bytes do not start with [`MAGIC`]: this is some other file.
    BadMagic,
    /// The bundle was made for another version of the layout: rebuild it.
    BadVersion(u32),
    /// The index claims more than [`MAX_ENTRIES`] entries.
    TooManyEntries(u32),
    /// A name is empty, not UTF-8, or has bytes after its padding began.
    BadName(usize),
    /// Two entries have the same name; this is the second one.
    DuplicateName(usize),
    /// An entry has a kind that this version does not know.
    BadKind(usize),
    /// A blob is not page aligned, or lies in the index or beyond the end.
    BadRange(usize),
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "the boot bundle is truncated"),
            Self::BadMagic => write!(f, "not a boot bundle (bad magic)"),
            Self::BadVersion(version) => {
                write!(
                    f,
                    "boot bundle version {version}, but only {VERSION} is understood"
                )
            }
            Self::TooManyEntries(count) => {
                write!(
                    f,
                    "the boot bundle claims {count} entries, the limit is {MAX_ENTRIES}"
                )
            }
            Self::BadName(entry) => write!(f, "boot bundle entry {entry} has a bad name"),
            Self::DuplicateName(entry) => {
                write!(
                    f,
                    "boot bundle entry {entry} has the name of an earlier one"
                )
            }
            Self::BadKind(entry) => write!(f, "boot bundle entry {entry} has an unknown kind"),
            Self::BadRange(entry) => {
                write!(f, "boot bundle entry {entry} lies outside the bundle")
            }
        }
    }
}

impl core::error::Error for BundleError {}

/// One blob of a bundle and what the index says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Unique name.
    pub name: &'a str,
    /// What the blob is for.
    pub kind: Kind,
    /// Distance of the blob from the start of the bundle in bytes, a multiple of [`BLOB_ALIGN`].
    pub offset: usize,
    /// The blob.
    pub data: &'a [u8],
    /// SHA-256 of the blob as the writer computed it. Reading a bundle does not check it.
    pub digest: &'a [u8; 32],
}

/// A bundle whose index has been checked against its length.
#[derive(Clone, Copy, Debug)]
pub struct Bundle<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Bundle<'a> {
    /// Checks the header and every entry of the index.
    ///
    /// # Errors
    /// The first thing found wrong, as a [`BundleError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BundleError> {
        if bytes.get(..8).ok_or(BundleError::Truncated)? != MAGIC {
            return Err(BundleError::BadMagic);
        }
        let version = read_u32(bytes, 8).ok_or(BundleError::Truncated)?;
        if version != VERSION {
            return Err(BundleError::BadVersion(version));
        }
        let claimed = read_u32(bytes, 12).ok_or(BundleError::Truncated)?;
        let count = usize::try_from(claimed).unwrap_or(usize::MAX);
        if count > MAX_ENTRIES {
            return Err(BundleError::TooManyEntries(claimed));
        }
        for position in 0..count {
            let entry = parse_entry(bytes, position, count)?;
            for earlier in 0..position {
                if parse_entry(bytes, earlier, count)?.name == entry.name {
                    return Err(BundleError::DuplicateName(position));
                }
            }
        }
        Ok(Self { bytes, count })
    }

    /// Iterates over the entries in index order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let Self { bytes, count } = *self;
        (0..count).filter_map(move |position| parse_entry(bytes, position, count).ok())
    }

    /// Returns the entry of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Entry<'a>> {
        self.entries().find(|entry| entry.name == name)
    }

    /// Returns the first entry of a kind.
    #[must_use]
    pub fn find_kind(&self, kind: Kind) -> Option<Entry<'a>> {
        self.entries().find(|entry| entry.kind == kind)
    }

    /// Returns all the bytes of the bundle.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

fn parse_entry(bytes: &[u8], position: usize, count: usize) -> Result<Entry<'_>, BundleError> {
    let index_end = HEADER_BYTES + count * ENTRY_BYTES;
    let start = HEADER_BYTES + position * ENTRY_BYTES;
    let raw = bytes
        .get(start..start + ENTRY_BYTES)
        .ok_or(BundleError::Truncated)?;
    let name = parse_name(&raw[..NAME_BYTES]).ok_or(BundleError::BadName(position))?;
    let kind = read_u32(raw, KIND_AT)
        .and_then(Kind::from_number)
        .ok_or(BundleError::BadKind(position))?;
    let bad_range = BundleError::BadRange(position);
    let field = |at| read_u64(raw, at).and_then(|value| usize::try_from(value).ok());
    let offset = field(OFFSET_AT).ok_or(bad_range)?;
    let len = field(LEN_AT).ok_or(bad_range)?;
    if offset < index_end || !offset.is_multiple_of(BLOB_ALIGN) {
        return Err(bad_range);
    }
    let end = offset.checked_add(len).ok_or(bad_range)?;
    let data = bytes.get(offset..end).ok_or(bad_range)?;
    let digest = raw[DIGEST_AT..]
        .first_chunk()
        .ok_or(BundleError::Truncated)?;
    Ok(Entry {
        name,
        kind,
        offset,
        data,
        digest,
    })
}

fn parse_name(field: &[u8]) -> Option<&str> {
    let len = field
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(field.len());
    let (name, padding) = field.split_at(len);
    let is_valid = !name.is_empty() && padding.iter().all(|&byte| byte == 0);
    if is_valid {
        core::str::from_utf8(name).ok()
    } else {
        None
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|raw| u32::from_le_bytes(*raw))
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|raw| u64::from_le_bytes(*raw))
}

#[cfg(feature = "std")]
pub use writer::{BundleWriter, WriteError};

#[cfg(feature = "std")]
mod writer;
