//! What tests have to work with: children, memory, time.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt::Display;

use libipc::proto::init::InitClient;
use libipc::proto::log::LogClient;
use libipc::proto::memory::{MemoryManagerClient, MemoryTotals};
use libipc::proto::vfs::VfsClient;
use libipc::spawn::MemoryPager;
use libsys::abi::{ExitReason, KernelStats, PAGE_SIZE, ProcessInfo, ProcessState};
use libsys::spawn::{Child, Image, Spawn};
use libsys::{Handle, Memory, Process, Sender, System, time};
use skink_manifest::bundle::Bundle;
use skink_program::{Failed, Program};

use crate::CHILD;

/// Fails the test unless something holds, with the reason as in `format!`.
macro_rules! ensure {
    ($condition:expr, $($reason:tt)+) => {
        if !$condition {
            return Err(alloc::format!($($reason)+));
        }
    };
}
pub(crate) use ensure;

/// Longest time that a child may take for something short: only there to end a hang, so it is ample
/// for an emulated machine on a busy host.
pub(crate) const SOON: u64 = 60_000 * time::MS;
/// How often the state of a child is looked at, ns.
const LOOK: u64 = time::MS;
/// Exit code that is told to children that are ended because their test is over.
const TEST_OVER: u64 = 125;

/// What tests have to work with.
pub(crate) struct Context {
    images: &'static [u8],
    image: &'static [u8],
    image_page: u64,
    bundle: Handle<Memory>,
    memory: MemoryManagerClient,
    pager: MemoryPager,
    system: Handle<System>,
    init: InitClient,
    log: LogClient,
    vfs: VfsClient,
    notes: RefCell<Vec<String>>,
}

impl Context {
    /// Takes what the program was given.
    pub(crate) fn new(program: &Program) -> Result<Self, Failed> {
        let images = skink_program::launch::images(program)
            .ok_or_else(|| Failed::new("no boot bundle was given"))?;
        let bundle = Bundle::parse(images).map_err(Failed::new)?;
        let entry = bundle
            .find(program.name())
            .ok_or_else(|| Failed::new("this program is not in the bundle under its name"))?;
        let memory = program.memory()?;
        Ok(Context {
            images,
            image: entry.data,
            image_page: (entry.offset / PAGE_SIZE) as u64,
            bundle: program.take("bundle")?,
            pager: MemoryPager::new(memory.clone()),
            memory,
            system: program.system()?,
            init: program.init()?,
            log: program.log()?,
            vfs: program.vfs()?,
            notes: RefCell::default(),
        })
    }

    /// Describes a child with a role and arguments.
    pub(crate) fn role(&self, role: &str, arguments: &[u64]) -> Spawn<'_> {
        let arguments = arguments.iter().map(u64::to_string);
        Spawn::new(&format!("test-{role}"))
            .arguments([CHILD.to_string(), role.to_string()])
            .arguments(arguments)
    }

    /// Starts a child. It is ended when it is dropped.
    pub(crate) fn start(&self, spawn: Spawn<'_>) -> Result<Running, String> {
        Ok(self.child(spawn)?.process.into())
    }

    /// Starts a child that goes on when what is returned is dropped.
    pub(crate) fn child(&self, spawn: Spawn<'_>) -> Result<Child, String> {
        let image = Image {
            bytes: self.image,
            memory: &self.bundle,
            first_page: self.image_page,
        };
        spawn
            .start_paged(&image, &self.pager)
            .map_err(because("child not started"))
    }

    /// Starts a child with a role and waits for its end.
    pub(crate) fn run(&self, role: &str, arguments: &[u64]) -> Result<ProcessInfo, String> {
        self.start(self.role(role, arguments))?.end()
    }

    /// Returns an image of the boot bundle.
    pub(crate) fn find_image(&self, name: &str) -> Result<&'static [u8], String> {
        let bundle = Bundle::parse(self.images).map_err(because("no boot bundle"))?;
        let entry = bundle.find(name);
        entry
            .map(|entry| entry.data)
            .ok_or_else(|| format!("no image {name}"))
    }

    /// Returns the memory manager, for this program's own space.
    pub(crate) fn memory(&self) -> &MemoryManagerClient {
        &self.memory
    }

    /// Returns the machine.
    pub(crate) fn system(&self) -> &Handle<System> {
        &self.system
    }

    /// Returns `init`.
    pub(crate) fn init(&self) -> &InitClient {
        &self.init
    }

    /// Returns the log server.
    pub(crate) fn log(&self) -> &LogClient {
        &self.log
    }

    /// Returns the vfs.
    pub(crate) fn vfs(&self) -> &VfsClient {
        &self.vfs
    }

    /// Returns the number of CPUs.
    pub(crate) fn cpus(&self) -> Result<u64, String> {
        let info = self.system.system_info().map_err(because("no machine"))?;
        Ok(info.0.cpus)
    }

    /// Returns what the kernel counted.
    pub(crate) fn kernel_stats(&self) -> Result<KernelStats, String> {
        let info = self.system.system_info().map_err(because("no machine"))?;
        Ok(info.1)
    }

    /// Returns what memory is used for.
    pub(crate) fn totals(&self) -> Result<MemoryTotals, String> {
        self.memory.totals().map_err(because("no totals"))
    }

    /// Adds a line that is printed with the result.
    pub(crate) fn note(&self, note: String) {
        self.notes.borrow_mut().push(note);
    }

    /// Takes the notes of the test that has just run.
    pub(crate) fn take_notes(&self) -> Vec<String> {
        self.notes.take()
    }
}

