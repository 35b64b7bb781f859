//! Writes boot bundles. Host only.

use std::fmt;
use std::vec::Vec;

use sha2::{Digest, Sha256};

use super::{BLOB_ALIGN, ENTRY_BYTES, HEADER_BYTES, Kind, MAGIC, MAX_ENTRIES, NAME_BYTES, VERSION};

/// Why an entry cannot be added to a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The name is empty, longer than [`NAME_BYTES`] bytes, or has a NUL in it.
    BadName,
    /// An earlier entry has the same name.
    DuplicateName,
    /// The bundle has [`MAX_ENTRIES`] entries already.
    Full,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName => write!(f, "a bundle name has 1 to {NAME_BYTES} bytes without NUL"),
            Self::DuplicateName => write!(f, "the bundle has an entry of that name already"),
            Self::Full => write!(f, "a bundle has at most {MAX_ENTRIES} entries"),
        }
    }
}

impl std::error::Error for WriteError {}

/// Collects entries and lays them out as a bundle.
#[derive(Debug, Default)]
pub struct BundleWriter {
    entries: Vec<(String, Kind, Vec<u8>)>,
}

impl BundleWriter {
    /// Starts an empty bundle.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one blob at the end.
    ///
    /// # Errors
    /// A name that readers would refuse, or an entry too many.
    pub fn add(
        &mut self,
        name: &str,
        kind: Kind,
        data: impl Into<Vec<u8>>,
    ) -> Result<(), WriteError> {
        if name.is_empty() || name.len() > NAME_BYTES || name.contains('\0') {
            return Err(WriteError::BadName);
        }
        if self.entries.iter().any(|(earlier, ..)| earlier == name) {
            return Err(WriteError::DuplicateName);
        }
        if self.entries.len() == MAX_ENTRIES {
            return Err(WriteError::Full);
        }
        self.entries.push((name.to_owned(), kind, data.into()));
        Ok(())
    }

    /// Returns the bundle. Equal entries in equal order give equal bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let mut bundle = Vec::new();
        bundle.extend_from_slice(&MAGIC);
        bundle.extend_from_slice(&VERSION.to_le_bytes());
        // At most MAX_ENTRIES, so the count fits.
        bundle.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        let mut offset = HEADER_BYTES + self.entries.len() * ENTRY_BYTES;
        for (name, kind, data) in &self.entries {
            offset = offset.next_multiple_of(BLOB_ALIGN);
            let mut padded = [0; NAME_BYTES];
            padded[..name.len()].copy_from_slice(name.as_bytes());
            bundle.extend_from_slice(&padded);
            bundle.extend_from_slice(&kind.number().to_le_bytes());
            bundle.extend_from_slice(&[0; 4]);
            bundle.extend_from_slice(&(offset as u64).to_le_bytes());
            bundle.extend_from_slice(&(data.len() as u64).to_le_bytes());
            bundle.extend_from_slice(&Sha256::digest(data));
            offset += data.len();
        }
        for (_, _, data) in &self.entries {
            bundle.resize(bundle.len().next_multiple_of(BLOB_ALIGN), 0);
            bundle.extend_from_slice(data);
        }
        bundle.resize(bundle.len().next_multiple_of(BLOB_ALIGN), 0);
        bundle
    }
}
