//! The campaign: kills by plan, through `init`, and how the services fared.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use chaos::{Deed, Harm, Instance, Plan, Request, Step};
use libipc::Failure;
use libipc::proto::init::{
    InitClient, InitError, ServiceInfo, ServiceState, ServiceStatistics, SwapOutcome, SwapReport,
};
use libsys::abi::{AtAnswer, FOREVER};
use libsys::{Error, Handle, Process, System, time};
use skink_program::{Align, Failed, Table, human};

/// Runs the programs of people, this one too: killing it would end the campaign.
const SHELL: &str = "shell";
/// How long to wait at the end until all services run, ns.
const PATIENCE_NS: u64 = 20_000 * time::MS;
/// How often to look meanwhile, ns.
const LOOK_NS: u64 = time::MS;

/// Ways in which services end.
const HUNG: &str = "hung";
const ENDED: &str = "was ended by another process";
/// How long a service is slow, ns.
const SLOW_NS: u64 = 20 * time::MS;
/// More instructions than a service executes meanwhile.
const MANY: u64 = 1 << 40;

/// A service of the campaign.
struct Victim {
    name: String,
    kills: u32,
    /// How long nobody received, for each swap, ns.
    pauses: Vec<u64>,
}

/// Deaths of a service that nobody asked for.
struct Watched {
    name: String,
    deaths: [(u32, &'static str); 7],
}

/// A campaign.
pub(crate) struct Campaign<'a> {
    init: InitClient,
    system: &'a Handle<System>,
    /// A process that is slow, and until when.
    slow: Option<(Handle<Process>, u64)>,
    plan: Plan,
    deed: Deed,
    victims: Vec<Victim>,
    /// Whether the victims were named one by one.
    are_named: bool,
    watched: Vec<Watched>,
    problems: Vec<String>,
}

impl<'a> Campaign<'a> {
    /// Prepares the campaign that was asked for.
    ///
    /// # Errors
    ///
    /// When `init` does not answer, or knows no service of a name.
    pub(crate) fn new(
        init: InitClient,
        system: &'a Handle<System>,
        request: &Request,
        seed: u64,
    ) -> Result<Self, Failed> {
        let all = services(&init)?;
        let mut watched = Vec::new();
        for service in &all {
            watched.push(Watched {
                name: service.name.clone(),
                deaths: unasked(&init.statistics(&service.name)?),
            });
        }
        let is_known = |name: &str| all.iter().any(|service| service.name == name);
        if let Some(name) = request.services.iter().find(|name| !is_known(name)) {
            return Err(Failed::new("no such service").about(name));
        }
        let names: Vec<String> = if request.services.is_empty() {
            all.into_iter()
                .map(|service| service.name)
                .filter(|name| name != SHELL)
                .collect()
        } else {
            request.services.clone()
        };
        let plan = Plan::new(seed, names.len(), request.times, &request.gap_ms);
        let victim = |name| Victim {
            name,
            kills: 0,
            pauses: Vec::new(),
        };
        Ok(Campaign {
            init,
            system,
            slow: None,
            plan,
            deed: request.deed.clone(),
            victims: names.into_iter().map(victim).collect(),
            are_named: !request.services.is_empty(),
            watched,
            problems: Vec::new(),
        })
    }

    /// Kills whose time has come and returns when to call again.
    pub(crate) fn tick(&mut self) -> u64 {
        loop {
            let now = time::now();
            if let Some((process, end)) = &self.slow {
                if now < *end {
                    return *end;
                }
                // An error means that it has ended.
                let _ = self.system.end_after(process, 0);
                self.slow = None;
            }
            let (init, victims) = (&self.init, &self.victims);
            match self
                .plan
                .step(now, |service| look(init, &victims[service].name))
            {
                Step::WaitUntil(at) => return at,
                Step::Kill(service) => match &self.deed {
                    Deed::Kill => self.kill(service),
                    Deed::Swap(images) => {
                        let image = images[service].clone();
                        self.swap(service, &image);
                    }
                    Deed::Harm(harm) => self.harm(service, *harm),
                },
                Step::Lost(service) => {
                    let name = &self.victims[service].name;
                    self.problems.push(format!("{name} did not come back"));
                }
                Step::Done => return FOREVER,
            }
        }
    }

