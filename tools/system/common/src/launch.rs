//! Starting other programs from the boot bundle, and waiting for them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;

use libipc::client::{Client, Typed};
use libipc::proto::console::ConsoleClient;
use libipc::proto::init::InitClient;
use libipc::proto::log::LogClient;
use libipc::proto::memory::MemoryManagerClient;
use libipc::proto::pci::PciClient;
use libipc::proto::vfs::VfsClient;
use libipc::spawn::MemoryPager;
use libipc::{Failure, Interface as _};
use libsys::abi::layout::MAPPINGS;
use libsys::abi::{ExitReason, FOREVER, PAGE_SIZE, ProcessInfo, ProcessState};
use libsys::spawn::{Child, Image, Premapped, Spawn};
use libsys::{
    Error, Handle, MapFlags, Memory, Notification, Process, Rights, Sender, System, ipc, time,
};
use skink_manifest::bundle::{Bundle, Kind};

use crate::program::{APPEND, CWD, STDOUT, STDOUT_MODE};
use crate::{Failed, Program};

/// Exit code of a program that was interrupted by a key, as in other shells.
pub const INTERRUPTED: i32 = 130;
/// Exit code of a program that was ended by a fault.
pub const FAULTED: i32 = 139;
/// Exit code of a program that was ended by another.
pub const KILLED: i32 = 137;
/// Exit code for a name that no program has.
pub const NOT_FOUND: i32 = 127;
/// Exit code of a program that could not be started.
pub const NOT_STARTED: i32 = 126;

const CHILD_BIT: u64 = 1;
const INTERRUPT_BIT: u64 = 2;

/// What a sender that a child gets may be used for.
const SENDER_RIGHTS: Rights = Rights(Rights::CALL.0 | Rights::DUPLICATE.0 | Rights::TRANSFER.0);
const BUNDLE_RIGHTS: Rights =
    Rights(Rights::READ.0 | Rights::EXECUTE.0 | Rights::DUPLICATE.0 | Rights::TRANSFER.0);
const SYSTEM_RIGHTS: Rights = Rights(Rights::INSPECT.0 | Rights::DUPLICATE.0 | Rights::TRANSFER.0);

/// What a program gets beside terminal and memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Needs {
    /// The files.
    files: bool,
    /// `init`: control of services and power.
    init: bool,
    /// The logs.
    log: bool,
    /// The machine, for looking.
    system: bool,
    /// The machine, for looking into any process and changing it.
    debug: bool,
    /// The bundle with the images of programs.
    bundle: bool,
    /// Kernel memory to start others.
    launch: bool,
    /// The services that only what tests them calls directly.
    pci: bool,
}

/// Returns what a program gets: the least it needs. Programs that are not named here need files
/// only; those that help when the vfs is away must not wait for it.
fn needs(name: &str, arguments: &[String]) -> Needs {
    let files = Needs {
        files: true,
        init: false,
        log: false,
        system: false,
        debug: false,
        bundle: false,
        launch: false,
        pci: false,
    };
    let none = Needs {
        files: false,
        ..files
    };
    match name {
        "date" | "echo" => none,
        "help" => Needs {
            bundle: true,
            ..none
        },
        "ps" | "free" => Needs {
            system: true,
            ..none
        },
        "svc" => Needs {
            // A swap to an image in a file is the one thing for which it reads files.
            files: matches!(arguments, [first, _, image, ..] if first == "swap" && image.contains('/')),
            init: true,
            log: true,
            system: true,
            ..none
        },
        "shutdown" => Needs {
            init: true,
            ..files
        },
        // The other workloads start nothing; this one is greedy for kernel memory too.
        "siege-load"
            if !matches!(
                arguments.first().map(String::as_str),
                Some("paging" | "hoard")
            ) =>
        {
            files
        }
        "time" | "bench" | "chaos" | "shell" | "siege" | "siege-load" | "system-tests" => Needs {
            files: true,
            init: true,
            log: true,
            system: true,
            debug: !matches!(name, "bench" | "siege-load"),
            bundle: true,
            launch: true,
            pci: name == "siege",
        },
        _ => files,
    }
}

