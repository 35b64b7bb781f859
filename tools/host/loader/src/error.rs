//! Why the kernel cannot be started.

use core::fmt;

use skink_manifest::bundle::BundleError;

/// What is wrong with the machine, the bundle or the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// The boot protocol's information block is not what its magic promises.
    BadBootInformation(&'static str),
    /// There is no first module: start with `-initrd BUNDLE` or GRUB's `module2`.
    NoBundle,
    /// The module lies where the loader cannot reach it, or not on a page boundary.
    BundleMisplaced(u64),
    /// The first module is not a boot bundle.
    BadBundle(BundleError),
    /// The bundle has no entry of kind kernel.
    NoKernel,
    /// The kernel's image is not an ELF file that the loader can load.
    BadKernel(&'static str),
    /// The kernel asks for something of the `bootloader_api` contract that is not offered.
    Unsupported(&'static str),
    /// Something is to be mapped at an address that is in use already.
    AddressTaken(u64),
    /// The firmware's memory map has more entries than there is room for.
    TooManyRegions,
    /// No free region of memory is large enough for kernel, stack and page tables.
    OutOfMemory,
}

impl From<BundleError> for LoadError {
    fn from(error: BundleError) -> Self {
        Self::BadBundle(error)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadBootInformation(what) => write!(f, "bad boot information: {what}"),
            Self::NoBundle => write!(f, "no boot bundle: give it as initrd or first module"),
            Self::BundleMisplaced(at) => {
                write!(
                    f,
                    "the boot bundle at {at:#x} is out of reach or not page aligned"
                )
            }
            Self::BadBundle(error) => write!(f, "{error}"),
            Self::NoKernel => write!(f, "the boot bundle has no kernel"),
            Self::BadKernel(what) => write!(f, "bad kernel image: {what}"),
            Self::Unsupported(what) => write!(f, "the kernel asks for {what}: not supported"),
            Self::AddressTaken(at) => write!(f, "virtual address {at:#x} is taken already"),
            Self::TooManyRegions => write!(f, "the memory map has too many regions"),
            Self::OutOfMemory => write!(f, "not enough free memory below 4 GiB"),
        }
    }
}
