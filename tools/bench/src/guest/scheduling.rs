//! Switches between threads.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bench::{Benchmark, Entry, Plan};
use libsys::thread::yield_now;
use skink_program::Failed;

use super::helpers::ThreadRoom;
use super::kit::Kit;
use super::processor::cpu_number;

/// The benchmarks.
pub(crate) static BENCHMARKS: &[Entry<Kit>] = &[Entry {
    name: "sched.switch",
    about: "switch between two threads of a process that yield",
    plan: Plan::SHORT,
    make: Switch::make,
}];

/// Turns that the other thread may be ahead or behind after a batch in which the threads
/// alternated: it can be interrupted at either end of a turn.
const SLACK: u64 = 8;
/// Threads that are started for each CPU before giving up.
const ATTEMPTS_PER_CPU: u64 = 3;
/// How often the first thread lets others run before it gives up waiting for a new one.
const PATIENCE: u32 = 1_000_000;

/// Two threads that let each other run. Each repetition is two switches.
///
/// Both must be on one CPU. The kernel starts a thread on a CPU that is idle, if there is one, and
/// leaves it there as long as it does not sleep. So threads are started, each keeping its CPU
/// busy, until one comes to the CPU of the first thread.
struct Switch {
    shared: Arc<Shared>,
    turns_before: u64,
}

#[derive(Default)]
struct Shared {
    /// CPU of the first thread.
    home: AtomicU32,
    /// Threads that run and have seen where.
    arrived: AtomicU64,
    /// Whether one of them is on the CPU of the first thread.
    has_partner: AtomicBool,
    /// Turns of that one.
    turns: AtomicU64,
    is_over: AtomicBool,
}

impl Shared {
    /// What the other threads do.
    fn work(&self) {
        let is_partner = cpu_number() == self.home.load(Ordering::SeqCst)
            && !self.has_partner.swap(true, Ordering::SeqCst);
        self.arrived.fetch_add(1, Ordering::SeqCst);
        while !self.is_over.load(Ordering::Relaxed) {
            if is_partner {
                self.turns.fetch_add(1, Ordering::Relaxed);
                yield_now();
            } else {
                core::hint::spin_loop();
            }
        }
    }
}

impl Switch {
    fn make(kit: &Kit) -> Result<Box<dyn Benchmark>, Failed> {
        let switch = Switch {
            shared: Arc::default(),
            turns_before: 0,
        };
        let (machine, _) = kit.system.system_info()?;
        for number in 1..=ATTEMPTS_PER_CPU * machine.cpus {
            let shared = Arc::clone(&switch.shared);
            // After the call to the memory manager this thread may be on another CPU.
            let room = ThreadRoom::new(kit)?;
            switch.shared.home.store(cpu_number(), Ordering::SeqCst);
            room.start(move || shared.work())?;
            switch.wait_for(number)?;
            if switch.shared.has_partner.load(Ordering::SeqCst) {
                return Ok(Box::new(switch));
            }
        }
        Err(Failed::new("no two threads came to one CPU"))
    }

    /// Waits until so many threads run, without sleeping: that could change the CPU.
    fn wait_for(&self, number: u64) -> Result<(), Failed> {
        for _ in 0..PATIENCE {
            if self.shared.arrived.load(Ordering::SeqCst) >= number {
                return Ok(());
            }
            yield_now();
            core::hint::spin_loop();
        }
        Err(Failed::new("a thread did not start"))
    }
}

impl Benchmark for Switch {
    fn prepare(&mut self, _iterations: u32) -> Result<(), Failed> {
        self.turns_before = self.shared.turns.load(Ordering::Relaxed);
        Ok(())
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            yield_now();
        }
        Ok(())
    }

    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        let turns = self.shared.turns.load(Ordering::Relaxed) - self.turns_before;
        let have_alternated = cpu_number() == self.shared.home.load(Ordering::SeqCst)
            && turns.abs_diff(iterations.into()) <= SLACK;
        Ok(if have_alternated {
            2 * u64::from(iterations)
        } else {
            0
        })
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}