/// Name under which a program finds the memory that it shares with the one that started it.
pub const SHARED: &str = "shared";
const SHARED_RIGHTS: Rights = Rights(Rights::READ.0 | Rights::WRITE.0 | Rights::INSPECT.0);

/// How long to wait for the vfs before a program is started without files, ns.
const VFS_TIMEOUT_NS: u64 = 10_000 * time::MS;

/// Most kernel memory of a program that starts others, bytes: theirs is taken from it.
const LAUNCHER_QUOTA: u64 = 4 << 20;

/// Returns how much kernel memory a child gets that starts others: half of what this program has
/// left, so that its children may do so too.
#[cfg(bare)]
fn launcher_quota() -> u64 {
    let left = libsys::startup::process().info().map_or(0, |info| {
        info.kernel_quota.saturating_sub(info.kernel_bytes)
    });
    (left / 2).clamp(libsys::spawn::DEFAULT_KERNEL_QUOTA, LAUNCHER_QUOTA)
}

/// Returns what a child may get at most: on the host nothing is started.
#[cfg(not(bare))]
fn launcher_quota() -> u64 {
    LAUNCHER_QUOTA
}

/// Where a child's output goes, if not to the terminal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// The file, an absolute path.
    pub path: String,
    /// Whether it is written at the end instead of anew.
    pub is_append: bool,
}

/// What to start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command<'a> {
    /// Name of the program.
    pub name: &'a str,
    /// Its arguments.
    pub arguments: &'a [String],
    /// Its current directory.
    pub cwd: &'a str,
    /// Where its output goes.
    pub output: Option<&'a Redirect>,
}

/// Returns where the output of a program's child goes: where its own goes, which has made the
/// file already.
pub fn inherited_output(program: &Program) -> Option<Redirect> {
    program.startup().variable(STDOUT).map(|path| Redirect {
        path: path.to_string(),
        is_append: true,
    })
}

/// How a child ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit code, or the one that stands for how it ended.
    pub code: i32,
    /// What to tell people when it did not end by itself.
    pub message: Option<String>,
    /// What it did.
    pub info: ProcessInfo,
}

/// Why a child could not be started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LaunchError {
    /// No program has this name.
    NotFound,
    /// It could not be started.
    Failed(Failed),
}

impl LaunchError {
    /// Returns the failure of a program that had to start the one with this name.
    pub fn about(self, name: &str) -> Failed {
        match self {
            LaunchError::NotFound => Failed {
                message: format!("{name}: no such program"),
                code: NOT_FOUND,
            },
            LaunchError::Failed(failed) => Failed {
                code: NOT_STARTED,
                ..failed
            }
            .about(name),
        }
    }
}

impl<E: Into<Failed>> From<E> for LaunchError {
    fn from(error: E) -> Self {
        LaunchError::Failed(error.into())
    }
}

/// Starts programs and waits for them.
#[derive(Debug)]
pub struct Launcher {
    images: &'static [u8],
    bundle: Handle<Memory>,
    memory: MemoryPager,
    console: ConsoleClient,
    vfs: VfsClient,
    init: Option<InitClient>,
    log: Option<LogClient>,
    system: Option<Handle<System>>,
    pci: Option<PciClient>,
    events: Handle<Notification>,
    child_bit: Handle<Notification>,
    has_interrupt_key: Cell<bool>,
}

