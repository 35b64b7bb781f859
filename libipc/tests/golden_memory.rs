//! The bytes of every message of the memory manager's interface.

use std::rc::Rc;

use libipc::Caller;
use libipc::Failure;
use libipc::loopback::Loopback;
use libipc::proto::memory::{
    ImageSegment, MemoryError, MemoryManagerClient, MemoryManagerDispatcher, MemoryManagerServer,
    MemoryTotals, Protection, SpaceUsage,
};
use libsys::{Handle, Memory, Process, RawHandle, Sender};

/// Answers with something different for each field, and refuses address 0.
struct Fake;

const USAGE: SpaceUsage = SpaceUsage {
    regions: 1,
    region_pages: 2,
    resident_pages: 3,
    shared_pages: 4,
    objects: 5,
    object_pages: 6,
    faults: 7,
    prefetched_pages: 8,
};

const TOTALS: MemoryTotals = MemoryTotals {
    total: 12,
    free: 11,
    anonymous: 3,
    objects: 4,
    tables: 5,
    largest_free_run: 6,
    spaces: 7,
    object_count: 8,
    faults: 9,
    refused_faults: 10,
};

fn check(address: u64) -> Result<(), MemoryError> {
    if address == 0 {
        Err(MemoryError::BadRange)
    } else {
        Ok(())
    }
}

impl MemoryManagerServer for Fake {
    async fn space_create(
        &self,
        _caller: &Caller,
        process: Handle<Process>,
    ) -> Result<Handle<Sender>, MemoryError> {
        Ok(Handle::from_raw(process.into_raw()))
    }

    async fn map_anonymous(
        &self,
        _caller: &Caller,
        address: u64,
        _pages: u64,
        _protection: Protection,
    ) -> Result<(), MemoryError> {
        check(address)
    }

    async fn map_image(
        &self,
        _caller: &Caller,
        segment: ImageSegment,
        _memory: Handle<Memory>,
    ) -> Result<(), MemoryError> {
        check(segment.address)
    }

    async fn unmap(&self, _caller: &Caller, address: u64, _pages: u64) -> Result<(), MemoryError> {
        check(address)
    }

    async fn protect(
        &self,
        _caller: &Caller,
        address: u64,
        _pages: u64,
        _protection: Protection,
    ) -> Result<(), MemoryError> {
        check(address)
    }

    async fn create_object(
        &self,
        _caller: &Caller,
        _pages: u64,
    ) -> Result<Handle<Memory>, MemoryError> {
        Ok(Handle::from_raw(RawHandle(9)))
    }

    async fn usage(&self, _caller: &Caller) -> Result<SpaceUsage, MemoryError> {
        Ok(USAGE)
    }

    async fn totals(&self, _caller: &Caller) -> Result<MemoryTotals, MemoryError> {
        Ok(TOTALS)
    }
}

#[test]
fn messages_stay_as_they_are() {
    let loopback = Loopback::new(MemoryManagerDispatcher::new(Rc::new(Fake)));
    let client = MemoryManagerClient::from_client(loopback.client());
    let process = Handle::<Process>::from_raw(RawHandle(5));
    let image = Handle::<Memory>::from_raw(RawHandle(6));
    let segment = ImageSegment {
        address: 0x40_0000,
        pages: 300,
        page_offset: 2,
        file_bytes: 70_000,
        protection: Protection::ReadExecute,
    };
    client.space_create(&process).unwrap();
    client
        .map_anonymous(0x2000_0000, 4096, Protection::ReadWrite)
        .unwrap();
    let refused = client.map_anonymous(0, 1, Protection::Read);
    assert_eq!(refused, Err(Failure::Server(MemoryError::BadRange)));
    client.map_image(segment, &image).unwrap();
    client.unmap(0x2000_0000, 16).unwrap();
    client.protect(0x2000_0000, 16, Protection::Read).unwrap();
    client.create_object(512).unwrap();
    assert_eq!(client.usage().unwrap(), USAGE);
    assert_eq!(client.totals().unwrap(), TOTALS);
    libipc::golden!(
        "memory.txt",
        loopback,
        [
            "space_create",
            "map_anonymous",
            "map_anonymous_refused",
            "map_image",
            "unmap",
            "protect",
            "create_object",
            "usage",
            "totals",
        ]
    );
}

#[test]
fn errors_keep_their_numbers() {
    for (number, error) in [
        (0, MemoryError::NoSpace),
        (3, MemoryError::MissingRight),
        (5, MemoryError::BadRange),
        (10, MemoryError::NoMemory),
        (13, MemoryError::InTheWay),
    ] {
        assert_eq!(postcard::to_allocvec(&error).unwrap(), [number]);
    }
}
