//! Boots the kernel: entry points of PVH and multiboot2, and the jump into the kernel.
#![cfg_attr(bare, no_std, no_main)]

#[cfg(bare)]
use skink_mem as _;

#[cfg(bare)]
mod machine;

#[cfg(bare)]
mod start {
    use core::fmt::Write;
    use core::panic::PanicInfo;

    use skink_loader::{LoadError, multiboot2, prepare, pvh};

    use crate::machine::{self, RealMemory, Serial};

    /// What the entry code passes for PVH, which has no magic in a register.
    const PVH: u32 = 0;

    /// Runs once, from the entry code.
    #[unsafe(no_mangle)]
    extern "C" fn loader_main(protocol: u32, information: u64) -> ! {
        let error = load(protocol, information);
        let _ = write!(Serial, "loader: {error}\r\n");
        machine::fail()
    }

    /// Starts the kernel; comes back only with the reason why not.
    fn load(protocol: u32, information: u64) -> LoadError {
        // SAFETY: the entry code mapped the first 4 GiB; this is the reading half, which never
        // writes, and the memory map made from it tells the writing half what is free.
        let reading = unsafe { RealMemory::new() };
        let source = match protocol {
            PVH => pvh::read(&reading, information),
            multiboot2::MAGIC => multiboot2::read(&reading, information),
            _ => Err(LoadError::BadBootInformation("unknown boot protocol")),
        };
        // SAFETY: as above; `prepare` writes to frames from the free part of the map only, and
        // the source's text lies outside of it.
        let mut writing = unsafe { RealMemory::new() };
        let loader = machine::describe();
        match source.and_then(|source| prepare::prepare(&mut writing, source, &loader)) {
            // SAFETY: just prepared, on the real memory.
            Ok(plan) => unsafe { machine::start_kernel(&plan) },
            Err(error) => error,
        }
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        let _ = write!(Serial, "loader: {info}\r\n");
        machine::fail()
    }
}

#[cfg(not(bare))]
fn main() {}
