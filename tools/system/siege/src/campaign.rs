//! The campaign: kills by plan, probes after each, and how all fared.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use chaos::Random;
use libipc::Failure;
use libipc::proto::init::{InitClient, InitError};
use libsys::{Handle, System, time};
use siege::faults::Fault;
use siege::json::Object;
use siege::versions::{self, Version};
use siege::{Counts, Kind, Load, Request, Strike, Strikes, Targets};
use skink_program::launch::Launcher;
use skink_program::{Align, Failed, Program, Table, human};

use crate::loads::{Loads, Report};
use crate::probe::Probes;
use crate::services::{self, INIT, Service, Unasked};
use crate::snapshot::{Snapshot, Use};

mod answers;
mod exhaust;
mod harm;
mod silent;
mod slow;
mod swap;

/// How long a service may take to come back, ns.
const PATIENCE_NS: u64 = 20_000 * time::MS;
/// How often it is looked at meanwhile, ns.
const LOOK_NS: u64 = time::MS / 20;

/// A campaign.
pub(crate) struct Campaign<'a> {
    launcher: &'a Launcher,
    system: &'a Handle<System>,
    init: InitClient,
    seed: u64,
    strikes: Strikes,
    services: Vec<Service>,
    /// Services that are left alone, but for what is in use at the end.
    others: Vec<String>,
    /// Faults that nobody is told of.
    faults: Vec<Fault>,
    /// Versions to swap to, sound and broken ones.
    swaps: Vec<&'static Version>,
    broken: Vec<&'static Version>,
    are_named: bool,
    /// Whether services are swapped.
    has_swaps: bool,
    /// Whether programs take all they get.
    has_greed: bool,
    loads: &'a [Load],
    /// Files that are kept open.
    open: u32,
    probes: Probes,
    /// For what is not drawn with the strikes.
    random: Random,
    gaps: Vec<Vec<u64>>,
    reports: Vec<Report>,
    uses: Vec<(Use, u64, bool)>,
    unasked: Vec<(String, Unasked)>,
    problems: Vec<String>,
    /// Whether a fault did damage that outlives the instance it was put into: what is seen from
    /// then on says nothing about other faults.
    is_spoilt: bool,
    elapsed_ns: u64,
}

/// A kill that was carried out.
struct Killed {
    service: usize,
    at: u64,
    generation: Option<u64>,
}

impl<'a> Campaign<'a> {
    /// Prepares the campaign that was asked for.
    ///
    /// # Errors
    ///
    /// When a service is not known, or a way to one is missing.
    pub(crate) fn new(
        program: &Program,
        launcher: &'a Launcher,
        request: &'a Request,
        seed: u64,
    ) -> Result<Self, Failed> {
        let not_given = || Failed::new("no control of services was given");
        // A campaign against an `init` that answers no more must come to an end.
        let init = || {
            let init = launcher.init().ok_or_else(not_given)?;
            Ok::<_, Failed>(init.with_deadline(PATIENCE_NS))
        };
        let services = services::chosen(&init()?, request)?;
        let (low, high) = (request.gap_us.start(), request.gap_us.end());
        let of_chosen = |all: &'static [Version]| -> Vec<&'static Version> {
            let is_chosen =
                |version: &&Version| services.iter().any(|one| one.name == version.service);
            all.iter().filter(is_chosen).collect()
        };
        let faults = silent::read(program, launcher, request)?;
        let (swaps, broken) = (of_chosen(&versions::SOUND), of_chosen(&versions::BROKEN));
        let targets = Targets {
            services: services.len(),
            swaps: swaps.len(),
            broken: broken.len(),
            faults: faults.len(),
            init: services.iter().position(|one| one.name == INIT),
        };
        if let Some(kind) = request.kinds.iter().find(|kind| targets.of(**kind) == 0) {
            return Err(
                Failed::new("there is nothing of this kind to strike at").about(kind.name())
            );
        }
        let gap_ns = low * 1000..=high * 1000;
        let mut strikes = Strikes::new(seed, targets, request.kills, &request.kinds, gap_ns);
        strikes.skip_kills(request.skip);
        Ok(Campaign {
            launcher,
            system: launcher.system().ok_or_else(not_given)?,
            init: init()?,
            seed,
            strikes,
            gaps: services.iter().map(|_| Vec::new()).collect(),
            others: services::others(&init()?, &services)?,
            services,
            faults,
            swaps,
            broken,
            are_named: !request.services.is_empty(),
            has_swaps: request.kinds.iter().any(|kind| kind.is_of_version()),
            has_greed: request.kinds.contains(&Kind::Exhaust),
            loads: &request.loads,
            open: request.open,
            random: Random::new(!seed),
            probes: Probes::new(program, launcher, init()?, seed)?,
            reports: Vec::new(),
            uses: Vec::new(),
            unasked: services::unasked(&init()?)?,
            problems: Vec::new(),
            is_spoilt: false,
            elapsed_ns: 0,
        })
    }

