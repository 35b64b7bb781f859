//! A program that takes all it can get of something, keeps it for a while, and gives it back.

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering};

use libipc::Failure;
use libipc::proto::memory::{
    MAX_OBJECT_PAGES, MAX_OBJECTS, MemoryError, MemoryManagerClient, Protection,
};
use libipc::proto::vfs::{FileId, FsError, OpenOptions, VfsClient};
use libsys::abi::{MAX_PROCESS_HANDLES, PAGE_SIZE};
use libsys::mappings::Reservation;
use libsys::{Error, Handle, Memory, Notification, time};
use siege::Greed;
use siege::greed::{NEVER_REFUSED, NOT_GIVEN_BACK};
use skink_program::{Failed, Program};

/// Sessions that are asked for. Each has its own limit of files; all of them together would use up
/// those of others too.
const SESSIONS: usize = 8;

/// Takes, keeps and gives back; returns the exit code.
pub(crate) fn run(program: &Program, greed: Greed, keep_ns: u64) -> Result<i32, Failed> {
    let memory = program.memory()?;
    match greed {
        Greed::Frames => frames(&memory, keep_ns),
        Greed::Pages => pages(&memory),
        Greed::Objects => objects(&memory, keep_ns),
        Greed::Handles => handles(&memory, keep_ns),
        Greed::Files => files(program, keep_ns),
    }
}

/// Takes memory objects, as large ones as there are, until there is no frame for one.
fn frames(memory: &MemoryManagerClient, keep_ns: u64) -> Result<i32, Failed> {
    // All room for the handles is there before the memory is scarce.
    let mut taken = [const { None::<Handle<Memory>> }; MAX_OBJECTS];
    let mut pages = MAX_OBJECT_PAGES;
    for place in &mut taken {
        *place = loop {
            match memory.create_object(pages) {
                Ok(object) => break Some(object),
                Err(Failure::Server(MemoryError::NoMemory)) if pages > 1 => pages /= 2,
                Err(Failure::Server(MemoryError::NoMemory)) => break None,
                Err(failure) => return Err(failure.into()),
            }
        };
        if place.is_none() {
            break;
        }
    }
    if taken.iter().all(Option::is_some) {
        return Ok(NEVER_REFUSED);
    }
    time::sleep(keep_ns);
    taken.fill_with(|| None);
    Ok(code(memory.create_object(1)))
}

/// Touches page after page; it is ended before it has touched all.
fn pages(memory: &MemoryManagerClient) -> Result<i32, Failed> {
    let total = memory.totals()?.total;
    let room = Reservation::new(total)?;
    memory.map_anonymous(room.address(), total, Protection::ReadWrite)?;
    for page in 0..total {
        let address = room.address() + page * PAGE_SIZE as u64;
        let byte = core::ptr::with_exposed_provenance::<AtomicU8>(address as usize);
        // SAFETY: within the reservation, all of which is mapped, and nobody else's.
        unsafe { &*byte }.store(1, Ordering::Relaxed);
    }
    Ok(NEVER_REFUSED)
}

/// Takes small memory objects until there are too many.
fn objects(memory: &MemoryManagerClient, keep_ns: u64) -> Result<i32, Failed> {
    let mut taken = Vec::new();
    loop {
        match memory.create_object(1) {
            Ok(object) => taken.push(object),
            Err(Failure::Server(MemoryError::LimitReached)) => break,
            Err(failure) => return Err(failure.into()),
        }
        if taken.len() > MAX_PROCESS_HANDLES {
            return Ok(NEVER_REFUSED);
        }
    }
    time::sleep(keep_ns);
    drop(taken);
    Ok(code(memory.create_object(1)))
}

/// Fills its own table of handles, and asks a server for one more.
fn handles(memory: &MemoryManagerClient, keep_ns: u64) -> Result<i32, Failed> {
    let mut taken = Vec::new();
    loop {
        match Handle::<Notification>::create() {
            Ok(handle) => taken.push(handle),
            Err(Error::TooManyHandles | Error::NoMemory) => break,
            Err(error) => return Err(error.into()),
        }
        if taken.len() > MAX_PROCESS_HANDLES {
            return Ok(NEVER_REFUSED);
        }
    }
    let refused = memory.create_object(1);
    time::sleep(keep_ns);
    drop(taken);
    if let Ok(object) = refused {
        // The quota was used up before the table was, and had room for one handle of another kind.
        drop(object);
    }
    Ok(code(memory.create_object(1)))
}

/// Opens as many files as a session may have, in one session after the other.
fn files(program: &Program, keep_ns: u64) -> Result<i32, Failed> {
    let vfs = program.vfs()?;
    let path = format!("/tmp/hoard-{}", time::now());
    let first = vfs.open(path.as_bytes(), OpenOptions::replace())?;
    vfs.close(first.file)?;
    let mut sessions: Vec<VfsClient> = Vec::new();
    let mut last = fill(&vfs, &path)?;
    for _ in 0..SESSIONS {
        let session = VfsClient::connect(vfs.new_session()?)?;
        fill(&session, &path)?;
        sessions.push(session);
    }
    time::sleep(keep_ns);
    // The files of a session go with its last sender; those of its own one are closed one by one.
    drop(sessions);
    let is_given_back = last.pop().is_some_and(|file| {
        let closed = vfs.close(file);
        closed.is_ok() && vfs.open(path.as_bytes(), OpenOptions::read()).is_ok()
    });
    vfs.unlink(path.as_bytes())?;
    Ok(code(is_given_back.then_some(()).ok_or(())))
}

/// Opens files of a session until there are too many.
fn fill(vfs: &VfsClient, path: &str) -> Result<Vec<FileId>, Failed> {
    let mut files = Vec::new();
    loop {
        match vfs.open(path.as_bytes(), OpenOptions::read()) {
            Ok(opened) => files.push(opened.file),
            Err(Failure::Server(FsError::TooManyFiles)) => return Ok(files),
            Err(failure) => return Err(failure.into()),
        }
    }
}

/// Returns the exit code of a program that was refused, has given all back, and gets this.
fn code<T, E>(more: Result<T, E>) -> i32 {
    more.map_or(NOT_GIVEN_BACK, |_| 0)
}
