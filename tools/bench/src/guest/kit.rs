//! What benchmarks are given: the machine, the memory manager, and this program's own image.

use libipc::files::Files;
use libipc::proto::memory::MemoryManagerClient;
use libipc::spawn::MemoryPager;
use libsys::abi::PAGE_SIZE;
use libsys::elf::Elf;
use libsys::spawn::{Child, Image, Pool, Spawn, pinned_pages};
use libsys::{Handle, Memory, System};
use skink_manifest::bundle::{Bundle, Kind};
use skink_program::{Failed, Program};

/// Heap and stack, each, of a process that is not paged.
const PINNED_BYTES: u64 = 64 * 1024;

/// What benchmarks are given.
#[derive(Debug)]
pub(crate) struct Kit {
    /// The machine, for looking.
    pub(crate) system: Handle<System>,
    /// The memory manager, for this program's space.
    pub(crate) memory: MemoryManagerClient,
    files: Files,
    images: &'static [u8],
    bundle: Handle<Memory>,
    program: alloc::string::String,
}

impl Kit {
    /// Takes what the program was given.
    pub(crate) fn new(program: &Program) -> Result<Kit, Failed> {
        let images = skink_program::launch::images(program);
        let memory = program.memory()?;
        Ok(Kit {
            system: program.system()?,
            // Not connected here: only those who need files may wait for the vfs.
            files: Files::new(program.unconnected_vfs()?, Some(memory.clone()), "/"),
            memory,
            images: images.ok_or_else(|| Failed::new("no boot bundle was given"))?,
            bundle: program.take("bundle")?,
            program: program.name().into(),
        })
    }

    /// Starts this program once more, in a process of its own.
    pub(crate) fn start_again(&self, spawn: Spawn<'_>) -> Result<Child, Failed> {
        spawn
            .start_paged(&self.image()?, &MemoryPager::new(self.memory.clone()))
            .map_err(Failed::new)
    }

    /// As [`Kit::start_again`], in a process of which all pages are there from the start, and
    /// which the memory manager does not know. Returns its memory as well.
    pub(crate) fn start_pinned(&self, spawn: Spawn<'_>) -> Result<(Child, Handle<Memory>), Failed> {
        let image = self.image()?;
        let elf = Elf::parse(image.bytes).map_err(Failed::new)?;
        let pages = pinned_pages(&elf, PINNED_BYTES, PINNED_BYTES);
        let memory = self.memory.create_object(pages)?;
        let pool = Pool { memory, pages };
        let spawn = spawn.heap_bytes(PINNED_BYTES).stack_bytes(PINNED_BYTES);
        let child = spawn.start_pinned(&image, &pool).map_err(Failed::new)?;
        Ok((child, pool.memory))
    }

    fn image(&self) -> Result<Image<'_>, Failed> {
        let bundle = Bundle::parse(self.images).map_err(Failed::new)?;
        let entry = bundle
            .find(&self.program)
            .filter(|entry| entry.kind == Kind::Program);
        let entry = entry.ok_or_else(|| Failed::new("this program is not in the boot bundle"))?;
        Ok(Image {
            bytes: entry.data,
            memory: &self.bundle,
            first_page: (entry.offset / PAGE_SIZE) as u64,
        })
    }

    /// Returns the files.
    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Returns how the program is called.
    pub(crate) fn program(&self) -> &str {
        &self.program
    }
}
