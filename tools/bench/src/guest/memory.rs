//! Page faults and mappings.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;

use bench::arguments::Role;
use bench::{Benchmark, Entry, Plan};
use libipc::proto::memory::{MemoryManagerClient, Protection};
use libsys::abi::{FOREVER, PAGE_SIZE};
use libsys::ipc::{self, Outgoing, Received};
use libsys::mappings::Reservation;
use libsys::spawn::Spawn;
use libsys::{
    Endpoint, Handle, MapFlags, Memory, Notification, Process, Reply, Rights, startup, time,
};
use skink_program::Failed;

use super::helpers::wait_for_end;
use super::kit::Kit;
use super::server;

/// Faults are dearer than messages, and each batch takes 4 MiB.
const PLAN: Plan = Plan {
    iterations: 1000,
    batches: 9,
};
/// Touched pages that are so far apart are no sequence, so none is brought along with another.
const APART: u64 = 2;
const IN_A_ROW: u64 = 1;
/// Pages that one call maps.
const MAPPED: u64 = 512;
/// Few, because each repetition has addresses of its own.
const MAP_PLAN: Plan = Plan {
    iterations: 8,
    batches: 9,
};
/// How long the first fault is waited for.
const FIRST_FAULT_NS: u64 = 5_000 * time::MS;

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
    Entry {
        name: "mem.fault_null",
        about: "fault sent to a handler in another process, nothing mapped, resumed",
        plan: Plan::SHORT,
        make: Faults::make,
    },
    Entry {
        name: "mem.map_512_per_page",
        about: "mapping 512 pages in one call, per page",
        plan: MAP_PLAN,
        make: MapMany::make,
    },
];

/// Writes to pages for the first time.
struct Touch {
    memory: MemoryManagerClient,
    stride: u64,
    place: Option<Reservation>,
    touched: u64,
    faults_before: u64,
}

impl Touch {
    fn make(kit: &Kit, stride: u64) -> Result<Box<dyn Benchmark>, Failed> {
        let memory = kit.memory.clone();
        Ok(Box::new(Touch {
            memory,
            stride,
            place: None,
            touched: 0,
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
        self.touched = 0;
        self.faults_before = self.memory.usage()?.faults;
        Ok(())
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        let place = self.place.as_ref();
        let start = place.map_or(0, Reservation::address);
        let step = self.stride * PAGE_SIZE as u64;
        let mut address = start + self.touched * step;
        for _ in 0..iterations {
            // In assembly, so that the compiler cannot write the loop out: all faults are at one
            // instruction, and a turn is an operation.
            // SAFETY: `prepare` has mapped a page for each repetition of the batch, and nothing
            // else uses them.
            unsafe { asm!("mov [{0}], {0}", in(reg) address, options(nostack, preserves_flags)) };
            address += step;
        }
        self.touched += u64::from(iterations);
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

/// A process that faults for ever at one instruction. This one is its pager, which maps nothing.
struct Faults {
    endpoint: Handle<Endpoint>,
    /// The duty to answer the fault that came last.
    pending: Option<Handle<Reply>>,
    process: Handle<Process>,
    // Kept until the process is gone.
    _memory: Handle<Memory>,
}

impl Faults {
    fn make(kit: &Kit) -> Result<Box<dyn Benchmark>, Failed> {
        let endpoint = Handle::<Endpoint>::create()?;
        let pager = endpoint.mint(1)?;
        let start = Handle::<Notification>::create()?;
        let spawn = Spawn::new(kit.program())
            .arguments(Role::Fault.arguments())
            .handle(server::WAITER, &start, Rights::WAIT);
        let (child, memory) = kit.start_pinned(spawn)?;
        let mut faults = Faults {
            endpoint,
            pending: None,
            process: child.process,
            _memory: memory,
        };
        faults.process.set_pager(&pager)?;
        ipc::notify(&start)?;
        let first = ipc::receive(&faults.endpoint, time::after(FIRST_FAULT_NS))?;
        faults.pending = Some(reply_of(first)?);
        Ok(Box::new(faults))
    }
}

/// Takes the duty to answer a fault.
fn reply_of(received: Received) -> Result<Handle<Reply>, Failed> {
    match received {
        Received::Fault(request) => Ok(request.reply),
        _ => Err(Failed::new("something else than a fault came")),
    }
}

impl Benchmark for Faults {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            let reply = self
                .pending
                .take()
                .ok_or_else(|| Failed::new("there is no fault to answer"))?;
            let next = ipc::reply_receive(reply, 0, 0, &Outgoing::NONE, &self.endpoint, FOREVER)?;
            self.pending = Some(reply_of(next)?);
        }
        Ok(())
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        // It fails only if the process has ended by itself.
        let _ = self.process.kill(0);
        wait_for_end(&self.process);
    }
}

/// Maps the pages of an object, each time at other addresses.
struct MapMany {
    memory: Handle<Memory>,
    places: Vec<Reservation>,
    mapped: usize,
}

impl MapMany {
    fn make(kit: &Kit) -> Result<Box<dyn Benchmark>, Failed> {
        let memory = kit.memory.create_object(MAPPED)?;
        let places = (0..MAP_PLAN.iterations).map(|_| Reservation::new(MAPPED));
        Ok(Box::new(MapMany {
            memory,
            places: places.collect::<Result<_, _>>()?,
            mapped: 0,
        }))
    }

    fn unmap(&mut self) -> Result<(), Failed> {
        for place in self.places.iter().take(self.mapped) {
            startup::process().unmap(place.address(), MAPPED)?;
        }
        self.mapped = 0;
        Ok(())
    }
}

impl Benchmark for MapMany {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        let process = startup::process();
        for _ in 0..iterations {
            let place = self
                .places
                .get(self.mapped)
                .ok_or_else(|| Failed::new("there is no room left"))?;
            let flags = MapFlags::READ | MapFlags::WRITE;
            process.map_one(place.address(), &self.memory, 0, MAPPED, flags)?;
            self.mapped += 1;
        }
        Ok(())
    }

    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        // What was mapped must be the object, to its last page.
        let last = self.places.get(self.mapped.wrapping_sub(1));
        let last = last.ok_or_else(|| Failed::new("nothing was mapped"))?;
        let word = last.address() + (MAPPED - 1) * PAGE_SIZE as u64;
        let word = core::ptr::with_exposed_provenance_mut::<u64>(word as usize);
        // SAFETY: the page is mapped, writable, and nothing else uses it.
        unsafe { word.write_volatile(word as u64) };
        let mut bytes = [0; 8];
        self.memory
            .read((MAPPED - 1) * PAGE_SIZE as u64, &mut bytes)?;
        if u64::from_le_bytes(bytes) != word as u64 {
            return Err(Failed::new("other pages were mapped"));
        }
        self.unmap()?;
        Ok(u64::from(iterations) * MAPPED)
    }
}

impl Drop for MapMany {
    fn drop(&mut self) {
        // Only after a failed batch is there anything left; then it stays until the end.
        let _ = self.unmap();
    }
}
