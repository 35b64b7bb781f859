//! Switches between threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use bench::{Benchmark, Plan};
use nix::errno::Errno;
use nix::libc;
use nix::sched::sched_yield;
use skink_program::Failed;

use crate::{Entry, failed};

/// Turns that the other thread may be ahead or behind after a batch in which the threads
/// alternated.
const SLACK: u64 = 8;
/// The lowest real-time priority.
const FIFO_PRIORITY: libc::c_int = 1;

pub(crate) const BENCHMARKS: &[Entry] = &[Entry {
    name: "ctx_thread_yield",
    about: "switch between two real-time threads of a process that yield",
    plan: Plan::SHORT,
    make: || Ok(Box::new(Switch::start()?)),
}];

/// Two threads that let each other run. Each repetition is two switches.
struct Switch {
    shared: Arc<Shared>,
    turns_before: u64,
    other: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    turns: AtomicU64,
    is_over: AtomicBool,
}

impl Switch {
    fn start() -> Result<Self, Failed> {
        // The new thread inherits it.
        set_policy(libc::SCHED_FIFO, FIFO_PRIORITY)?;
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let other = thread::spawn(move || {
            while !theirs.is_over.load(Ordering::Relaxed) {
                theirs.turns.fetch_add(1, Ordering::Relaxed);
                yield_now();
            }
        });
        Ok(Switch {
            shared,
            turns_before: 0,
            other: Some(other),
        })
    }
}

/// Sets how this thread is scheduled. With the usual policy threads that yield do not alternate
/// strictly, and a switch takes some 400 instructions more.
fn set_policy(policy: libc::c_int, priority: libc::c_int) -> Result<(), Failed> {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the parameters are only read, during the call.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    Errno::result(result)
        .map(drop)
        .map_err(failed("sched_setscheduler"))
}

fn yield_now() {
    // It always succeeds (sched_yield(2)).
    let _ = sched_yield();
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
        if let Some(other) = self.other.take() {
            // It ends at its next turn, and cannot panic.
            let _ = other.join();
        }
        // This was possible before, so it is again.
        let _ = set_policy(libc::SCHED_OTHER, 0);
    }
}
