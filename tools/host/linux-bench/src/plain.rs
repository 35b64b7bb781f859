//! System calls that do nothing, and the clock.

use std::arch::asm;
use std::hint::black_box;

use bench::{Benchmark, Plan};
use nix::errno::Errno;
use nix::libc;
use nix::unistd::getppid;
use skink_program::Failed;

use crate::{Entry, failed};

/// A number that no system call has.
const NO_CALL: libc::c_long = 4095;

pub(crate) const BENCHMARKS: &[Entry] = &[
    Entry {
        name: "sys_enosys",
        about: "system call that does not exist",
        plan: Plan::SHORT,
        make: || Ok(Box::new(NoCall)),
    },
    Entry {
        name: "sys_getppid",
        about: "system call that does almost nothing",
        plan: Plan::SHORT,
        make: || Ok(Box::new(ParentId)),
    },
    Entry {
        name: "clock_gettime_vdso",
        about: "the time, without a system call",
        plan: Plan::SHORT,
        make: || Ok(Box::new(Time)),
    },
];

/// A loop around nothing, which costs what the loops of the benchmarks cost.
#[derive(Debug)]
pub(crate) struct EmptyLoop;

impl Benchmark for EmptyLoop {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            // SAFETY: there is no instruction. It only keeps the loop from being left out.
            unsafe { asm!("", options(nomem, nostack, preserves_flags)) };
        }
        Ok(())
    }
}

struct NoCall;

impl Benchmark for NoCall {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            // SAFETY: there is no such call, so it does nothing.
            black_box(unsafe { libc::syscall(NO_CALL) });
        }
        Ok(())
    }
}

struct ParentId;

impl Benchmark for ParentId {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            black_box(getppid());
        }
        Ok(())
    }
}

struct Time;

impl Benchmark for Time {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        for _ in 0..iterations {
            // Called directly: a wrapper would take a quarter more.
            // SAFETY: the place for the time is valid, and written by this call alone.
            let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
            Errno::result(result).map_err(failed("clock_gettime"))?;
            black_box(&time);
        }
        Ok(())
    }
}
