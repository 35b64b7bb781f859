//! Faults that are no kills: a service that turns for ever, a bit that is turned over.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use libipc::proto::init::InitClient;
use libsys::abi::ProcessState;
use libsys::{Handle, Process, time};
use siege::json::Object;
use siege::{Counts, Strike};
use skink_program::{Failed, Program};

use super::{Campaign, LOOK_NS, say, with_counts};
use crate::loads::Loads;
use crate::services::{self, INIT};
use crate::wreck;

/// How long a fault may take to show, ns.
const WATCH_NS: u64 = 30 * time::MS;
/// How long it may take until a service that turns for ever is ended, ns.
const DETECTION_NS: u64 = 2_000 * time::MS;

/// Services whose next instance has the same process.
const IN_PLACE: [&str; 2] = [INIT, "memory-manager"];

/// A service before it is harmed.
pub(super) struct Victim {
    pub(super) service: usize,
    pub(super) name: String,
    pub(super) process: Handle<Process>,
    generation: u64,
    deaths: u32,
    /// Deaths of all services that nobody asked for.
    all_deaths: Vec<Deaths>,
    counts: Counts,
}

impl Victim {
    /// Returns whether this instance has ended.
    pub(super) fn has_ended(&self, init: &InitClient) -> Result<bool, Failed> {
        // One that keeps its handles is started again in the same process, which may be dead for
        // less than the time between two looks.
        let is_dead = self.process.info()?.state == ProcessState::Dead as u32;
        let is_next = || {
            let now = services::running(init, &self.name);
            now.is_some_and(|now| now != self.generation)
        };
        Ok(is_dead || IN_PLACE.contains(&self.name.as_str()) && is_next())
    }
}

/// How often services have died without anybody asking for it.
#[derive(Clone, Copy, Default)]
struct Deaths {
    /// To have their next instances answer what they did not dare to.
    doubted: u32,
    /// In any other way.
    taken_down: u32,
}

/// What came of a fault.
pub(super) struct Harm {
    pub(super) line: Object,
    pub(super) at: u64,
    pub(super) outcome: Result<(), String>,
    /// Whether it is known to have had an effect, without anybody having seen it.
    pub(super) shows: bool,
    /// Whether it may leave something behind that shows later.
    pub(super) lasts: bool,
}

impl Harm {
    /// What came of a fault that may have changed anything.
    pub(super) const fn lasting(line: Object, at: u64, outcome: Result<(), String>) -> Self {
        Self {
            line,
            at,
            outcome,
            shows: false,
            lasts: true,
        }
    }

    /// What came of a fault that passes.
    pub(super) const fn passing(line: Object, at: u64, outcome: Result<(), String>) -> Self {
        Self {
            line,
            at,
            outcome,
            shows: false,
            lasts: false,
        }
    }

    /// Says whether it is known to have had an effect.
    pub(super) fn activated(mut self, is_known: impl Into<bool>) -> Self {
        self.shows = is_known.into();
        self.line = self.line.number("activated", self.shows.into());
        self
    }
}

