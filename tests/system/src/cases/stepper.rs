//! A child whose instructions can be counted and watched.

use alloc::string::String;

use libsys::abi::{ExitReason, MapFlags, ProcessInfo};
use libsys::mappings::Mapping;
use libsys::{Handle, Memory, Notification, Process, Rights, ipc, time};

use crate::context::{Context, SOON, because, ending, ensure};
use crate::wire;

/// A child in the role `stepper`, whose threads wait.
pub(super) struct Stepper<'a> {
    context: &'a Context,
    pub(super) process: Handle<Process>,
    counts: Mapping,
    go: [Handle<Notification>; 2],
}

impl<'a> Stepper<'a> {
    /// Starts one.
    pub(super) fn start(context: &'a Context) -> Result<Self, String> {
        Stepper::in_role(context, "stepper", 2)
    }

    /// Starts a child in the role `leaper`, whose thread waits, and goes to where there is nothing.
    pub(super) fn leaper(context: &'a Context) -> Result<Self, String> {
        Stepper::in_role(context, "leaper", 1)
    }

    fn in_role(context: &'a Context, role: &str, threads: u16) -> Result<Self, String> {
        let memory: Handle<Memory> = wire::object(context, 1)?;
        let go = || Handle::<Notification>::create().map_err(because("notification"));
        let go = [go()?, go()?];
        let spawn = context.role(role, &[]);
        let spawn = spawn.handle("counts", &memory, Rights::ALL);
        let spawn = spawn.handle("go0", &go[0], Rights::ALL);
        let spawn = spawn.handle("go1", &go[1], Rights::ALL);
        let process = context.child(spawn)?.process;
        let flags = MapFlags::READ | MapFlags::WRITE;
        let counts = Mapping::map(&memory, flags).map_err(because("map"))?;
        let stepper = Stepper {
            context,
            process,
            counts,
            go,
        };
        // One that did not wait yet would count the way there as well.
        stepper.until("waiting", |info| info.receiving + info.waiting == threads)?;
        Ok(stepper)
    }

    /// Has it end after so many instructions; see [`libsys::Handle::<libsys::System>::end_after`].
    pub(super) fn end_after(&self, steps: u64) -> Result<u64, String> {
        let armed = self.context.system().end_after(&self.process, steps);
        armed.map_err(because("end after"))
    }

    /// Lets a thread count.
    pub(super) fn go(&self, thread: usize) -> Result<(), String> {
        ipc::notify(&self.go[thread]).map_err(because("notify"))
    }

    /// Returns how often a thread counted.
    pub(super) fn count(&self, thread: usize) -> Result<u64, String> {
        self.word(thread)
    }

    /// Returns where in its space the instruction is with which a thread counts.
    pub(super) fn instruction(&self, thread: usize) -> Result<u64, String> {
        self.word(2 + thread)
    }

    /// Returns where in its space the word is in which the first thread counts.
    pub(super) fn counted_word(&self) -> Result<u64, String> {
        self.word(4)
    }

    fn word(&self, index: usize) -> Result<u64, String> {
        let word = self.counts.atomic_u64(index * 8);
        let word = word.map_err(because("word of the stepper"))?;
        Ok(word.load(core::sync::atomic::Ordering::SeqCst))
    }

    fn until(&self, what: &str, holds: impl Fn(&ProcessInfo) -> bool) -> Result<(), String> {
        let deadline = time::after(SOON);
        loop {
            let info = self.process.info().map_err(because("info"))?;
            if holds(&info) {
                return Ok(());
            }
            ensure!(time::now() < deadline, "not {what} in time: {info:?}");
            time::sleep(time::MS);
        }
    }

    /// Waits until it has ended, and returns how.
    pub(super) fn ended(&self) -> Result<ProcessInfo, String> {
        self.until("gone", |info| info.state == 2)?;
        self.process.info().map_err(because("info"))
    }

    /// Waits until it has ended, as it should.
    pub(super) fn end(&self) -> Result<(), String> {
        let end = self.ended()?;
        let is_killed = end.reason == ExitReason::Killed as u32 && end.code == 0;
        ensure!(is_killed, "it ended by {}", ending(&end));
        Ok(())
    }
}

impl Drop for Stepper<'_> {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill(0);
    }
}
