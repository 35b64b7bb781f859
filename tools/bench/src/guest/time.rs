//! Reading the clock.

use alloc::boxed::Box;
use core::hint::black_box;

use bench::{Benchmark, Entry, Plan};
use libsys::time;
use skink_program::Failed;

use super::kit::Kit;

/// The benchmarks.
pub(crate) static BENCHMARKS: &[Entry<Kit>] = &[Entry {
    name: "time.page",
    about: "reading the time since boot from the time page",
    plan: Plan::SHORT,
    make: |_kit| Ok(Box::new(Now)),
}];

/// How far the page may be from the kernel's clock, beyond the time between reading them.
const SLACK_NS: u64 = 1_000;

struct Now;

impl Benchmark for Now {
    fn prepare(&mut self, _iterations: u32) -> Result<(), Failed> {
        let before = time::clock();
        let now = time::now();
        let after = time::clock();
        let is_between = now + SLACK_NS >= before && now <= after + SLACK_NS;
        if is_between {
            Ok(())
        } else {
            Err(Failed::new(format_args!(
                "the page says {now} ns, the kernel {before} and then {after}"
            )))
        }
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            black_box(time::now());
        }
        Ok(())
    }
}
