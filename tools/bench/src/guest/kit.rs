//! What benchmarks are given: the machine, the memory manager, and this program's own image.

use libipc::proto::memory::MemoryManagerClient;
use libipc::spawn::MemoryPager;
use libsys::abi::PAGE_SIZE;
use libsys::spawn::{Child, Image, Spawn};
use libsys::{Handle, Memory, System};
use skink_manifest::bundle::{Bundle, Kind};
use skink_program::{Failed, Program};

/// What benchmarks are given.
#[derive(Debug)]
pub(crate) struct Kit {
    /// The machine, for looking.
    pub(crate) system: Handle<System>,
    /// The memory manager, for this program's space.
    pub(crate) memory: MemoryManagerClient,
    images: &'static [u8],
    bundle: Handle<Memory>,
    program: alloc::string::String,
}

impl Kit {
    /// Takes what the program was given.
    pub(crate) fn new(program: &Program) -> Result<Kit, Failed> {
        let images = skink_program::launch::images(program);
        Ok(Kit {
            system: program.system()?,
            memory: program.memory()?,
            images: images.ok_or_else(|| Failed::new("no boot bundle was given"))?,
            bundle: program.take("bundle")?,
            program: program.name().into(),
        })
    }

    /// Starts this program once more, in a process of its own.
    pub(crate) fn start_again(&self, spawn: Spawn<'_>) -> Result<Child, Failed> {
        let bundle = Bundle::parse(self.images).map_err(Failed::new)?;
        let entry = bundle
            .find(&self.program)
            .filter(|entry| entry.kind == Kind::Program);
        let entry = entry.ok_or_else(|| Failed::new("this program is not in the boot bundle"))?;
        let image = Image {
            bytes: entry.data,
            memory: &self.bundle,
            first_page: (entry.offset / PAGE_SIZE) as u64,
        };
        spawn
            .start_paged(&image, &MemoryPager::new(self.memory.clone()))
            .map_err(Failed::new)
    }

    /// Returns how the program is called.
    pub(crate) fn program(&self) -> &str {
        &self.program
    }
}
