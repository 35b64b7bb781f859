//! Messages to a thread on another CPU.
//!
//! Nothing says where a thread runs but where there is room: the thread that waits for the answer,
//! or the one that gives it, keeps its CPU busy, so the other has to be elsewhere. A batch counts
//! only if that was so.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bench::{Benchmark, Entry, Plan};
use libsys::abi::FOREVER;
use libsys::ipc::{self, Outgoing, Received};
use libsys::{Endpoint, Error, Handle, Notification, Sender, time};
use skink_program::Failed;

use super::helpers::ThreadRoom;
use super::kit::Kit;
use super::processor::{self, cpu_number};
use super::server::{END, TURN};

/// The benchmarks; they need two CPUs.
pub(crate) static BENCHMARKS: &[Entry<Kit>] = &[
    Entry {
        name: "ipc.cross_cpu.spin",
        about: "call to a thread that asks for messages all the time, on another CPU",
        plan: Plan::SHORT,
        make: PollingServer::make,
    },
    Entry {
        name: "ipc.cross_cpu.sleep",
        about: "waking a thread on a sleeping CPU, and seeing its answer in memory",
        plan: SLOW,
        make: Sleeper::make,
    },
];

/// For operations that need a pause before each.
const SLOW: Plan = Plan {
    iterations: 200,
    batches: 15,
};
/// Pause before a thread is woken, ns: the other CPU looks for work for a while before it sleeps.
const UNTIL_ASLEEP_NS: u64 = 100_000;

/// Turns in one place before a batch starts.
const FIRST_TURNS: u32 = 100;
/// How often an answer is looked for before giving up.
const PATIENCE: u64 = 100_000_000;

/// What the other thread tells.
#[derive(Default)]
struct Shared {
    /// Its CPU.
    cpu: AtomicU32,
    /// Turns that it has answered.
    turns: AtomicU64,
}

/// Returns how many operations a batch counts for.
fn counted(shared: &Shared, iterations: u32) -> u64 {
    if shared.cpu.load(Ordering::SeqCst) == cpu_number() {
        0
    } else {
        iterations.into()
    }
}

/// A call to a thread that never sleeps.
struct PollingServer {
    sender: Handle<Sender>,
    shared: Arc<Shared>,
}

impl PollingServer {
    fn make(kit: &Kit) -> Result<Box<dyn Benchmark>, Failed> {
        let endpoint = Handle::<Endpoint>::create()?;
        let sender = endpoint.mint(1)?;
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        ThreadRoom::new(kit)?.start(move || {
            // If it fails the caller is told so by the kernel.
            let _ = poll(&endpoint, &theirs);
        })?;
        Ok(Box::new(PollingServer { sender, shared }))
    }
}

/// Answers each message with its own bytes, and asks for the next until there is one.
fn poll(endpoint: &Handle<Endpoint>, shared: &Shared) -> Result<(), Error> {
    loop {
        match ipc::receive(endpoint, 0) {
            Ok(Received::Request(request)) => {
                let bytes = request.info.bytes();
                shared.cpu.store(cpu_number(), Ordering::Relaxed);
                ipc::reply(request.reply, 0, bytes, &Outgoing::NONE)?;
            }
            Ok(Received::Closed(badge)) => return endpoint.forget(badge),
            Ok(Received::Notification(_) | Received::Fault(_)) => {}
            Err(Error::WouldBlock | Error::Timeout) => core::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
}

impl Benchmark for PollingServer {
    fn prepare(&mut self, _iterations: u32) -> Result<(), Failed> {
        self.run(FIRST_TURNS)
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            ipc::call(&self.sender, 0, 8, &Outgoing::NONE, FOREVER)?;
        }
        Ok(())
    }

    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        Ok(counted(&self.shared, iterations))
    }
}

/// Lets time pass without giving up the CPU. Returns the ticks.
fn pause(ns: u64) -> u64 {
    let start = processor::read();
    let end = time::now() + ns;
    while time::now() < end {
        core::hint::spin_loop();
    }
    processor::read().wrapping_sub(start)
}

/// A thread that sleeps until it is woken, and answers in shared memory.
struct Sleeper {
    there: Handle<Notification>,
    end: Handle<Notification>,
    shared: Arc<Shared>,
    pauses: u64,
}

impl Sleeper {
    fn make(kit: &Kit) -> Result<Box<dyn Benchmark>, Failed> {
        let waiter = Handle::<Notification>::create()?;
        let (there, end) = (waiter.mint(TURN)?, waiter.mint(END)?);
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        ThreadRoom::new(kit)?.start(move || {
            while ipc::wait(&waiter, FOREVER) == Ok(TURN) {
                theirs.cpu.store(cpu_number(), Ordering::Relaxed);
                theirs.turns.fetch_add(1, Ordering::Release);
            }
        })?;
        Ok(Box::new(Sleeper {
            there,
            end,
            shared,
            pauses: 0,
        }))
    }
}

impl Benchmark for Sleeper {
    fn prepare(&mut self, _iterations: u32) -> Result<(), Failed> {
        self.run(FIRST_TURNS)
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            let before = self.shared.turns.load(Ordering::Relaxed);
            self.pauses += pause(UNTIL_ASLEEP_NS);
            ipc::notify(&self.there)?;
            let mut rest = PATIENCE;
            while self.shared.turns.load(Ordering::Acquire) == before {
                rest = rest
                    .checked_sub(1)
                    .ok_or_else(|| Failed::new("the thread did not wake"))?;
                core::hint::spin_loop();
            }
        }
        Ok(())
    }

    fn take_pauses(&mut self) -> u64 {
        core::mem::take(&mut self.pauses)
    }

    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        Ok(counted(&self.shared, iterations))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // It fails only if the thread has ended.
        let _ = ipc::notify(&self.end);
    }
}