impl Campaign<'_> {
    /// Harms a service in some way, if it runs, and judges what comes of it.
    pub(super) fn harm(
        &mut self,
        program: &mut Program,
        strike: &Strike,
        loads: &Loads,
        how: impl FnOnce(&mut Self, &Victim, &Strike) -> Result<Harm, Failed>,
    ) -> Result<(), Failed> {
        let Some(victim) = self.victim(strike.first, loads)? else {
            return Ok(());
        };
        let harm = how(self, &victim, strike)?;
        self.end(program, victim, loads, harm)
    }

    /// Makes a service turn for ever, and looks when it is found.
    pub(super) fn hang(&mut self, victim: &Victim, strike: &Strike) -> Result<Harm, Failed> {
        let about = |failed: Failed| failed.about(&victim.name);
        let barred = wreck::bar(self.system, &victim.process).map_err(about)?;
        // It turns from its next return from the kernel on, at the latest from that of this request.
        let at = time::now();
        self.probes.nudge(&victim.name);
        let unbar = |process: &Handle<Process>| wreck::unbar(self.system, process, &barred);
        self.put_right(victim, unbar).map_err(about)?;
        let found = detected(&self.init, victim, at)?;
        let mut line = begin(victim, strike, at);
        if let Some(ns) = found {
            line = line.number("detection_ns", ns);
        }
        let outcome = self.probes.ask(&victim.name);
        if found.is_some() {
            let clean = |process: &Handle<Process>| wreck::clean(self.system, process, &barred);
            self.put_right(victim, clean).map_err(about)?;
        }
        Ok(Harm::lasting(line, at, outcome))
    }

    /// Puts a text right, which all instances share: if the victim was found before, through one that
    /// came after it, which may turn already.
    fn put_right(
        &self,
        victim: &Victim,
        change: impl Fn(&Handle<Process>) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let end = time::after(DETECTION_NS);
        let mut result = change(&victim.process);
        while result.is_err() && time::now() < end {
            if let Some(next) = services::find(&self.init, &victim.name)
                && let Ok(process) = self.system.open_process(next.process)
            {
                result = change(&process);
            } else {
                time::sleep(LOOK_NS);
            }
        }
        result
    }

    /// Turns over a bit of a service, and looks what comes of it.
    pub(super) fn flip(&mut self, victim: &Victim, strike: &Strike) -> Result<Harm, Failed> {
        let at = time::now();
        let flipped = wreck::flip(self.system, &victim.process, &mut self.random, None);
        let flipped = flipped.map_err(|failed| failed.about(&victim.name))?;
        let line = begin(victim, strike, at)
            .text("area", flipped.area.name())
            .number("address", flipped.address)
            .number("mask", flipped.mask.into());
        let outcome = self.watch(victim, at);
        Ok(Harm::lasting(line, at, outcome))
    }

    /// Asks a service again and again, until it dies or a fault has had its time to show.
    pub(super) fn watch(&mut self, victim: &Victim, at: u64) -> Result<(), String> {
        let end = at.saturating_add(WATCH_NS);
        let mut outcome = self.probes.ask(&victim.name);
        while self.deaths(&victim.name) == victim.deaths && time::now() < end {
            time::sleep(LOOK_NS);
            outcome = outcome.and(self.probes.ask(&victim.name));
        }
        outcome
    }

    /// Waits until `init` has counted the death of a service: its next instance may serve before.
    pub(super) fn wait_for_count(&self, victim: &Victim) {
        let end = time::after(WATCH_NS);
        while self.deaths(&victim.name) == victim.deaths && time::now() < end {
            time::sleep(LOOK_NS);
        }
    }

    pub(super) fn victim(&self, service: usize, loads: &Loads) -> Result<Option<Victim>, Failed> {
        let name = self.services[service].name.clone();
        let Some(found) = services::find(&self.init, &name) else {
            return Ok(None);
        };
        Ok(Some(Victim {
            service,
            process: self.system.open_process(found.process)?,
            generation: found.generation,
            deaths: self.deaths(&name),
            all_deaths: self.all_deaths(),
            counts: loads.counts()?,
            name,
        }))
    }

    /// Judges what came of a fault and says it.
    pub(super) fn end(
        &mut self,
        program: &mut Program,
        victim: Victim,
        loads: &Loads,
        harm: Harm,
    ) -> Result<(), Failed> {
        let Harm {
            line,
            at,
            mut outcome,
            shows,
            lasts,
        } = harm;
        let name = &victim.name;
        let gap = time::now().saturating_sub(at);
        let died = self.deaths(name).saturating_sub(victim.deaths);
        let cause = services::find(&self.init, name).and_then(|now| now.last_cause);
        let was_good = outcome.is_ok();
        // Whoever has to do with it must bear it.
        let (doubted, taken_down) = self.count_others(&victim);
        if taken_down > 0 && outcome.is_ok() {
            outcome = Err(format!("{taken_down} other services died"));
        }
        if died == 0 && lasts && outcome.is_ok() {
            outcome = self.clear(victim.service)?;
        } else if died > 0 && outcome.is_ok() {
            // Each fault stands alone: crashes in a row are slowed down, and end in fresh state.
            outcome = self.forget(name);
        }
        let mut faults = loads.counts()?;
        faults.subtract(&victim.counts);
        let service = &mut self.services[victim.service];
        service.harmed += 1;
        service.provoked += died;
        let is_noticed = died > 0 || taken_down > 0 || doubted > 0;
        let is_manifest = shows || is_noticed || faults.faults() > 0 || !was_good;
        let mut line = with_counts(line, &faults)
            .number("gap_ns", gap)
            .number("died", died.into())
            .number("doubted", doubted.into())
            .number("manifested", is_manifest.into())
            .number("recovered", outcome.is_ok().into());
        self.is_spoilt = lasts && (outcome.is_err() || faults.faults() > 0);
        if died > 0 {
            line = line.text("cause", &format!("{cause:?}"));
        }
        if let Err(why) = outcome {
            self.problems.push(format!("{name}: {why}"));
            line = line.text("why", &why);
        }
        say(program, line)
    }

    /// Replaces an instance that was harmed in vain, and lets the workloads look at what the next
    /// one makes of its state region: it must not show in the middle of another fault.
    fn clear(&mut self, service: usize) -> Result<Result<(), String>, Failed> {
        let kills = self.services[service].kills;
        let mut outcome = Ok(());
        if let Some(killed) = self.kill(service)? {
            outcome = self.recover(&killed);
        }
        self.services[service].kills = kills;
        time::sleep(WATCH_NS);
        Ok(outcome)
    }

    /// Has `init` forget the crashes of a service, by a restart that is asked for.
    fn forget(&mut self, name: &str) -> Result<(), String> {
        let restarted = self.init.restart(name);
        restarted.map_err(|failure| format!("{failure}"))?;
        self.probes.ask(name)
    }

    /// Returns how often each service has died without being asked to.
    fn all_deaths(&self) -> Vec<Deaths> {
        let deaths = |name: &String| {
            let counts = self.init.statistics(name);
            counts.map_or(Deaths::default(), |counts| Deaths {
                doubted: counts.doubted,
                taken_down: services::unasked_of(&counts).saturating_sub(counts.doubted),
            })
        };
        self.services
            .iter()
            .map(|service| deaths(&service.name))
            .collect()
    }

    /// Returns how many services beside the victim have had their next instances answer since, and how
    /// many have been taken down. The former may doubt themselves again in the next fault.
    fn count_others(&mut self, victim: &Victim) -> (u32, u32) {
        let (mut all_doubted, mut all_taken_down) = (0, 0);
        for (place, now) in self.all_deaths().into_iter().enumerate() {
            let before = victim.all_deaths.get(place).copied().unwrap_or_default();
            let doubted = now.doubted.saturating_sub(before.doubted);
            if place == victim.service {
                continue;
            }
            all_doubted += doubted;
            all_taken_down += now.taken_down.saturating_sub(before.taken_down);
            if doubted > 0 {
                self.services[place].provoked += doubted;
                let name = self.services[place].name.clone();
                if let Err(why) = self.forget(&name) {
                    self.problems.push(format!("{name}: {why}"));
                }
            }
        }
        (all_doubted, all_taken_down)
    }

    /// Returns how often a service has died without being asked to.
    pub(super) fn deaths(&self, name: &str) -> u32 {
        let statistics = self.init.statistics(name);
        statistics.map_or(0, |statistics| services::unasked_of(&statistics))
    }
}

pub(super) fn begin(victim: &Victim, strike: &Strike, at: u64) -> Object {
    Object::new("fault")
        .text("service", &victim.name)
        .text("kind", strike.kind.name())
        .number("at_ns", at)
}

/// Waits until a service that turns for ever is ended; returns how long after `at` that was, in
/// ns, and nothing if it takes too long.
fn detected(init: &InitClient, victim: &Victim, at: u64) -> Result<Option<u64>, Failed> {
    let end = at.saturating_add(DETECTION_NS);
    loop {
        let is_found = victim.has_ended(init)?;
        let now = time::now();
        if is_found {
            return Ok(Some(now.saturating_sub(at)));
        }
        if now >= end {
            return Ok(None);
        }
        time::sleep(LOOK_NS);
    }
}