    /// Runs the campaign; returns whether it was interrupted.
    ///
    /// # Errors
    ///
    /// When a workload cannot be started, or the output cannot be written.
    pub(crate) fn run(&mut self, program: &mut Program) -> Result<bool, Failed> {
        let begin = Object::new("begin").number("seed", self.seed);
        say(program, begin)?;
        // All the time, also while nothing else runs: this is what it is for.
        let is_busy = |load: &&Load| **load == Load::Busy;
        let busy: Vec<Load> = self.loads.iter().filter(is_busy).copied().collect();
        let _busy = Loads::start(self.launcher, &busy, 0, self.seed)?;
        let loads: Vec<Load> = self
            .loads
            .iter()
            .filter(|load| !is_busy(load))
            .copied()
            .collect();
        // Whatever is made once and kept is made now: by a first run of each workload, and by a
        // first death and a first swap of each service.
        say(program, Object::new("loads"))?;
        Loads::start(self.launcher, &loads, self.open, self.seed)?.stop()?;
        if self.has_swaps {
            self.rehearse()?;
        }
        if self.has_greed {
            self.rehearse_greed()?;
        }
        let before = self.settle()?;
        say(program, Object::new("loads"))?;
        let loads = Loads::start(self.launcher, &loads, self.open, self.seed)?;
        let start = time::now();
        while let Some(strike) = self.strikes.next() {
            let at = time::after(strike.wait_ns);
            if self.launcher.is_interrupted_until(at)? {
                return Ok(true);
            }
            match strike.kind {
                Kind::Single | Kind::Pair | Kind::Again | Kind::Matrix | Kind::Init => {
                    self.strike(program, &strike)?;
                }
                Kind::Hang => self.harm(program, &strike, &loads, Self::hang)?,
                Kind::Flip => self.harm(program, &strike, &loads, Self::flip)?,
                Kind::Swap | Kind::Broken => self.swap(program, &strike)?,
                Kind::Silent => self.silent(program, &strike, &loads)?,
                Kind::Slow => self.harm(program, &strike, &loads, Self::slow)?,
                Kind::Drop | Kind::Duplicate => {
                    self.harm(program, &strike, &loads, Self::answer)?
                }
                Kind::Exhaust => self.exhaust(program, &strike, &loads)?,
                Kind::Quiet => {
                    if self.quiet(program)? {
                        return Ok(true);
                    }
                }
            }
            if self.is_spoilt {
                break;
            }
        }
        self.elapsed_ns = time::now().saturating_sub(start);
        self.reports = loads.stop()?;
        drop(loads);
        let after = self.settle()?;
        self.uses = after.compare(&before);
        self.look_at_deaths()?;
        Ok(false)
    }

    /// Strikes once, and waits until what was killed serves again.
    fn strike(&mut self, program: &mut Program, strike: &Strike) -> Result<(), Failed> {
        let (_, before) = self.system.system_info()?;
        let mut killed = Vec::new();
        killed.extend(self.kill(strike.first)?);
        let is_again = strike.kind == Kind::Again
            || strike.kind == Kind::Matrix && strike.first == strike.second;
        if let Some(first) = killed.first() {
            if is_again {
                self.wait_for_next(first);
            }
            if is_again || strike.kind == Kind::Init {
                time::sleep(strike.delay_ns);
            }
        }
        if strike.kind != Kind::Single && !killed.is_empty() {
            killed.extend(self.kill(strike.second)?);
        }
        let mut outcomes = Vec::new();
        for one in killed {
            let outcome = self.recover(&one);
            outcomes.push((time::now().saturating_sub(one.at), outcome, one));
        }
        let (_, after) = self.system.system_info()?;
        let mut redelivered = after.redelivered.saturating_sub(before.redelivered);
        let first = self.services[strike.first].name.clone();
        for (place, (gap, outcome, one)) in outcomes.into_iter().enumerate() {
            let after = if place == 0 { "" } else { &first };
            let service = &mut self.services[one.service];
            let mut line = Object::new("kill")
                .text("service", &service.name)
                .text("kind", strike.kind.name())
                .number("at_ns", one.at)
                .number("gap_ns", gap)
                .number("redelivered", redelivered)
                .text("after", after)
                .number("recovered", outcome.is_ok().into());
            redelivered = 0;
            match outcome {
                Ok(()) => {
                    service.recovered += 1;
                    self.gaps[one.service].push(gap);
                }
                Err(why) => {
                    line = line.text("why", &why);
                    self.problems.push(format!("{}: {why}", service.name));
                }
            }
            say(program, line)?;
        }
        Ok(())
    }

