//! The table of open files, as it is kept in the state region.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use libipc::Caller;
use libipc::proto::file_system::{FsError, Inode};
use libipc::proto::vfs::{Access, FileId, MAX_OPEN_FILES};
use libipc::server::Replies;
use libsys::state::{NoPrevious, State};
use serde::{Deserialize, Serialize};

/// Most files open at once.
pub(crate) const MAX_FILES: usize = 16 * 1024;
/// Set in the badges that the vfs hands out itself; `init` leaves it clear.
pub(crate) const SESSION_BIT: u64 = 1 << 63;

/// An open file. Where the next byte is read the program knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct OpenFile {
    /// Index of the mount.
    pub(crate) mount: u16,
    pub(crate) inode: Inode,
    pub(crate) access: Access,
    pub(crate) is_append: bool,
}

impl OpenFile {
    /// Makes an open file.
    pub(crate) fn new(mount: u16, inode: Inode, access: Access, is_append: bool) -> Self {
        OpenFile {
            mount,
            inode,
            access,
            is_append,
        }
    }
}

/// All open files, and what must never be given out twice.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct OpenFiles {
    /// By badge and number.
    files: BTreeMap<u64, BTreeMap<u32, OpenFile>>,
    next_file: u32,
    sessions: u64,
    /// Point and service of each mount that the files refer to.
    mounts: Vec<(Vec<u8>, String)>,
    /// What recent requests were answered: the number of a file or session, or nothing.
    replies: Replies,
}

/// Which request makes a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct By {
    pub(crate) badge: u64,
    pub(crate) sequence: u64,
}

impl From<&Caller> for By {
    fn from(caller: &Caller) -> Self {
        By {
            badge: caller.badge,
            sequence: caller.sequence,
        }
    }
}

/// A change of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Record {
    /// The mounts are these. Files of other mounts are gone.
    Mounts(Vec<(Vec<u8>, String)>),
    Open(By, u32, OpenFile),
    Close(By, u32),
    /// A client is gone.
    CloseAll {
        badge: u64,
    },
    Session(By, u64),
}

impl OpenFiles {
    /// Returns the file of a badge.
    pub(crate) fn get(&self, badge: u64, file: FileId) -> Result<OpenFile, FsError> {
        let own = self.files.get(&badge);
        let found = own.and_then(|own| own.get(&file.0));
        found.copied().ok_or(FsError::BadFile)
    }

    /// Returns the file that a request has opened before.
    pub(crate) fn opened_by(&self, by: By) -> Option<(FileId, OpenFile)> {
        let number = self.reply(by)?.try_into().map(u32::from_le_bytes).ok()?;
        let file = FileId(number);
        Some((file, self.get(by.badge, file).ok()?))
    }

    /// Returns the session that a request has made before.
    pub(crate) fn session_by(&self, by: By) -> Option<u64> {
        self.reply(by)?.try_into().map(u64::from_le_bytes).ok()
    }

    /// Returns what a request was answered before.
    pub(crate) fn reply(&self, by: By) -> Option<&[u8]> {
        self.replies.get(by.badge, by.sequence)
    }

    /// Returns the number for a new file of a badge.
    pub(crate) fn next_file(&self, badge: u64) -> Result<FileId, FsError> {
        let all: usize = self.files.values().map(BTreeMap::len).sum();
        let own = self.files.get(&badge);
        if own.is_some_and(|own| own.len() >= MAX_OPEN_FILES) || all >= MAX_FILES {
            return Err(FsError::TooManyFiles);
        }
        // Numbers are not used again soon, so that a stale one is noticed.
        let mut id = self.next_file;
        while own.is_some_and(|own| own.contains_key(&id)) {
            id = id.wrapping_add(1);
        }
        Ok(FileId(id))
    }

    /// Returns whether anything of a badge is kept.
    pub(crate) fn knows(&self, badge: u64) -> bool {
        self.files.contains_key(&badge) || self.replies.has_any(badge)
    }

    /// Returns the number of the next session.
    pub(crate) fn next_session(&self) -> u64 {
        self.sessions
    }

    /// Returns the mounts that the files refer to.
    pub(crate) fn mounts(&self) -> &[(Vec<u8>, String)] {
        &self.mounts
    }

    fn replied(&mut self, by: By, reply: &[u8]) {
        self.replies.insert(by.badge, by.sequence, reply.to_vec());
    }
}

impl State for OpenFiles {
    type Record = Record;
    type Previous = NoPrevious;
    const SCHEMA: &'static str = "vfs";

    fn apply(&mut self, record: Record) {
        match record {
            Record::Mounts(mounts) => {
                self.mounts = mounts;
                self.files.clear();
            }
            Record::Open(by, id, open) => {
                self.files.entry(by.badge).or_default().insert(id, open);
                self.next_file = id.wrapping_add(1);
                self.replied(by, &id.to_le_bytes());
            }
            Record::Close(by, id) => {
                if let Some(own) = self.files.get_mut(&by.badge) {
                    own.remove(&id);
                    if own.is_empty() {
                        self.files.remove(&by.badge);
                    }
                }
                self.replied(by, &[]);
            }
            Record::CloseAll { badge } => {
                self.files.remove(&badge);
                self.replies.forget(badge);
            }
            Record::Session(by, session) => {
                self.sessions = session.wrapping_add(1);
                self.replied(by, &session.to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests;