impl Launcher {
    /// Makes a launcher of what the program was given.
    ///
    /// # Errors
    ///
    /// When the program was not given what is needed to start others.
    pub fn new(program: &Program) -> Result<Self, Failed> {
        let events = Handle::<Notification>::create()?;
        let child_bit = events.mint(CHILD_BIT)?;
        Ok(Launcher {
            images: images(program).ok_or_else(|| Failed::new("no boot bundle was given"))?,
            bundle: program.take("bundle")?,
            memory: MemoryPager::new(program.memory()?),
            console: program.console()?,
            // Not connected here: a shell must come up without the vfs.
            vfs: program.unconnected_vfs()?.with_deadline(VFS_TIMEOUT_NS),
            init: program.take("init").ok().map(InitClient::new_unchecked),
            log: program.take("log").ok().map(LogClient::new_unchecked),
            system: program.take("system").ok(),
            pci: program.take("pci").ok().map(PciClient::new_unchecked),
            events,
            child_bit,
            has_interrupt_key: Cell::new(false),
        })
    }

    /// Returns the names of all programs, sorted.
    pub fn programs(&self) -> Vec<String> {
        programs(self.images)
    }

    /// Has the interrupt key end the child that runs.
    ///
    /// # Errors
    ///
    /// When the console refuses.
    pub fn take_interrupt_key(&self) -> Result<(), Failed> {
        let bit = self.events.mint(INTERRUPT_BIT)?;
        self.console.on_interrupt(&bit)?;
        self.has_interrupt_key.set(true);
        Ok(())
    }

    /// Returns the files, with a deadline for each request.
    pub fn vfs(&self) -> &VfsClient {
        &self.vfs
    }

    /// Returns a client of `init`, if control was given.
    pub fn init(&self) -> Option<InitClient> {
        checked(self.init.as_ref()?, InitClient::client)
    }

    /// Returns a client of the memory manager, for this program's own space.
    pub fn memory(&self) -> &MemoryManagerClient {
        self.memory.client()
    }

    /// Returns a client of the terminal.
    pub fn console(&self) -> &ConsoleClient {
        &self.console
    }

    /// Returns the machine, for looking, if it was given.
    pub fn system(&self) -> Option<&Handle<System>> {
        self.system.as_ref()
    }

    /// Returns a client of the log server, if it was given.
    pub fn log(&self) -> Option<LogClient> {
        checked(self.log.as_ref()?, LogClient::client)
    }

    /// Returns a client of the PCI server, if it was given.
    pub fn pci(&self) -> Option<PciClient> {
        checked(self.pci.as_ref()?, PciClient::client)
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn run(&self, command: &Command<'_>) -> Result<Finished, LaunchError> {
        self.run_with(command, || FOREVER)
    }

    /// Runs a program to its end and calls `tick` meanwhile: at once, and at each time (ns since
    /// boot) that it asks for.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn run_with(
        &self,
        command: &Command<'_>,
        tick: impl FnMut() -> u64,
    ) -> Result<Finished, LaunchError> {
        // A key that was pressed before belongs to no child.
        let _ = ipc::wait(&self.events, 0);
        let child = self.start(command)?;
        let finished = self.wait(command.name, &child.process, tick)?;
        if self.has_interrupt_key.get() && needs(command.name, command.arguments).launch {
            // It may have taken the key for its own children.
            self.take_interrupt_key()?;
        }
        Ok(finished)
    }