    /// Kills a service; one that does not run just now is waited for.
    fn kill(&mut self, service: usize) -> Result<Option<Killed>, Failed> {
        let end = time::after(PATIENCE_NS);
        let name = self.services[service].name.clone();
        let generation = services::running(&self.init, &name);
        loop {
            let at = time::now();
            let failure = match self.init.kill(&name) {
                Ok(()) => {
                    self.services[service].kills += 1;
                    return Ok(Some(Killed {
                        service,
                        at,
                        generation,
                    }));
                }
                Err(Failure::Server(InitError::NotRunning)) if at < end => {
                    time::sleep(LOOK_NS);
                    continue;
                }
                Err(failure) => failure,
            };
            self.strikes.give_up(service);
            // Whoever asks for all services asks for those that the system can live without.
            if failure == Failure::Server(InitError::Critical) && !self.are_named {
                return Ok(None);
            }
            if failure == Failure::Server(InitError::NotRunning) {
                self.problems.push(format!("{name} does not run"));
                return Ok(None);
            }
            return Err(Failed::from(failure).about(name));
        }
    }

    /// Waits until the next instance of a service that was killed runs.
    fn wait_for_next(&self, killed: &Killed) {
        let name = &self.services[killed.service].name;
        let end = killed.at.saturating_add(PATIENCE_NS);
        while name != INIT
            && services::running(&self.init, name).is_none_or(|now| Some(now) == killed.generation)
            && time::now() < end
        {
            time::sleep(LOOK_NS);
        }
    }

    /// Waits until a service that was killed answers.
    fn recover(&mut self, killed: &Killed) -> Result<(), String> {
        let name = &self.services[killed.service].name;
        self.probes.ask(name)?;
        Ok(())
    }

    /// Kills each service once while nothing else is done, and returns what is in use then:
    /// so it can be compared with another time.
    fn settle(&mut self) -> Result<Snapshot, Failed> {
        for service in 0..self.services.len() {
            let kills = self.services[service].kills;
            if let Some(killed) = self.kill(service)? {
                if let Err(why) = self.recover(&killed) {
                    let name = &self.services[service].name;
                    self.problems.push(format!("{name}: {why}"));
                }
                // It is no part of the campaign.
                self.services[service].kills = kills;
            }
        }
        for name in &self.others {
            // The system cannot live without some.
            let _ = self.init.kill(name);
        }
        let names = self.services.iter().map(|service| &service.name);
        for name in names.chain(&self.others) {
            if let Err(why) = self.probes.ask(name) {
                self.problems.push(format!("{name}: {why}"));
            }
        }
        Snapshot::settled(self.system, self.launcher.memory(), self.open)
    }

    /// Notes services that do not run, or that ended without being killed.
    fn look_at_deaths(&mut self) -> Result<(), Failed> {
        for service in &self.services {
            if service.name != INIT && services::running(&self.init, &service.name).is_none() {
                self.problems.push(format!("{} does not run", service.name));
            }
        }
        let before = core::mem::take(&mut self.unasked);
        for (name, mut counts) in services::unasked(&self.init)? {
            let old = before.iter().find(|(known, _)| *known == name);
            let provoked = self.services.iter().find(|known| known.name == name);
            let provoked = provoked.map_or(0, |known| known.provoked);
            let sum = |counts: &Unasked| counts.iter().map(|(_, count)| count).sum::<u32>();
            let is_more = sum(&counts) > old.map_or(0, |(_, old)| sum(old)) + provoked;
            for ((cause, count), (_, old)) in
                counts.iter_mut().zip(old.map_or([("", 0); 7], |o| o.1))
            {
                *count = count.saturating_sub(old);
                if *count > 0 && is_more {
                    self.problems.push(format!("{name} {cause} {count} times"));
                }
            }
            self.unasked.push((name, counts));
        }
        Ok(())
    }

