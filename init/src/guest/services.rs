//! What those who call `init` can ask of the services.

use alloc::vec::Vec;

use init::control::{Services, Source};
use init::ledger::{self, Record};
use init::reports::Verdict;
use init::swap::Ticket;
use libipc::Caller;
use libipc::proto::init::{
    Cause, InitError, ServiceInfo, ServiceStatistics, ServiceVersion, SwapReason,
};
use libsys::abi::ProcessInfo;
use libsys::{Handle, Kind, Memory, Rights, time};
use skink_manifest::Service;

use super::keeper::Keeper;
use super::processes::notify;

impl Services for Keeper {
    fn manifest(&self, service: usize) -> Option<&Service> {
        self.kits.get(service).map(|kit| &kit.service)
    }

    fn swap(&self, service: usize, source: Source, caller: &Caller) -> Result<Ticket, InitError> {
        self.order_swap(service, source, caller)
    }

    fn version(&self, service: usize) -> Option<ServiceVersion> {
        let kit = self.kits.get(service)?;
        let versions = kit.versions.lock();
        Some(ServiceVersion {
            name: kit.service.name.clone(),
            image: versions.current.name().into(),
            digest: versions.current.short_digest(),
            previous: versions
                .previous
                .as_ref()
                .map(|program| (program.name().into(), program.short_digest())),
        })
    }

    fn kill(&self, service: usize, caller: &Caller) -> Result<(), InitError> {
        if service == self.kits.len() {
            return self.own.end(caller);
        }
        self.end_for(service, Cause::Asked, SwapReason::Asked, caller)
    }

    fn report(
        &self,
        by: usize,
        about: usize,
        method: &str,
        caller: &Caller,
    ) -> Result<(), InitError> {
        let calling = self.manifest(by).ok_or(InitError::NotAllowed)?;
        if about == self.kits.len() {
            log::error!(
                "{} does not believe what init says to `{method}`",
                calling.name
            );
            return self.own.end_for_report(caller);
        }
        let accused = self.manifest(about).ok_or(InitError::NotAllowed)?;
        let mut reports = self.reports.borrow_mut();
        let verdict = reports.judge((by, calling), (about, accused), time::now());
        let (by, name) = (&calling.name, &accused.name);
        let (verb, cause) = if by == name {
            ("is to say", Cause::Doubted)
        } else {
            ("says", Cause::Reported)
        };
        match verdict {
            Verdict::NotAllowed => Err(InitError::NotAllowed),
            Verdict::TooSoon => Ok(()),
            Verdict::TooMany => {
                log::warn!("{by} reports {name} too often: not heard");
                Ok(())
            }
            Verdict::End => {
                log::error!("{by} does not believe what {name} {verb} to `{method}`");
                self.end_for(about, cause, SwapReason::OldDied, caller)
            }
        }
    }

    fn restart(&self, service: usize, caller: &Caller) -> Result<(), InitError> {
        if service == self.kits.len() {
            return self.own.end(caller);
        }
        self.give_up_swap(service, SwapReason::Asked);
        self.reports.borrow_mut().forget(service);
        let action = self.supervisor.borrow_mut().restart(service, caller)?;
        self.note_service(service);
        self.perform(action);
        // What was started has to be looked at soon.
        notify(&self.common.wake);
        Ok(())
    }

    fn note(&self, client: u64, key: u64, kept: Option<ledger::Kept>) -> Result<(), InitError> {
        let record = Record::Vault { client, key, kept };
        self.book().note(record).map_err(|error| {
            log::error!("vault of {client:#x}: not noted: {error}");
            InitError::Kernel
        })
    }

    fn noted(&self, client: u64, key: u64) -> Option<ledger::Kept> {
        self.book().read(|ledger| ledger.kept(client, key))
    }

    fn noted_keys(&self, client: u64) -> Vec<u64> {
        let is_own = |(place, _): ((u64, u64), _)| (place.0 == client).then_some(place.1);
        self.book()
            .read(|ledger| ledger.vault().filter_map(is_own).collect())
    }

    fn shutdown(&self, code: u32) -> InitError {
        log::info!("power off with code {code}");
        if let Err(error) = self.common.system.shutdown(code) {
            log::error!("power off: {error}");
        }
        InitError::Kernel
    }

    fn statistics(&self, service: usize) -> Option<ServiceStatistics> {
        if service == self.kits.len() {
            return Some(self.own.statistics());
        }
        self.supervisor.borrow().statistics(service)
    }

    fn info(&self, service: usize) -> Option<ServiceInfo> {
        if service == self.kits.len() {
            return Some(self.own.info());
        }
        let status = self.supervisor.borrow().status(service)?;
        let manifest = &self.kits.get(service)?.service;
        let processes = self.processes.borrow();
        let running = processes.get(service)?.running.as_ref();
        let process = running.and_then(|running| running.process.info().ok());
        let counter = |of: fn(&ProcessInfo) -> u64| process.as_ref().map_or(0, of);
        Some(ServiceInfo {
            name: manifest.name.clone(),
            level: manifest.level,
            state: status.state,
            process: running.map_or(0, |running| running.id),
            generation: status.generation,
            restarts: status.restarts,
            last_cause: status.last_cause,
            last_downtime_ns: status.last_downtime_ns,
            uptime_ns: status
                .running_since
                .map_or(0, |at| time::now().saturating_sub(at)),
            cpu_ns: counter(|info| info.cpu_ns),
            served_ns: counter(|info| info.served_ns),
            mapped_pages: counter(|info| info.mapped_pages),
        })
    }

    fn log_ring(&self, service: usize) -> Result<Handle<Memory>, InitError> {
        let kit = self.kits.get(service).ok_or(InitError::NoSuchService)?;
        let rights = Rights::READ | Rights::WRITE | Rights::TRANSFER | Rights::DUPLICATE;
        kit.log_ring.duplicate(rights).map_err(refused)
    }

    fn copy<K: Kind>(&self, handle: &Handle<K>) -> Result<Handle<K>, InitError> {
        handle.duplicate(Rights::ALL).map_err(refused)
    }
}

impl Keeper {
    /// Ends a service, and a swap of it that is under way, for the reason that is told of it.
    fn end_for(
        &self,
        service: usize,
        cause: Cause,
        of_swap: SwapReason,
        caller: &Caller,
    ) -> Result<(), InitError> {
        self.give_up_swap(service, of_swap);
        let ended = self.supervisor.borrow_mut().kill(service, cause, caller);
        self.perform(ended?);
        Ok(())
    }
}

fn refused(error: libsys::Error) -> InitError {
    log::warn!("handle not copied: {error}");
    InitError::Kernel
}