    /// Starts a program that shares memory with this one, under the name `shared`, and does not
    /// wait for it. Its kernel memory, so many bytes, is taken from that of this program.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start_sharing(
        &self,
        command: &Command<'_>,
        shared: &Handle<Memory>,
        kernel_quota: u64,
    ) -> Result<Child, LaunchError> {
        self.start_with(command, Some((shared, kernel_quota)))
    }

    /// Waits until a time (ns since boot) or the interrupt key. Returns whether it was the key.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn is_interrupted_until(&self, deadline: u64) -> Result<bool, Failed> {
        loop {
            match ipc::wait(&self.events, deadline) {
                Err(Error::Timeout | Error::WouldBlock) => return Ok(false),
                bits if bits? & INTERRUPT_BIT != 0 => return Ok(true),
                // A child has ended; whoever started it will look.
                _ => {}
            }
        }
    }

    fn start(&self, command: &Command<'_>) -> Result<Child, LaunchError> {
        self.start_with(command, None)
    }

    fn start_with(
        &self,
        command: &Command<'_>,
        shared: Option<(&Handle<Memory>, u64)>,
    ) -> Result<Child, LaunchError> {
        let bundle = Bundle::parse(self.images).map_err(Failed::new)?;
        let entry = bundle
            .find(command.name)
            .filter(|entry| entry.kind == Kind::Program);
        let entry = entry.ok_or(LaunchError::NotFound)?;
        let image = Image {
            bytes: entry.data,
            memory: &self.bundle,
            first_page: (entry.offset / PAGE_SIZE) as u64,
        };
        // The child owns its sessions: they end with it.
        let console = self.console.new_session()?;
        let needs = needs(command.name, command.arguments);
        let vfs = if needs.files || command.output.is_some() {
            self.files_session()?
        } else {
            None
        };
        let mut spawn = Spawn::new(command.name)
            .arguments(command.arguments.iter().cloned())
            .variable(CWD, command.cwd)
            .handle("console", &console, SENDER_RIGHTS)
            .watch(&self.child_bit);
        if let Some(vfs) = &vfs {
            spawn = spawn.handle("vfs", vfs, SENDER_RIGHTS);
        }
        if let Some(redirect) = command.output {
            let mode = if redirect.is_append {
                APPEND
            } else {
                "replace"
            };
            spawn = spawn
                .variable(STDOUT, &redirect.path)
                .variable(STDOUT_MODE, mode);
        }
        spawn = self.give_more(spawn, needs);
        if let Some((shared, quota)) = shared {
            spawn = spawn
                .handle(SHARED, shared, SHARED_RIGHTS)
                .kernel_quota(quota);
        }
        Ok(spawn
            .start_paged(&image, &self.memory)
            .map_err(Failed::new)?)
    }

    /// Makes a session with the vfs; none if it does not answer, so that programs which can help
    /// are not held up.
    fn files_session(&self) -> Result<Option<Handle<Sender>>, Failed> {
        match self.vfs.new_session() {
            Ok(session) => Ok(Some(session)),
            Err(Failure::Ipc(Error::Timeout)) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    fn give_more<'a>(&'a self, mut spawn: Spawn<'a>, needs: Needs) -> Spawn<'a> {
        if needs.init
            && let Some(init) = self.init.as_ref().and_then(|init| init.client().sender())
        {
            spawn = spawn.handle("init", init, SENDER_RIGHTS);
        }
        if needs.log
            && let Some(log) = self.log.as_ref().and_then(|log| log.client().sender())
        {
            spawn = spawn.handle("log", log, SENDER_RIGHTS);
        }
        if needs.system
            && let Some(system) = &self.system
        {
            let debug = match needs.debug {
                true => Rights::DEBUG,
                false => Rights::NONE,
            };
            spawn = spawn.handle("system", system, SYSTEM_RIGHTS | debug);
        }
        if needs.pci
            && let Some(pci) = self.pci.as_ref().and_then(|pci| pci.client().sender())
        {
            spawn = spawn.handle("pci", pci, SENDER_RIGHTS);
        }
        if needs.launch {
            spawn = spawn.kernel_quota(launcher_quota());
        }
        if needs.bundle {
            spawn = spawn
                .handle("bundle", &self.bundle, BUNDLE_RIGHTS)
                .variable("bundle_address", &MAPPINGS.to_string())
                .variable("bundle_bytes", &self.images.len().to_string())
                .map(Premapped {
                    address: MAPPINGS,
                    memory: &self.bundle,
                    first_page: 0,
                    pages: self.images.len().div_ceil(PAGE_SIZE) as u64,
                    flags: MapFlags::READ,
                });
        }
        spawn
    }

    /// Waits until all of the child is gone; ends it at the interrupt key. Its kernel memory comes
    /// back only then, which the next child may need.
    fn wait(
        &self,
        name: &str,
        process: &Handle<Process>,
        mut tick: impl FnMut() -> u64,
    ) -> Result<Finished, Failed> {
        let mut is_interrupted = false;
        let mut deadline = 0;
        loop {
            let info = process.info()?;
            if info.state == ProcessState::Dead as u32 {
                let (code, message) = match ending(name, &info) {
                    (_, Some(_)) if is_interrupted => (INTERRUPTED, None),
                    ending => ending,
                };
                return Ok(Finished {
                    code,
                    message,
                    info,
                });
            }
            let bits = match ipc::wait(&self.events, deadline) {
                Err(Error::Timeout | Error::WouldBlock) => {
                    deadline = tick();
                    continue;
                }
                bits => bits?,
            };
            if bits & INTERRUPT_BIT != 0 {
                is_interrupted = true;
                // It may have ended just now, which is as well.
                let _ = process.kill(INTERRUPTED.cast_unsigned().into());
            }
        }
    }
}

/// Returns a copy of a client if its server speaks the same version of the interface.
fn checked<C: Typed + Clone>(client: &C, plain: fn(&C) -> &Client) -> Option<C> {
    plain(client).handshake(C::Interface::SCHEMA).ok()?;
    Some(client.clone())
}

/// Returns the exit code that stands for how a process ended, and what to tell people.
fn ending(name: &str, info: &ProcessInfo) -> (i32, Option<String>) {
    if info.reason == ExitReason::Exited as u32 {
        return (info.code as i32, None);
    }
    if info.reason == ExitReason::Fault as u32 {
        let message = format!(
            "{name}: ended by {} at {:#x}, address {:#x}",
            exception(info.code),
            info.address,
            info.fault_address
        );
        return (FAULTED, Some(message));
    }
    (
        KILLED,
        Some(format!(
            "{name}: ended by another process (code {})",
            info.code
        )),
    )
}

/// Returns the name of an exception vector (Intel SDM vol. 3A, table 6-1).
fn exception(vector: u64) -> &'static str {
    match vector {
        0 => "a division error",
        3 => "a breakpoint",
        6 => "an invalid instruction",
        12 => "a stack fault",
        13 => "a protection fault",
        14 => "a page fault",
        16 | 19 => "a floating-point error",
        17 => "a misaligned access",
        _ => "an exception",
    }
}

