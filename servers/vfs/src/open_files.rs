//! The table of open files, as it is kept in the state region.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use libipc::Caller;
use libipc::proto::file_system::{FsError, Inode};
use libipc::proto::vfs::{Access, FileId, MAX_OPEN_FILES};
use libipc::server::Replies;
use libsys::state::{Look, NoPrevious, State};
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

    /// As [`OpenFiles::get`], in another way, to check it.
    #[inline(never)]
    pub(crate) fn find(&self, badge: u64, file: FileId) -> Option<OpenFile> {
        let (_, own) = self.files.range(badge..=badge).next()?;
        let (_, found) = own.range(file.0..=file.0).next()?;
        Some(*found)
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
        // A session of which no file is seen would have no limit.
        assert!(
            own.is_some() || self.files.range(badge..=badge).next().is_none(),
            "the files of a session were not found"
        );
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

    #[inline]
    fn look_at(_record: &Record) -> Look {
        // To read each as the next instance will would be 2 % of an open.
        Look::Value
    }

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
mod tests {
    use std::time::Instant;

    use libipc::proto::file_system::Inode;
    use libipc::proto::vfs::{Access, MAX_OPEN_FILES};
    use libsys::state::fake::FakeMemory;
    use libsys::state::{Purpose, Region};

    use super::{By, OpenFile, OpenFiles, Record, SESSION_BIT};

    /// As much as the manifest gives.
    const STATE_BYTES: usize = 2 * 1024 * 1024;
    const FILES: u32 = 10_000;

    /// Opens files in numbers that take much room, as programs of a long-running system do.
    fn with_files(region: &mut Region<OpenFiles, FakeMemory>, count: u32) {
        for number in 0..count {
            let badge = SESSION_BIT | (u64::from(number) / (MAX_OPEN_FILES as u64 - 6));
            let by = By {
                badge,
                sequence: 1 << 40 | u64::from(number),
            };
            let inode = Inode(1 << 32 | u64::from(number));
            let open = OpenFile {
                mount: 1,
                inode,
                access: Access::ReadWrite,
                is_append: true,
            };
            let file = region.state().next_file(badge).unwrap();
            let record = Record::Open(by, file.0, open);
            region.append(record, Purpose::Grow).unwrap();
        }
    }

    #[test]
    fn ten_thousand_open_files_fit_and_are_found_again() {
        let (mut region, _) = Region::open(FakeMemory::new(STATE_BYTES)).unwrap();
        with_files(&mut region, FILES);
        let expected: OpenFiles = region.state().clone();
        let memory = region.into_memory().survivor();
        let start = Instant::now();
        let (mut region, report) = Region::<OpenFiles, _>::open(memory).unwrap();
        // The times of a busy host prove nothing; they are there to be looked at.
        println!("{report}, {:?}", start.elapsed());
        assert!(!report.has_losses());
        assert_eq!(region.state(), &expected);
        // And there is room to go on: all are closed again, in a region that has none to waste.
        let files: Vec<(u64, Vec<u32>)> = (expected.files.iter())
            .map(|(badge, own)| (*badge, own.keys().copied().collect()))
            .collect();
        for (badge, own) in files {
            for (sequence, file) in (1 << 41..).zip(own) {
                let record = Record::Close(By { badge, sequence }, file);
                region.append(record, Purpose::Shrink).unwrap();
            }
        }
        assert!(region.state().files.is_empty());
    }
}
