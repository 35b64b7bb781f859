//! Tables of services.

use alloc::format;
use alloc::string::{String, ToString};

use libipc::proto::init::{
    Cause, NO_LEVEL, ServiceInfo, ServiceState, ServiceStatistics, ServiceVersion,
};
use libsys::heap::DAMAGE_EXIT_CODE;
use skink_program::{Align, Table, human};

/// Returns the table of `svc list`.
pub(crate) fn list(services: &[ServiceInfo], versions: &[ServiceVersion]) -> String {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("NAME", Left),
        ("LEVEL", Right),
        ("STATE", Left),
        ("PROCESS", Right),
        ("VERSION", Left),
        ("RESTARTS", Right),
        ("DOWNTIME", Right),
        ("UPTIME", Right),
        ("LAST END", Left),
    ]);
    for service in services {
        let has_process = service.process != 0;
        let when = |is_known: bool, text: String| if is_known { text } else { "-".to_string() };
        table.row([
            service.name.clone(),
            when(service.level != NO_LEVEL, service.level.to_string()),
            state(service.state).to_string(),
            when(has_process, service.process.to_string()),
            version_of(&service.name, versions),
            service.restarts.to_string(),
            when(
                service.restarts > 0,
                human::duration(service.last_downtime_ns),
            ),
            when(has_process, human::duration(service.uptime_ns)),
            service.last_cause.map_or_else(String::new, cause),
        ]);
    }
    table.render()
}

/// Returns the first digits of the digest of a program.
pub(crate) fn digest(digest: u64) -> String {
    format!("{:08x}", digest >> 32)
}

fn version_of(name: &str, versions: &[ServiceVersion]) -> String {
    let version = versions.iter().find(|version| version.name == name);
    version.map_or_else(|| "-".to_string(), |version| digest(version.digest))
}

fn state(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Waiting => "waiting",
        ServiceState::Starting => "starting",
        ServiceState::Running => "running",
        ServiceState::BackOff => "back-off",
        ServiceState::Stopped => "stopped",
    }
}

pub(crate) fn cause(cause: Cause) -> String {
    match cause {
        Cause::Exited(DAMAGE_EXIT_CODE) => "heap damage".to_string(),
        Cause::Exited(code) => format!("exited with {code}"),
        Cause::Fault {
            vector,
            address,
            fault_address,
        } => {
            format!("fault {vector} at {address:#x}, address {fault_address:#x}")
        }
        Cause::Asked => "asked for".to_string(),
        Cause::Hung => "hung".to_string(),
        Cause::Overdue => "held a request too long".to_string(),
        Cause::Reported => "gave replies that cannot be true".to_string(),
        Cause::Doubted => "had its next instance answer".to_string(),
        Cause::NotStarted => "not started".to_string(),
        Cause::Killed(code) => format!("killed with {code}"),
    }
}

/// Returns the table of `svc stats`.
pub(crate) fn statistics(rows: &[(String, ServiceStatistics)]) -> String {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("NAME", Left),
        ("EXITED", Right),
        ("FAULTED", Right),
        ("ASKED", Right),
        ("HUNG", Right),
        ("REPORTED", Right),
        ("DOUBTED", Right),
        ("KILLED", Right),
        ("FAILED", Right),
        ("DOWN LAST", Right),
        ("P50", Right),
        ("P99", Right),
        ("MAX", Right),
    ]);
    for (name, s) in rows {
        let down = |ns| {
            if s.downtimes > 0 {
                human::duration(ns)
            } else {
                "-".to_string()
            }
        };
        table.row([
            name.clone(),
            s.exited.to_string(),
            s.faulted.to_string(),
            s.asked.to_string(),
            s.hung.to_string(),
            s.reported.to_string(),
            s.doubted.to_string(),
            s.killed.to_string(),
            s.not_started.to_string(),
            down(s.downtime_last_ns),
            down(s.downtime_p50_ns),
            down(s.downtime_p99_ns),
            down(s.downtime_max_ns),
        ]);
    }
    table.render()
}
