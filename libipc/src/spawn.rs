//! Starting processes whose memory is paged: `libsys::spawn` with the real memory manager.

use libsys::elf::Segment;
use libsys::spawn::{Pager, PagerError, Space};
use libsys::{Error, Handle, MapFlags, Memory, Process, Sender};

use crate::Failure;
use crate::proto::memory::{ImageSegment, MemoryError, MemoryManagerClient, Protection};

/// The memory manager, as one who starts processes sees it.
#[derive(Clone, Debug)]
pub struct MemoryPager {
    client: MemoryManagerClient,
    timeout_ns: Option<u64>,
}

impl MemoryPager {
    /// Makes a pager of a client of the memory manager.
    pub fn new(client: MemoryManagerClient) -> Self {
        MemoryPager {
            client,
            timeout_ns: None,
        }
    }

    /// Returns the client.
    pub fn client(&self) -> &MemoryManagerClient {
        &self.client
    }

    /// Gives up each call after `ns` nanoseconds; what was begun is ended then.
    #[must_use]
    pub fn with_deadline(self, ns: u64) -> Self {
        MemoryPager {
            client: self.client.with_deadline(ns),
            timeout_ns: Some(ns),
        }
    }
}

impl Pager for MemoryPager {
    type Space = MemorySpace;

    fn create_space(&self, process: &Handle<Process>) -> Result<MemorySpace, PagerError> {
        let sender = self.client.space_create(process).map_err(refused)?;
        let client = MemoryManagerClient::new_unchecked(sender);
        Ok(MemorySpace(match self.timeout_ns {
            Some(ns) => client.with_deadline(ns),
            None => client,
        }))
    }
}

/// The address space of a process that is being started.
#[derive(Debug)]
pub struct MemorySpace(MemoryManagerClient);

impl Space for MemorySpace {
    fn sender(&self) -> Result<&Handle<Sender>, PagerError> {
        self.0.client().sender().ok_or(PagerError("no kernel"))
    }

    fn map_anonymous(&self, address: u64, pages: u64) -> Result<(), PagerError> {
        self.0
            .map_anonymous(address, pages, Protection::ReadWrite)
            .map_err(refused)
    }

    fn map_segment(
        &self,
        segment: &Segment,
        memory: &Handle<Memory>,
        first_page: u64,
    ) -> Result<(), PagerError> {
        let protection = if segment.is_writable() {
            Protection::ReadWrite
        } else if segment.flags.contains(MapFlags::EXECUTE) {
            Protection::ReadExecute
        } else {
            Protection::Read
        };
        let part = ImageSegment {
            address: segment.address,
            pages: segment.pages(),
            page_offset: first_page,
            file_bytes: segment.file_bytes,
            protection,
        };
        self.0.map_image(part, memory).map_err(refused)
    }

    fn create_object(&self, pages: u64) -> Result<Handle<Memory>, PagerError> {
        self.0.create_object(pages).map_err(refused)
    }
}

fn refused(failure: Failure<MemoryError>) -> PagerError {
    PagerError(match failure {
        Failure::Server(error) => error.text(),
        Failure::Ipc(Error::Timeout) => "no answer in time",
        Failure::Ipc(error) => error.text(),
        Failure::Protocol(_) => "speaks another version of the interface",
        Failure::Restarted => "restarted in the middle of the call",
    })
}
