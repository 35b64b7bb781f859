//! The processes of services, and what is seen of them.

use alloc::vec::Vec;

use init::heartbeat::{Doing, Look};
use init::ledger::{Instance, Number, Situation};
use init::supervisor::life::Stage;
use libipc::proto::init::Cause;
use libsys::abi::{ExitReason, ProcessInfo, ProcessState};
use libsys::service::ServicePage;
use libsys::{Handle, Notification, Process, ipc};

use super::book::adopt;

/// Exit code of a process that `init` ended.
pub(crate) const ENDED_BY_INIT: u64 = 137;

/// The processes of one service.
#[derive(Debug, Default)]
pub(super) struct Processes {
    pub(super) running: Option<Running>,
    /// The pool in which one is being made.
    pub(super) making_in: Option<u8>,
    /// The pool of another version that is on trial.
    pub(super) trial_in: Option<u8>,
    /// What is being torn down, with the pool that it holds.
    pub(super) ending: Vec<(Handle<Process>, u8)>,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: Handle<Process>,
    /// Its number.
    pub(super) id: u64,
    /// The pool of a pinned one.
    pub(super) pool: Option<u8>,
    pub(super) since: u64,
}

impl Running {
    pub(super) fn noted(&self) -> Instance {
        Instance {
            process: number_of(&self.process),
            id: self.id,
            pool: self.pool,
        }
    }
}

impl Processes {
    /// Takes up what an earlier instance of `init` noted.
    pub(super) fn take_up(situation: &Situation) -> Self {
        let since = match situation.life.stage {
            Stage::Running { since, .. } => since,
            _ => 0,
        };
        let running = situation.running.and_then(|instance| {
            Some(Running {
                process: take_up(instance.process)?,
                id: instance.id,
                pool: instance.pool,
                since,
            })
        });
        let ending = situation.ending.iter();
        Processes {
            running,
            making_in: situation.making_in,
            trial_in: situation.trial_in,
            ending: ending
                .filter_map(|&(process, pool)| Some((take_up(process)?, pool)))
                .collect(),
        }
    }

    /// Takes those out that are gone; they must be closed only after that was noted.
    pub(super) fn take_gone(&mut self) -> Vec<(Handle<Process>, u8)> {
        self.ending
            .extract_if(.., |(process, _)| is_gone(process))
            .collect()
    }

    /// Returns a pool that no process holds.
    pub(super) fn free_pool(&self, pools: usize) -> Option<u8> {
        let running = self.running.as_ref().and_then(|running| running.pool);
        (0..u8::try_from(pools).unwrap_or(u8::MAX)).find(|pool| {
            ![running, self.trial_in].contains(&Some(*pool))
                && self.ending.iter().all(|(_, held)| held != pool)
        })
    }
}

fn take_up(process: Number) -> Option<Handle<Process>> {
    adopt(process)
        .inspect_err(|error| log::error!("process not taken up: {error}"))
        .ok()
}

pub(super) fn number_of(process: &Handle<Process>) -> Number {
    process.raw().0
}

fn is_gone(process: &Handle<Process>) -> bool {
    process
        .info()
        .is_ok_and(|info| info.state == ProcessState::Dead as u32)
}

pub(super) fn end_process(process: &Handle<Process>, name: &str) {
    match process.kill(ENDED_BY_INIT) {
        Ok(()) | Err(libsys::Error::Dead) => {}
        Err(error) => log::error!("{name} not ended: {error}"),
    }
}

pub(super) fn is_name(info: &ProcessInfo, name: &str) -> bool {
    let (known, filling) = info.name.split_at(name.len().min(info.name.len()));
    known == name.as_bytes() && filling.iter().all(|&byte| byte == 0)
}

pub(super) fn notify(notification: &Handle<Notification>) {
    if let Err(error) = ipc::notify(notification) {
        log::error!("notification not set: {error}");
    }
}

/// Says what is seen of a process and of its page, for its heartbeat.
pub(crate) fn look_of(info: &ProcessInfo, page: &ServicePage) -> Look {
    // One that works on a request need not have said so; one that waits for the next one has.
    let is_idle = info.threads == info.receiving.into();
    let forgotten = match info.duties.saturating_sub(page.requests()) {
        forgotten if is_idle && page.is_ready() => forgotten,
        _ => 0,
    };
    Look {
        beats: page.heartbeat(),
        calls: info.calls,
        cpu_ns: info.cpu_ns + info.served_ns,
        doing: if info.calling != 0 || info.receiving != 0 || info.waiting != 0 {
            Doing::Waiting
        } else if info.sleeping != 0 {
            Doing::Sleeping
        } else {
            Doing::Running
        },
        is_starting: !page.is_ready(),
        oldest_request: page.oldest_request(),
        forgotten,
    }
}

/// Translates the kernel's reason.
pub(crate) fn cause_of(info: &ProcessInfo) -> Cause {
    if info.reason == ExitReason::Fault as u32 {
        Cause::Fault {
            vector: info.code as u8,
            address: info.address,
            fault_address: info.fault_address,
        }
    } else if info.reason == ExitReason::Killed as u32 {
        Cause::Killed(info.code)
    } else {
        Cause::Exited(info.code as i32)
    }
}
