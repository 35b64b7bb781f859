//! The table of open files, as it is kept in the state region.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use libipc::proto::file_system::{FsError, Inode};
use libipc::proto::vfs::{Access, FileId, MAX_OPEN_FILES};
use libsys::state::{NoPrevious, State};
use serde::{Deserialize, Serialize};

/// Most files open at once.
pub(crate) const MAX_FILES: usize = 8192;
/// Set in the badges that the vfs hands out itself; `init` leaves it clear.
pub(crate) const SESSION_BIT: u64 = 1 << 63;

/// An open file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct OpenFile {
    /// Whose it is.
    pub(crate) badge: u64,
    /// Which request opened it: when that comes again, this is its answer.
    pub(crate) opened_by: u64,
    /// Index of the mount.
    pub(crate) mount: u16,
    pub(crate) inode: Inode,
    pub(crate) access: Access,
    pub(crate) is_append: bool,
}

/// All open files, and what must never be given out twice.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct OpenFiles {
    files: BTreeMap<u32, OpenFile>,
    next_file: u32,
    sessions: u64,
    /// Point and service of each mount that the files refer to.
    mounts: Vec<(Vec<u8>, String)>,
}

/// A change of the table.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Record {
    /// The mounts are these. Files of other mounts are gone.
    Mounts(Vec<(Vec<u8>, String)>),
    Open(u32, OpenFile),
    Close(u32),
    CloseAll {
        badge: u64,
    },
    Session(u64),
}

impl OpenFiles {
    /// Returns the file of a badge.
    pub(crate) fn get(&self, badge: u64, file: FileId) -> Result<OpenFile, FsError> {
        let found = self.files.get(&file.0).filter(|open| open.badge == badge);
        found.copied().ok_or(FsError::BadFile)
    }

    /// Returns the file that a request has opened before.
    pub(crate) fn opened_by(&self, badge: u64, sequence: u64) -> Option<(FileId, OpenFile)> {
        let mut files = self.files.iter();
        let found = files.find(|(_, open)| open.badge == badge && open.opened_by == sequence);
        found.map(|(&id, &open)| (FileId(id), open))
    }

    /// Returns the number for a new file of a badge.
    pub(crate) fn next_file(&self, badge: u64) -> Result<FileId, FsError> {
        let own = self
            .files
            .values()
            .filter(|open| open.badge == badge)
            .count();
        if own >= MAX_OPEN_FILES || self.files.len() >= MAX_FILES {
            return Err(FsError::TooManyFiles);
        }
        // Numbers are not used again soon, so that a stale one is noticed.
        let mut id = self.next_file;
        while self.files.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        Ok(FileId(id))
    }

    /// Returns how many files a badge has open.
    pub(crate) fn count(&self, badge: u64) -> usize {
        self.files
            .values()
            .filter(|open| open.badge == badge)
            .count()
    }

    /// Returns the number of the next session.
    pub(crate) fn next_session(&self) -> u64 {
        self.sessions
    }

    /// Returns the mounts that the files refer to.
    pub(crate) fn mounts(&self) -> &[(Vec<u8>, String)] {
        &self.mounts
    }
}

impl State for OpenFiles {
    type Record = Record;
    type Previous = NoPrevious;
    const SCHEMA: &'static str = "vfs.1";

    fn apply(&mut self, record: Record) {
        match record {
            Record::Mounts(mounts) => {
                self.mounts = mounts;
                self.files.clear();
            }
            Record::Open(id, open) => {
                self.files.insert(id, open);
                self.next_file = id.wrapping_add(1);
            }
            Record::Close(id) => {
                self.files.remove(&id);
            }
            Record::CloseAll { badge } => self.files.retain(|_, open| open.badge != badge),
            Record::Session(session) => self.sessions = session.wrapping_add(1),
        }
    }
}
