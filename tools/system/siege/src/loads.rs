//! The workloads: started, watched, stopped.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use chaos::Random;
use libsys::abi::{ExitReason, ProcessState};
use libsys::mappings::Mapping;
use libsys::spawn::{Child, DEFAULT_KERNEL_QUOTA};
use libsys::{Handle, MapFlags, Memory, time};
use siege::tally::Phase;
use siege::{Counts, Load, Tally};
use skink_program::Failed;
use skink_program::launch::{Command, Launcher};

/// The program of all workloads.
pub(crate) const PROGRAM: &str = "siege-load";
/// How long a workload may take to prepare, and to end, ns.
const PATIENCE_NS: u64 = 60_000 * time::MS;
/// Kernel memory of the workload that starts programs, bytes.
const STARTING_QUOTA: u64 = 640 << 10;
/// How often it is looked at meanwhile, ns.
const LOOK_NS: u64 = time::MS;

/// A workload that runs.
struct Running {
    load: Load,
    child: Child,
    mapping: Mapping,
    // The memory lives as long as somebody has it mapped; the handle is kept for the child.
    _memory: Handle<Memory>,
}

/// What came of a workload.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) load: Load,
    pub(crate) counts: Counts,
    /// The first thing that went wrong; empty if nothing did.
    pub(crate) complaint: String,
}

/// The workloads that run. They are ended when this is dropped.
pub(crate) struct Loads(Vec<Running>);

impl Loads {
    /// Starts workloads, one after the other, and waits until each works. The one that keeps
    /// files open keeps `open`.
    ///
    /// # Errors
    ///
    /// When one cannot be started or ends before it has begun.
    pub(crate) fn start(
        launcher: &Launcher,
        loads: &[Load],
        open: u32,
        seed: u64,
    ) -> Result<Self, Failed> {
        let mut random = Random::new(seed);
        let mut running = Loads(Vec::new());
        for &load in loads {
            let one = Running::start(launcher, load, open, random.number())?;
            let end = time::after(PATIENCE_NS);
            running.0.push(one);
            let Some(one) = running.0.last() else {
                continue;
            };
            while one.tally()?.phase() == Phase::Preparing {
                if one.has_ended()? {
                    return Err(Failed::new("the workload ended").about(load.name()));
                }
                if time::now() > end {
                    return Err(Failed::new("the workload does not begin").about(load.name()));
                }
                time::sleep(LOOK_NS);
            }
        }
        Ok(running)
    }

    /// Returns what all workloads together have counted so far.
    ///
    /// # Errors
    ///
    /// Never in practice: the memory is large enough.
    pub(crate) fn counts(&self) -> Result<Counts, Failed> {
        let mut sum = Counts::default();
        for one in &self.0 {
            sum.add(&one.tally()?.counts());
        }
        Ok(sum)
    }

    /// Asks all workloads to end, waits for it, and returns what came of them.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to tell.
    pub(crate) fn stop(&self) -> Result<Vec<Report>, Failed> {
        for one in &self.0 {
            one.tally()?.stop();
        }
        let end = time::after(PATIENCE_NS);
        self.0.iter().map(|one| one.report(end)).collect()
    }
}

impl Drop for Loads {
    fn drop(&mut self) {
        for one in &self.0 {
            // Most have ended by themselves.
            let _ = one.child.process.kill(0);
        }
    }
}

impl Running {
    fn start(launcher: &Launcher, load: Load, open: u32, seed: u64) -> Result<Self, Failed> {
        let memory = launcher.memory().create_object(1)?;
        let mapping = Mapping::map(&memory, MapFlags::READ | MapFlags::WRITE)?;
        let mut arguments = alloc::vec![load.name().to_string(), seed.to_string()];
        if load == Load::Crowd {
            arguments.push(open.to_string());
        }
        let command = Command {
            name: PROGRAM,
            arguments: &arguments,
            cwd: "/",
            output: None,
        };
        let quota = if load == Load::Paging {
            STARTING_QUOTA
        } else {
            DEFAULT_KERNEL_QUOTA
        };
        let child = launcher
            .start_sharing(&command, &memory, quota)
            .map_err(|error| error.about(load.name()))?;
        Ok(Running {
            load,
            child,
            mapping,
            _memory: memory,
        })
    }

    fn tally(&self) -> Result<Tally<'_>, Failed> {
        Tally::new(self.mapping.atomic_words())
            .ok_or_else(|| Failed::new("too little memory to count in"))
    }

    fn has_ended(&self) -> Result<bool, Failed> {
        Ok(self.child.process.info()?.state == ProcessState::Dead as u32)
    }

    /// Waits until it has ended, at most until `end`. One that does not end, or not as it should,
    /// has an error more.
    fn report(&self, end: u64) -> Result<Report, Failed> {
        let tally = self.tally()?;
        while !self.has_ended()? && time::now() < end {
            time::sleep(LOOK_NS);
        }
        let info = self.child.process.info()?;
        let mut report = Report {
            load: self.load,
            counts: tally.counts(),
            complaint: tally.complaint(),
        };
        let has_exited = info.state == ProcessState::Dead as u32
            && info.reason == ExitReason::Exited as u32
            && info.code == 0;
        if !has_exited || tally.phase() != Phase::Done {
            report.counts.client_errors += 1;
            let how = alloc::format!(
                "ended with reason {}, code {}, address {:#x}",
                info.reason,
                info.code,
                info.fault_address
            );
            let how = if info.state == ProcessState::Dead as u32 {
                how
            } else {
                "does not end".to_string()
            };
            report.complaint = [report.complaint, how].join("; ");
        }
        Ok(report)
    }
}
