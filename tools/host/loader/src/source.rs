//! What a boot protocol tells, in one form for all of them.

use bootloader_api::info::FrameBufferInfo;

use crate::memory_map::MemoryMap;
use crate::{LoadError, Range};

/// A linear framebuffer that the boot loader before this one has set up.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Physical address of the first pixel.
    pub start: u64,
    /// Size and pixel format.
    pub info: FrameBufferInfo,
}

/// Everything known about the machine before the kernel runs.
#[derive(Debug)]
pub struct Source<'a> {
    /// The firmware's memory map, with what the boot protocol occupies taken out.
    pub map: MemoryMap,
    /// The boot bundle.
    pub bundle: Range,
    /// The command line, empty if there is none.
    pub command_line: &'a str,
    /// Physical address of the ACPI root pointer.
    pub rsdp: Option<u64>,
    /// The screen, if it is in a pixel mode.
    pub screen: Option<Screen>,
}

/// Returns the bundle's place if the loader can work with it.
pub(crate) fn checked_bundle(module: Range) -> Result<Range, LoadError> {
    let is_reachable = module.end <= crate::REACHABLE_END;
    if is_reachable && module.start.is_multiple_of(crate::PAGE) && !module.is_empty() {
        Ok(module)
    } else {
        Err(LoadError::BundleMisplaced(module.start))
    }
}