    /// Returns whether every service was killed often enough.
    pub(crate) fn is_done(&self) -> bool {
        self.plan.is_done()
    }

    /// Waits until all services run again, and notes those that do not, or that ended without
    /// being killed.
    pub(crate) fn wait_for_all(&mut self) {
        self.let_go();
        let end = time::after(PATIENCE_NS);
        for watched in &self.watched {
            while !look(&self.init, &watched.name).is_running {
                if time::now() > end {
                    self.problems.push(format!("{} does not run", watched.name));
                    break;
                }
                time::sleep(LOOK_NS);
            }
            let Ok(statistics) = self.init.statistics(&watched.name) else {
                continue;
            };
            let deaths = unasked(&statistics);
            for ((before, _), (now, what)) in watched.deaths.into_iter().zip(deaths) {
                if now > before && !self.expects(what) {
                    let times = now - before;
                    self.problems
                        .push(format!("{} {what}, {times} times", watched.name));
                }
            }
        }
    }

    /// Lets services be as they were, as far as they live.
    fn let_go(&mut self) {
        if let Some((process, _)) = self.slow.take() {
            let _ = self.system.end_after(&process, 0);
        }
        if !matches!(self.deed, Deed::Harm(_)) {
            return;
        }
        for service in services(&self.init).unwrap_or_default() {
            if let Ok(process) = self.system.open_process(service.process) {
                let _ = self.system.at_answer(&process, AtAnswer::Deliver);
            }
        }
    }

    /// Returns whether services end in this way by what is done to them.
    fn expects(&self, what: &str) -> bool {
        match self.deed {
            Deed::Harm(Harm::Drop) => what == ENDED,
            // It hardly turns.
            Deed::Harm(Harm::Slow) => what == HUNG,
            _ => false,
        }
    }

    /// Returns how many kills there were.
    pub(crate) fn kills(&self) -> u32 {
        self.victims.iter().map(|victim| victim.kills).sum()
    }

    /// Returns what went wrong with the services.
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Returns what was done to the services, for people.
    pub(crate) fn deeds(&self) -> &'static str {
        match self.deed {
            Deed::Kill => "kills",
            Deed::Swap(_) => "swaps",
            Deed::Harm(_) => "faults",
        }
    }

    /// Returns a line for each service.
    pub(crate) fn table(&self) -> Table {
        match self.deed {
            Deed::Kill => self.table_of_kills("KILLS"),
            Deed::Harm(_) => self.table_of_kills("FAULTS"),
            Deed::Swap(_) => self.table_of_swaps(),
        }
    }

    fn table_of_swaps(&self) -> Table {
        let mut table = Table::new(&[
            ("SERVICE", Align::Left),
            ("SWAPS", Align::Right),
            ("PAUSE P50", Align::Right),
            ("PAUSE MAX", Align::Right),
        ]);
        for victim in &self.victims {
            let mut pauses = victim.pauses.clone();
            pauses.sort_unstable();
            let at = |place: usize| pauses.get(place).copied().unwrap_or(0);
            table.row([
                victim.name.clone(),
                victim.kills.to_string(),
                human::duration(at(pauses.len() / 2)),
                human::duration(at(pauses.len().saturating_sub(1))),
            ]);
        }
        table
    }

    fn table_of_kills(&self, title: &'static str) -> Table {
        let mut table = Table::new(&[
            ("SERVICE", Align::Left),
            (title, Align::Right),
            ("DOWN P50", Align::Right),
            ("DOWN MAX", Align::Right),
        ]);
        for victim in self.victims.iter().filter(|victim| victim.kills > 0) {
            let down = self.init.statistics(&victim.name).unwrap_or_default();
            table.row([
                victim.name.clone(),
                victim.kills.to_string(),
                human::duration(down.downtime_p50_ns),
                human::duration(down.downtime_max_ns),
            ]);
        }
        table
    }

