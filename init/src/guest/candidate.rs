//! What another version of a service needs before it can be started beside the one that runs: an
//! image that is allowed and fits, and a second state region.

use init::ledger::{Key, Part};
use libipc::proto::init::SwapReason;
use libipc::proto::memory::MemoryManagerClient;
use libsys::abi::PAGE_SIZE;
use libsys::elf::Elf;
use libsys::mappings::Mapping;
use libsys::spawn::pinned_pages;
use libsys::{Handle, MapFlags, Memory, Rights};
use skink_manifest::bundle::Bundle;
use skink_manifest::command_line;

use super::book::{Book, BookError};
use super::kit::{Common, Kit};
use super::program::Program;

/// Word of the kernel's command line that allows images which the boot bundle does not list.
const ALLOW_UNLISTED: &str = "allow-unlisted-images";
/// Longest image, bytes.
const MAX_IMAGE_BYTES: u64 = 64 << 20;
/// What programs may do with an image: nobody may write it.
const IMAGE_RIGHTS: Rights =
    Rights(Rights::READ.0 | Rights::EXECUTE.0 | Rights::DUPLICATE.0 | Rights::TRANSFER.0);

/// A version that is to be tried.
#[derive(Debug)]
pub(crate) enum Candidate {
    /// One that `init` knows.
    Known(Program),
    /// Bytes that somebody brought.
    Brought {
        /// Where they are.
        memory: Handle<Memory>,
        /// How many.
        bytes: u64,
        /// SHA-256 that they are said to have.
        digest: [u8; 32],
    },
}

/// Checks the image and gets what its instance will need beside the one that runs.
pub(super) fn prepare(
    kit: &Kit,
    candidate: Candidate,
    common: &Common,
    manager: &MemoryManagerClient,
) -> Result<Program, SwapReason> {
    let program = match candidate {
        Candidate::Known(program) => program,
        Candidate::Brought {
            memory,
            bytes,
            digest,
        } => {
            let program = take_copy(&memory, bytes, manager)?;
            if *program.digest() != digest {
                return Err(SwapReason::WrongDigest);
            }
            check_policy(&program, common)?;
            program
        }
    };
    if !program.is_intact() {
        return Err(SwapReason::WrongDigest);
    }
    let elf = Elf::parse(program.bytes()).map_err(|error| {
        log::warn!("{}: {error}", kit.service.name);
        SwapReason::NotAProgram
    })?;
    if kit.service.is_pinned() {
        let sizes = kit.service.memory;
        let needed = pinned_pages(&elf, sizes.heap, sizes.stack);
        let reserved = kit.pools.iter().map(|pool| pool.pages).min().unwrap_or(0);
        if needed > reserved {
            return Err(SwapReason::TooLarge { needed, reserved });
        }
    }
    get_region(kit, common.book, manager)?;
    Ok(program)
}

/// Copies an image to memory that its owner cannot change any more.
fn take_copy(
    memory: &Handle<Memory>,
    bytes: u64,
    manager: &MemoryManagerClient,
) -> Result<Program, SwapReason> {
    let available = memory
        .info()
        .map_or(0, |info| info.pages.saturating_mul(PAGE_SIZE as u64));
    if bytes == 0 || bytes > available.min(MAX_IMAGE_BYTES) {
        return Err(SwapReason::NotAProgram);
    }
    let pages = bytes.div_ceil(PAGE_SIZE as u64);
    let copy = manager.create_object(pages).map_err(|failure| {
        log::warn!("no memory for an image: {failure}");
        SwapReason::NoMemory
    })?;
    let no_memory = |error| {
        log::warn!("image not copied: {error}");
        SwapReason::NoMemory
    };
    copy_bytes(memory, &copy, bytes).map_err(no_memory)?;
    let copy = copy.duplicate(IMAGE_RIGHTS).map_err(no_memory)?;
    Program::of_memory(copy, bytes as usize).map_err(no_memory)
}

/// Refuses images that are not listed, unless the command line allows them.
fn check_policy(program: &Program, common: &Common) -> Result<(), SwapReason> {
    let is_listed = Bundle::parse(common.bundle_bytes).is_ok_and(|bundle| {
        let mut entries = bundle.entries();
        entries.any(|entry| entry.digest == program.digest())
    });
    if is_listed || command_line::option(&common.command_line, ALLOW_UNLISTED).is_some() {
        return Ok(());
    }
    Err(SwapReason::NotListed)
}

/// Why there is no second state region; it was logged.
struct RegionError;

impl From<BookError> for RegionError {
    fn from(error: BookError) -> Self {
        log::error!("state region not noted: {error}");
        RegionError
    }
}

/// Makes the state region of the slot that is not active, if there is none yet.
fn get_region(kit: &Kit, book: &Book, manager: &MemoryManagerClient) -> Result<(), SwapReason> {
    let number = 1 - kit.running().0;
    let other = &kit.slots[number];
    if kit.state_pages == 0 || other.state.is_completed() {
        return Ok(());
    }
    let key = Key::Of(kit.position, Part::State(number as u8));
    let make = || {
        manager.create_object(kit.state_pages).map_err(|failure| {
            log::warn!("{}: no second state region: {failure}", kit.service.name);
            RegionError
        })
    };
    let region = book.keep(key, make).map_err(|_| SwapReason::NoMemory)?;
    other.state.call_once(|| region);
    Ok(())
}

/// Copies the state of a service to the slot that is not active. Its instance must be at rest.
pub(super) fn copy_state(kit: &Kit) -> libsys::Result<()> {
    let active = kit.running().0;
    let [from, to] = [active, 1 - active].map(|slot| kit.slots[slot].state.get());
    match (from, to) {
        (Some(from), Some(to)) => copy_bytes(from, to, kit.state_pages * PAGE_SIZE as u64),
        _ => Err(libsys::Error::InvalidArgument),
    }
}

/// Copies the first bytes of an object: the kernel reads right into the mapped other one.
fn copy_bytes(from: &Handle<Memory>, to: &Handle<Memory>, bytes: u64) -> libsys::Result<()> {
    let mapping = Mapping::map(to, MapFlags::READ | MapFlags::WRITE)?;
    if bytes > mapping.bytes() as u64 {
        return Err(libsys::Error::InvalidArgument);
    }
    let start = core::ptr::with_exposed_provenance_mut(mapping.address() as usize);
    // SAFETY: the mapping has so many bytes and lives until the end of this function; nobody else
    // in this process uses it, and no other process uses the object meanwhile.
    let place: &mut [u8] = unsafe { core::slice::from_raw_parts_mut(start, bytes as usize) };
    from.read(0, place)
}
