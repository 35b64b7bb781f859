//! The table of open files, and how many there were.

use core::ops::Deref;

use libsys::state::State;
use serde::{Deserialize, Serialize};

#[path = "../../../../servers/vfs/src/open_files.rs"]
mod version_1;

pub(crate) use version_1::{OpenFile, Record, SESSION_BIT};

/// What was done since this version knows the table.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Count {
    /// Files opened.
    pub(crate) opened: u64,
    /// Files closed one by one.
    pub(crate) closed: u64,
    /// Clients that went, with whatever they had open.
    pub(crate) gone: u64,
}

/// The table of version 1, behind what is new.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct OpenFiles {
    count: Count,
    files: version_1::OpenFiles,
}

impl Deref for OpenFiles {
    type Target = version_1::OpenFiles;

    fn deref(&self) -> &version_1::OpenFiles {
        &self.files
    }
}

impl State for OpenFiles {
    type Record = Record;
    type Previous = version_1::OpenFiles;
    const SCHEMA: &'static str = "vfs";

    fn apply(&mut self, record: Record) {
        let count = match &record {
            Record::Open(..) => Some(&mut self.count.opened),
            Record::Close(..) => Some(&mut self.count.closed),
            Record::CloseAll { .. } => Some(&mut self.count.gone),
            Record::Mounts(_) | Record::Session(..) => None,
        };
        if let Some(count) = count {
            *count = count.saturating_add(1);
        }
        self.files.apply(record);
    }

    fn downgrade(&self) -> Option<version_1::OpenFiles> {
        Some(self.files.clone())
    }
}

impl From<version_1::OpenFiles> for OpenFiles {
    fn from(files: version_1::OpenFiles) -> Self {
        OpenFiles {
            count: Count::default(),
            files,
        }
    }
}

#[cfg(test)]
mod tests {
    use libipc::proto::file_system::Inode;
    use libipc::proto::vfs::{Access, FileId};
    use libsys::state::fake::FakeMemory;
    use libsys::state::{Purpose, Region, schema_hash};

    use super::version_1::By;
    use super::{OpenFile, OpenFiles, Record, version_1};

    #[test]
    fn version_1_is_migrated_and_gets_its_state_back() {
        let (badge, sequence) = (7, 1);
        let by = By { badge, sequence };
        let open = OpenFile {
            mount: 0,
            inode: Inode(9),
            access: Access::Read,
            is_append: false,
        };
        let (mut old, _) =
            Region::<version_1::OpenFiles, _>::open(FakeMemory::new(64 * 1024)).unwrap();
        old.append(Record::Open(by, 3, open), Purpose::Grow)
            .unwrap();
        let (mut new, report) = Region::<OpenFiles, _>::open(old.into_memory()).unwrap();
        assert_eq!(
            report.migrated_from,
            Some(schema_hash::<version_1::OpenFiles>())
        );
        assert_eq!(new.state().get(badge, FileId(3)), Ok(open));
        new.append(Record::Open(by, 4, open), Purpose::Grow)
            .unwrap();
        new.append(Record::Close(by, 3), Purpose::Shrink).unwrap();
        assert_eq!((new.state().count.opened, new.state().count.closed), (1, 1));
        new.export(schema_hash::<version_1::OpenFiles>()).unwrap();
        let (old, report) = Region::<version_1::OpenFiles, _>::open(new.into_memory()).unwrap();
        assert!(!report.has_losses());
        assert!(old.state().get(badge, FileId(3)).is_err());
        assert_eq!(old.state().get(badge, FileId(4)), Ok(open));
    }
}
