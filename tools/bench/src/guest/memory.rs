//! Page faults.

use alloc::boxed::Box;

use bench::{Benchmark, Entry, Plan};
use libipc::proto::memory::{MemoryManagerClient, Protection};
use libsys::abi::PAGE_SIZE;
use libsys::mappings::Reservation;
use skink_program::Failed;

use super::kit::Kit;

/// Faults are dearer than messages, and each batch takes 4 MiB.
const PLAN: Plan = Plan {
    iterations: 1000,
    batches: 9,
};
/// Touched pages that are so far apart are no sequence, so none is brought along with another.
const APART: u64 = 2;
const IN_A_ROW: u64 = 1;

/// The benchmarks.
pub(crate) static BENCHMARKS: &[Entry<Kit>] = &[
    Entry {
        name: "mem.fault_anon_4K",
        about: "first write to a page, one fault and one page each",
        plan: PLAN,
        make: |kit| Touch::make(kit, APART),
    },
    Entry {
        name: "mem.touch_anon_4K.sequential",
        about: "first write to a page, pages in a row, per page",
        plan: PLAN,
        make: |kit| Touch::make(kit, IN_A_ROW),
    },
];

/// Writes to pages for the first time.
struct Touch {
    memory: MemoryManagerClient,
    stride: u64,
    place: Option<Reservation>,
    faults_before: u64,
}

impl Touch {
    fn make(kit: &Kit, stride: u64) -> Result<Box<dyn Benchmark>, Failed> {
        let memory = kit.memory.clone();
        Ok(Box::new(Touch {
            memory,
            stride,
            place: None,
            faults_before: 0,
        }))
    }

    /// Returns the room for a batch; it is the same for all.
    fn place(&mut self, iterations: u32) -> Result<(u64, u64), Failed> {
        if self.place.is_none() {
            self.place = Some(Reservation::new(u64::from(iterations) * self.stride)?);
        }
        let place = self.place.as_ref();
        place
            .map(|place| (place.address(), place.pages()))
            .ok_or_else(|| Failed::new("no room was reserved"))
    }
}

impl Benchmark for Touch {
    fn prepare(&mut self, iterations: u32) -> Result<(), Failed> {
        let (address, pages) = self.place(iterations)?;
        self.memory
            .map_anonymous(address, pages, Protection::ReadWrite)?;
        self.faults_before = self.memory.usage()?.faults;
        Ok(())
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        let (start, _) = self.place(iterations)?;
        let mut address = start;
        for _ in 0..iterations {
            let page = core::ptr::with_exposed_provenance_mut::<u64>(address as usize);
            // SAFETY: `prepare` has mapped all pages of the room, and nothing else uses them.
            unsafe { page.write_volatile(address) };
            address += self.stride * PAGE_SIZE as u64;
        }
        Ok(())
    }

    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        let (address, pages) = self.place(iterations)?;
        let faults = self.memory.usage()?.faults - self.faults_before;
        self.memory.unmap(address, pages)?;
        // Asking for the usage may fault as well, but on few pages.
        if self.stride == APART && faults < u64::from(iterations) {
            return Err(Failed::new(format_args!(
                "{iterations} touches were {faults} faults"
            )));
        }
        Ok(iterations.into())
    }
}