/// Returns the names of all programs in a bundle, sorted.
pub fn programs(images: &[u8]) -> Vec<String> {
    let Ok(bundle) = Bundle::parse(images) else {
        return Vec::new();
    };
    let entries = bundle.entries().filter(|entry| entry.kind == Kind::Program);
    let mut names: Vec<String> = entries.map(|entry| entry.name.to_string()).collect();
    names.sort_unstable();
    names
}

/// Returns the boot bundle, if the program was given it.
#[cfg(bare)]
pub fn images(program: &Program) -> Option<&'static [u8]> {
    libsys::given::bundle(program.startup())
}

/// Returns nothing: on the host there is no bundle.
#[cfg(not(bare))]
pub fn images(_program: &Program) -> Option<&'static [u8]> {
    None
}

#[cfg(test)]
mod tests {
    use super::needs;

    #[test]
    fn programs_get_the_least_they_need() {
        for name in ["ls", "cat", "sha256sum", "unknown"] {
            let needs = needs(name, &[]);
            assert!(needs.files && !needs.init && !needs.log && !needs.system && !needs.launch);
            assert!(!needs.pci);
        }
        assert!(!needs("ps", &[]).init && !needs("svc", &[]).launch);
    }

    #[test]
    fn programs_that_repair_do_not_wait_for_the_vfs() {
        for name in ["svc", "ps", "free", "help"] {
            assert!(!needs(name, &[]).files);
        }
        let files = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|&text| text.into()).collect();
            needs("svc", &arguments).files
        };
        assert!(!files(&["swap", "block", "block-2"]) && !files(&["kill", "a", "b/c"]));
        assert!(files(&["swap", "block", "./block-2"]));
    }
}