    /// Swaps a service to the image, and back at the next time.
    fn swap(&mut self, service: usize, image: &str) {
        let victim = &mut self.victims[service];
        let done = if victim.kills.is_multiple_of(2) {
            self.init.swap(&victim.name, image)
        } else {
            self.init.rollback(&victim.name)
        };
        match done {
            Ok(SwapReport {
                outcome: SwapOutcome::Committed,
                pause_ns,
                ..
            }) => {
                victim.kills += 1;
                victim.pauses.extend(pause_ns);
                self.plan.killed(service);
            }
            Ok(SwapReport { outcome, .. }) => {
                self.problems
                    .push(format!("{} was not swapped: {outcome:?}", victim.name));
                self.plan.give_up(service);
            }
            // It does not serve yet.
            Err(Failure::Server(InitError::NotRunning | InitError::NotSwappable)) => {}
            Err(failure) => {
                self.problems.push(format!("{}: {failure}", victim.name));
                self.plan.give_up(service);
            }
        }
    }

    fn harm(&mut self, service: usize, harm: Harm) {
        let done = self.try_harm(service, harm);
        let victim = &mut self.victims[service];
        match done {
            Ok(is_new) => {
                victim.kills += u32::from(is_new);
                self.plan.harmed(service);
            }
            Err(failed) => {
                self.problems.push(failed.about(&victim.name).message);
                self.plan.give_up(service);
            }
        }
    }

    /// Harms a service. Returns whether it was: what was to happen at its next answer may not have
    /// happened yet.
    fn try_harm(&mut self, service: usize, harm: Harm) -> Result<bool, Failed> {
        let name = &self.victims[service].name;
        let Some(found) = services(&self.init)?
            .into_iter()
            .find(|one| one.name == *name)
        else {
            return Ok(false);
        };
        let process = match self.system.open_process(found.process) {
            Ok(process) => process,
            // It ended by itself just now, which is found out at the end.
            Err(Error::Unavailable) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let done = match harm {
            Harm::Slow => self.system.end_after(&process, MANY).map(|_| true),
            Harm::Drop => self.at_answer(&process, AtAnswer::End),
            Harm::Duplicate => self.at_answer(&process, AtAnswer::Lose),
        };
        match done {
            Ok(is_new) => {
                if harm == Harm::Slow {
                    self.slow = Some((process, time::after(SLOW_NS)));
                }
                Ok(is_new)
            }
            Err(Error::Dead) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn at_answer(&self, process: &Handle<Process>, what: AtAnswer) -> Result<bool, Error> {
        Ok(!self.system.at_answer(process, what)?)
    }

    fn kill(&mut self, service: usize) {
        let victim = &mut self.victims[service];
        match self.init.kill(&victim.name) {
            Ok(()) => {
                victim.kills += 1;
                self.plan.killed(service);
            }
            // It ended by itself just now, which is found out at the end.
            Err(Failure::Server(InitError::NotRunning)) => {}
            // Whoever asks for all services asks for those that the system can live without.
            Err(Failure::Server(InitError::Critical)) if !self.are_named => {
                self.plan.give_up(service);
            }
            Err(failure) => {
                self.problems.push(format!("{}: {failure}", victim.name));
                self.plan.give_up(service);
            }
        }
    }
}

/// Returns what a service does; one that `init` does not tell about does not run.
fn look(init: &InitClient, name: &str) -> Instance {
    let all = services(init).unwrap_or_default();
    let service = all.iter().find(|service| service.name == name);
    Instance {
        generation: service.map_or(0, |service| service.generation),
        is_running: service.is_some_and(|service| service.state == ServiceState::Running),
    }
}

fn services(init: &InitClient) -> Result<Vec<ServiceInfo>, Failed> {
    Ok(init.services().collect::<Result<_, _>>()?)
}

/// Returns how often a service ended without anybody asking for it, and in which way.
fn unasked(statistics: &ServiceStatistics) -> [(u32, &'static str); 7] {
    [
        (statistics.exited, "ended by itself"),
        (statistics.faulted, "was ended by a fault"),
        (statistics.hung, HUNG),
        (statistics.reported, "reported"),
        (statistics.doubted, "had its next instance answer"),
        (statistics.killed, ENDED),
        (statistics.not_started, "could not be started"),
    ]
}
