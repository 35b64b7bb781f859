//! The services, as `init` tells of them.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use libipc::proto::init::{InitClient, ServiceInfo, ServiceState, ServiceStatistics};
use siege::{Kind, Request};
use skink_program::Failed;

/// Runs the programs of people, this one too: killing it would end the campaign.
const SHELL: &str = "shell";
/// The supervisor, which is in no list of its own.
pub(crate) const INIT: &str = "init";

/// A service that may be killed.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) kills: u32,
    pub(crate) recovered: u32,
    /// Other faults, and deaths that came of them.
    pub(crate) harmed: u32,
    pub(crate) provoked: u32,
}

/// Deaths of a service that nobody asked for, by what they are called.
pub(crate) type Unasked = [(&'static str, u32); 7];

/// Returns the services of a campaign. `init` is among them, unless services are to hang.
///
/// # Errors
///
/// When a name is not that of a service.
pub(crate) fn chosen(init: &InitClient, request: &Request) -> Result<Vec<Service>, Failed> {
    let all = all(init)?;
    let is_known = |name: &String| name == INIT || all.iter().any(|known| known.name == *name);
    if let Some(name) = request.services.iter().find(|name| !is_known(name)) {
        return Err(Failed::new("no such service").about(name));
    }
    let names: Vec<String> = if request.services.is_empty() {
        let names = all.into_iter().map(|service| service.name);
        // The thread that watches `init` runs the same text: it would be made to turn as well.
        let is_spared =
            |name: &String| name == SHELL || name == INIT && request.kinds.contains(&Kind::Hang);
        names.filter(|name| !is_spared(name)).collect()
    } else {
        request.services.clone()
    };
    let service = |name| Service {
        name,
        kills: 0,
        recovered: 0,
        harmed: 0,
        provoked: 0,
    };
    Ok(names.into_iter().map(service).collect())
}

/// Returns the names of all other services that may be killed, but for `init`.
///
/// # Errors
///
/// When `init` does not answer.
pub(crate) fn others(init: &InitClient, chosen: &[Service]) -> Result<Vec<String>, Failed> {
    let names = all(init)?.into_iter().map(|service| service.name);
    let is_other =
        |name: &String| name != SHELL && chosen.iter().all(|service| service.name != *name);
    Ok(names.filter(is_other).collect())
}

/// Returns all services.
///
/// # Errors
///
/// When `init` does not answer.
pub(crate) fn all(init: &InitClient) -> Result<Vec<ServiceInfo>, Failed> {
    Ok(init.services().collect::<Result<_, _>>()?)
}

/// Returns a service as it is now, if it runs.
pub(crate) fn find(init: &InitClient, name: &str) -> Option<ServiceInfo> {
    let all = all(init).ok()?;
    let mut running = all
        .into_iter()
        .filter(|service| service.state == ServiceState::Running);
    running.find(|service| service.name == name)
}

/// Returns the number of the instance of a service that runs, `None` if none does.
pub(crate) fn running(init: &InitClient, name: &str) -> Option<u64> {
    Some(find(init, name)?.generation)
}

/// Returns how often each service ended without anybody asking for it.
pub(crate) fn unasked(init: &InitClient) -> Result<Vec<(String, Unasked)>, Failed> {
    let mut deaths = Vec::new();
    for service in all(init)? {
        let counts = by_cause(&init.statistics(&service.name)?);
        deaths.push((service.name.to_string(), counts));
    }
    Ok(deaths)
}

/// Returns how often a service ended without anybody asking for it.
pub(crate) fn unasked_of(statistics: &ServiceStatistics) -> u32 {
    by_cause(statistics).iter().map(|(_, count)| count).sum()
}

fn by_cause(statistics: &ServiceStatistics) -> Unasked {
    [
        ("exited", statistics.exited),
        ("faulted", statistics.faulted),
        ("hung", statistics.hung),
        ("reported", statistics.reported),
        ("doubted", statistics.doubted),
        ("killed", statistics.killed),
        ("not_started", statistics.not_started),
    ]
}
