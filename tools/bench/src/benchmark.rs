//! How an operation is measured: batches of it, less the cost of an empty loop.

use alloc::vec::Vec;
use core::convert::Infallible;

use skink_program::Failed;

use crate::Cost;

/// An operation that can be repeated.
///
/// Whoever implements `run` repeats it in a plain `for` loop, so that the empty loop that is
/// taken away is like it.
pub trait Benchmark {
    /// Makes ready what one batch needs, and checks that the operation does what it should. Not
    /// timed.
    ///
    /// # Errors
    ///
    /// Why it cannot be measured.
    fn prepare(&mut self, _iterations: u32) -> Result<(), Failed> {
        Ok(())
    }

    /// Runs the operation so many times. Timed. A batch may come in several parts, which
    /// together repeat the operation as often as `prepare` was told.
    ///
    /// # Errors
    ///
    /// Why it failed.
    fn run(&mut self, iterations: u32) -> Result<(), Failed>;

    /// Returns the ticks of the last `run` in which it waited for the right moment, which are no part
    /// of the operation, and forgets them.
    fn take_pauses(&mut self) -> u64 {
        0
    }

    /// Cleans up after a batch and returns how many operations it was; 0 if the batch went
    /// otherwise than intended and must not count. Not timed.
    ///
    /// # Errors
    ///
    /// Why the batch was no measurement at all.
    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        Ok(iterations.into())
    }
}

/// How often an operation is repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Repetitions in a batch.
    pub iterations: u32,
    /// Batches that are timed; one before them warms caches up and brings pages.
    pub batches: u32,
}

impl Plan {
    /// For operations of less than a few thousand instructions.
    pub const SHORT: Plan = Plan {
        iterations: 1000,
        batches: 15,
    };
}

/// What was measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Ticks per operation of the best batch: the one that nothing disturbed.
    pub min: Cost,
    /// Ticks per operation of the batch in the middle.
    pub median: Cost,
    /// Ticks of an operation, timed by itself, that 99 of 100 do not exceed.
    pub p99: Cost,
    /// Batches that counted.
    pub batches: u32,
    /// Operations in all of them.
    pub operations: u64,
}

/// Measures a benchmark. `empty` is a loop around nothing, `clock` reads the ticks.
///
/// # Errors
///
/// What the benchmark fails with, or that most of its batches did not count.
pub fn measure(
    benchmark: &mut dyn Benchmark,
    empty: &mut dyn Benchmark,
    plan: Plan,
    clock: &dyn Fn() -> u64,
) -> Result<Summary, Failed> {
    let loops = batches(empty, plan, clock)?;
    let overhead = loops.iter().map(|batch| batch.ticks).min().unwrap_or(0);
    let batches = batches(benchmark, plan, clock)?;
    let mut costs: Vec<Cost> = batches
        .iter()
        .filter(|batch| batch.operations > 0)
        .map(|batch| Cost::per_operation(batch.ticks.saturating_sub(overhead), batch.operations))
        .collect();
    if costs.is_empty() || costs.len() * 2 < batches.len() {
        return Err(Failed::new(
            "most batches were disturbed; try again with one CPU",
        ));
    }
    costs.sort_unstable();
    Ok(Summary {
        min: costs[0],
        median: costs[costs.len() / 2],
        p99: p99(benchmark, empty, plan, clock)?,
        batches: costs.len() as u32,
        operations: batches.iter().map(|batch| batch.operations).sum(),
    })
}

/// How often operations are timed one by one before giving up.
const SINGLE_ATTEMPTS: usize = 5;

/// Times operations one by one, and takes away what an empty loop of one turn costs.
fn p99(
    benchmark: &mut dyn Benchmark,
    empty: &mut dyn Benchmark,
    plan: Plan,
    clock: &dyn Fn() -> u64,
) -> Result<Cost, Failed> {
    let (loops, _) = singles(empty, plan, clock)?;
    let overhead = loops.get(loops.len() / 2).copied().unwrap_or(0);
    for _ in 0..SINGLE_ATTEMPTS {
        let (ticks, operations) = singles(benchmark, plan, clock)?;
        if operations > 0 {
            let worst = ticks.get(ticks.len() * 99 / 100).copied().unwrap_or(0);
            let ticks = worst.saturating_sub(overhead) * u64::from(plan.iterations);
            return Ok(Cost::per_operation(ticks, operations));
        }
    }
    Err(Failed::new(
        "single operations were disturbed; try again with one CPU",
    ))
}

/// Returns the sorted ticks of single repetitions, and how many operations all of them were.
fn singles(
    benchmark: &mut dyn Benchmark,
    plan: Plan,
    clock: &dyn Fn() -> u64,
) -> Result<(Vec<u64>, u64), Failed> {
    let mut singles = Vec::with_capacity(plan.iterations as usize);
    benchmark.prepare(plan.iterations)?;
    for _ in 0..plan.iterations {
        let start = clock();
        let result = benchmark.run(1);
        let ticks = clock().wrapping_sub(start);
        result?;
        let ticks = ticks.saturating_sub(benchmark.take_pauses());
        singles.push(ticks);
    }
    let operations = benchmark.finish(plan.iterations)?;
    singles.sort_unstable();
    Ok((singles, operations))
}

