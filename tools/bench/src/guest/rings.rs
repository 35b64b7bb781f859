//! Rings: entries that another process completes, alone, in batches, and in a ring that is full.

use alloc::boxed::Box;

use bench::arguments::Role;
use bench::{Benchmark, Entry, Plan};
use libipc::ring::{self, Completion, RingClient, RingServer, Submission, pages_for};
use libsys::abi::FOREVER;
use libsys::mappings::Mapping;
use libsys::spawn::Spawn;
use libsys::{Handle, MapFlags, Memory, Notification, Rights, ipc};
use skink_program::Failed;

use super::helpers::{EndBit, ServerProcess};
use super::kit::Kit;
use super::server::{self, ANSWER, TURN, WAITER};

/// Handle of the memory of a ring.
pub(crate) const RING: &str = "ring";

const READ_WRITE: MapFlags = MapFlags(MapFlags::READ.0 | MapFlags::WRITE.0);
/// Slots of the ring that is kept full.
const FULL: u32 = 256;

/// For what is done many times in a repetition.
const BATCHES: Plan = Plan {
    iterations: 100,
    batches: 15,
};

/// The benchmarks.
pub(crate) static BENCHMARKS: &[Entry<Kit>] = &[
    Entry {
        name: "ring.roundtrip.1",
        about: "an entry of a ring, completed by another process",
        plan: Plan::SHORT,
        make: |kit| Rings::make(kit, 1),
    },
    Entry {
        name: "ring.roundtrip.32",
        about: "the same in batches of 32, per entry",
        plan: BATCHES,
        make: |kit| Rings::make(kit, 32),
    },
    Entry {
        name: "ring.throughput.64B",
        about: "the same with a ring of 256 slots that is always full",
        plan: BATCHES,
        make: |kit| Rings::make(kit, FULL),
    },
];

/// Submits batches that fill the ring, each when the one before is completed.
struct Rings {
    ring: RingClient,
    wake: Handle<Notification>,
    batch: u32,
    submitted: u64,
    /// Sums of what was expected and what came.
    expected: u64,
    came: u64,
    // Told to end before it is waited for: fields are dropped in this order.
    _end: EndBit,
    _server: ServerProcess,
}

impl Rings {
    fn make(kit: &Kit, batch: u32) -> Result<Box<dyn Benchmark>, Failed> {
        let slots = batch as usize;
        let memory = kit.memory.create_object(pages_for(slots) as u64)?;
        let mapping = Mapping::map(&memory, READ_WRITE)?;
        let mut ring = RingClient::create(mapping, slots).map_err(Failed::new)?;
        let bell = Handle::<Notification>::create()?;
        let wake = Handle::<Notification>::create()?;
        ring.set_doorbell(bell.mint(TURN)?);
        let spawn = Spawn::new(kit.program())
            .arguments(Role::Ring.arguments())
            .handle(RING, &memory, Rights::ALL)
            .handle(WAITER, &bell, Rights::WAIT)
            .handle(ANSWER, &wake, Rights::NOTIFY);
        let server = ServerProcess::spawn(kit, spawn)?;
        Ok(Box::new(Rings {
            ring,
            wake,
            batch,
            submitted: 0,
            expected: 0,
            came: 0,
            _end: EndBit::new(bell.mint(server::END)?),
            _server: server,
        }))
    }

    fn submit(&mut self) -> Result<(), Failed> {
        let number = self.submitted;
        let entry = ring::Entry {
            user_data: number,
            opcode: 1,
            flags: 0,
            arguments: [number, 2, 3, 4, 5],
        };
        let submitted = self.ring.submit(&entry);
        submitted.map_err(|_| Failed::new("the ring is full too early"))?;
        self.submitted += 1;
        self.expected = self.expected.wrapping_add(answer(&entry).cast_unsigned());
        Ok(())
    }

    fn take(&mut self) -> Result<(), Failed> {
        while self.ring.in_flight() > 0 {
            while let Some(Completion { result, .. }) = self.ring.next_completion() {
                self.came = self.came.wrapping_add(result.cast_unsigned());
            }
            if self.ring.in_flight() > 0 && self.ring.prepare_wait() {
                ipc::wait(&self.wake, FOREVER)?;
            }
        }
        Ok(())
    }
}

impl Benchmark for Rings {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            for _ in 0..self.batch {
                self.submit()?;
            }
            self.ring.flush();
            self.take()?;
        }
        Ok(())
    }

    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        if self.expected != self.came {
            return Err(Failed::new("the results are not those of the entries"));
        }
        Ok(u64::from(iterations) * u64::from(self.batch))
    }
}

/// The work: a result that depends on all of the entry.
fn answer(entry: &ring::Entry) -> i64 {
    let rest = entry.user_data ^ u64::from(entry.opcode) ^ u64::from(entry.flags) << 32;
    let arguments = entry.arguments.iter().fold(0, |all, word| all ^ word << 1);
    (rest ^ arguments).cast_signed()
}

/// Completes what is in a ring until there is another bit than [`TURN`].
pub(crate) fn serve(
    memory: &Handle<Memory>,
    waiter: &Handle<Notification>,
    wake: &Handle<Notification>,
) -> Result<(), Failed> {
    let mut ring = RingServer::attach(Mapping::map(memory, READ_WRITE)?).map_err(Failed::new)?;
    loop {
        while let Some(Submission { id, entry, .. }) = ring.next_request() {
            ring.complete(id, answer(&entry));
        }
        ring.flush(wake);
        if ring.prepare_wait() && ipc::wait(waiter, FOREVER)? != TURN {
            return Ok(());
        }
    }
}
