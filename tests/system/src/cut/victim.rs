//! A server that is ended.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use libipc::proto::init::{ServiceInfo, ServiceState};
use libsys::abi::ProcessState;
use libsys::{Error, Handle, Process, time};

use crate::context::{Context, SOON, because, ensure};

/// How often a service is looked at, ns.
const LOOK: u64 = time::MS / 4;
/// How long a server may take to come to rest after it has answered, ns.
const REST: u64 = 20 * time::MS;
/// Ends of a server until it is left alone for [`QUIET`] ns: the kernel gives `init` up when it ends
/// nine times in a row within 125 ms of its start.
const ENDS_IN_ROW: u32 = 6;
const QUIET: u64 = 130 * time::MS;

/// A server that is ended.
pub(super) struct Victim<'a> {
    context: &'a Context,
    name: &'static str,
    process: RefCell<Option<(u64, Handle<Process>)>>,
    ends: Cell<u32>,
}

impl<'a> Victim<'a> {
    /// Looks a server up.
    pub(super) fn new(context: &'a Context, name: &'static str) -> Result<Self, String> {
        service(context, name)?;
        Ok(Victim {
            context,
            name,
            process: RefCell::default(),
            ends: Cell::new(0),
        })
    }

    /// Returns its name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the number of its instance, which lives.
    pub(super) fn instance(&self) -> Result<u64, String> {
        Ok(service(self.context, self.name)?.generation)
    }

    /// Returns how often it was ended by others, and how often it ended for other reasons.
    pub(super) fn deaths(&self) -> Result<(u64, u64), String> {
        let statistics = self.context.init().statistics(self.name);
        let statistics = statistics.map_err(because("statistics"))?;
        let other = [
            statistics.exited,
            statistics.faulted,
            statistics.hung,
            statistics.not_started,
        ];
        Ok((statistics.killed.into(), other.iter().sum::<u32>().into()))
    }

    /// Has its present instance end after so many instructions.
    pub(super) fn end_after(&self, instructions: u64) -> Result<(), String> {
        let number = service(self.context, self.name)?.process;
        let system = self.context.system();
        let mut process = self.process.borrow_mut();
        if process.as_ref().is_none_or(|(known, _)| *known != number) {
            let opened = system.open_process(number).map_err(because("open"))?;
            *process = Some((number, opened));
        }
        let (_, process) = process.as_ref().ok_or("no process")?;
        let armed = system.end_after(process, instructions);
        armed.map(drop).map_err(because("end after"))
    }

    /// Lets it finish what it does after its answer, and has it go on for ever. Returns how many
    /// instructions were left, or nothing if it has ended.
    pub(super) fn rest(&self) -> Result<Option<u64>, String> {
        let process = self.process.borrow();
        let (_, process) = process.as_ref().ok_or("no process")?;
        let deadline = time::after(REST);
        loop {
            let info = process.info().map_err(because("info"))?;
            let is_alive = info.state == ProcessState::Alive as u32;
            if !is_alive || info.receiving + info.waiting == 1 || time::now() > deadline {
                break;
            }
            time::sleep(LOOK);
        }
        match self.context.system().end_after(process, 0) {
            // It is dead, or it was and lives again.
            Err(Error::Dead) | Ok(0) => Ok(None),
            Ok(left) => Ok(Some(left)),
            Err(error) => Err(format!("end after: {error}")),
        }
    }

    /// Waits until another instance runs.
    pub(super) fn wait_for_next(&self, instance: u64) -> Result<(), String> {
        let deadline = time::after(SOON);
        loop {
            let service = service(self.context, self.name)?;
            if service.generation > instance && service.state == ServiceState::Running {
                self.ends.set(self.ends.get() + 1);
                if self.ends.get().is_multiple_of(ENDS_IN_ROW) {
                    time::sleep(QUIET);
                }
                return Ok(());
            }
            ensure!(
                time::now() < deadline,
                "{} is {:?} after instance {instance}",
                self.name,
                service.state
            );
            time::sleep(LOOK);
        }
    }
}

/// Tells about a service.
pub(super) fn service(context: &Context, name: &str) -> Result<ServiceInfo, String> {
    for service in context.init().services() {
        let service = service.map_err(because("services"))?;
        if service.name == name {
            return Ok(service);
        }
    }
    Err(format!("there is no {name}"))
}

/// Waits until all services run.
pub(super) fn wait_for_all(context: &Context) -> Result<(), String> {
    let deadline = time::after(SOON);
    loop {
        let services = context.init().services().collect::<Result<Vec<_>, _>>();
        let services = services.map_err(because("services"))?;
        let is_running = |service: &ServiceInfo| service.state == ServiceState::Running;
        let Some(away) = services.iter().find(|service| !is_running(service)) else {
            return Ok(());
        };
        ensure!(time::now() < deadline, "{} is {:?}", away.name, away.state);
        time::sleep(LOOK);
    }
}