/// Repeats a benchmark until it fails, batch by batch as [`measure`] does. After the first batch,
/// which warms up, it tells `start` how many operations a batch is.
///
/// # Errors
///
/// What the benchmark or `start` fails with. There is no other end.
pub fn repeat(
    benchmark: &mut dyn Benchmark,
    plan: Plan,
    start: impl FnOnce(u64) -> Result<(), Failed>,
) -> Result<Infallible, Failed> {
    let mut batch = || {
        benchmark.prepare(plan.iterations)?;
        benchmark.run(plan.iterations)?;
        benchmark.finish(plan.iterations)
    };
    start(batch()?)?;
    loop {
        batch()?;
    }
}

struct Batch {
    ticks: u64,
    operations: u64,
}

fn batches(
    benchmark: &mut dyn Benchmark,
    plan: Plan,
    clock: &dyn Fn() -> u64,
) -> Result<Vec<Batch>, Failed> {
    let mut batches = Vec::with_capacity(plan.batches as usize);
    for number in 0..=plan.batches {
        benchmark.prepare(plan.iterations)?;
        let start = clock();
        let result = benchmark.run(plan.iterations);
        let ticks = clock().wrapping_sub(start);
        result?;
        let ticks = ticks.saturating_sub(benchmark.take_pauses());
        let operations = benchmark.finish(plan.iterations)?;
        if number > 0 {
            batches.push(Batch { ticks, operations });
        }
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::{Benchmark, Plan, measure, repeat};
    use skink_program::Failed;

    const PLAN: Plan = Plan {
        iterations: 100,
        batches: 5,
    };

    /// Takes so many ticks per repetition; each batch is disturbed less than the one before.
    struct Fake {
        time: Rc<Cell<u64>>,
        /// Ticks of a pause in each run.
        pause: u64,
        per_iteration: u64,
        disturbance: u64,
        operations: u64,
    }

    impl Benchmark for Fake {
        fn run(&mut self, iterations: u32) -> Result<(), Failed> {
            let ticks = self.per_iteration * u64::from(iterations) + self.disturbance + self.pause;
            self.time.set(self.time.get() + ticks);
            self.disturbance /= 2;
            Ok(())
        }

        fn take_pauses(&mut self) -> u64 {
            self.pause
        }

        fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
            Ok(self.operations * u64::from(iterations))
        }
    }

    fn measured(per_iteration: u64, operations: u64) -> Result<super::Summary, Failed> {
        let time = Rc::new(Cell::new(0));
        let fake = |per_iteration, disturbance, operations| Fake {
            time: Rc::clone(&time),
            pause: 7000,
            per_iteration,
            disturbance,
            operations,
        };
        let (mut benchmark, mut empty) = (fake(per_iteration, 3200, operations), fake(3, 16, 1));
        let clock = || {
            // Reading the clock takes time too.
            time.set(time.get() + 20);
            time.get()
        };
        measure(&mut benchmark, &mut empty, PLAN, &clock)
    }

    #[test]
    fn loop_and_clock_are_taken_away() {
        let summary = measured(53, 1).unwrap();
        // The best batch was disturbed by 100 ticks: 1 per operation.
        assert_eq!(summary.min.thousandths(), 51_000);
        assert_eq!(summary.median.thousandths(), 54_000);
        assert_eq!((summary.batches, summary.operations), (5, 500));
    }

    #[test]
    fn single_operations_show_what_is_rare() {
        // The disturbance has worn off when they are timed, but for its last few halves.
        assert_eq!(measured(53, 1).unwrap().p99.thousandths(), 100_000);
        assert_eq!(measured(53, 2).unwrap().p99.thousandths(), 50_000);
    }

    #[test]
    fn a_repetition_may_be_several_operations() {
        assert_eq!(measured(53, 2).unwrap().min.thousandths(), 25_500);
    }

    #[test]
    fn batches_that_do_not_count_are_no_measurement() {
        assert!(measured(53, 0).is_err());
    }

    #[test]
    fn what_is_cheaper_than_the_empty_loop_costs_nothing() {
        let summary = measured(0, 1).unwrap();
        assert_eq!(summary.min.thousandths(), 0);
    }

    #[test]
    fn repeating_warms_up_then_says_so_and_ends_by_failing_only() {
        struct Fails(u32);
        impl Benchmark for Fails {
            fn run(&mut self, iterations: u32) -> Result<(), Failed> {
                assert_eq!(iterations, PLAN.iterations);
                let rest = self.0.checked_sub(1);
                self.0 = rest.ok_or_else(|| Failed::new("over"))?;
                Ok(())
            }
        }
        let told = Cell::new(None);
        let start = |operations| {
            told.set(Some(operations));
            Ok(())
        };
        assert_eq!(
            repeat(&mut Fails(3), PLAN, start).unwrap_err().message,
            "over"
        );
        assert_eq!(told.take(), Some(100));
        assert!(repeat(&mut Fails(0), PLAN, start).is_err());
        assert_eq!(told.take(), None);
    }
}
