//! Switches between threads.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bench::{Benchmark, Entry, Plan};
use libsys::thread::yield_now;
use skink_program::Failed;

use super::helpers::start_thread;
use super::kit::Kit;

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

/// Two threads that let each other run. Each repetition is two switches.
struct Switch {
    shared: Arc<Shared>,
    turns_before: u64,
}

#[derive(Default)]
struct Shared {
    turns: AtomicU64,
    is_over: AtomicBool,
}

impl Switch {
    fn make(kit: &Kit) -> Result<Box<dyn Benchmark>, Failed> {
        let switch = Switch {
            shared: Arc::default(),
            turns_before: 0,
        };
        let (machine, _) = kit.system.system_info()?;
        // No other CPU may be free, or the other thread would run there.
        for _ in 1..machine.cpus {
            let shared = Arc::clone(&switch.shared);
            start_thread(kit, move || {
                while !shared.is_over.load(Ordering::Relaxed) {
                    core::hint::spin_loop();
                }
            })?;
        }
        let shared = Arc::clone(&switch.shared);
        start_thread(kit, move || {
            while !shared.is_over.load(Ordering::Relaxed) {
                shared.turns.fetch_add(1, Ordering::Relaxed);
                yield_now();
            }
        })?;
        Ok(Box::new(switch))
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
        let have_alternated = turns.abs_diff(iterations.into()) <= SLACK;
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
