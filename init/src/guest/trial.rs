//! The version on trial in a swap: how it is started and ended.

use init::swap::Which;
use libipc::proto::init::SwapReason;
use libsys::spawn::{Child, SpawnError};
use libsys::time;

use super::keeper::Keeper;
use super::kit::{Paging, StartError};
use super::processes::{Running, end_process};
use super::program::Program;
use super::swapper::Attempt;
use super::worker::Job;

impl Keeper {
    /// Has the image checked, and what is needed made.
    pub(super) fn prepare_trial(&self) {
        if let Some(attempt) = &mut *self.attempt.borrow_mut()
            && let Some(candidate) = attempt.candidate.take()
        {
            self.jobs.prepare(attempt.service, candidate);
        }
    }

    /// Starts the version, or has the worker do so.
    pub(super) fn start_trial(&self) {
        let Some((job, program)) = self.trial_job() else {
            return;
        };
        if !self.kits[job.service].service.is_pinned() {
            self.jobs.start_trial(job, program);
            return;
        }
        if let Some(attempt) = &mut *self.attempt.borrow_mut() {
            attempt.waits_for_pool = true;
        }
        self.start_waiting_trial();
    }

    fn trial_job(&self) -> Option<(Job, Program)> {
        let attempt = self.attempt.borrow();
        let attempt = attempt.as_ref()?;
        let job = Job {
            service: attempt.service,
            generation: self.supervisor.borrow().next_generation(attempt.service)?,
        };
        Some((job, attempt.program.clone()?))
    }

    /// Starts a pinned version on trial as soon as there is a pool.
    pub(super) fn start_waiting_trial(&self) {
        let is_waiting = |attempt: &Attempt| attempt.waits_for_pool;
        if !self.attempt.borrow().as_ref().is_some_and(is_waiting) {
            return;
        }
        let Some((job, program)) = self.trial_job() else {
            return;
        };
        let kit = &self.kits[job.service];
        let (gone, pool) = {
            let processes = &mut self.processes.borrow_mut()[job.service];
            let gone = processes.take_gone();
            let pool = processes.free_pool(kit.pools.len());
            processes.trial_in = pool;
            (gone, pool)
        };
        self.note_service(job.service);
        drop(gone);
        let Some(pool) = pool else {
            return;
        };
        if let Some(attempt) = &mut *self.attempt.borrow_mut() {
            attempt.waits_for_pool = false;
        }
        let paging = Paging::Pinned(pool.into());
        let result = kit.start_trial(self.common, &program, job.generation, paging);
        self.trial_started(result, Some(pool));
    }

    /// Takes the version in, if it was started.
    pub(super) fn trial_started(&self, result: Result<Child, StartError>, pool: Option<u8>) {
        let result = match result {
            Ok(child) => {
                let running = Running {
                    process: child.process,
                    id: child.id,
                    pool,
                    since: time::now(),
                };
                let mut attempt = self.attempt.borrow_mut();
                match &mut *attempt {
                    Some(attempt) => attempt.new = Some(running),
                    // The swap waits for this news, so there is one.
                    None => end_process(&running.process, "version on trial"),
                }
                Ok(())
            }
            Err(error) => {
                log::warn!("version on trial not started: {error}");
                Err(match error {
                    StartError::Digest => SwapReason::WrongDigest,
                    StartError::Spawn(SpawnError::Image(_)) => SwapReason::NotAProgram,
                    StartError::Spawn(SpawnError::Pager(_)) => SwapReason::NoMemory,
                    _ => SwapReason::NotStarted,
                })
            }
        };
        self.tell_swap(|swap, now| swap.started(result, now));
    }

    /// Ends the process of the new version, whose end is news.
    pub(super) fn stop_trial(&self) {
        if let Some(attempt) = &*self.attempt.borrow()
            && let Some(new) = &attempt.new
        {
            end_process(&new.process, &self.kits[attempt.service].service.name);
        }
    }

    /// Ends a version; one on trial leaves the swap.
    pub(super) fn end_version(&self, which: Which) {
        let mut attempt = self.attempt.borrow_mut();
        let Some(attempt) = &mut *attempt else {
            return;
        };
        let name = &self.kits[attempt.service].service.name;
        match which {
            Which::Old => {
                if let Some(old) = &attempt.old {
                    end_process(&old.process, name);
                }
            }
            Which::New => {
                attempt.waits_for_pool = false;
                let pool = {
                    let processes = &mut self.processes.borrow_mut()[attempt.service];
                    processes.trial_in.take()
                };
                if let Some(Running { process, .. }) = attempt.new.take() {
                    end_process(&process, name);
                    let processes = &mut self.processes.borrow_mut()[attempt.service];
                    processes.ending.extend(pool.map(|pool| (process, pool)));
                }
                self.note_service(attempt.service);
            }
        }
    }
}