/// A child that was started.
pub(crate) struct Running {
    process: Handle<Process>,
}

impl From<Handle<Process>> for Running {
    fn from(process: Handle<Process>) -> Self {
        Running { process }
    }
}

impl Running {
    /// Returns what it is doing.
    pub(crate) fn info(&self) -> Result<ProcessInfo, String> {
        self.process
            .info()
            .map_err(because("no information about a child"))
    }

    /// Waits until something holds for it.
    pub(crate) fn until(
        &self,
        what: &str,
        holds: impl Fn(&ProcessInfo) -> bool,
    ) -> Result<ProcessInfo, String> {
        let deadline = time::after(SOON);
        loop {
            let info = self.info()?;
            if holds(&info) {
                return Ok(info);
            }
            ensure!(time::now() < deadline, "child not {what} in time: {info:?}");
            time::sleep(LOOK);
        }
    }

    /// Waits until all of it is gone and returns why it ended.
    pub(crate) fn end(&self) -> Result<ProcessInfo, String> {
        self.until("gone", |info| info.state == ProcessState::Dead as u32)
    }

    /// Waits until it has ended by itself with exit code 0.
    pub(crate) fn succeed(&self) -> Result<(), String> {
        expect_exit(&self.end()?, 0)
    }

    /// Has its page faults sent here from now on. What it has touched before stays mapped.
    pub(crate) fn set_pager(&self, pager: &Handle<Sender>) -> Result<(), String> {
        self.process.set_pager(pager).map_err(because("no pager"))
    }

    /// Ends it and waits until all of it is gone.
    pub(crate) fn kill(&self) -> Result<ProcessInfo, String> {
        self.process
            .kill(TEST_OVER)
            .map_err(because("child not ended"))?;
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.process.kill(TEST_OVER);
    }
}

/// Returns what this program itself is and has.
#[cfg(bare)]
pub(crate) fn own() -> Result<ProcessInfo, String> {
    libsys::startup::process()
        .info()
        .map_err(because("no information about this program"))
}

/// Fails: on the host the kernel is another one.
#[cfg(not(bare))]
pub(crate) fn own() -> Result<ProcessInfo, String> {
    Err("not in the system".into())
}

/// Checks that a process ended by itself with this exit code.
pub(crate) fn expect_exit(info: &ProcessInfo, code: u64) -> Result<(), String> {
    let is_exit = info.reason == ExitReason::Exited as u32 && info.code == code;
    ensure!(is_exit, "expected exit code {code}, got {}", ending(info));
    Ok(())
}

/// Checks that a process was ended by this exception.
pub(crate) fn expect_fault(info: &ProcessInfo, vector: u64) -> Result<(), String> {
    let is_fault = info.reason == ExitReason::Fault as u32 && info.code == vector;
    ensure!(
        is_fault,
        "expected exception {vector}, got {}",
        ending(info)
    );
    Ok(())
}

/// Tells how a process ended.
pub(crate) fn ending(info: &ProcessInfo) -> String {
    match info.reason {
        reason if reason == ExitReason::Exited as u32 => format!("exit code {}", info.code),
        reason if reason == ExitReason::Killed as u32 => format!("kill with code {}", info.code),
        reason if reason == ExitReason::Fault as u32 => format!(
            "exception {} at {:#x}, address {:#x}",
            info.code, info.address, info.fault_address
        ),
        _ => "no end".into(),
    }
}

/// Makes an error into a reason for failing.
pub(crate) fn because<E: Display>(what: &str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}
