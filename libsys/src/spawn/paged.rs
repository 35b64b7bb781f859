//! Processes whose pages the memory manager brings on first touch.

use core::fmt;

use skink_abi::layout::{HEAP, STACK_TOP, STARTUP, THREAD_CONTROL};
use skink_abi::{MapFlags, MapItem, Rights};

use super::{Child, Image, PAGE, Spawn, SpawnError};
use crate::elf::{Elf, Segment};
use crate::{Handle, Memory, Process, Sender};

/// The main thread's control page and IPC page.
const CONTROL_PAGES: u64 = 2;
/// What a process may do with the sender that names its space.
const SPACE_RIGHTS: Rights = Rights(Rights::CALL.0 | Rights::DUPLICATE.0 | Rights::TRANSFER.0);

/// Why the memory manager did not do what it was asked to: one sentence for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagerError(pub &'static str);

impl fmt::Display for PagerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What starting a paged process needs of the memory manager. `libipc::spawn::MemoryPager`
/// speaks to the real one; it lies there because interfaces do.
pub trait Pager {
    /// The address space of one process.
    type Space: Space;

    /// Registers a process.
    ///
    /// # Errors
    ///
    /// Why not.
    fn create_space(&self, process: &Handle<Process>) -> Result<Self::Space, PagerError>;
}

/// The address space of one process, as the memory manager sees it.
pub trait Space {
    /// Returns the sender that names the space.
    ///
    /// # Errors
    ///
    /// Why there is none.
    fn sender(&self) -> Result<&Handle<Sender>, PagerError>;

    /// Makes a region of zero-filled, writable pages.
    ///
    /// # Errors
    ///
    /// Why not.
    fn map_anonymous(&self, address: u64, pages: u64) -> Result<(), PagerError>;

    /// Makes a region of a segment of an image that starts at page `first_page` of `memory`:
    /// shared, or a private copy when it is writable.
    ///
    /// # Errors
    ///
    /// Why not.
    fn map_segment(
        &self,
        segment: &Segment,
        memory: &Handle<Memory>,
        first_page: u64,
    ) -> Result<(), PagerError>;

    /// Makes a zero-filled memory object that counts for the space.
    ///
    /// # Errors
    ///
    /// Why not.
    fn create_object(&self, pages: u64) -> Result<Handle<Memory>, PagerError>;
}

impl Spawn<'_> {
    /// Starts the process with pages that come on first touch. It finds the sender that names
    /// its space under the name `memory`.
    ///
    /// # Errors
    ///
    /// See [`SpawnError`]; the process is ended then.
    pub fn start_paged(
        mut self,
        image: &Image<'_>,
        pager: &impl Pager,
    ) -> Result<Child, SpawnError> {
        self.check_sizes()?;
        let elf = Elf::parse(image.bytes)?;
        let unborn = self.create()?;
        let process = unborn.process()?;
        let space = pager.create_space(process)?;
        for segment in elf.segments() {
            let first_page = image.first_page + segment.offset / PAGE;
            space.map_segment(segment, image.memory, first_page)?;
        }
        space.map_anonymous(HEAP, self.heap_pages())?;
        let stack = STACK_TOP - self.stack_pages() * PAGE;
        space.map_anonymous(stack, self.stack_pages())?;

        self.grants
            .push(("memory".into(), space.sender()?.raw(), SPACE_RIGHTS));
        let bytes = self.startup_pages(process)?;
        let startup_pages = (bytes.len() as u64).div_ceil(PAGE);
        // One object for both, so that a process costs one and not two.
        let object = space.create_object(CONTROL_PAGES + startup_pages)?;
        // The first word of a control page is its own address.
        object.write(0, &THREAD_CONTROL.to_le_bytes())?;
        object.write(CONTROL_PAGES * PAGE, &bytes)?;
        let fixed = |address, page_offset, pages, flags| MapItem {
            address,
            page_offset,
            pages,
            memory: object.raw().0,
            flags,
        };
        self.items.push(fixed(
            THREAD_CONTROL,
            0,
            CONTROL_PAGES,
            MapFlags::READ | MapFlags::WRITE,
        ));
        self.items
            .push(fixed(STARTUP, CONTROL_PAGES, startup_pages, MapFlags::READ));
        process.map(&self.items)?;
        self.run(unborn, &elf, (&object, 0))
    }
}