    /// Prints what came of it; returns whether nothing went wrong.
    ///
    /// # Errors
    ///
    /// When the output cannot be written.
    pub(crate) fn report(&mut self, program: &mut Program) -> Result<bool, Failed> {
        let mut totals = Counts::default();
        for report in &self.reports {
            totals.add(&report.counts);
            say(
                program,
                with_counts(Object::new("load"), &report.counts)
                    .text("name", report.load.name())
                    .text("complaint", &report.complaint),
            )?;
            if !report.complaint.is_empty() {
                let name = report.load.name();
                self.problems
                    .push(format!("workload {name}: {}", report.complaint));
            }
        }
        for (now, before, is_leak) in &self.uses {
            let line = Object::new("use")
                .text("name", &now.name)
                .number("before", *before)
                .number("after", now.number)
                .number("leaked", (*is_leak).into());
            say(program, line)?;
            if *is_leak {
                let text = format!("{}: {} in use, {before} before", now.name, now.number);
                self.problems.push(text);
            }
        }
        for (name, counts) in &self.unasked {
            let mut line = Object::new("deaths").text("service", name);
            for (cause, count) in counts {
                line = line.number(cause, (*count).into());
            }
            say(program, line)?;
        }
        self.table(program, &totals)?;
        let sum = |number: fn(&Service) -> u32| self.services.iter().map(number).sum::<u32>();
        let leaks = self.uses.iter().filter(|(_, _, is_leak)| *is_leak).count();
        let end = with_counts(Object::new("end"), &totals)
            .number("kills", sum(|service| service.kills).into())
            .number("faults", sum(|service| service.harmed).into())
            .number("recovered", sum(|service| service.recovered).into())
            .number("leaks", leaks as u64)
            .number("problems", self.problems.len() as u64)
            .number("left", self.strikes.left().into())
            .number("elapsed_ns", self.elapsed_ns);
        say(program, end)?;
        for problem in &self.problems {
            program.complain(problem);
        }
        Ok(self.problems.is_empty() && totals.faults() == 0)
    }

    fn table(&mut self, program: &mut Program, totals: &Counts) -> Result<(), Failed> {
        use Align::{Left, Right};
        let mut table = Table::new(&[
            ("SERVICE", Left),
            ("KILLS", Right),
            ("RECOVERED", Right),
            ("GAP P50", Right),
            ("GAP P99", Right),
            ("GAP MAX", Right),
        ]);
        for (service, gaps) in self.services.iter().zip(&mut self.gaps) {
            gaps.sort_unstable();
            let at = |percent: usize| {
                let place = (gaps.len() * percent).div_ceil(100).saturating_sub(1);
                gaps.get(place)
                    .map_or_else(|| "-".to_string(), |ns| human::duration(*ns))
            };
            table.row([
                service.name.clone(),
                service.kills.to_string(),
                service.recovered.to_string(),
                at(50),
                at(99),
                at(100),
            ]);
        }
        program.out().write_bytes(table.render().as_bytes())?;
        let text = format!(
            "{} operations: {} errors, {} lost, {} done twice, {} wrong bytes; {}; seed {}\n",
            totals.operations,
            totals.client_errors,
            totals.lost,
            totals.duplicated,
            totals.wrong,
            human::seconds(self.elapsed_ns),
            self.seed
        );
        program.out().write_bytes(text.as_bytes())
    }
}

fn with_counts(line: Object, counts: &Counts) -> Object {
    line.number("operations", counts.operations)
        .number("client_errors", counts.client_errors)
        .number("wrong", counts.wrong)
        .number("lost", counts.lost)
        .number("duplicated", counts.duplicated)
}

/// Writes a line for the host at once: it shows that the system lives.
fn say(program: &mut Program, line: Object) -> Result<(), Failed> {
    program.out().write_bytes(line.line().as_bytes())?;
    program.out().flush()
}
